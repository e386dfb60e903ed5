//! Waivers: granted for what is there, until an end that comes by itself, and seen wherever conformance is.

use jiff::SignedDuration;
use tollgate_app::Standing;
use tollgate_app::access::{Op, Permission};
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::waivers::{NewWaiver, WaiverEnd, WaiverFilter};
use tollgate_app::{JournalEntry, JournalFilter};
use tollgate_model::environments::RealmSettings;
use tollgate_model::names::EnvironmentName;
use tollgate_model::policies::{AccessPolicy, PolicyName};
use tollgate_model::verdicts::ViolationCode;
use tollgate_model::waivers::Waiver;

use crate::world::{KEYED, OPEN, World, conformance, external, pipeline};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

/// Waives the missing key of `shop` in `test` for a week.
pub(crate) fn new_waiver() -> NewWaiver {
    NewWaiver {
        pipeline: pipeline("shop"),
        environment: EnvironmentName::test(),
        policy: PolicyName::Access(AccessPolicy::ExternalApiAccess),
        code: None,
        end: WaiverEnd::After(days(7)),
        reason: "the till cannot send a key yet".to_owned(),
        replace: false,
        extends: None,
    }
}

async fn create(world: &World, input: NewWaiver) -> Waiver {
    world.app.waivers().create(&world.op, input).await.unwrap().value
}

/// Makes sure that a waiver is refused, says what to do, and stores nothing.
async fn refused(world: &World, op: &Op, input: NewWaiver) -> Error {
    let before = world.store.head().await.unwrap();
    let error = world.app.waivers().create(op, input).await.unwrap_err();
    assert_eq!(world.store.head().await.unwrap(), before, "{error}");
    assert!(error.hint.is_some(), "{error}");
    error
}

async fn newest(world: &World) -> JournalEntry {
    let newest = JournalFilter { limit: 1, newest_first: true, ..JournalFilter::default() };
    world.app.journal().list(&world.op, newest).await.unwrap().remove(0)
}

#[tokio::test]
async fn a_waiver_lets_a_deploy_pass_and_its_end_changes_conformance_by_itself() {
    let world = World::start().await;
    let (app, op, test, shop) = (&world.app, &world.op, &world.test, pipeline("shop"));
    world.save("shop", OPEN).await;
    app.deployments().deploy(op, test, &shop, None, None).await.unwrap_err();
    let waiver = create(&world, new_waiver()).await;
    assert_eq!(waiver.code, ViolationCode::MissingApiKey, "the only one there is");

    let deployed = app.deployments().deploy(op, test, &shop, None, None).await.unwrap();
    let told = format!("admitted by waiver {} until {}: Missing external API Key", waiver.id, waiver.until);
    assert!(deployed.reminders.iter().any(|reminder| reminder.contains(&told)), "{:?}", deployed.reminders);
    let entry = newest(&world).await;
    assert_eq!(entry.action, "deployment.deploy");
    assert!(entry.reason.contains(&told) && entry.reason.contains(&waiver.reason), "{}", entry.reason);

    let stands = async |at: &Op| {
        let report = conformance(app, at, Some(test)).await.remove(0);
        let view = app.deployments().get(at, test, &shop, None).await.unwrap().value;
        assert_eq!(Standing::of(&view.verdict), report.items[0].standing);
        (report.conformant, report.waived, report.not_conformant)
    };
    let end = Op { now: waiver.until, ..op.clone() };
    let last = Op { now: waiver.until - SECOND, ..op.clone() };
    assert_eq!(stands(op).await, (0, 1, 0));
    assert_eq!(stands(&last).await, (0, 1, 0));
    assert_eq!(stands(&end).await, (0, 0, 1));
    let again = app.deployments().deploy(&end, test, &shop, None, None).await.unwrap_err();
    assert_eq!(again.code, "policy-refused");

    // It stays listed as one that ended, until somebody takes it off or makes another.
    let list = async |at: &Op, ended: bool| {
        let filter = WaiverFilter { ended, ..WaiverFilter::default() };
        app.waivers().list(at, &filter).await.unwrap().len()
    };
    assert_eq!((list(&last, false).await, list(&end, false).await, list(&end, true).await), (1, 0, 1));
    app.waivers().create(&end, new_waiver()).await.unwrap();
    assert_eq!(list(&end, true).await, 1);
    assert_eq!(stands(&end).await, (0, 1, 0));
}

#[tokio::test]
async fn a_waiver_that_is_ended_early_counts_no_more_and_the_journal_names_it() {
    let world = World::start().await;
    let (app, op, test, shop) = (&world.app, &world.op, &world.test, pipeline("shop"));
    world.save("shop", OPEN).await;
    let waiver = create(&world, new_waiver()).await;
    assert_eq!(newest(&world).await.action, "waiver.create");
    let read = app.waivers().get(op, waiver.id).await.unwrap();
    assert_eq!(read.value, waiver);
    let stale = app.waivers().end(op, waiver.id, Some(read.revision + 1)).await.unwrap_err();
    assert_eq!(stale.kind, ErrorKind::PreconditionFailed);
    app.waivers().end(op, waiver.id, Some(read.revision)).await.unwrap();
    let entry = newest(&world).await;
    assert_eq!(entry.action, "waiver.end");
    assert!(entry.reason.contains(&waiver.id.to_string()) && entry.reason.contains("`shop` in test"));
    let error = app.deployments().deploy(op, test, &shop, None, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert_eq!(app.waivers().end(op, waiver.id, None).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_waiver_without_ground_end_to_come_or_reason_is_not_stored() {
    let world = World::start().await;
    let op = &world.op;
    world.save("shop", OPEN).await;
    world.save("tight", KEYED).await;
    let cases = [
        (NewWaiver { end: WaiverEnd::At(op.now), ..new_waiver() }, "date-passed"),
        (NewWaiver { end: WaiverEnd::At(op.now - SECOND), ..new_waiver() }, "date-passed"),
        (NewWaiver { end: WaiverEnd::After(days(0)), ..new_waiver() }, "date-passed"),
        (NewWaiver { end: WaiverEnd::After(days(30) + SECOND), ..new_waiver() }, "waiver-too-long"),
        (NewWaiver { end: WaiverEnd::At(op.now + days(30) + SECOND), ..new_waiver() }, "waiver-too-long"),
        (NewWaiver { end: WaiverEnd::After(SignedDuration::MAX), ..new_waiver() }, "waiver-too-long"),
        (NewWaiver { reason: " \n".to_owned(), ..new_waiver() }, "invalid"),
        (NewWaiver { reason: "é".repeat(501), ..new_waiver() }, "invalid"),
        (NewWaiver { reason: "a\0b".to_owned(), ..new_waiver() }, "invalid"),
        (NewWaiver { reason: "a\u{1b}[2Jb".to_owned(), ..new_waiver() }, "invalid"),
        (NewWaiver { pipeline: pipeline("other"), ..new_waiver() }, "not-found"),
        (NewWaiver { environment: EnvironmentName::parse("moon").unwrap(), ..new_waiver() }, "not-found"),
        (NewWaiver { pipeline: pipeline("tight"), ..new_waiver() }, "waiver-unfounded"),
        (NewWaiver { code: Some(ViolationCode::MissingJwt), ..new_waiver() }, "waiver-unfounded"),
        (NewWaiver { policy: "needs-rate-limit".parse().unwrap(), ..new_waiver() }, "waiver-unfounded"),
    ];
    for (input, code) in cases {
        let label = format!("{input:?}");
        assert_eq!(refused(&world, op, input).await.code, code, "{label}");
    }
    let unfounded = NewWaiver { code: Some(ViolationCode::MissingJwt), ..new_waiver() };
    let hint = refused(&world, op, unfounded).await.hint.unwrap();
    assert!(hint.contains("policy external-api-access, code missing-api-key"), "{hint}");

    for input in [
        NewWaiver { reason: "é".repeat(500), ..new_waiver() },
        NewWaiver { end: WaiverEnd::After(days(30)), replace: true, ..new_waiver() },
        NewWaiver { end: WaiverEnd::At(op.now + days(30)), replace: true, ..new_waiver() },
    ] {
        create(&world, input).await;
    }
}

#[tokio::test]
async fn of_several_violations_of_a_policy_one_is_named() {
    let world = World::start().await;
    world.save("shop", OPEN).await;
    let strict = external(true, "test", "jwt-with-api-key");
    world.app.policies().set(&world.op, &strict, "", None).await.unwrap();
    let error = refused(&world, &world.op, new_waiver()).await;
    let hint = error.hint.unwrap();
    assert!(hint.contains("`missing-api-key`") && hint.contains("`missing-jwt`"), "{hint}");
    for code in [ViolationCode::MissingApiKey, ViolationCode::MissingJwt] {
        create(&world, NewWaiver { code: Some(code), ..new_waiver() }).await;
    }
    let deployments = world.app.deployments();
    deployments.deploy(&world.op, &world.test, &pipeline("shop"), None, None).await.unwrap();
}

#[tokio::test]
async fn what_runs_can_be_waived_after_the_latest_version_was_mended() {
    let world = World::start().await;
    let (app, op, test, shop) = (&world.app, &world.op, &world.test, pipeline("shop"));
    app.policies().set(op, &external(true, "test", "any"), "", None).await.unwrap();
    world.save("shop", OPEN).await;
    app.deployments().deploy(op, test, &shop, None, None).await.unwrap();
    world.save("shop", KEYED).await;
    assert_eq!(refused(&world, op, new_waiver()).await.code, "waiver-unfounded");
    app.policies().set(op, &external(true, "test", "api-key"), "", None).await.unwrap();
    create(&world, new_waiver()).await;
    let running = app.deployments().get(op, test, &shop, None).await.unwrap().value;
    assert_eq!(Standing::of(&running.verdict), Standing::Waived);
}

#[tokio::test]
async fn a_second_waiver_for_a_violation_replaces_the_first_when_told_to_only() {
    let world = World::start().await;
    let (app, op) = (&world.app, &world.op);
    world.save("shop", OPEN).await;
    let first = create(&world, new_waiver()).await;
    let longer = NewWaiver { end: WaiverEnd::After(days(20)), ..new_waiver() };
    let error = refused(&world, op, longer.clone()).await;
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "already-waived"));
    assert!(error.message.contains(&first.id.to_string()), "{error}");

    let longer = NewWaiver { replace: true, ..longer };
    let creator = world.without(Permission::WaiverEnd);
    assert_eq!(refused(&world, &creator, longer.clone()).await.kind, ErrorKind::Forbidden);
    let second = create(&world, longer).await;
    let all = app.waivers().list(op, &WaiverFilter { ended: true, ..WaiverFilter::default() }).await.unwrap();
    assert_eq!(all.iter().map(|it| it.value.id).collect::<Vec<_>>(), [second.id]);
    let reason = newest(&world).await.reason;
    assert!(reason.contains(&format!("in place of {}", first.id)), "{reason}");
}

#[tokio::test]
async fn a_waiver_is_extended_as_long_as_it_is_the_one_that_lets_pass() {
    let world = World::start().await;
    let (app, op) = (&world.app, &world.op);
    world.save("shop", OPEN).await;
    let first = create(&world, new_waiver()).await;
    let extend = |id| NewWaiver { end: WaiverEnd::After(days(20)), extends: Some(id), ..new_waiver() };
    let creator = world.without(Permission::WaiverEnd);
    assert_eq!(refused(&world, &creator, extend(first.id)).await.kind, ErrorKind::Forbidden);
    let second = create(&world, extend(first.id)).await;
    assert!(newest(&world).await.reason.contains(&format!("in place of {}", first.id)));
    let error = refused(&world, op, extend(first.id)).await;
    assert_eq!(error.kind, ErrorKind::PreconditionFailed);
    app.waivers().end(op, second.id, None).await.unwrap();
    let error = refused(&world, op, extend(second.id)).await;
    assert_eq!(error.kind, ErrorKind::PreconditionFailed, "what was ended stays ended");
    // Nor does an end that came by itself.
    let third = create(&world, new_waiver()).await;
    let later = Op { now: third.until, ..op.clone() };
    assert_eq!(refused(&world, &later, extend(third.id)).await.kind, ErrorKind::PreconditionFailed);
}

#[tokio::test]
async fn of_one_who_extends_and_one_who_ends_a_waiver_at_once_none_is_gone_over() {
    for _ in 0..5 {
        let world = World::start().await;
        world.save("shop", OPEN).await;
        let first = create(&world, new_waiver()).await;
        let waivers = world.app.waivers();
        let input = NewWaiver { extends: Some(first.id), ..new_waiver() };
        let (extended, ended) =
            tokio::join!(waivers.create(&world.op, input), waivers.end(&world.op, first.id, None));
        assert!(extended.is_ok() != ended.is_ok(), "{extended:?} {ended:?}");
    }
}

#[tokio::test]
async fn of_two_who_waive_the_same_at_once_one_is_told_of_the_other() {
    for _ in 0..5 {
        let world = World::start().await;
        world.save("shop", OPEN).await;
        let waivers = world.app.waivers();
        let (one, two) =
            tokio::join!(waivers.create(&world.op, new_waiver()), waivers.create(&world.op, new_waiver()));
        let error = match (one, two) {
            (Ok(_), Err(error)) | (Err(error), Ok(_)) => error,
            both => panic!("one must win: {both:?}"),
        };
        assert_eq!(error.code, "already-waived");
    }
}

#[tokio::test]
async fn a_pipeline_that_takes_the_name_of_a_deleted_one_inherits_no_waiver() {
    for _ in 0..5 {
        let world = World::start().await;
        let (app, op, shop) = (&world.app, &world.op, pipeline("shop"));
        world.save("shop", OPEN).await;
        let (waivers, pipelines) = (app.waivers(), app.pipelines());
        // The one may come before the other or after it, and no waiver is left either way.
        let (_, deleted) = tokio::join!(waivers.create(op, new_waiver()), pipelines.delete(op, &shop, None));
        deleted.unwrap();
        world.save("shop", OPEN).await;
        let filter = WaiverFilter { ended: true, ..WaiverFilter::default() };
        assert_eq!(waivers.list(op, &filter).await.unwrap(), []);
        let error = app.deployments().deploy(op, &world.test, &shop, None, None).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Refused);
    }
}

#[tokio::test]
async fn a_deploy_beside_the_end_of_its_waiver_is_never_admitted_by_it_afterwards() {
    for _ in 0..5 {
        let world = World::start().await;
        let (app, op, test, shop) = (&world.app, &world.op, &world.test, pipeline("shop"));
        world.save("shop", OPEN).await;
        let waiver = create(&world, new_waiver()).await;
        let (waivers, deployments) = (app.waivers(), app.deployments());
        let (ended, deployed) =
            tokio::join!(waivers.end(op, waiver.id, None), deployments.deploy(op, test, &shop, None, None));
        ended.unwrap();
        let filter = JournalFilter { limit: 10, newest_first: true, ..JournalFilter::default() };
        let actions: Vec<String> =
            app.journal().list(op, filter).await.unwrap().into_iter().map(|entry| entry.action).collect();
        match deployed {
            Ok(_) => assert_eq!(actions[..2], ["waiver.end", "deployment.deploy"]),
            Err(error) => assert_eq!(error.kind, ErrorKind::Refused),
        }
    }
}

#[tokio::test]
async fn the_longest_waiver_is_what_the_realm_says() {
    let world = World::start().await;
    let (app, op) = (&world.app, &world.op);
    world.save("shop", OPEN).await;
    let before = app.realms().get(op).await.unwrap();
    assert_eq!(before.value.settings.max_waiver_days.get(), 30);
    let settings: RealmSettings = serde_json::from_str(r#"{ "maxWaiverDays": 6 }"#).unwrap();
    let saved = app.realms().update(op, settings.clone(), Some(before.revision)).await.unwrap();
    assert_eq!(newest(&world).await.action, "realm.update");
    assert_eq!(app.realms().get(op).await.unwrap(), saved);
    assert_eq!(saved.value.created_at, before.value.created_at);
    let error = refused(&world, op, new_waiver()).await;
    assert_eq!(error.code, "waiver-too-long");
    assert!(error.message.contains("6 days"), "{error}");

    let head = world.store.head().await.unwrap();
    let late = app.realms().update(op, settings, Some(before.revision)).await.unwrap_err();
    assert_eq!(late.kind, ErrorKind::PreconditionFailed);
    assert_eq!(world.store.head().await.unwrap(), head);
}
