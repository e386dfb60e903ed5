//! Questions to the past: what there was, judged by the rules and the clock of then.

use jiff::{SignedDuration, Timestamp};
use tollgate_app::App;
use tollgate_app::access::{Op, Permission, Reach, Rights};
use tollgate_app::errors::ErrorKind;
use tollgate_app::lists::ListRequest;
use tollgate_app::waivers::WaiverFilter;
use tollgate_model::names::RealmName;

use crate::waivers::new_waiver;
use crate::world::{KEYED, OPEN, World, conformance, external, pipeline};

/// Returns the same operation some minutes later.
fn later(op: &Op, minutes: i64) -> Op {
    Op { now: op.now + SignedDuration::from_mins(minutes), ..op.clone() }
}

/// Counts who conforms, who by waiver, and who does not, in `test`.
async fn stands(world: &World, app: &App, op: &Op) -> (usize, usize, usize) {
    let report = conformance(app, op, Some(&world.test)).await.remove(0);
    (report.conformant, report.waived, report.not_conformant)
}

#[tokio::test]
async fn conformance_of_then_is_judged_by_the_policies_waivers_and_clock_of_then() {
    let world = World::start().await;
    let (app, test, shop) = (&world.app, &world.test, pipeline("shop"));
    let at = |minutes| later(&world.op, minutes);
    // 1: saved; 2: waived for a week; 3: deployed; 4: the waiver is ended; 5: anything is admitted; 6: undeployed.
    let open = crate::world::document("shop", OPEN);
    app.pipelines().save(&at(1), open).await.unwrap();
    let waiver = app.waivers().create(&at(2), new_waiver()).await.unwrap().value;
    app.deployments().deploy(&at(3), test, &shop, None, None).await.unwrap();
    app.waivers().end(&at(4), waiver.id, None).await.unwrap();
    app.policies().set(&at(5), &external(true, "test", "any"), "", None).await.unwrap();
    app.deployments().undeploy(&at(6), test, &shop, None, None).await.unwrap();
    app.pipelines().delete(&at(7), &shop, None).await.unwrap();

    // Asked ten years later, when the waiver's end has passed long ago.
    let today = later(&world.op, 60 * 24 * 3650);
    let half = SignedDuration::from_secs(30);
    for (minutes, expected) in
        [(2, (0, 0, 0)), (3, (0, 1, 0)), (4, (0, 0, 1)), (5, (1, 0, 0)), (6, (0, 0, 0)), (8, (0, 0, 0))]
    {
        for now in [at(minutes).now, at(minutes).now + half] {
            let (past, then) = app.as_of(&today, now).await.unwrap();
            assert_eq!(stands(&world, &past, &then).await, expected, "{minutes}");
        }
    }
    // A moment before, it was still the state before.
    let (past, then) = app.as_of(&today, at(3).now - SignedDuration::from_nanos(1)).await.unwrap();
    assert_eq!(stands(&world, &past, &then).await, (0, 0, 0));

    // What is gone by now can be read, with its history up to then.
    let (past, then) = app.as_of(&today, at(5).now).await.unwrap();
    assert_eq!(past.pipelines().list(&then, ListRequest::default()).await.unwrap().items.len(), 1);
    assert_eq!(past.pipelines().versions(&then, &shop).await.unwrap().len(), 1);
    assert_eq!(
        past.deployments().get(&then, test, &shop, None).await.unwrap().value.deployment.deployed_at,
        at(3).now
    );
    assert_eq!(past.deployments().history(&then, test, &shop).await.unwrap().len(), 1);
    assert_eq!(past.policies().versions(&then).await.unwrap().len(), 2);
    assert_eq!(past.waivers().list(&then, &WaiverFilter::default()).await.unwrap().len(), 0);
    assert_eq!(app.pipelines().list(&today, ListRequest::default()).await.unwrap().items.len(), 0);
}

#[tokio::test]
async fn the_past_cannot_be_changed() {
    let world = World::start().await;
    world.save("shop", KEYED).await;
    let (past, then) = world.app.as_of(&world.op, world.op.now).await.unwrap();
    let before = world.store.head().await.unwrap();
    let error = past.pipelines().delete(&then, &pipeline("shop"), None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
    assert_eq!(world.store.head().await.unwrap(), before);
    assert!(world.app.pipelines().get(&world.op, &pipeline("shop")).await.is_ok());
}

#[tokio::test]
async fn a_time_that_was_not_yet_or_is_not_yet_is_refused_with_the_reason() {
    let world = World::start().await;
    let (app, op) = (&world.app, &world.op);
    let other = RealmName::parse("other").unwrap();
    app.realms().create(&later(op, 5), other.clone()).await.unwrap();
    let in_other = Op { realm: other, ..later(op, 9) };
    let nanosecond = SignedDuration::from_nanos(1);
    for (op, at, code) in [
        (op, op.now + nanosecond, "time-in-future"),
        (op, Timestamp::MAX, "time-in-future"),
        (op, op.now - nanosecond, "time-before-realm"),
        (op, Timestamp::MIN, "time-before-realm"),
        (&in_other, later(op, 4).now, "time-before-realm"),
    ] {
        let error = app.as_of(op, at).await.map(|_| ()).unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Invalid, code), "{at}");
        assert!(error.hint.is_some());
    }
    app.as_of(op, op.now).await.unwrap();
    app.as_of(&in_other, later(op, 5).now).await.unwrap();
    let nowhere = Op { realm: RealmName::parse("nowhere").unwrap(), ..op.clone() };
    assert_eq!(app.as_of(&nowhere, op.now).await.map(|_| ()).unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn the_past_needs_the_permission_to_read_the_journal_and_the_one_to_read() {
    let world = World::start().await;
    let op = world.without(Permission::AuditRead);
    let error = world.app.as_of(&op, op.now).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden);
    let op = world.with(Rights::of([Permission::AuditRead], &Reach::EVERYTHING));
    let (past, then) = world.app.as_of(&op, op.now).await.unwrap();
    assert_eq!(past.policies().get(&then).await.unwrap_err().kind, ErrorKind::Forbidden);
}
