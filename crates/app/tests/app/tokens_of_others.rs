//! Everybody's API tokens: who sees whose, who may end whose, and what nobody gets by it.

use std::collections::BTreeSet;

use tollgate_app::JournalFilter;
use tollgate_app::access::{Op, Permission};
use tollgate_app::errors::ErrorKind;
use tollgate_app::lists::ListRequest;
use tollgate_app::users::{Authenticated, NewToken, OwnedToken, ShownToken};
use tollgate_model::ids::UserTokenId;
use tollgate_model::names::RealmName;
use tollgate_model::users::{TokenScope, UserToken};
use tollgate_store::Page;

use crate::people::{group_file, own_role, user_name};
use crate::users::{session, start};
use crate::world::World;

/// Issues an API token to somebody, as they would with a session of theirs.
async fn token(world: &World, owner: &str, name: &str, permissions: Option<&[&str]>) -> ShownToken {
    let op = world.acting(owner).await;
    let user = op.actor.user.unwrap();
    let (_, mut me) = session(world).await;
    me.token = UserToken { user, ..me.token };
    me.actor = op.actor.clone();
    let scope = |it: &&str| TokenScope { permission: (*it).to_owned(), environments: None, projects: None };
    let scopes = permissions.map(|names| names.iter().map(scope).collect());
    let new = NewToken { name: name.to_owned(), expires_at: None, scopes };
    world.app.users().create_token(&op, &me, new).await.unwrap()
}

async fn names(world: &World, op: &Op) -> Vec<String> {
    let page = world.app.users().tokens_of_everybody(op, None, ListRequest::default()).await.unwrap();
    // Tokens of one millisecond have no order.
    let mut names: Vec<_> =
        page.items.iter().map(|it| format!("{} of {}", it.view.token.name, it.owner)).collect();
    names.sort();
    names
}

async fn shown(world: &World, token: &ShownToken) -> Authenticated {
    world.app.users().authenticate(token.plain.expose_secret(), world.op.now).await.unwrap()
}

#[tokio::test]
async fn a_realm_shows_the_tokens_of_those_in_its_groups_and_never_a_session() {
    let world = start().await;
    world.somebody("ada", &["viewer"]).await;
    world.somebody("ben", &["viewer"]).await;
    let acme = RealmName::parse("acme").unwrap();
    world.app.realms().create(&world.op, acme.clone()).await.unwrap();
    let there = Op { realm: acme.clone(), ..world.op.clone() };
    world.app.groups().create(&there, &group_file("guests", &["ben"], &["viewer"])).await.unwrap();
    token(&world, "ada", "deploys", Some(&["pipeline:read"])).await;
    let bens = token(&world, "ben", "reports", None).await;
    // The first admin has signed in by now, which makes sessions.
    session(&world).await;

    assert_eq!(names(&world, &world.op).await, ["deploys of ada", "first start of admin", "reports of ben"]);
    assert_eq!(names(&world, &there).await, ["reports of ben"], "ada is in no group of acme");
    let of = async |op: &Op, owner: &str| {
        let (owner, page) = (user_name(owner), ListRequest::default());
        world.app.users().tokens_of_everybody(op, Some(&owner), page).await.unwrap().items
    };
    assert_eq!(of(&there, "ada").await, [], "nor by name");
    let ben: Vec<OwnedToken> = of(&world.op, "ben").await;
    assert_eq!((ben.len(), ben[0].view.token.id, ben[0].view.last_used_at), (1, bens.token.id, None));
    shown(&world, &bens).await;
    assert_eq!(of(&world.op, "ben").await[0].view.last_used_at, Some(world.op.now));
}

#[tokio::test]
async fn tokens_are_listed_a_page_at_a_time() {
    let world = start().await;
    world.somebody("ada", &["viewer"]).await;
    for name in ["a", "b", "c"] {
        token(&world, "ada", name, None).await;
    }
    let (mut found, mut cursor) = (BTreeSet::new(), None);
    for _ in 0..4 {
        let request = ListRequest { limit: Some(1), cursor };
        let page = world.app.users().tokens_of_everybody(&world.op, None, request).await.unwrap();
        assert_eq!(page.items.len(), 1);
        found.extend(page.items.into_iter().map(|it| it.view.token.id));
        cursor = page.next;
    }
    assert_eq!((found.len(), cursor), (4, None));
}

#[tokio::test]
async fn a_token_is_revoked_with_those_that_it_made_and_the_journal_tells() {
    let world = start().await;
    world.somebody("ada", &["viewer"]).await;
    let first = token(&world, "ada", "first", None).await;
    let ci = shown(&world, &first).await;
    let new = NewToken { name: "made".to_owned(), ..NewToken::default() };
    let made = world.app.users().create_token(&world.as_user(&ci), &ci, new).await.unwrap();
    let (_, me) = session(&world).await;
    let op = world.as_user(&me);
    world.app.users().revoke_token_of(&op, &me, first.token.id).await.unwrap();
    for gone in [&first, &made] {
        assert!(world.app.users().authenticate(gone.plain.expose_secret(), op.now).await.is_err());
    }
    let action = Some("user-token.revoke".to_owned());
    let filter = JournalFilter { action, limit: 10, ..JournalFilter::default() };
    let entries = world.app.journal().list(&op, filter).await.unwrap();
    assert_eq!(entries.len(), 1);
    let told = format!("{entries:?}");
    assert!(told.contains(&first.token.id.to_string()) && !told.contains(first.plain.expose_secret()));
    let again = world.app.users().revoke_token_of(&op, &me, first.token.id).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn nobody_ends_the_token_of_somebody_who_may_do_more() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let all = Page { prefix: String::new(), after: None, limit: 10 };
    let admin = world.store.list::<UserToken>(&RealmName::default(), &all).await.unwrap();
    let admins = admin.iter().find(|it| !it.value.is_session()).unwrap().value.id;
    let sessions = admin.iter().find(|it| it.value.is_session()).unwrap().value.id;
    let manager = world.somebody("mia", &["access-manager"]).await;
    let mia = Authenticated { actor: manager.actor.clone(), ..session(&world).await.1 };
    let revoke = async |op: &Op, me: &Authenticated, id: UserTokenId| {
        let error = world.app.users().revoke_token_of(op, me, id).await.unwrap_err();
        (error.kind, error.code)
    };
    assert_eq!(revoke(&manager, &mia, admins).await, (ErrorKind::Forbidden, "rights-exceeded"));
    // A session is no API token, whoever asks.
    assert_eq!(revoke(&world.as_user(&me), &me, sessions).await.0, ErrorKind::NotFound);

    // Who administers another realm reaches nobody who is not in it.
    let acme = RealmName::parse("acme").unwrap();
    world.app.realms().create(&world.op, acme.clone()).await.unwrap();
    let there = Op { realm: acme.clone(), ..world.op.clone() };
    world.app.groups().create(&there, &group_file("bosses", &["mia"], &["administrator"])).await.unwrap();
    let boss = world.acting_in("mia", &acme).await;
    assert_eq!(revoke(&boss, &mia, admins).await.0, ErrorKind::NotFound);
    // Nor whoever may do more elsewhere, once they are in it.
    world.app.groups().create(&there, &group_file("guests", &["admin"], &["viewer"])).await.unwrap();
    assert_eq!(revoke(&boss, &mia, admins).await, (ErrorKind::Forbidden, "rights-exceeded"));
}

#[tokio::test]
async fn a_token_of_few_scopes_ends_none_of_more() {
    let world = start().await;
    world.somebody("ada", &["viewer"]).await;
    let adas = token(&world, "ada", "all", None).await;
    let revoker = token(&world, "admin", "revoker", Some(&["user-token:read", "user-token:revoke"])).await;
    let me = shown(&world, &revoker).await;
    let error = world.app.users().revoke_token_of(&world.as_user(&me), &me, adas.token.id).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Forbidden, "scope-exceeded"));
    assert!(world.app.users().authenticate(adas.plain.expose_secret(), world.op.now).await.is_ok());
}

#[tokio::test]
async fn reading_takes_its_permission_and_ending_another() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let role = own_role("reader", [Permission::UserTokenRead]);
    world.app.roles().create(&world.op, &role).await.unwrap();
    let reader = world.somebody("rea", &["reader"]).await;
    assert!(!names(&world, &reader).await.is_empty());
    let id = UserTokenId::new(world.op.now, [0; 10]);
    let error = world.app.users().revoke_token_of(&reader, &me, id).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Forbidden, "forbidden"));
    let limited = world.somebody("lim", &["reader in test"]).await;
    let page = ListRequest::default();
    let error = world.app.users().tokens_of_everybody(&limited, None, page).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden, "within limits it counts for nothing");
}

#[tokio::test]
async fn users_are_found_by_a_part_of_their_name_a_page_at_a_time() {
    let world = start().await;
    for name in ["Ada", "adam", "ben"] {
        world.user(name).await;
    }
    let found = async |text: &str, limit, cursor| {
        let page = world.app.users().search(&world.op, text, ListRequest { limit, cursor }).await.unwrap();
        (page.items.iter().map(|it| it.name.to_string()).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(found("AD", None, None).await.0, ["Ada", "adam", "admin"], "in whatever capitals");
    let (first, next) = found("ad", Some(2), None).await;
    assert_eq!((first, next.as_deref()), (vec!["Ada".to_owned(), "adam".to_owned()], Some("adam")));
    assert_eq!(found("ad", Some(2), next).await, (vec!["admin".to_owned()], None));
    assert_eq!(found("", None, None).await.0.len(), 4);
    assert_eq!(found("\0", None, None).await.0.len(), 0);
}
