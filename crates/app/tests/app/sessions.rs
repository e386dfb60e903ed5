//! Sessions: what begins and ends them.

use std::time::Duration;

use jiff::SignedDuration;
use tollgate_app::access::{Op, Permission, Reach, Rights};
use tollgate_app::errors::ErrorKind;
use tollgate_app::users::{NewToken, SignIn};
use tollgate_model::names::UserName;
use tollgate_model::sources::Clock;
use tollgate_model::users::SessionClient;
use tollgate_testkit::{SeededRandom, wait_until};

use crate::users::{session, shown, sign_in, start};
use crate::world::{PASSWORD, World};

fn now(world: &World) -> Op {
    Op { now: world.clock.now(), ..world.op.clone() }
}

fn browser<'a>(replaces: Option<&'a str>) -> SignIn<'a> {
    SignIn { client: SessionClient::Browser, replaces, ..shown("admin", PASSWORD) }
}

#[tokio::test]
async fn a_session_shows_from_where_it_was_begun_and_when_it_was_used() {
    let world = start().await;
    let users = world.app.users();
    let (_, me) = session(&world).await;
    let op = Op { source: "10.1.2.3".to_owned(), ..now(&world) };
    let agent = format!("Mozilla\u{7}{}", "x".repeat(1_000));
    let shown = SignIn { user_agent: Some(&agent), ..browser(None) };
    let other = users.sign_in(&op, &shown).await.unwrap().token;
    world.clock.advance(Duration::from_secs(120));
    users.authenticate(other.plain.expose_secret(), world.clock.now()).await.unwrap();
    let sessions = users.sessions(&world.as_user(&me), &me).await.unwrap();
    assert_eq!(sessions.len(), 2);
    let seen = sessions.iter().find(|it| it.token.id == other.token.id).unwrap();
    let kept = seen.token.session.as_ref().unwrap();
    assert_eq!((kept.source.as_str(), kept.client), ("10.1.2.3", SessionClient::Browser));
    let agent = kept.user_agent.as_deref().unwrap();
    assert!(agent.starts_with("Mozillax") && agent.len() == 200, "{agent}");
    assert_eq!(seen.last_used_at, Some(world.clock.now()));
}

#[tokio::test]
async fn an_idle_browser_session_ends_and_a_used_one_lasts_a_week_at_most() {
    let world = start().await;
    let users = world.app.users();
    let idle = users.sign_in(&now(&world), &browser(None)).await.unwrap().token;
    let used = users.sign_in(&now(&world), &browser(None)).await.unwrap().token;
    let program = sign_in(&world, &now(&world), "admin", PASSWORD).await.unwrap();
    let mut hours = 0;
    while hours < 7 * 24 - 11 {
        world.clock.advance(Duration::from_secs(11 * 3600));
        hours += 11;
        if hours < 7 * 24 {
            users.authenticate(used.plain.expose_secret(), world.clock.now()).await.unwrap();
        }
    }
    let error = users.authenticate(idle.plain.expose_secret(), world.clock.now()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    let week = world.op.now + SignedDuration::from_hours(7 * 24);
    let error = users.authenticate(used.plain.expose_secret(), week).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    let month = world.op.now + SignedDuration::from_hours(30 * 24);
    users.authenticate(&program, month - SignedDuration::from_secs(1)).await.unwrap();
    assert!(users.authenticate(&program, month).await.is_err());
}

#[tokio::test]
async fn a_session_that_is_used_at_one_process_is_not_idle_at_another() {
    let world = start().await;
    let random = std::sync::Arc::new(SeededRandom::new(9));
    let clock = std::sync::Arc::new(world.clock.clone());
    let other = tollgate_app::App::new(world.store.clone(), world.master.clone(), clock, random);
    let token = world.app.users().sign_in(&now(&world), &browser(None)).await.unwrap().token;
    let plain = token.plain.expose_secret();
    world.app.users().authenticate(plain, world.clock.now()).await.unwrap();
    other.users().authenticate(plain, world.clock.now()).await.unwrap();
    world.clock.advance(Duration::from_secs(11 * 3600));
    let used_at = world.clock.now();
    world.app.users().authenticate(plain, used_at).await.unwrap();
    // It is written beside the request.
    let table = tollgate_store::RecordTable::LastUse;
    let (realm, key) = (tollgate_model::names::RealmName::default(), token.token.id.to_string());
    wait_until("the last use", Duration::from_secs(30), async || {
        world.store.get_record(table, &realm, &key).await.unwrap() == Some(used_at.to_string())
    })
    .await;
    world.clock.advance(Duration::from_secs(11 * 3600));
    other.users().authenticate(plain, world.clock.now()).await.unwrap();
}

#[tokio::test]
async fn each_sign_in_is_a_new_session_and_ends_the_one_that_the_browser_showed() {
    let world = start().await;
    let users = world.app.users();
    let planted = users.sign_in(&now(&world), &browser(None)).await.unwrap().token;
    let planted = planted.plain.expose_secret();
    let own = users.sign_in(&now(&world), &browser(Some(planted))).await.unwrap().token;
    assert_ne!(own.plain.expose_secret(), planted);
    assert!(
        users.authenticate(planted, world.clock.now()).await.is_err(),
        "whoever planted it is signed in, too"
    );
    users.authenticate(own.plain.expose_secret(), world.clock.now()).await.unwrap();
    // What is no session is left alone, and what is no token does no harm.
    let (_, me) = session(&world).await;
    let api_token = users.create_token(&world.as_user(&me), &me, NewToken::default()).await.unwrap();
    for shown in [api_token.plain.expose_secret(), "tgu_planted", ""] {
        users.sign_in(&now(&world), &browser(Some(shown))).await.unwrap();
    }
    users.authenticate(api_token.plain.expose_secret(), world.clock.now()).await.unwrap();
}

#[tokio::test]
async fn a_refused_sign_in_ends_no_session() {
    let world = start().await;
    let users = world.app.users();
    let plain = users.sign_in(&now(&world), &browser(None)).await.unwrap().token;
    let plain = plain.plain.expose_secret();
    let wrong = SignIn { password: "wrong", ..browser(Some(plain)) };
    users.sign_in(&now(&world), &wrong).await.unwrap_err();
    users.authenticate(plain, world.clock.now()).await.unwrap();
}

#[tokio::test]
async fn what_was_signed_out_is_dead_at_every_process() {
    let world = start().await;
    let random = std::sync::Arc::new(SeededRandom::new(9));
    let clock = std::sync::Arc::new(world.clock.clone());
    let other = tollgate_app::App::new(world.store.clone(), world.master.clone(), clock, random);
    let (plain, me) = session(&world).await;
    other.users().authenticate(&plain, world.clock.now()).await.unwrap();
    world.app.users().sign_out(&world.as_user(&me), &me).await.unwrap();
    for app in [&world.app, &other] {
        let error = app.users().authenticate(&plain, world.clock.now()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthenticated);
    }
}

#[tokio::test]
async fn one_session_or_all_others_are_ended() {
    let world = World::start().await;
    let (api_token, _) = world.first_admin().await;
    let users = world.app.users();
    let (first, _) = session(&world).await;
    let (second, second_me) = session(&world).await;
    let (third, _) = session(&world).await;
    let (here, me) = session(&world).await;
    let op = world.as_user(&me);
    users.end_session(&op, &me, second_me.token.id).await.unwrap();
    assert!(users.authenticate(&second, op.now).await.is_err());
    assert_eq!(users.end_session(&op, &me, second_me.token.id).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(users.end_other_sessions(&op, &me).await.unwrap(), 2);
    for gone in [first, third] {
        assert!(users.authenticate(&gone, op.now).await.is_err());
    }
    users.authenticate(&here, op.now).await.unwrap();
    users.authenticate(&api_token, op.now).await.unwrap();
}

#[tokio::test]
async fn administrators_list_and_end_the_sessions_of_others() {
    let world = start().await;
    let users = world.app.users();
    let (plain, me) = session(&world).await;
    let (other, _) = session(&world).await;
    let admin = UserName::parse("admin").unwrap();
    assert_eq!(users.sessions_of(&world.op, &admin).await.unwrap().len(), 2);
    users.end_session_of(&world.op, &admin, me.token.id).await.unwrap();
    assert!(users.authenticate(&plain, world.clock.now()).await.is_err());
    assert_eq!(users.end_sessions_of(&world.op, &admin).await.unwrap(), 1);
    assert!(users.authenticate(&other, world.clock.now()).await.is_err());
    let nobody = UserName::parse("nobody").unwrap();
    assert_eq!(users.sessions_of(&world.op, &nobody).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn an_api_token_neither_sees_nor_ends_the_sessions_of_its_user() {
    let world = World::start().await;
    let (_, token) = world.first_admin().await;
    let (plain, me) = session(&world).await;
    let (users, op) = (world.app.users(), world.as_user(&token));
    for error in [
        users.sessions(&op, &token).await.unwrap_err(),
        users.end_session(&op, &token, me.token.id).await.unwrap_err(),
        users.end_other_sessions(&op, &token).await.unwrap_err(),
    ] {
        assert_eq!(error.code, "session-required");
    }
    users.authenticate(&plain, op.now).await.unwrap();
}

#[tokio::test]
async fn nobody_has_power_over_whoever_may_do_more() {
    let world = start().await;
    let (plain, _) = session(&world).await;
    let users = world.app.users();
    let rights = Rights::of([Permission::UserRead, Permission::UserUpdate], &Reach::EVERYTHING);
    let op = world.with(rights);
    let admin = UserName::parse("admin").unwrap();
    let sessions = users.sessions_of(&op, &admin).await.unwrap();
    for error in [
        users.end_session_of(&op, &admin, sessions[0].token.id).await.unwrap_err(),
        users.end_sessions_of(&op, &admin).await.unwrap_err(),
        users.reset_second_factor(&op, &admin).await.unwrap_err(),
    ] {
        assert_eq!(error.code, "rights-exceeded");
    }
    users.authenticate(&plain, op.now).await.unwrap();
}

#[tokio::test]
async fn a_disabled_user_neither_signs_in_nor_goes_on() {
    let world = start().await;
    let (plain, _) = session(&world).await;
    crate::users::put_user(&world, |user| user.disabled_at = Some(user.created_at)).await;
    assert!(world.app.users().authenticate(&plain, world.clock.now()).await.is_err());
    let error = sign_in(&world, &now(&world), "admin", PASSWORD).await.unwrap_err();
    assert_eq!(error.code, "login-failed", "as if there were no such user");
    let admin = UserName::parse("admin").unwrap();
    let recovered = world.app.users().recover(&world.op, &admin, false).await.unwrap();
    sign_in(&world, &now(&world), "admin", recovered.password.expose_secret()).await.unwrap();
}

#[tokio::test]
async fn who_signs_in_very_often_can_still_sign_in_and_keeps_the_latest_sessions() {
    let world = start().await;
    let users = world.app.users();
    let mut plains = Vec::new();
    for _ in 0..51 {
        plains.push(session(&world).await.0);
        world.clock.advance(Duration::from_secs(1));
    }
    assert!(users.authenticate(&plains[0], world.clock.now()).await.is_err(), "the oldest makes room");
    for plain in &plains[1..] {
        users.authenticate(plain, world.clock.now()).await.unwrap();
    }
}
