//! Signing in, and API tokens of users.

use std::time::Duration;

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
