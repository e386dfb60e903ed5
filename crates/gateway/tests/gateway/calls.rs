//! Which calls are counted, and what is noted of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_gateway::{Gateway, GatewaySettings, Usage};
use tollgate_model::calls::CountedCaller;
use tollgate_model::ids::KeyId;
use tollgate_model::names::EnvironmentName;

use crate::world::{World, get};

const KEYED: &str = "kind: Pipeline\nname: keyed\nproject: store\ntrigger: { type: rest, externalApi: true, apiKey: true }\nsteps: [{ json: 1 }]\n";
const TOKEN: &str = "kind: Pipeline\nname: token\nproject: store\ntrigger: { type: rest, externalApi: true, jwt: true }\nsteps: [{ json: 1 }]\n";
const OPEN: &str = "kind: Pipeline\nname: open\nproject: store\ntrigger: { type: rest, externalApi: true }\nsteps: [{ json: 1 }]\n";

/// Counted calls as `pipeline credentials`, with how many there were.
fn counted(usage: &Usage) -> BTreeMap<(String, CountedCaller), u64> {
    let calls = usage.drain_calls().calls.into_iter();
    calls.map(|(of, calls)| ((format!("{} {}", of.pipeline, of.credentials), of.caller), calls)).collect()
}

#[tokio::test]
async fn a_call_that_passed_is_counted_with_who_called_and_what_was_shown() {
    let mut world = World::new();
    let test = EnvironmentName::test();
    for pipeline in [KEYED, TOKEN, OPEN] {
        world.deploy(pipeline);
    }
    let ann = world.consumer(&test, "ann", &["keyed", "token"]);
    let (first, key) = world.key(&test, ann);
    let (second, other_key) = world.key(&test, ann);
    let bearer = format!("Bearer {}", world.token(&test, ann, &[]));
    world.publish();
    let calls: &[(&str, &[(&str, &str)])] = &[
        ("keyed", &[("apikey", &key)]),
        ("keyed", &[("apikey", &key)]),
        ("keyed", &[("apikey", &other_key), ("authorization", &bearer)]),
        ("token", &[("authorization", &bearer)]),
        ("token", &[("authorization", &bearer), ("apikey", "whatever")]),
        ("open", &[]),
        ("open", &[("authorization", "bearer whatever"), ("apikey", "whatever")]),
        ("open", &[("authorization", "Basic whatever")]),
        // A scheme with nothing behind it is none.
        ("open", &[("authorization", "Bearer ")]),
    ];
    for (pipeline, headers) in calls {
        let reply = world.call(&test, get(&format!("/pipeline/default/v1/{pipeline}"), headers)).await;
        assert_eq!(reply.status, 200, "{pipeline}: {reply:?}");
    }
    // None of these passes.
    for (pipeline, headers) in [("keyed", vec![]), ("keyed", vec![("apikey", "wrong")]), ("nowhere", vec![])]
    {
        world.call(&test, get(&format!("/pipeline/default/v1/{pipeline}"), &headers)).await;
    }
    let ann =
        |key: Option<KeyId>| CountedCaller::Consumer("ann".parse().expect("a name"), key.map(Into::into));
    let expected = [
        ("keyed api-key", ann(Some(first)), 2),
        ("keyed api-key+token-sent", ann(Some(second)), 1),
        ("token token", ann(None), 1),
        ("token api-key-sent+token", ann(None), 1),
        ("open none", CountedCaller::Unknown, 2),
        ("open api-key-sent+token-sent", CountedCaller::Unknown, 1),
        ("open basic-auth-sent", CountedCaller::Unknown, 1),
    ];
    let expected = expected.map(|(what, caller, calls)| ((what.to_owned(), caller), calls));
    assert_eq!(counted(&world.usage), BTreeMap::from(expected));
    assert_eq!(counted(&world.usage), BTreeMap::new(), "counts are taken once");
}

#[tokio::test]
async fn calls_are_counted_in_the_minute_in_which_they_came() {
    let mut world = World::new();
    world.deploy(OPEN);
    world.publish();
    let begin = world.now().as_second().div_euclid(60);
    for _ in 0..3 {
        world.call(&EnvironmentName::test(), get("/pipeline/default/v1/open", &[])).await;
        world.clock.advance(std::time::Duration::from_secs(60));
    }
    let calls = world.usage.drain_calls().calls;
    assert_eq!(calls.keys().map(|of| of.minute - begin).collect::<Vec<_>>(), [0, 1, 2]);
}

#[tokio::test]
async fn callers_beyond_the_bound_are_counted_together_and_none_is_lost() {
    let mut world = World::new();
    let test = EnvironmentName::test();
    world.deploy(KEYED);
    let keys: Vec<_> = (0..300)
        .map(|n| {
            let consumer = world.consumer(&test, &format!("c{n}"), &["keyed"]);
            world.key(&test, consumer).1
        })
        .collect();
    world.publish();
    let usage = Arc::new(Usage::telling_apart(64));
    world.gateway = Gateway::new(
        world.shared.clone(),
        Arc::new(world.clock.clone()),
        Arc::new(world.random.clone()),
        GatewaySettings::default(),
        usage.clone(),
    );
    for key in keys.iter().chain(&keys) {
        let reply = world.call(&test, get("/pipeline/default/v1/keyed", &[("apikey", key)])).await;
        assert_eq!(reply.status, 200);
    }
    let counts = usage.drain_calls();
    assert_eq!(counts.calls.values().sum::<u64>(), 600);
    let others: Vec<_> = counts.calls.iter().filter(|(of, _)| of.caller == CountedCaller::Others).collect();
    assert_eq!(others.len(), 1);
    assert_eq!(others.first().map(|(_, calls)| **calls), Some(counts.others));
    // Two for each caller in each of 32 shards, and the others themselves.
    assert!(counts.calls.len() <= 65 && counts.others >= 600 - 128, "{}", counts.calls.len());
}
