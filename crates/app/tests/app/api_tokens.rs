//! API tokens: their end, their scopes, and what they must never become.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tollgate_app::App;
use tollgate_app::access::{Permission, Place, Reach, Rights};
use tollgate_app::errors::ErrorKind;
use tollgate_app::users::{Authenticated, NewToken, ShownToken};
use tollgate_model::ids::UserTokenId;
use tollgate_model::names::{EnvironmentName, RealmName, UserName};
use tollgate_model::users::{TokenScope, UserToken};
use tollgate_store::{Change, Expect, Mutation};
use tollgate_testkit::SeededRandom;

use crate::users::{session, start};
use crate::world::World;

fn scope(permission: &str) -> TokenScope {
    TokenScope { permission: permission.to_owned(), environments: None, projects: None }
}

fn scoped(permissions: &[&str]) -> NewToken {
    let scopes = Some(permissions.iter().map(|permission| scope(permission)).collect());
    NewToken { name: "ci".to_owned(), scopes, ..NewToken::default() }
}

fn until(world: &World, days: i64) -> Option<Timestamp> {
    Some(world.op.now + SignedDuration::from_hours(days * 24))
}

async fn shown(world: &World, token: &ShownToken) -> Authenticated {
    world.app.users().authenticate(token.plain.expose_secret(), world.op.now).await.unwrap()
}

#[tokio::test]
async fn every_new_token_ends_within_a_year() {
    let world = World::start().await;
    let (_, first) = world.first_admin().await;
    assert_eq!(first.token.expires_at, until(&world, 365), "that of the first start, too");
    let (_, me) = session(&world).await;
    let (users, op) = (world.app.users(), world.as_user(&me));
    let made = async |expires_at| {
        let new = NewToken { name: "ci".to_owned(), expires_at, scopes: None };
        users.create_token(&op, &me, new).await
    };
    assert_eq!(made(None).await.unwrap().token.expires_at, until(&world, 90));
    let month = made(until(&world, 30)).await.unwrap();
    assert!(!month.token.is_session(), "it lasts as long as an old sign-in, and is none");
    assert_eq!(made(until(&world, 366)).await.unwrap_err().kind, ErrorKind::Invalid);
    assert_eq!(made(Some(world.op.now)).await.unwrap_err().kind, ErrorKind::Invalid);
    let plain = month.plain.expose_secret();
    assert!(users.authenticate(plain, until(&world, 30).unwrap()).await.is_err());
}

#[tokio::test]
async fn a_token_may_do_what_its_scopes_say_and_nothing_else() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let users = world.app.users();
    let token =
        users.create_token(&world.as_user(&me), &me, scoped(&["realm:read", "policy:read"])).await.unwrap();
    let ci = shown(&world, &token).await;
    assert_eq!(permissions(&ci), BTreeSet::from([Permission::PolicyRead, Permission::RealmRead]));
    let op = world.as_user(&ci);
    world.app.realms().list(&op).await.unwrap();
    assert_eq!(world.app.environments().list(&op).await.unwrap_err().kind, ErrorKind::Forbidden);
    for error in [
        users.tokens(&op).await.unwrap_err(),
        users.create_token(&op, &ci, NewToken::default()).await.unwrap_err(),
        users.end_sessions_of(&op, &UserName::parse("admin").unwrap()).await.unwrap_err(),
    ] {
        assert_eq!(error.code, "forbidden");
    }
    for error in
        [users.sessions(&op, &ci).await.unwrap_err(), users.end_other_sessions(&op, &ci).await.unwrap_err()]
    {
        assert_eq!(error.code, "session-required");
    }
}

#[tokio::test]
async fn scopes_hold_in_every_realm() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let token =
        world.app.users().create_token(&world.as_user(&me), &me, scoped(&["realm:read"])).await.unwrap();
    let ci = shown(&world, &token).await;
    let other = RealmName::parse("other").unwrap();
    // Whoever makes a realm administers it.
    world.app.realms().create(&world.as_user(&me), other.clone()).await.unwrap();
    let there = world.app.actor_in(&me.actor, &other).await.unwrap();
    assert!(there.rights().covers(&Rights::of([Permission::PolicyUpdate], &Reach::EVERYTHING)));
    let there = world.app.actor_in(&ci.actor, &other).await.unwrap();
    assert!(!there.rights().allows_anywhere(Permission::PolicyUpdate), "{:?}", there.rights());
}

#[tokio::test]
async fn a_scope_that_is_limited_to_an_environment_allows_nothing_in_another() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let limited = TokenScope {
        environments: Some(BTreeSet::from([EnvironmentName::test()])),
        ..scope("deployment:create")
    };
    let new = NewToken { scopes: Some(vec![limited.clone(), scope("pipeline:read")]), ..scoped(&[]) };
    let token = world.app.users().create_token(&world.as_user(&me), &me, new).await.unwrap();
    let ci = shown(&world, &token).await;
    let op = world.as_user(&ci);
    let place = |environment| Place { environment, project: None };
    assert!(op.may(Permission::DeploymentCreate, place(Some(&world.test))));
    for elsewhere in [place(Some(&EnvironmentName::prod())), Place::REALM] {
        assert!(!op.may(Permission::DeploymentCreate, elsewhere), "{elsewhere}");
    }
    world.save("shop", crate::world::KEYED).await;
    let shop = crate::world::pipeline("shop");
    let deployed = world.app.deployments().deploy(&op, &EnvironmentName::prod(), &shop, None, None).await;
    assert_eq!(deployed.unwrap_err().code, "forbidden");
}

#[tokio::test]
async fn scopes_that_mean_nothing_are_refused_and_nothing_is_stored() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let (users, op) = (world.app.users(), world.as_user(&me));
    let before = world.store.head().await.unwrap();
    let nowhere = TokenScope { environments: Some(BTreeSet::new()), ..scope("policy:read") };
    let nothing_left = TokenScope {
        environments: Some(BTreeSet::from([EnvironmentName::test()])),
        ..scope("policy:update")
    };
    for (scopes, code, words) in [
        (vec![scope("deployment:crate")], "scope-unknown", "deployment:create"),
        (vec![scope("everything")], "scope-unknown", "account:read"),
        (vec![scope("")], "scope-unknown", "account:read"),
        (vec![], "invalid", "leave `scopes` out"),
        (vec![nowhere], "invalid", "leave the limit out"),
        (vec![nothing_left], "invalid", "leave out the limit"),
        (vec![scope("policy:read"); 101], "invalid", "leave `scopes` out"),
    ] {
        let new = NewToken { scopes: Some(scopes), ..NewToken::default() };
        let error = users.create_token(&op, &me, new).await.unwrap_err();
        assert_eq!(error.code, code);
        assert!(error.hint.as_ref().unwrap().contains(words), "{error:?}");
    }
    let named = NewToken { name: "\u{1b}[2J".to_owned(), ..NewToken::default() };
    assert_eq!(users.create_token(&op, &me, named).await.unwrap_err().kind, ErrorKind::Invalid);
    assert_eq!(world.store.head().await.unwrap(), before);
}

#[tokio::test]
async fn a_token_makes_none_that_may_do_more_or_lasts_longer_than_itself() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let users = world.app.users();
    let narrow = NewToken { expires_at: until(&world, 10), ..scoped(&["user-token:manage", "policy:read"]) };
    let token = users.create_token(&world.as_user(&me), &me, narrow).await.unwrap();
    let ci = shown(&world, &token).await;
    let op = world.as_user(&ci);
    let try_it = async |new: NewToken| users.create_token(&op, &ci, new).await;
    assert_eq!(try_it(scoped(&["policy:update"])).await.unwrap_err().code, "scope-exceeded");
    assert_eq!(try_it(scoped(&["policy:read", "policy:update"])).await.unwrap_err().code, "scope-exceeded");
    let longer = NewToken { expires_at: until(&world, 11), ..scoped(&["policy:read"]) };
    assert_eq!(try_it(longer).await.unwrap_err().code, "scope-exceeded");
    // Without a word about scopes and expiry it is like its maker.
    let like = try_it(NewToken::default()).await.unwrap().token;
    assert_eq!((&like.scopes, like.expires_at), (&token.token.scopes, until(&world, 10)));
    assert_eq!(like.made_by, Some(token.token.id));
    let less = try_it(scoped(&["policy:read"])).await.unwrap();
    assert_eq!(permissions(&shown(&world, &less).await), BTreeSet::from([Permission::PolicyRead]));
}

#[tokio::test]
async fn a_token_revokes_none_that_may_do_more_than_itself() {
    let world = World::start().await;
    let (plain, first) = world.first_admin().await;
    let (_, me) = session(&world).await;
    let users = world.app.users();
    let token = users.create_token(&world.as_user(&me), &me, scoped(&["user-token:manage"])).await.unwrap();
    let ci = shown(&world, &token).await;
    let op = world.as_user(&ci);
    assert_eq!(users.delete_token(&op, &ci, first.token.id).await.unwrap_err().code, "scope-exceeded");
    assert_eq!(users.delete_token(&op, &ci, me.token.id).await.unwrap_err().kind, ErrorKind::NotFound);
    users.authenticate(&plain, world.op.now).await.unwrap();
    users.delete_token(&op, &ci, ci.token.id).await.unwrap();
}

#[tokio::test]
async fn what_a_token_made_ends_with_it() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let users = world.app.users();
    let op = world.as_user(&me);
    let mut makers = vec![me.clone()];
    let mut plains = Vec::new();
    for _ in 0..3 {
        let maker = makers.last().unwrap();
        let made = users.create_token(&world.as_user(maker), maker, NewToken::default()).await.unwrap();
        makers.push(shown(&world, &made).await);
        plains.push(made.plain.expose_secret().to_owned());
    }
    let other = users.create_token(&op, &me, NewToken::default()).await.unwrap();
    users.delete_token(&op, &me, makers[1].token.id).await.unwrap();
    for plain in &plains {
        assert!(users.authenticate(plain, op.now).await.is_err());
    }
    shown(&world, &other).await;
    let gone = users.create_token(&world.as_user(&makers[1]), &makers[1], NewToken::default()).await;
    assert!(gone.is_err(), "a revoked token makes no other");
}

#[tokio::test]
async fn a_stored_permission_that_no_longer_exists_allows_nothing() {
    let world = World::start().await;
    let (plain, first) = world.first_admin().await;
    let token = UserToken { scopes: Some(vec![scope("policy:abolished")]), ..first.token };
    put(&world, vec![Mutation::put(&token, Expect::Exists).unwrap()]).await;
    let me = world.app.users().authenticate(&plain, world.op.now).await.unwrap();
    assert!(me.actor.rights().is_empty());
}

#[tokio::test]
async fn a_user_holds_two_hundred_api_tokens_at_most() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let users = world.app.users();
    let op = world.as_user(&me);
    for n in 0..199 {
        users
            .create_token(&op, &me, NewToken { name: format!("n{n}"), ..NewToken::default() })
            .await
            .unwrap();
    }
    let error = users.create_token(&op, &me, NewToken::default()).await.unwrap_err();
    assert_eq!(error.code, "too-many-tokens");
    session(&world).await;
    assert_eq!(users.tokens(&op).await.unwrap().len(), 200);
}

#[tokio::test]
async fn tokens_and_their_ends_are_known_to_every_process_whatever_is_written_between() {
    let world = start().await;
    let clock = Arc::new(world.clock.clone());
    let other = App::new(world.store.clone(), world.master.clone(), clock, Arc::new(SeededRandom::new(9)));
    let (first, me) = session(&world).await;
    other.users().authenticate(&first, world.op.now).await.unwrap();
    // Entries that write nothing, as refused attempts are, and others.
    for _ in 0..3 {
        put(&world, Vec::new()).await;
    }
    world.save("shop", crate::world::KEYED).await;
    let made_up = made_up(&first);
    assert!(other.users().authenticate(&made_up, world.op.now).await.is_err());
    let (second, _) = session(&world).await;
    other.users().authenticate(&second, world.op.now).await.unwrap();
    world.app.users().sign_out(&world.as_user(&me), &me).await.unwrap();
    assert!(other.users().authenticate(&made_up, world.op.now).await.is_err());
    assert!(other.users().authenticate(&first, world.op.now).await.is_err());
    let missing = UserTokenId::new(world.op.now, [0; 10]);
    let error = world.app.users().delete_token(&world.as_user(&me), &me, missing).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

fn permissions(of: &Authenticated) -> BTreeSet<Permission> {
    of.actor.rights().iter().map(|(permission, _)| permission).collect()
}

/// Returns another token of the right shape.
fn made_up(plain: &str) -> String {
    let issued = tollgate_credential::user_tokens::IssuedUserToken::generate(&SeededRandom::new(77)).unwrap();
    assert_ne!(issued.expose_secret(), plain);
    issued.expose_secret().to_owned()
}

async fn put(world: &World, mutations: Vec<Mutation>) {
    let change = Change {
        realm: RealmName::default(),
        actor: "test".to_owned(),
        source: "test".to_owned(),
        action: "test.write".to_owned(),
        request_id: String::new(),
        reason: String::new(),
        at: world.op.now,
        guards: Vec::new(),
        mutations,
    };
    world.store.commit(change).await.unwrap();
}
