//! Users, groups and roles: nobody makes themselves, or others, more than they are.

use std::collections::BTreeSet;

use tollgate_app::Password;
use tollgate_app::access::{Grant, Op, Permission, Place, Rights};
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::groups::GroupEdit;
use tollgate_app::users::NewUser;
use tollgate_model::access::{Group, Role};
use tollgate_model::environments::Environment;
use tollgate_model::names::{GroupName, RealmName};
use tollgate_model::objects::keys;
use tollgate_model::users::{User, UserToken};
use tollgate_store::{Expect, Mutation};

use crate::environments::new_environment;
use crate::people::{
    add, environment, grant, group_file, group_name, own_role, remove, role_name, user_name,
};
use crate::users::shown;
use crate::world::World;

#[track_caller]
fn is_refused<T: std::fmt::Debug>(outcome: Result<T, Error>, kind: ErrorKind, code: &str) {
    let error = outcome.unwrap_err();
    assert_eq!((error.kind, error.code), (kind, code), "{error}");
    assert!(error.hint.is_some(), "{error}");
}

#[track_caller]
fn exceeds<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    is_refused(outcome, ErrorKind::Forbidden, "rights-exceeded");
}

fn new_user(name: &str, groups: &[&str]) -> NewUser {
    NewUser {
        name: user_name(name),
        password: None,
        groups: groups.iter().map(|name| group_name(name)).collect(),
    }
}

#[tokio::test]
async fn what_a_user_may_do_is_the_sum_of_their_groups() {
    let world = World::start().await;
    world.user("ada").await;
    world.group("developers", &["ada"], &["developer for store"]).await;
    world.group("deployers", &["ada"], &["deployer in test for store"]).await;
    let op = world.acting("ada").await;
    let store = tollgate_model::names::ProjectName::parse("store").unwrap();
    let (test, prod) = (environment("test"), environment("prod"));
    assert!(op.may(Permission::PipelineUpdate, Place::project(&store)));
    assert!(op.may(Permission::DeploymentCreate, Place::both(&test, &store)));
    assert!(!op.may(Permission::DeploymentCreate, Place::both(&prod, &store)));
    assert!(!op.may(Permission::DeploymentCreate, Place::environment(&test)));
    assert!(op.may(Permission::DeploymentRead, Place::both(&prod, &store)), "developers see what runs");
    assert!(!op.may(Permission::PipelineRead, Place::REALM));

    let rights = world.app.users().rights(&world.op, &user_name("ada")).await.unwrap();
    assert_eq!(rights.groups, [group_name("deployers"), group_name("developers")]);
    let held: Vec<_> =
        rights.held.iter().filter(|held| held.permission == Permission::DeploymentCreate).collect();
    assert_eq!((held.len(), held[0].role.as_str(), held[0].group.as_str()), (1, "deployer", "deployers"));
    assert_eq!(held[0].reach.to_string(), "in test for store");
    // What limits leave nothing of is not held.
    assert!(rights.held.iter().all(|held| held.permission != Permission::ConsumerRead));
    let view = world.app.groups().get(&world.op, &group_name("developers")).await.unwrap();
    assert!(view.grants[0].1.contains(&Permission::ConsumerRead), "{:?}", view.grants);
}

#[tokio::test]
async fn who_manages_access_grants_what_they_have_and_nothing_else() {
    let world = World::start().await;
    let op = &world.somebody("mia", &["access-manager", "deployer in test for store"]).await;
    let groups = world.app.groups();
    world.user("ada").await;

    // To herself, to a group that she is in, to another, at once or later.
    exceeds(world.edit(op, "of-mia", GroupEdit::Grant(grant("governance-manager"))).await);
    exceeds(world.edit(op, "of-mia", GroupEdit::Grant(grant("deployer in test"))).await);
    exceeds(world.edit(op, "of-mia", GroupEdit::Grant(grant("deployer in prod for store"))).await);
    exceeds(groups.create(op, &group_file("new", &["mia"], &["administrator"])).await);
    exceeds(groups.create(op, &group_file("new", &[], &["viewer"])).await);
    exceeds(groups.put(op, &group_file("new", &["ada"], &["developer for store"]), None).await);
    exceeds(world.edit(op, "administrators", add("mia")).await);
    exceeds(world.app.users().create(op, new_user("eve", &["administrators"])).await);
    // Nor does she take away what is above her.
    exceeds(world.edit(op, "administrators", remove("ada")).await);
    exceeds(groups.put(op, &group_file("administrators", &[], &[]), None).await);
    world.group("governance", &["ada"], &["governance-manager"]).await;
    exceeds(groups.delete(op, &group_name("governance"), None).await);
    let renamed = tollgate_model::document::GroupFile {
        description: "harmless".to_owned(),
        ..group_file("governance", &["ada"], &["governance-manager"])
    };
    exceeds(groups.put(op, &renamed, None).await);

    let made =
        groups.create(op, &group_file("new", &["ada"], &["deployer in test for store"])).await.unwrap();
    assert_eq!(made.members, BTreeSet::from([user_name("ada")]));
    world.edit(op, "new", GroupEdit::Grant(grant("access-manager"))).await.unwrap();
    assert!(world.acting("ada").await.may(Permission::UserCreate, Place::REALM));
    groups.delete(op, &group_name("new"), None).await.unwrap();
    let made = world.app.users().create(op, new_user("eve", &["of-mia"])).await.unwrap();
    assert!(made.user.password_is_temporary && made.password.is_some());
}

#[tokio::test]
async fn own_roles_hold_what_their_maker_has_in_the_whole_realm_before_and_after() {
    let world = World::start().await;
    let op = &world.somebody("mia", &["access-manager", "deployer in test"]).await;
    let roles = world.app.roles();
    exceeds(roles.create(op, &own_role("stopper", [Permission::DeploymentDelete])).await);
    let helper = own_role("helper", [Permission::UserRead, Permission::GroupRead]);
    roles.create(op, &helper).await.unwrap();
    // A role that she holds, made more than she is.
    world.edit(op, "of-mia", GroupEdit::Grant(grant("helper"))).await.unwrap();
    exceeds(roles.put(op, &own_role("helper", [Permission::PolicyUpdate]), None).await);
    // One that an administrator made more than she is: she can neither shrink, delete nor grant it from then on.
    let more = own_role("helper", [Permission::UserRead, Permission::PolicyUpdate]);
    assert!(!roles.put(&world.op, &more, None).await.unwrap().1);
    assert!(world.acting("mia").await.may(Permission::PolicyUpdate, Place::REALM), "at once");
    world.edit(&world.op, "of-mia", GroupEdit::Ungrant(grant("helper"))).await.unwrap();
    exceeds(roles.put(op, &helper, None).await);
    exceeds(roles.delete(op, &role_name("helper"), None).await);
    exceeds(world.edit(op, "of-mia", GroupEdit::Grant(grant("helper"))).await);

    // Those of the product stay what they are.
    for role in Role::system() {
        let other = Role { permissions: [Permission::UserDelete].into(), ..role.clone() };
        is_refused(roles.put(&world.op, &other, None).await, ErrorKind::Conflict, "role-built-in");
        is_refused(roles.create(&world.op, &other).await, ErrorKind::Conflict, "role-built-in");
        let deleted = roles.delete(&world.op, &role.name, None).await;
        is_refused(deleted, ErrorKind::Conflict, "role-built-in");
    }
    is_refused(roles.create(&world.op, &own_role("empty", [])).await, ErrorKind::Invalid, "invalid");
}

#[tokio::test]
async fn a_role_that_is_granted_is_not_deleted_and_the_refusal_names_the_groups() {
    let world = World::start().await;
    let roles = world.app.roles();
    roles.create(&world.op, &own_role("helper", [Permission::UserRead])).await.unwrap();
    world.group("one", &[], &["helper"]).await;
    world.group("two", &[], &["helper in test"]).await;
    let error = roles.delete(&world.op, &role_name("helper"), None).await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        ("role-in-use", "role `helper` is granted by `one`, `two`")
    );
    world.edit(&world.op, "one", GroupEdit::Ungrant(grant("helper"))).await.unwrap();
    let missing = world.edit(&world.op, "two", GroupEdit::Ungrant(grant("helper"))).await;
    is_refused(missing, ErrorKind::NotFound, "not-found");
    world.edit(&world.op, "two", GroupEdit::Ungrant(grant("helper in test"))).await.unwrap();
    roles.delete(&world.op, &role_name("helper"), None).await.unwrap();
    let gone = world.edit(&world.op, "two", GroupEdit::Grant(grant("helper"))).await;
    is_refused(gone, ErrorKind::NotFound, "not-found");
}

#[tokio::test]
async fn whoever_manages_users_has_no_power_over_those_who_may_more() {
    let world = World::start().await;
    let op = &world.somebody("mia", &["access-manager"]).await;
    let (users, ada) = (world.app.users(), &user_name("ada"));
    world.user("ada").await;
    world.group("others", &["ada"], &["viewer in test"]).await;
    exceeds(users.reset_password(op, ada, None).await);
    exceeds(users.disable(op, ada, None).await);
    exceeds(users.delete(op, ada, None).await);
    exceeds(users.end_sessions(op, ada).await);
    world.edit(&world.op, "others", remove("ada")).await.unwrap();
    users.disable(op, ada, None).await.unwrap();
    users.enable(op, ada, None).await.unwrap();

    // In another realm than the one that grants the management of users.
    let acme = RealmName::parse("acme").unwrap();
    world.app.realms().create(&world.op, acme.clone()).await.unwrap();
    let there = &Op { realm: acme.clone(), ..world.op.clone() };
    world.app.groups().create(there, &group_file("viewers", &["ada"], &["viewer"])).await.unwrap();
    exceeds(users.reset_password(op, ada, None).await);
    exceeds(users.delete(op, ada, None).await);
    // What a group there says of users does not count.
    let realm_admins = group_file("administrators", &["mia"], &["administrator"]);
    world.app.groups().put(there, &realm_admins, None).await.unwrap();
    let mia_there = &world.acting_in("mia", &acme).await;
    assert!(mia_there.may(Permission::UserDelete, Place::REALM));
    let outcome = users.delete(mia_there, ada, None).await;
    is_refused(outcome, ErrorKind::Forbidden, "forbidden");
    let outcome = world.app.realms().create(mia_there, RealmName::parse("mine").unwrap()).await;
    is_refused(outcome, ErrorKind::Forbidden, "forbidden");
    users.reset_password(op, ada, None).await.unwrap();
    // Nobody resets their own.
    is_refused(users.reset_password(op, &user_name("mia"), None).await, ErrorKind::Conflict, "own-password");
}

#[tokio::test]
async fn a_token_limited_to_less_manages_and_grants_less() {
    let world = World::start().await;
    let mut op = world.somebody("mia", &["administrator"]).await;
    let limit = Rights::of([Permission::GroupUpdate, Permission::UserUpdate], &grant("x").reach());
    op.actor = op.actor.limited(limit);
    world.user("ada").await;
    assert!(op.may(Permission::GroupUpdate, Place::REALM) && !op.may(Permission::GroupCreate, Place::REALM));
    exceeds(world.edit(&op, "of-mia", add("ada")).await);
    exceeds(world.app.users().disable(&op, &user_name("mia"), None).await);
    // Also in another realm, and after it is looked up anew.
    op.actor = world.app.actor_in(&op.actor, &RealmName::default()).await.unwrap();
    assert!(!op.may(Permission::GroupCreate, Place::REALM));
}

#[tokio::test]
async fn the_last_administrator_can_neither_go_nor_lose_it() {
    let world = World::start().await;
    world.user("ada").await;
    world.user("bob").await;
    world.edit(&world.op, "administrators", add("ada")).await.unwrap();
    let op = &world.acting("ada").await;
    let (users, groups, ada) = (world.app.users(), world.app.groups(), &user_name("ada"));
    let before = world.store.head().await.unwrap();
    let last = |outcome: Result<(), Error>| is_refused(outcome, ErrorKind::Conflict, "last-administrator");
    last(users.disable(op, ada, None).await.map(drop));
    last(users.delete(op, ada, None).await);
    last(world.edit(op, "administrators", remove("ada")).await.map(drop));
    last(world.edit(op, "administrators", GroupEdit::Ungrant(grant("administrator"))).await.map(drop));
    last(groups.put(op, &group_file("administrators", &["bob"], &["viewer"]), None).await.map(drop));
    // The system itself likewise.
    last(users.delete(&world.op, ada, None).await);
    is_refused(
        groups.delete(op, &GroupName::administrators(), None).await,
        ErrorKind::Conflict,
        "group-built-in",
    );
    assert_eq!(world.store.head().await.unwrap(), before, "nothing was stored");

    // Somebody who can't sign in is no administrator.
    world.edit(op, "administrators", add("bob")).await.unwrap();
    users.disable(op, &user_name("bob"), None).await.unwrap();
    last(users.delete(op, ada, None).await);
    users.enable(op, &user_name("bob"), None).await.unwrap();
    users.delete(op, ada, None).await.unwrap();
    // Everything by a role of one's own is everything, too; and it is not shrunk then.
    let op = &world.acting("bob").await;
    world.app.roles().create(op, &own_role("all", Permission::ALL.iter().copied())).await.unwrap();
    world.group("all", &["bob"], &["all"]).await;
    world.edit(op, "administrators", remove("bob")).await.unwrap();
    let outcome = world.app.roles().put(op, &own_role("all", [Permission::UserRead]), None).await;
    last(outcome.map(drop));
}

#[tokio::test]
async fn of_two_administrators_who_remove_each_other_at_once_one_remains() {
    for round in 0..6 {
        let world = World::start().await;
        for name in ["ada", "bob"] {
            world.user(name).await;
            world.edit(&world.op, "administrators", add(name)).await.unwrap();
        }
        let (ada, bob) = (&world.acting("ada").await, &world.acting("bob").await);
        let users = world.app.users();
        let (one, other) = match round % 3 {
            0 => tokio::join!(
                async { world.edit(ada, "administrators", remove("bob")).await.map(drop) },
                async { world.edit(bob, "administrators", remove("ada")).await.map(drop) },
            ),
            1 => tokio::join!(async { users.delete(ada, &user_name("bob"), None).await }, async {
                users.disable(bob, &user_name("ada"), None).await.map(drop)
            },),
            _ => tokio::join!(async { users.disable(ada, &user_name("bob"), None).await.map(drop) }, async {
                world.edit(bob, "administrators", remove("ada")).await.map(drop)
            },),
        };
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
        let mut administrators = 0;
        for name in ["ada", "bob"] {
            let user = world.store.get::<User>(&RealmName::default(), name).await.unwrap();
            let active = user.is_some_and(|user| user.value.disabled_at.is_none());
            if active && world.acting(name).await.may(Permission::PolicyUpdate, Place::REALM) {
                administrators += 1;
            }
        }
        assert_eq!(administrators, 1);
    }
}

#[tokio::test]
async fn who_lost_a_right_while_they_handed_it_out_hands_out_nothing() {
    let world = World::start().await;
    let op = world.somebody("mia", &["administrator"]).await;
    world.somebody("eva", &["administrator"]).await;
    world.user("ada").await;
    // What mia could do when her request came in.
    let stale = op.clone();
    world.edit(&world.op, "of-mia", GroupEdit::Ungrant(grant("administrator"))).await.unwrap();
    is_refused(world.edit(&stale, "administrators", add("ada")).await, ErrorKind::Forbidden, "forbidden");
    let outcome = world.app.users().create(&stale, new_user("eve", &["administrators"])).await;
    is_refused(outcome, ErrorKind::Forbidden, "forbidden");
    let outcome = world.app.roles().create(&stale, &own_role("mine", [Permission::PolicyUpdate])).await;
    is_refused(outcome, ErrorKind::Forbidden, "forbidden");
    let outcome = world.app.users().reset_password(&stale, &user_name("ada"), None).await;
    is_refused(outcome, ErrorKind::Forbidden, "forbidden");
}

#[tokio::test]
async fn a_role_grown_while_it_is_granted_is_not_granted_by_who_has_less() {
    for _ in 0..4 {
        let world = World::start().await;
        let mia = &world.somebody("mia", &["access-manager"]).await;
        let roles = world.app.roles();
        roles.create(&world.op, &own_role("helper", [Permission::UserRead])).await.unwrap();
        let grown = own_role("helper", [Permission::UserRead, Permission::PolicyUpdate]);
        let (granted, grew) = tokio::join!(
            world.edit(mia, "of-mia", GroupEdit::Grant(grant("helper"))),
            roles.put(&world.op, &grown, None),
        );
        grew.unwrap();
        let filter = tollgate_app::JournalFilter { limit: 100, ..Default::default() };
        // Granted before it grew, the administrator gave it to mia; after, mia would have given it to herself.
        if granted.is_ok() {
            let entries = world.app.journal().list(&world.op, filter).await.unwrap();
            let at = |action: &str| entries.iter().rposition(|entry| entry.action == action).unwrap();
            assert!(at("group.grant") < at("role.set"));
        }
    }
}

#[tokio::test]
async fn a_deleted_user_leaves_nothing_to_the_next_of_their_name() {
    let world = World::start().await;
    let users = world.app.users();
    let acme = RealmName::parse("acme").unwrap();
    world.app.realms().create(&world.op, acme.clone()).await.unwrap();
    let there = &Op { realm: acme.clone(), ..world.op.clone() };
    let password = Password::parse("correct horse battery").unwrap();
    world.group("team", &[], &["viewer"]).await;
    let input = NewUser { password: Some(password.clone()), ..new_user("ada", &["team"]) };
    let first = users.create(&world.op, input.clone()).await.unwrap();
    assert!(first.password.is_none() && first.user.password_is_temporary);
    world.app.groups().create(there, &group_file("team", &["ada"], &["developer"])).await.unwrap();
    let token = users.sign_in(&world.op, &shown("ada", "correct horse battery")).await.unwrap();
    let token = token.token.plain.expose_secret().to_owned();
    users.authenticate(&token, world.op.now).await.unwrap();

    users.disable(&world.op, &user_name("ada"), None).await.unwrap();
    let refused = users.authenticate(&token, world.op.now).await;
    is_refused(refused, ErrorKind::Unauthenticated, "unauthenticated");
    let refused = users.sign_in(&world.op, &shown("ada", "correct horse battery")).await;
    is_refused(refused, ErrorKind::Unauthenticated, "login-failed");
    users.enable(&world.op, &user_name("ada"), None).await.unwrap();
    users.authenticate(&token, world.op.now).await.unwrap();

    users.delete(&world.op, &user_name("ada"), None).await.unwrap();
    let of_realm = async |realm: &RealmName| {
        world.store.get::<Group>(realm, "team").await.unwrap().unwrap().value.members
    };
    assert!(of_realm(&RealmName::default()).await.is_empty() && of_realm(&acme).await.is_empty());
    let page = tollgate_store::Page { prefix: String::new(), after: None, limit: 10 };
    assert!(world.store.list::<UserToken>(&RealmName::default(), &page).await.unwrap().is_empty());
    let second = users.create(&world.op, NewUser { groups: BTreeSet::new(), ..input }).await.unwrap();
    assert_ne!(second.user.id, first.user.id);
    assert!(second.user.groups.is_empty());
    is_refused(users.authenticate(&token, world.op.now).await, ErrorKind::Unauthenticated, "unauthenticated");
}

#[tokio::test]
async fn a_reset_password_is_temporary_and_ends_what_the_old_one_opened() {
    let world = World::start().await;
    let users = world.app.users();
    let made = users.create(&world.op, new_user("ada", &[])).await.unwrap();
    let first = made.password.unwrap().expose_secret().to_owned();
    let token = users.sign_in(&world.op, &shown("ada", &first)).await.unwrap();
    let reset = users.reset_password(&world.op, &user_name("ada"), None).await.unwrap();
    let second = reset.password.unwrap().expose_secret().to_owned();
    assert_ne!(first, second);
    let refused = users.authenticate(token.token.plain.expose_secret(), world.op.now).await;
    is_refused(refused, ErrorKind::Unauthenticated, "unauthenticated");
    let refused = users.sign_in(&world.op, &shown("ada", &first)).await;
    is_refused(refused, ErrorKind::Unauthenticated, "login-failed");
    users.sign_in(&world.op, &shown("ada", &second)).await.unwrap();
    assert_eq!(users.end_sessions(&world.op, &user_name("ada")).await.unwrap(), 1);
    // Neither stands in the journal.
    let entries = world.store.changes_after(0, 500).await.unwrap();
    let texts = entries.iter().flat_map(|entry| &entry.mutations).filter_map(|it| it.body.as_deref());
    assert!(texts.into_iter().all(|text| !text.contains(&first) && !text.contains(&second)));
}

#[tokio::test]
async fn names_that_look_like_another_user_or_the_system_are_refused() {
    let world = World::start().await;
    let users = world.app.users();
    world.user("ada").await;
    let before = world.store.head().await.unwrap();
    for taken in ["ada", "Ada", "ADA"] {
        let outcome = users.create(&world.op, new_user(taken, &[])).await;
        is_refused(outcome, ErrorKind::Conflict, "already-exists");
    }
    for reserved in ["system", "System", "nobody", "anonymous"] {
        is_refused(users.create(&world.op, new_user(reserved, &[])).await, ErrorKind::Invalid, "invalid");
    }
    is_refused(users.create(&world.op, new_user("bob", &["none"])).await, ErrorKind::NotFound, "not-found");
    let outcome = world.app.groups().create(&world.op, &group_file("team", &["nix"], &[])).await;
    is_refused(outcome, ErrorKind::NotFound, "not-found");
    let outcome = world.app.groups().create(&world.op, &group_file("team", &[], &["viewer in moon"])).await;
    is_refused(outcome, ErrorKind::NotFound, "not-found");
    let outcome = world.app.groups().create(&world.op, &group_file("team", &[], &["none"])).await;
    is_refused(outcome, ErrorKind::NotFound, "not-found");
    let grants: BTreeSet<Grant> = (0..101).map(|n| grant(&format!("viewer for p{n}"))).collect();
    let many = tollgate_model::document::GroupFile { grants, ..group_file("team", &[], &[]) };
    is_refused(world.app.groups().create(&world.op, &many).await, ErrorKind::Invalid, "invalid");
    assert_eq!(world.store.head().await.unwrap(), before, "nothing was stored");
}

#[tokio::test]
async fn a_deleted_environment_leaves_no_grant_to_the_next_of_its_name() {
    let world = World::start().await;
    let staging = environment("staging");
    let make = || new_environment("staging", "127.0.0.1:7003");
    world.app.environments().create(&world.op, make()).await.unwrap();
    let op = world.somebody("ada", &["deployer in staging", "viewer in staging,test"]).await;
    assert!(op.may(Permission::DeploymentCreate, Place::environment(&staging)));
    world.app.environments().delete(&world.op, &staging, None, "").await.unwrap();
    let group = world.store.get::<Group>(&RealmName::default(), "of-ada").await.unwrap().unwrap().value;
    assert_eq!(group.grants, BTreeSet::from([grant("viewer in test")]));
    world.app.environments().create(&world.op, make()).await.unwrap();
    let op = world.acting("ada").await;
    assert!(!op.may(Permission::DeploymentRead, Place::environment(&staging)));
    assert!(!op.may(Permission::DeploymentCreate, Place::REALM));
    assert!(world.store.get::<Environment>(&RealmName::default(), "staging").await.unwrap().is_some());
}

#[tokio::test]
async fn a_store_from_before_there_were_groups_locks_nobody_out() {
    let world = World::start().await;
    let acme = RealmName::parse("acme").unwrap();
    world.app.realms().create(&world.op, acme.clone()).await.unwrap();
    for name in ["ada", "bob"] {
        world.user(name).await;
    }
    let key = keys::group(&GroupName::administrators());
    for realm in [&RealmName::default(), &acme] {
        world.write(realm, Mutation::delete::<Group>(key.clone(), Expect::Exists)).await;
    }
    assert!(!world.acting("ada").await.may(Permission::PolicyUpdate, Place::REALM));
    // Several processes start at once.
    let realms = world.app.realms();
    let starts = tokio::join!(
        realms.initialise(&world.op),
        realms.initialise(&world.op),
        realms.initialise(&world.op)
    );
    starts.0.unwrap();
    starts.1.unwrap();
    starts.2.unwrap();
    for realm in [&RealmName::default(), &acme] {
        for name in ["ada", "bob"] {
            let op = world.acting_in(name, realm).await;
            assert!(op.actor.rights().covers(&Rights::all()), "{name} in {realm}");
        }
    }
    assert!(world.app.users().create_first_admin(&world.op, None).await.unwrap().is_none());

    // Once it is there it is not filled again: who was taken out stays out.
    world.edit(&world.op, "administrators", remove("bob")).await.unwrap();
    realms.initialise(&world.op).await.unwrap();
    assert!(!world.acting("bob").await.may(Permission::PolicyUpdate, Place::REALM));
}

#[tokio::test]
async fn the_first_admin_may_do_everything_and_does_not_come_back_once_deleted() {
    let world = World::start().await;
    let users = world.app.users();
    let first = users.create_first_admin(&world.op, None).await.unwrap().unwrap();
    let actor = users.authenticate(first.token.plain.expose_secret(), world.op.now).await.unwrap().actor;
    assert!(actor.rights().covers(&Rights::all()));
    world.user("ada").await;
    world.edit(&world.op, "administrators", add("ada")).await.unwrap();
    users.delete(&world.op, &user_name("admin"), None).await.unwrap();
    assert!(users.create_first_admin(&world.op, None).await.unwrap().is_none());
}

#[tokio::test]
async fn whoever_makes_a_realm_administers_it_and_others_do_not_see_it() {
    let world = World::start().await;
    let ada = &world.somebody("ada", &["administrator"]).await;
    let bob = &world.somebody("bob", &["viewer in test"]).await;
    let acme = RealmName::parse("acme").unwrap();
    world.app.realms().create(ada, acme.clone()).await.unwrap();
    assert!(world.acting_in("ada", &acme).await.actor.rights().covers(&Rights::all()));
    let names = async |op: &Op| {
        let realms = world.app.realms().list(op).await.unwrap();
        realms.into_iter().map(|realm| realm.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(ada).await, ["acme", "default"]);
    // Rights of one realm are none in another, also when nobody looked them up there.
    let confused = Op { realm: acme.clone(), ..world.acting("bob").await };
    is_refused(world.app.policies().get(&confused).await, ErrorKind::Forbidden, "forbidden");
    let confused = Op { realm: acme.clone(), ..ada.clone() };
    is_refused(world.app.groups().list(&confused).await, ErrorKind::Forbidden, "forbidden");
    assert_eq!(names(bob).await, ["default"]);
    assert!(
        world
            .acting_in("bob", &acme)
            .await
            .actor
            .rights()
            .iter()
            .all(|(it, _)| it == Permission::UserTokenManage)
    );

    let own = world.app.users().own_rights(ada).await.unwrap();
    assert_eq!(own.iter().map(|it| it.realm.as_str()).collect::<Vec<_>>(), ["acme", "default"]);
    // Who may read neither the groups of a realm nor users learns of nobody there.
    let there = Op { realm: acme.clone(), ..world.op.clone() };
    world.app.groups().create(&there, &group_file("managers", &["bob"], &["access-manager"])).await.unwrap();
    let bob_there = &world.acting_in("bob", &acme).await;
    let users = world.app.users();
    users.rights(bob_there, &user_name("bob")).await.unwrap();
    users.rights(bob_there, &user_name("ada")).await.unwrap();
    world.user("eve").await;
    let said = async |name| users.rights(bob_there, &user_name(name)).await.unwrap_err().message;
    assert_eq!(said("eve").await.replace("eve", "x"), said("nix").await.replace("nix", "x"));
}
