//! Signing in, and API tokens of users.

use std::time::Duration;

use jiff::SignedDuration;
use tollgate_app::Password;
use tollgate_app::access::Op;
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_model::sources::Clock;

use crate::world::World;

const PASSWORD: &str = "correct horse battery";

async fn start() -> World {
    let world = World::start().await;
    let password = Password::parse(PASSWORD).unwrap();
    world.app.users().create_first_admin(&world.op, Some(password)).await.unwrap().unwrap();
    world
}

async fn sign_in(world: &World, op: &Op, user: &str, password: &str) -> Result<String, Error> {
    let (_, token) = world.app.users().sign_in(op, user, password, "laptop").await?;
    Ok(token.plain.expose_secret().to_owned())
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
async fn failures_from_one_source_lock_it_out_and_nobody_else_for_a_while() {
    let world = start().await;
    for _ in 0..10 {
        sign_in(&world, &world.op, "admin", "wrong").await.unwrap_err();
    }
    let error = sign_in(&world, &world.op, "admin", PASSWORD).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooMany);
    let mut elsewhere = world.op.clone();
    elsewhere.source = "elsewhere".to_owned();
    sign_in(&world, &elsewhere, "admin", PASSWORD).await.unwrap();
    world.clock.advance(Duration::from_secs(300));
    let later = Op { now: world.clock.now(), ..world.op.clone() };
    sign_in(&world, &later, "admin", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_clock_that_is_set_back_locks_nobody_out_for_longer_and_forgets_no_failure() {
    let world = start().await;
    for _ in 0..9 {
        sign_in(&world, &world.op, "admin", "wrong").await.unwrap_err();
    }
    let at = |seconds| Op { now: world.op.now + SignedDuration::from_secs(seconds), ..world.op.clone() };
    let error = sign_in(&world, &at(-3600), "admin", "wrong").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    let error = sign_in(&world, &at(-3600), "admin", PASSWORD).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooMany);
    sign_in(&world, &at(-3300), "admin", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn who_signed_in_very_often_can_still_sign_in_and_keeps_the_tokens_that_were_asked_for() {
    let world = start().await;
    let users = world.app.users();
    let first = sign_in(&world, &world.op, "admin", PASSWORD).await.unwrap();
    let actor = users.authenticate(&first, world.op.now).await.unwrap().actor;
    let op = Op { actor, ..world.op.clone() };
    let asked_for = users.create_token(&op, "ci", None).await.unwrap();
    // With the first admin's token, the sign-in and the one above, 200 tokens.
    for n in 0..197 {
        users.create_token(&op, &format!("n{n}"), None).await.unwrap();
    }
    let error = users.create_token(&op, "more", None).await.unwrap_err();
    assert_eq!(error.code, "too-many-tokens");

    let later = Op { now: op.now + SignedDuration::from_secs(1), ..op.clone() };
    let second = sign_in(&world, &later, "admin", PASSWORD).await.unwrap();
    users.authenticate(&second, later.now).await.unwrap();
    users.authenticate(asked_for.plain.expose_secret(), later.now).await.unwrap();
    let error = users.authenticate(&first, later.now).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated, "the oldest sign-in makes room");
    assert_eq!(users.tokens(&op).await.unwrap().len(), 200);
}

#[tokio::test]
async fn a_deleted_token_fails_at_once_and_an_expired_one_too() {
    let world = start().await;
    let (users, now) = (world.app.users(), world.op.now);
    let plain = sign_in(&world, &world.op, "admin", PASSWORD).await.unwrap();
    let signed_in = users.authenticate(&plain, now).await.unwrap();
    assert_eq!(signed_in.actor.name, "admin");

    let month = signed_in.token.expires_at.unwrap();
    let error = users.authenticate(&plain, month).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);

    let op = Op { actor: signed_in.actor, ..world.op.clone() };
    users.delete_token(&op, signed_in.token.id).await.unwrap();
    let error = users.authenticate(&plain, now).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn a_token_that_came_after_the_index_was_made_is_found() {
    let world = start().await;
    let (users, now) = (world.app.users(), world.op.now);
    let first = sign_in(&world, &world.op, "admin", PASSWORD).await.unwrap();
    users.authenticate(&first, now).await.unwrap();
    let second = sign_in(&world, &world.op, "admin", PASSWORD).await.unwrap();
    users.authenticate(&second, now).await.unwrap();
    let end = if second.ends_with('0') { "1" } else { "0" };
    let made_up = format!("{}{end}", &second[..second.len() - 1]);
    assert!(users.authenticate(&made_up, now).await.is_err());
}
