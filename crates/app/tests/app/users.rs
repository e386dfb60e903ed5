//! Signing in: passwords, lockout with back-off, and the way back.

use jiff::{SignedDuration, Timestamp};
use tollgate_app::JournalFilter;
use tollgate_app::access::Op;
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::users::{Authenticated, Duty, NewPassword, NewToken, SignIn};
use tollgate_credential::passwords;
use tollgate_model::names::{RealmName, UserName};
use tollgate_model::sources::Clock;
use tollgate_model::users::{SessionClient, User};
use tollgate_store::{Change, Expect, Mutation};

use crate::world::{PASSWORD, World};

pub(crate) const LATER_PASSWORD: &str = "tranquil otter bicycle";

pub(crate) async fn start() -> World {
    let world = World::start().await;
    world.first_admin().await;
    world
}

/// What a program shows to sign in.
pub(crate) fn shown<'a>(user: &'a str, password: &'a str) -> SignIn<'a> {
    SignIn {
        user,
        password,
        code: None,
        name: "laptop",
        client: SessionClient::Program,
        user_agent: Some("tests/1"),
        replaces: None,
    }
}

pub(crate) async fn sign_in(world: &World, op: &Op, user: &str, password: &str) -> Result<String, Error> {
    let signed_in = world.app.users().sign_in(op, &shown(user, password)).await?;
    Ok(signed_in.token.plain.expose_secret().to_owned())
}

/// Signs the first admin in, and finds out what that is good for.
pub(crate) async fn session(world: &World) -> (String, Authenticated) {
    let op = Op { now: world.clock.now(), ..world.op.clone() };
    let plain = sign_in(world, &op, "admin", PASSWORD).await.unwrap();
    let me = world.app.users().authenticate(&plain, op.now).await.unwrap();
    (plain, me)
}

/// Stores a user as something else would have.
pub(crate) async fn put_user(world: &World, change: impl FnOnce(&mut User)) {
    let realm = RealmName::default();
    let stored = world.store.get::<User>(&realm, "admin").await.unwrap().unwrap();
    let mut user = stored.value;
    change(&mut user);
    let change = Change {
        realm,
        actor: "test".to_owned(),
        source: "test".to_owned(),
        action: "user.update".to_owned(),
        request_id: String::new(),
        reason: String::new(),
        at: world.clock.now(),
        guards: Vec::new(),
        mutations: vec![Mutation::put(&user, Expect::Exists).unwrap()],
    };
    world.store.commit(change).await.unwrap();
}

fn from(world: &World, source: &str, now: Timestamp) -> Op {
    Op { source: source.to_owned(), now, ..world.op.clone() }
}

#[tokio::test]
async fn a_wrong_user_reads_the_same_as_a_wrong_password() {
    let world = start().await;
    let said = async |user, password| {
        let error = sign_in(&world, &world.op, user, password).await.unwrap_err();
        (error.kind, error.code, error.message, error.hint)
    };
    let wrong_password = said("admin", "wrong").await;
    assert_eq!(wrong_password.0, ErrorKind::Unauthenticated);
    for (user, password) in [("nobody", PASSWORD), ("not a name", PASSWORD), ("admin", "")] {
        assert_eq!(said(user, password).await, wrong_password, "{user}");
    }
}

#[tokio::test]
async fn an_unknown_user_is_held_up_like_one_that_exists() {
    let world = start().await;
    let mut said = Vec::new();
    for user in ["admin", "nobody"] {
        let op = from(&world, &format!("source of {user}"), world.op.now);
        let mut of_user = Vec::new();
        for _ in 0..7 {
            let error = sign_in(&world, &op, user, "wrong").await.unwrap_err();
            of_user.push((error.code, error.retry_after_seconds, error.message, error.hint));
        }
        said.push(of_user);
    }
    assert_eq!(said[0], said[1]);
    assert_eq!(said[0][4].0, "login-failed");
    assert_eq!((said[0][5].0, said[0][5].1), ("too-many-logins", Some(1)));
}

#[tokio::test]
async fn a_right_password_is_not_even_looked_at_while_its_source_has_to_wait() {
    let world = start().await;
    for _ in 0..5 {
        sign_in(&world, &world.op, "admin", "wrong").await.unwrap_err();
    }
    let before = world.store.head().await.unwrap();
    let error = sign_in(&world, &world.op, "admin", PASSWORD).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after_seconds), (ErrorKind::TooMany, Some(1)));
    assert_eq!(world.store.head().await.unwrap(), before);
    let elsewhere = from(&world, "10.0.0.9", world.op.now);
    sign_in(&world, &elsewhere, "admin", PASSWORD).await.unwrap();
    let later = from(&world, "test", world.op.now + SignedDuration::from_secs(1));
    sign_in(&world, &later, "admin", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_source_that_sprays_passwords_over_many_users_has_to_wait() {
    let world = start().await;
    let op = from(&world, "10.6.6.6", world.op.now);
    for n in 0..20 {
        let error = sign_in(&world, &op, &format!("user-{n}"), "Winter2026!!").await.unwrap_err();
        assert_eq!(error.code, "login-failed", "{n}");
    }
    let error = sign_in(&world, &op, "admin", PASSWORD).await.unwrap_err();
    assert_eq!(error.code, "too-many-logins");
    sign_in(&world, &world.op, "admin", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn guessing_from_many_machines_holds_up_strangers_and_not_whoever_signed_in_from_there_before() {
    let world = start().await;
    let home = from(&world, "2001:db8:1:2::77", world.op.now);
    sign_in(&world, &home, "admin", PASSWORD).await.unwrap();
    let mut now = world.op.now;
    for n in 0..60 {
        let op = from(&world, &format!("10.0.{n}.1"), now);
        let error = sign_in(&world, &op, "admin", "wrong").await.unwrap_err();
        if error.code == "too-many-logins" {
            now += SignedDuration::from_secs(error.retry_after_seconds.unwrap().into());
        }
    }
    let stranger = from(&world, "10.9.9.9", now);
    let error = sign_in(&world, &stranger, "admin", PASSWORD).await.unwrap_err();
    assert_eq!(error.code, "too-many-logins");
    assert!(error.retry_after_seconds.unwrap() <= 900, "{error:?}");
    // Another address of the same customer.
    let home = from(&world, "2001:db8:1:2::1234", now);
    sign_in(&world, &home, "admin", PASSWORD).await.unwrap();
    let after = now + SignedDuration::from_secs(900);
    sign_in(&world, &from(&world, "10.9.9.9", after), "admin", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_known_source_is_remembered_by_other_processes_and_after_a_restart() {
    let world = start().await;
    let home = from(&world, "10.1.1.1", world.op.now);
    sign_in(&world, &home, "admin", PASSWORD).await.unwrap();
    let random = std::sync::Arc::new(tollgate_testkit::SeededRandom::new(9));
    let clock = std::sync::Arc::new(world.clock.clone());
    let other = tollgate_app::App::new(world.store.clone(), world.master.clone(), clock, random);
    for n in 0..10 {
        let op = from(&world, &format!("10.0.{n}.1"), world.op.now);
        other.users().sign_in(&op, &shown("admin", "wrong")).await.unwrap_err();
    }
    let stranger = from(&world, "10.9.9.9", world.op.now);
    let refused = other.users().sign_in(&stranger, &shown("admin", PASSWORD)).await;
    assert_eq!(refused.unwrap_err().code, "too-many-logins");
    other.users().sign_in(&home, &shown("admin", PASSWORD)).await.unwrap();
}

#[tokio::test]
async fn a_hash_of_weaker_parameters_is_renewed_at_the_next_sign_in() {
    let world = start().await;
    // Of the same password, with 8 MiB and one pass.
    let weak =
        "$argon2id$v=19$m=8192,t=1,p=1$c2l4dGVlbiBieXRlcyBvaw$LZNn2JgFHPBhURzt/UnB0gxJ8+LevcXGGADqAzuENaU";
    put_user(&world, |user| user.password_hash = weak.to_owned()).await;
    let plain = sign_in(&world, &world.op, "admin", PASSWORD).await.unwrap();
    let user = world.store.get::<User>(&RealmName::default(), "admin").await.unwrap().unwrap().value;
    assert_ne!(user.password_hash, weak);
    assert!(!passwords::is_outdated(&user.password_hash), "{}", user.password_hash);
    world.app.users().authenticate(&plain, world.op.now).await.unwrap();
    sign_in(&world, &world.op, "admin", PASSWORD).await.unwrap();
    sign_in(&world, &world.op, "admin", "wrong").await.unwrap_err();
}

#[tokio::test]
async fn a_changed_password_ends_all_other_sessions_and_api_tokens_when_asked() {
    for end_api_tokens in [false, true] {
        let world = start().await;
        let users = world.app.users();
        let (here, me) = session(&world).await;
        let (there, _) = session(&world).await;
        let op = world.as_user(&me);
        let token = users.create_token(&op, &me, NewToken::default()).await.unwrap();
        let change = NewPassword { current: PASSWORD, new: LATER_PASSWORD, end_api_tokens };
        let ended = users.change_password(&op, &me, &change).await.unwrap();
        // The first start made an API token, too.
        let expected = if end_api_tokens { (1, 2, 0) } else { (1, 0, 2) };
        assert_eq!((ended.sessions, ended.api_tokens, ended.api_tokens_left), expected);
        users.authenticate(&here, op.now).await.unwrap();
        assert!(users.authenticate(&there, op.now).await.is_err());
        let works = users.authenticate(token.plain.expose_secret(), op.now).await.is_ok();
        assert_eq!(works, !end_api_tokens);
        assert!(sign_in(&world, &world.op, "admin", PASSWORD).await.is_err());
        sign_in(&world, &world.op, "admin", LATER_PASSWORD).await.unwrap();
    }
}

#[tokio::test]
async fn a_password_is_changed_by_a_session_that_knows_the_current_one_to_a_good_one() {
    let world = World::start().await;
    let (_, api_token) = world.first_admin().await;
    let users = world.app.users();
    let (_, me) = session(&world).await;
    let op = world.as_user(&me);
    let before = world.store.head().await.unwrap();
    let try_it = async |me: &Authenticated, current: &str, new: &str| {
        let change = NewPassword { current, new, end_api_tokens: false };
        users.change_password(&op, me, &change).await.unwrap_err().code
    };
    assert_eq!(try_it(&me, "wrong", LATER_PASSWORD).await, "confirmation-failed");
    for weak in
        ["short", "the admin is here", "password1234", "aaaaaaaaaaaaaaaa", PASSWORD, &"x".repeat(1025)]
    {
        assert_eq!(try_it(&me, PASSWORD, weak).await, "password-weak", "{weak}");
    }
    assert_eq!(try_it(&api_token, PASSWORD, LATER_PASSWORD).await, "session-required");
    assert_eq!(world.store.head().await.unwrap(), before, "something was stored");
}

#[tokio::test]
async fn guessing_the_current_password_with_an_open_session_is_held_up_too() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let op = world.as_user(&me);
    let guess = async || {
        let change = NewPassword { current: "wrong", new: LATER_PASSWORD, end_api_tokens: false };
        world.app.users().change_password(&op, &me, &change).await.unwrap_err().code
    };
    for _ in 0..5 {
        assert_eq!(guess().await, "confirmation-failed");
    }
    assert_eq!(guess().await, "too-many-logins");
}

#[tokio::test]
async fn with_a_temporary_password_a_session_can_do_nothing_but_change_it() {
    let world = World::start().await;
    let (api_token, _) = world.first_admin().await;
    let users = world.app.users();
    put_user(&world, |user| user.password_is_temporary = true).await;
    let signed_in = users.sign_in(&world.op, &shown("admin", PASSWORD)).await.unwrap();
    assert_eq!(signed_in.duty, Some(Duty::ChangePassword));
    let plain = signed_in.token.plain.expose_secret();
    let me = users.authenticate(plain, world.op.now).await.unwrap();
    let op = world.as_user(&me);
    assert!(op.actor.rights().is_empty());
    assert_eq!(world.app.realms().list(&op).await.unwrap_err().code, "forbidden");
    assert_eq!(users.create_token(&op, &me, NewToken::default()).await.unwrap_err().code, "forbidden");
    for code in [
        users.sessions(&op, &me).await.unwrap_err().code,
        users.end_other_sessions(&op, &me).await.unwrap_err().code,
        users.second_factor(&op, &me).await.unwrap_err().code,
        users.enrol_second_factor(&op, &me, PASSWORD).await.map(|_| ()).unwrap_err().code,
    ] {
        assert_eq!(code, "password-change-required");
    }
    // The API token was not made with that password.
    let token = users.authenticate(&api_token, op.now).await.unwrap();
    assert_eq!(token.duty, None);

    let change = NewPassword { current: PASSWORD, new: LATER_PASSWORD, end_api_tokens: false };
    users.change_password(&op, &me, &change).await.unwrap();
    let me = users.authenticate(plain, world.op.now).await.unwrap();
    assert_eq!(me.duty, None);
    world.app.realms().list(&world.as_user(&me)).await.unwrap();
}

#[tokio::test]
async fn a_sign_in_that_a_password_change_overtakes_begins_no_session() {
    let world = start().await;
    let users = world.app.users();
    let (_, me) = session(&world).await;
    let op = world.as_user(&me);
    let change = NewPassword { current: PASSWORD, new: LATER_PASSWORD, end_api_tokens: false };
    let many = async {
        let mut plains = Vec::new();
        for _ in 0..5 {
            plains.extend(sign_in(&world, &world.op, "admin", PASSWORD).await.ok());
        }
        plains
    };
    let (changed, plains) = tokio::join!(users.change_password(&op, &me, &change), many);
    changed.unwrap();
    for plain in plains {
        assert!(users.authenticate(&plain, op.now).await.is_err(), "a session outlived its password");
    }
}

#[tokio::test]
async fn a_recovered_user_signs_in_with_the_temporary_password_alone() {
    let world = start().await;
    let users = world.app.users();
    let (plain, me) = session(&world).await;
    let secret = crate::second_factor::enrol(&world, &me).await.secret;
    let admin = UserName::parse("admin").unwrap();
    let recovered = users.recover(&world.op, &admin, false).await.unwrap();
    assert!(recovered.had_second_factor);
    assert_eq!((recovered.ended_sessions, recovered.ended_api_tokens), (1, 0));
    assert!(users.authenticate(&plain, world.op.now).await.is_err());
    assert!(sign_in(&world, &world.op, "admin", PASSWORD).await.is_err());
    let temporary = recovered.password.expose_secret();
    let signed_in = users.sign_in(&world.op, &shown("admin", temporary)).await.unwrap();
    assert_eq!(signed_in.duty, Some(Duty::ChangePassword));

    let filter = JournalFilter { limit: 50, newest_first: true, ..JournalFilter::default() };
    let entries = format!("{:?}", world.app.journal().list(&world.op, filter).await.unwrap());
    assert!(entries.contains("user.recover"));
    assert!(!entries.contains(temporary) && !entries.contains(&secret), "a secret is journaled");
    let error = users.recover(&world.op, &UserName::parse("nobody").unwrap(), false).await.unwrap_err();
    assert!(error.hint.unwrap().contains("`admin`"));
}

#[tokio::test]
async fn a_user_as_stored_before_there_were_second_factors_signs_in() {
    let world = start().await;
    let stored = world.store.get::<User>(&RealmName::default(), "admin").await.unwrap().unwrap();
    let json = serde_json::to_value(stored.value).unwrap();
    assert_eq!(json.as_object().unwrap().len(), 4, "an old store has no more: {json}");
    sign_in(&world, &world.op, "admin", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_clock_that_is_set_back_locks_nobody_out() {
    let world = start().await;
    for _ in 0..5 {
        sign_in(&world, &world.op, "admin", "wrong").await.unwrap_err();
    }
    let at = |seconds| Op { now: world.op.now + SignedDuration::from_secs(seconds), ..world.op.clone() };
    let error = sign_in(&world, &at(-3600), "admin", PASSWORD).await.unwrap_err();
    assert_eq!((error.kind, error.retry_after_seconds), (ErrorKind::TooMany, Some(1)));
    sign_in(&world, &at(-3599), "admin", PASSWORD).await.unwrap();
}
