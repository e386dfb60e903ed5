//! The second factor, and attacks on it.

use std::time::Duration;

use jiff::SignedDuration;
use tollgate_app::access::Op;
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::users::{Authenticated, Duty, NewPassword, NewToken, SignIn};
use tollgate_model::environments::{RealmSettings, SecondFactorRule};
use tollgate_model::names::{RealmName, UserName};
use tollgate_model::objects::keys;
use tollgate_model::sources::Clock;
use tollgate_model::users::SecondFactor;
use tollgate_testkit::totp_code;

use crate::users::{LATER_PASSWORD, session, shown, start};
use crate::world::{PASSWORD, World};

/// What somebody keeps who enrolled.
pub(crate) struct Kept {
    pub(crate) secret: String,
    pub(crate) codes: Vec<String>,
}

/// Enrols, and lets a step pass, so that the next code is a fresh one.
pub(crate) async fn enrol(world: &World, me: &Authenticated) -> Kept {
    let users = world.app.users();
    let op = world.as_user(me);
    let enrolment = users.enrol_second_factor(&op, me, PASSWORD).await.unwrap();
    let secret = enrolment.secret.to_string();
    assert!(enrolment.uri.starts_with(&format!("otpauth://totp/Tollgate:admin?secret={secret}&")));
    let codes = users.confirm_second_factor(&op, me, &totp_code(&secret, op.now)).await.unwrap();
    let codes = codes.expose_secrets().map(str::to_owned).collect();
    world.clock.advance(Duration::from_secs(30));
    Kept { secret, codes }
}

fn now(world: &World) -> Op {
    Op { now: world.clock.now(), ..world.op.clone() }
}

async fn with_code(world: &World, op: &Op, code: &str) -> Result<String, Error> {
    let shown = SignIn { code: Some(code), ..shown("admin", PASSWORD) };
    let signed_in = world.app.users().sign_in(op, &shown).await?;
    Ok(signed_in.token.plain.expose_secret().to_owned())
}

async fn stored(world: &World, me: &Authenticated) -> SecondFactor {
    let key = keys::second_factor(me.token.user);
    world.store.get::<SecondFactor>(&RealmName::default(), &key).await.unwrap().unwrap().value
}

#[tokio::test]
async fn a_code_is_asked_for_once_the_password_is_right() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let kept = enrol(&world, &me).await;
    let users = world.app.users();
    let error = users.sign_in(&now(&world), &shown("admin", PASSWORD)).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Unauthenticated, "second-factor-required"));
    let error = users.sign_in(&now(&world), &shown("admin", "wrong")).await.unwrap_err();
    assert_eq!(error.code, "login-failed", "it must not tell who has a second factor");
    let code = totp_code(&kept.secret, world.clock.now());
    let wrong_password = SignIn { code: Some(&code), ..shown("admin", "wrong") };
    assert_eq!(users.sign_in(&now(&world), &wrong_password).await.unwrap_err().code, "login-failed");
    assert_eq!(with_code(&world, &now(&world), "000000").await.unwrap_err().code, "login-failed");
    with_code(&world, &now(&world), &code).await.unwrap();
}

#[tokio::test]
async fn a_missing_code_costs_nothing_however_often_it_is_asked_for() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let kept = enrol(&world, &me).await;
    for _ in 0..20 {
        let error = world.app.users().sign_in(&now(&world), &shown("admin", PASSWORD)).await.unwrap_err();
        assert_eq!(error.code, "second-factor-required");
    }
    with_code(&world, &now(&world), &totp_code(&kept.secret, world.clock.now())).await.unwrap();
}

#[tokio::test]
async fn a_code_is_taken_once_and_no_earlier_one_after_it() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let kept = enrol(&world, &me).await;
    world.clock.advance(Duration::from_secs(60));
    let at = |seconds: i64| totp_code(&kept.secret, world.clock.now() + SignedDuration::from_secs(seconds));
    with_code(&world, &now(&world), &at(0)).await.unwrap();
    assert_eq!(with_code(&world, &now(&world), &at(0)).await.unwrap_err().code, "login-failed", "again");
    assert_eq!(
        with_code(&world, &now(&world), &at(-30)).await.unwrap_err().code,
        "login-failed",
        "an earlier one"
    );
    // A clock that is set back shows the same codes again.
    let back = Op { now: world.clock.now() - SignedDuration::from_secs(60), ..world.op.clone() };
    assert_eq!(
        with_code(&world, &back, &at(-60)).await.unwrap_err().code,
        "login-failed",
        "the clock was set back"
    );
    with_code(&world, &now(&world), &at(30)).await.unwrap();
}

#[tokio::test]
async fn one_code_used_twice_at_once_gives_one_session() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let kept = enrol(&world, &me).await;
    for code in [totp_code(&kept.secret, world.clock.now()), kept.codes[0].clone()] {
        let ops: Vec<Op> = (0..4).map(|n| Op { source: format!("10.0.0.{n}"), ..now(&world) }).collect();
        let [a, b, c, d] = ops.as_slice() else { panic!("four") };
        let (a, b, c, d) = tokio::join!(
            with_code(&world, a, &code),
            with_code(&world, b, &code),
            with_code(&world, c, &code),
            with_code(&world, d, &code)
        );
        let good = [a, b, c, d].into_iter().filter(Result::is_ok).count();
        assert_eq!(good, 1, "{code}");
    }
}

#[tokio::test]
async fn guessing_codes_with_the_right_password_is_held_up_from_however_many_machines() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let kept = enrol(&world, &me).await;
    let right = totp_code(&kept.secret, world.clock.now());
    let mut guesses = 0;
    for n in 0..200 {
        let op = Op { source: format!("10.0.{n}.1"), ..now(&world) };
        let guess = format!("{n:06}");
        assert_ne!(guess, right);
        guesses += u32::from(with_code(&world, &op, &guess).await.unwrap_err().code == "login-failed");
    }
    assert_eq!(guesses, 10);
    // Where the user signed in before, they still can.
    with_code(&world, &now(&world), &right).await.unwrap();
}

#[tokio::test]
async fn a_right_password_between_two_guesses_of_a_code_washes_nothing_off() {
    let world = start().await;
    let users = world.app.users();
    let (_, me) = session(&world).await;
    enrol(&world, &me).await;
    let op = world.as_user(&me);
    let mut guesses = 0;
    for n in 0..20 {
        let guess = users.remove_second_factor(&op, &me, PASSWORD, &format!("{n:06}")).await.unwrap_err();
        guesses += u32::from(guess.code == "confirmation-failed");
        // The password is right; the change is refused for another reason.
        let change = NewPassword { current: PASSWORD, new: "short", end_api_tokens: false };
        users.change_password(&op, &me, &change).await.unwrap_err();
    }
    assert_eq!(guesses, 5);
}

#[tokio::test]
async fn each_recovery_code_works_once_and_new_ones_void_those_before() {
    let world = start().await;
    let users = world.app.users();
    let (_, me) = session(&world).await;
    let kept = enrol(&world, &me).await;
    assert_eq!(kept.codes.len(), 10);
    with_code(&world, &now(&world), &kept.codes[3].to_uppercase()).await.unwrap();
    assert_eq!(with_code(&world, &now(&world), &kept.codes[3]).await.unwrap_err().code, "login-failed");
    let op = world.as_user(&me);
    assert_eq!(users.second_factor(&op, &me).await.unwrap().recovery_codes_left, 9);
    let renewed = users.renew_recovery_codes(&op, &me, PASSWORD, &kept.codes[4]).await.unwrap();
    let renewed: Vec<_> = renewed.expose_secrets().map(str::to_owned).collect();
    assert_eq!(with_code(&world, &now(&world), &kept.codes[5]).await.unwrap_err().code, "login-failed");
    with_code(&world, &now(&world), &renewed[0]).await.unwrap();
}

#[tokio::test]
async fn a_copy_of_the_store_shows_neither_secret_nor_recovery_codes() {
    let world = start().await;
    let (_, me) = session(&world).await;
    let kept = enrol(&world, &me).await;
    let factor = stored(&world, &me).await;
    let text = serde_json::to_string(&factor).unwrap();
    let bare: Vec<_> = kept.codes.iter().map(|code| code.replace('-', "")).collect();
    for secret in kept.codes.iter().chain(&bare).chain([&kept.secret]) {
        assert!(!text.contains(secret.as_str()), "{text}");
    }
    let other =
        tollgate_credential::seal::MasterKey::generate(&tollgate_testkit::SeededRandom::new(99)).unwrap();
    let context = tollgate_snapshot::contexts::second_factor(me.token.user);
    assert!(other.open(&context, &factor.sealed_secret).is_err());
    assert_eq!(world.master.open(&context, &factor.sealed_secret).unwrap().len(), 20);
}

#[tokio::test]
async fn enrolling_needs_the_password_and_a_first_code_within_the_hour() {
    let world = start().await;
    let users = world.app.users();
    let (_, me) = session(&world).await;
    let op = world.as_user(&me);
    let refused = users.enrol_second_factor(&op, &me, "wrong").await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code, "confirmation-failed");
    assert_eq!(
        users.confirm_second_factor(&op, &me, "123456").await.unwrap_err().code,
        "second-factor-missing"
    );
    let enrolment = users.enrol_second_factor(&op, &me, PASSWORD).await.unwrap();
    assert_eq!(users.second_factor(&op, &me).await.unwrap().since, None, "it counts for nothing yet");
    users.sign_in(&op, &shown("admin", PASSWORD)).await.unwrap();
    assert_eq!(
        users.confirm_second_factor(&op, &me, "123456").await.unwrap_err().code,
        "confirmation-failed"
    );
    world.clock.advance(Duration::from_secs(3600));
    let late = world.as_user(&me);
    let code = totp_code(&enrolment.secret, late.now);
    assert_eq!(
        users.confirm_second_factor(&late, &me, &code).await.unwrap_err().code,
        "second-factor-missing"
    );
    let kept = enrol(&world, &me).await;
    assert_ne!(kept.secret, *enrolment.secret);
    let again = users.enrol_second_factor(&world.as_user(&me), &me, PASSWORD).await.map(|_| ()).unwrap_err();
    assert_eq!(again.code, "second-factor-enrolled");
}

#[tokio::test]
async fn an_api_token_neither_enrols_nor_removes_a_second_factor() {
    let world = World::start().await;
    let (_, token) = world.first_admin().await;
    let users = world.app.users();
    let (_, me) = session(&world).await;
    let kept = enrol(&world, &me).await;
    let op = world.as_user(&token);
    let code = totp_code(&kept.secret, world.clock.now());
    for error in [
        users.enrol_second_factor(&op, &token, PASSWORD).await.map(|_| ()).unwrap_err(),
        users.remove_second_factor(&op, &token, PASSWORD, &code).await.unwrap_err(),
        users.renew_recovery_codes(&op, &token, PASSWORD, &code).await.map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(error.code, "session-required");
    }
}

#[tokio::test]
async fn a_change_of_the_second_factor_ends_the_other_sessions() {
    let world = start().await;
    let users = world.app.users();
    let (other, _) = session(&world).await;
    let (plain, me) = session(&world).await;
    let kept = enrol(&world, &me).await;
    assert!(users.authenticate(&other, world.clock.now()).await.is_err(), "it began without a second factor");
    users.authenticate(&plain, world.clock.now()).await.unwrap();
    let code = totp_code(&kept.secret, world.clock.now());
    let third = with_code(&world, &now(&world), &code).await.unwrap();
    let op = world.as_user(&me);
    for (password, code, said) in [
        ("wrong", kept.codes[0].as_str(), "confirmation-failed"),
        (PASSWORD, code.as_str(), "confirmation-failed"),
    ] {
        let error = users.remove_second_factor(&op, &me, password, code).await.unwrap_err();
        assert_eq!(error.code, said);
    }
    users.remove_second_factor(&op, &me, PASSWORD, &kept.codes[0]).await.unwrap();
    assert!(users.authenticate(&third, world.clock.now()).await.is_err());
    let (_, me) = session(&world).await;
    let error =
        users.remove_second_factor(&world.as_user(&me), &me, PASSWORD, &kept.codes[1]).await.unwrap_err();
    assert_eq!(error.code, "second-factor-missing");
}

#[tokio::test]
async fn an_administrator_takes_away_a_second_factor_that_was_lost() {
    let world = start().await;
    let users = world.app.users();
    let (plain, me) = session(&world).await;
    enrol(&world, &me).await;
    let admin = UserName::parse("admin").unwrap();
    users.reset_second_factor(&world.op, &admin).await.unwrap();
    assert!(users.authenticate(&plain, world.clock.now()).await.is_err());
    users.sign_in(&now(&world), &shown("admin", PASSWORD)).await.unwrap();
    assert_eq!(users.reset_second_factor(&world.op, &admin).await.unwrap_err().code, "second-factor-missing");
}

#[tokio::test]
async fn where_a_second_factor_is_demanded_nothing_goes_without() {
    let world = World::start().await;
    let (token, admin) = world.first_admin().await;
    let users = world.app.users();
    let (plain, me) = session(&world).await;
    let rule = |second_factor| RealmSettings { second_factor, ..RealmSettings::default() };
    let required = rule(SecondFactorRule::Required);
    let by_user = world.as_user(&me);
    let error = world.app.realms().update(&by_user, required.clone(), None).await.unwrap_err();
    assert_eq!(error.code, "second-factor-missing", "nobody shuts everybody out");
    world.app.realms().update(&world.op, required.clone(), None).await.unwrap();

    for shown in [&plain, &token] {
        let me = users.authenticate(shown, world.clock.now()).await.unwrap();
        assert_eq!(me.duty, Some(Duty::EnrolSecondFactor));
        let op = world.as_user(&me);
        assert_eq!(world.app.realms().list(&op).await.unwrap_err().code, "forbidden");
        assert_eq!(users.create_token(&op, &me, NewToken::default()).await.unwrap_err().code, "forbidden");
    }
    let me = users.authenticate(&plain, world.clock.now()).await.unwrap();
    let op = world.as_user(&me);
    assert_eq!(
        users.end_other_sessions(&op, &me).await.unwrap_err().code,
        "second-factor-enrolment-required"
    );
    enrol(&world, &me).await;
    for shown in [&plain, &token] {
        let me = users.authenticate(shown, world.clock.now()).await.unwrap();
        assert_eq!(me.duty, None);
        world.app.realms().list(&world.as_user(&me)).await.unwrap();
    }
    assert_eq!(admin.duty, None);
    world.app.realms().update(&world.as_user(&me_again(&world, &plain).await), required, None).await.unwrap();
}

async fn me_again(world: &World, plain: &str) -> Authenticated {
    world.app.users().authenticate(plain, world.clock.now()).await.unwrap()
}

#[tokio::test]
async fn a_temporary_password_comes_before_the_second_factor() {
    let world = start().await;
    let users = world.app.users();
    let settings = RealmSettings { second_factor: SecondFactorRule::Required, ..RealmSettings::default() };
    world.app.realms().update(&world.op, settings, None).await.unwrap();
    crate::users::put_user(&world, |user| user.password_is_temporary = true).await;
    let (plain, me) = session(&world).await;
    assert_eq!(me.duty, Some(Duty::ChangePassword));
    let change = NewPassword { current: PASSWORD, new: LATER_PASSWORD, end_api_tokens: false };
    users.change_password(&world.as_user(&me), &me, &change).await.unwrap();
    assert_eq!(me_again(&world, &plain).await.duty, Some(Duty::EnrolSecondFactor));
}

#[tokio::test]
async fn only_the_realm_of_users_demands_a_second_factor() {
    let world = start().await;
    let other = RealmName::parse("other").unwrap();
    world.app.realms().create(&world.op, other.clone()).await.unwrap();
    let op = Op { realm: other, ..world.op.clone() };
    let settings = RealmSettings { second_factor: SecondFactorRule::Required, ..RealmSettings::default() };
    let error = world.app.realms().update(&op, settings, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
}
