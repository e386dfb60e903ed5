//! Answers to repeated requests, and runs of schedules.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tollgate_app::Password;
use tollgate_app::access::Op;
use tollgate_app::accounts::AccountFields;
use tollgate_app::errors::ErrorKind;
use tollgate_app::idempotency::RepeatableRequest;
use tollgate_app::schedule::Run;
use tollgate_model::names::{RealmName, ValueName};
use tollgate_model::values::Account;
use tollgate_model::versions::Version;
use tollgate_store::RecordTable;

use crate::world::{KEYED, World, pipeline};

fn request(digest: &str) -> RepeatableRequest {
    RepeatableRequest { key: "k1".to_owned(), digest: digest.to_owned() }
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_for_a_day() {
    let world = World::start().await;
    let (answers, op) = (world.app.idempotency(), &world.op);
    assert_eq!(answers.begin(op, &request("a")).await.unwrap(), None);
    let error = answers.begin(op, &request("a")).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "idempotency-key-in-use"));
    answers.finish(op, &request("a"), Some("made")).await.unwrap();
    assert_eq!(answers.begin(op, &request("a")).await.unwrap().as_deref(), Some("made"));
    let tomorrow = Op { now: op.now + SignedDuration::from_hours(24), ..op.clone() };
    assert_eq!(answers.begin(&tomorrow, &request("a")).await.unwrap(), None);
}

#[tokio::test]
async fn an_idempotency_key_with_another_body_is_refused_and_belongs_to_its_actor() {
    let world = World::start().await;
    let (answers, op) = (world.app.idempotency(), &world.op);
    answers.begin(op, &request("a")).await.unwrap();
    answers.finish(op, &request("a"), Some("made")).await.unwrap();
    let error = answers.begin(op, &request("b")).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Invalid, "idempotency-key-reused"));
    let mut other = op.clone();
    other.actor.name = "other".to_owned();
    assert_eq!(answers.begin(&other, &request("b")).await.unwrap(), None);
}

#[tokio::test]
async fn a_request_that_failed_may_be_repeated_at_once_also_when_the_clock_was_set_back() {
    let world = World::start().await;
    let (answers, op) = (world.app.idempotency(), &world.op);
    answers.begin(op, &request("a")).await.unwrap();
    answers.finish(op, &request("a"), None).await.unwrap();
    let back = Op { now: op.now - SignedDuration::from_mins(1), ..op.clone() };
    assert_eq!(answers.begin(&back, &request("a")).await.unwrap(), None);
}

#[tokio::test]
async fn what_was_sealed_for_another_place_is_no_answer() {
    let world = World::start().await;
    let (app, op, test) = (&world.app, &world.op, &world.test);
    let table = RecordTable::Idempotency;
    // Whoever can write the database but has no master key wants to read a secret through a repeated request.
    let fields = BTreeMap::from([("token".to_owned(), Password::parse("a secret").unwrap())]);
    let fields = AccountFields { plain: fields, ..AccountFields::default() };
    app.accounts().set(op, test, ValueName::parse("crm").unwrap(), fields, None).await.unwrap();
    let account = world.store.get::<Account>(&op.realm, "test/crm").await.unwrap().unwrap().value;
    let kept = serde_json::json!({ "digest": "a", "expires_at": "2027-01-01T00:00:00Z",
        "answer": account.fields["token"] });
    // A user who is called as the realm is, and a key that is what else stands in the place of the account's field.
    let mut namesake = op.clone();
    namesake.actor.name = op.realm.to_string();
    let key = "test/account/crm/token".to_owned();
    let record = format!("{}/{key}", namesake.actor.name);
    world.store.put_record(table, &op.realm, &record, &kept.to_string(), None).await.unwrap();
    let asked = RepeatableRequest { key, digest: "a".to_owned() };
    let error = app.idempotency().begin(&namesake, &asked).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);

    // An answer of another realm.
    app.idempotency().begin(op, &request("a")).await.unwrap();
    app.idempotency().finish(op, &request("a"), Some("made")).await.unwrap();
    let record = format!("{}/k1", op.actor.name);
    let answer = world.store.get_record(table, &op.realm, &record).await.unwrap().unwrap();
    let other = Op { realm: RealmName::parse("other").unwrap(), ..op.clone() };
    world.store.put_record(table, &other.realm, &record, &answer, None).await.unwrap();
    let error = app.idempotency().begin(&other, &request("a")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
}

fn run(due: Timestamp) -> Run {
    Run { due, version: Version::FIRST, ended_at: None, outcome: None }
}

#[tokio::test]
async fn of_two_processes_one_claims_a_run_and_only_the_runs_shown_are_kept() {
    let world = World::start().await;
    let (op, test, schedule, shop) = (&world.op, &world.test, world.app.schedule(), pipeline("shop"));
    world.save("shop", KEYED).await;
    let deployed = world.app.deployments().deploy(op, test, &shop, None, None).await.unwrap();
    let id = deployed.deployment.deployment.id;
    let due = |minute: i64| run(op.now + SignedDuration::from_mins(minute));

    let (first, second) = (due(0), due(0));
    let (first, second) =
        tokio::join!(schedule.claim(&op.realm, id, &first), schedule.claim(&op.realm, id, &second));
    assert!(first.unwrap() != second.unwrap());

    for minute in 1..=55 {
        assert!(schedule.claim(&op.realm, id, &due(minute)).await.unwrap());
        schedule.finish(&op.realm, id, &due(minute)).await.unwrap();
    }
    let shown = schedule.runs(op, test, &shop, None).await.unwrap();
    assert_eq!((shown.len(), shown[0].due, shown[49].due), (50, due(55).due, due(6).due));
    let table = RecordTable::SchedulerRuns;
    assert_eq!(world.store.list_records(table, &op.realm, "", 100).await.unwrap().len(), 50);
    // Its record is gone, but it ran.
    assert!(!schedule.claim(&op.realm, id, &due(0)).await.unwrap());
}
