//! Counted calls, and what a policy change means for those who call.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use tollgate_app::access::{Op, Permission};
use tollgate_app::calls::{CallQuery, Days};
use tollgate_app::errors::ErrorKind;
use tollgate_model::calls::{CountedCaller, CountedCalls};
use tollgate_model::ids::KeyId;
use tollgate_model::names::EnvironmentName;

use crate::search::somebody;
use crate::world::{KEYED, World, consumer, external, pipeline, tightening};

pub(crate) fn every_call() -> CallQuery {
    CallQuery { environment: None, pipeline: None, days: Days::parse(None).unwrap() }
}

/// Counts calls in `test`, at the time of an operation.
pub(crate) async fn count(
    world: &World,
    op: &Op,
    name: &str,
    caller: CountedCaller,
    shown: &str,
    calls: u64,
) {
    let of = CountedCalls {
        realm: op.realm.clone(),
        environment: EnvironmentName::test(),
        pipeline: pipeline(name),
        major: 1,
        minute: op.now.as_second() / 60,
        caller,
        credentials: shown.parse().unwrap(),
    };
    let mut counts = BTreeMap::from([(of, calls)]);
    let batch = world.app.calls().batch(&mut counts).unwrap();
    world.app.calls().add(&batch).await.unwrap();
    assert!(counts.is_empty());
}

pub(crate) fn of(name: &str, key: Option<KeyId>) -> CountedCaller {
    CountedCaller::Consumer(consumer(name), key.map(Into::into))
}

fn days_ago(world: &World, days: i64) -> Op {
    Op { now: world.op.now - SignedDuration::from_hours(24 * days), ..world.op.clone() }
}

#[tokio::test]
async fn calls_are_reported_by_caller_and_keys_are_named_by_name_and_hint_only() {
    let world = World::start().await;
    let (op, calls) = (&world.op, world.app.calls());
    world.save("shop", KEYED).await;
    let key = world.consumer("ann").await.key.unwrap();
    let gone = KeyId::new(op.now, [9; 10]);
    count(&world, op, "shop", of("ann", Some(key.key.id)), "api-key", 3).await;
    count(&world, op, "shop", of("ann", Some(gone)), "api-key", 2).await;
    count(&world, &days_ago(&world, 8), "shop", CountedCaller::Unknown, "none", 40).await;

    let report = calls.report(op, &every_call()).await.unwrap();
    assert_eq!((report.calls, report.items.len()), (5, 2));
    let named: Vec<_> = report.items.iter().filter_map(|item| item.caller.key.clone()).collect();
    let known = named.iter().find(|named| named.id == key.key.id.to_string()).unwrap();
    assert_eq!((known.name.as_deref(), known.hint.as_deref()), (Some("main"), Some(key.key.hint.as_str())));
    let unknown = named.iter().find(|named| named.id == gone.to_string()).unwrap();
    assert_eq!((&unknown.name, &unknown.hint), (&None, &None));
    let text = format!("{report:?}");
    assert!(!text.contains(&key.key.digest), "{text}");

    // A user name is half of a credential: it is told to whom it is to see, the id to all.
    let made = world.app.basic_auth().create(op, &world.test, &consumer("ann"), "annie", None).await.unwrap();
    let id = made.credential.id;
    count(&world, op, "shop", CountedCaller::Consumer(consumer("ann"), Some(id.into())), "basic-auth", 7)
        .await;
    for (op, name) in [
        (op.clone(), Some("annie")),
        (somebody(&world, &[Permission::UsageRead, Permission::PipelineRead], None), None),
    ] {
        let report = calls.report(&op, &every_call()).await.unwrap();
        let named: Vec<_> = report.items.iter().filter_map(|it| it.caller.credential.as_ref()).collect();
        let [it] = named.as_slice() else { panic!("{report:?}") };
        assert_eq!((it.kind, it.id.as_str(), it.name.as_deref()), ("basic-auth", &*id.to_string(), name));
    }

    let longer = CallQuery { days: Days::parse(Some(9)).unwrap(), ..every_call() };
    assert_eq!(calls.report(op, &longer).await.unwrap().calls, 52);
    let nowhere = CallQuery { pipeline: Some(pipeline("nowhere")), ..every_call() };
    assert_eq!(calls.report(op, &nowhere).await.unwrap_err().kind, ErrorKind::NotFound);
    let nowhere = CallQuery { environment: Some("nowhere".parse().unwrap()), ..every_call() };
    assert_eq!(calls.report(op, &nowhere).await.unwrap_err().kind, ErrorKind::NotFound);
    for days in [0, 91, u16::MAX] {
        assert_eq!(Days::parse(Some(days)).unwrap_err().kind, ErrorKind::Invalid, "{days}");
    }
}

#[tokio::test]
async fn what_was_counted_90_days_ago_is_forgotten() {
    let world = World::start().await;
    for days in [89, 91] {
        count(&world, &days_ago(&world, days), "shop", CountedCaller::Unknown, "none", 1).await;
    }
    assert_eq!(world.app.calls().forget_old().await.unwrap(), 1);
    let query = CallQuery { days: Days::parse(Some(90)).unwrap(), ..every_call() };
    assert_eq!(world.app.calls().report(&world.op, &query).await.unwrap().calls, 1);
}

#[tokio::test]
async fn a_batch_is_bounded_and_leaves_the_rest() {
    let world = World::start().await;
    let of = |minute| CountedCalls {
        realm: world.op.realm.clone(),
        environment: EnvironmentName::test(),
        pipeline: pipeline("shop"),
        major: 1,
        minute,
        caller: CountedCaller::Unknown,
        credentials: "none".parse().unwrap(),
    };
    let mut counts: BTreeMap<_, _> = (0..1_200).map(|minute| (of(minute), 1)).collect();
    let mut sizes = Vec::new();
    while !counts.is_empty() {
        sizes.push(world.app.calls().batch(&mut counts).unwrap().calls.len());
    }
    assert_eq!(sizes, [500, 500, 200]);
}

#[tokio::test]
async fn the_impact_counts_the_calls_that_lacked_what_would_be_demanded() {
    let world = World::start().await;
    let (op, app) = (&world.op, &world.app);
    for name in ["shop", "quiet"] {
        world.save(name, KEYED).await;
        app.deployments().deploy(op, &world.test, &pipeline(name), None, None).await.unwrap();
    }
    let ann = Some(world.consumer("ann").await.key.unwrap().key.id);
    let bob = Some(world.consumer("bob").await.key.unwrap().key.id);
    count(&world, op, "shop", of("ann", ann), "api-key+token-sent", 10).await;
    count(&world, op, "shop", of("ann", ann), "api-key", 3).await;
    count(&world, op, "shop", of("bob", bob), "api-key", 5).await;
    count(&world, op, "elsewhere", of("bob", bob), "api-key", 70).await;
    count(&world, &days_ago(&world, 2), "shop", of("bob", bob), "api-key", 100).await;

    let impact = app.policies().impact(op, &tightening()).await.unwrap();
    let days = |days| Days::parse(Some(days)).unwrap();
    let callers = app.calls().of_impact(op, &impact.environments, days(1)).await.unwrap();
    assert_eq!((callers.calls, callers.lacking), (18, 8));
    let [quiet, shop] = callers.deployments.as_slice() else { panic!("{callers:?}") };
    assert_eq!((quiet.pipeline.as_str(), quiet.calls, quiet.callers.len()), ("quiet", 0, 0));
    let demands: Vec<_> = shop.demands.iter().map(|it| (it.code.as_str(), it.lacking)).collect();
    assert_eq!(demands, [("missing-jwt", 8)]);
    let by: Vec<_> = shop
        .callers
        .iter()
        .map(|it| (it.caller.consumer.as_ref().unwrap().as_str(), it.calls, it.lacking))
        .collect();
    assert_eq!(by, [("bob", 5, 5), ("ann", 13, 3)], "the most lacking first");
    let callers = app.calls().of_impact(op, &impact.environments, days(7)).await.unwrap();
    assert_eq!((callers.calls, callers.lacking), (118, 108));

    // A change that makes nothing fall out concerns nobody.
    let weaker = app.policies().impact(op, &external(true, "test", "any")).await.unwrap();
    let callers = app.calls().of_impact(op, &weaker.environments, days(7)).await.unwrap();
    assert_eq!((callers.calls, callers.deployments.len()), (0, 0));
}

#[tokio::test]
async fn who_calls_is_told_only_to_those_who_may_read_usage() {
    let world = World::start().await;
    let op = world.without(Permission::UsageRead);
    let impact = world.app.policies().impact(&op, &tightening()).await.unwrap();
    let error = world.app.calls().of_impact(&op, &impact.environments, Days::parse(None).unwrap()).await;
    assert_eq!(error.unwrap_err().kind, ErrorKind::Forbidden);
}
