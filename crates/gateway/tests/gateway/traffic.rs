//! What is counted of calls when they end, and what the live log shows of them.

use std::collections::BTreeMap;

use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::traffic::{Measure, TrafficCaller};

use crate::world::{World, get, request};

const KEYED: &str = "kind: Pipeline\nname: keyed\nproject: store\ntrigger: { type: rest, externalApi: true, apiKey: true }\nsteps: [{ json: 1 }]\n";
const FAILS: &str = "kind: Pipeline\nname: fails\nproject: store\ntrigger: { type: rest, externalApi: true }\nsteps: [{ throw: { error: no, code: my-own, status: 418 } }]\n";

/// What was counted, as `pipeline caller measure`; of durations only that there are.
fn counted(world: &World) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (of, calls) in world.usage.drain_traffic() {
        let pipeline = of.pipeline.map_or("-".to_owned(), |(name, _)| name.to_string());
        let caller = match of.caller {
            TrafficCaller::Unknown => "-".to_owned(),
            TrafficCaller::Consumer(name) => name.to_string(),
            TrafficCaller::Others => "*".to_owned(),
        };
        let measure = match of.measure {
            Measure::Took(_) => "took".to_owned(),
            other => other.to_string(),
        };
        *all.entry(format!("{pipeline} {caller} {measure}")).or_default() += calls;
    }
    all
}

fn expected<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(of, calls)| (of.to_owned(), calls)).collect()
}

#[tokio::test]
async fn every_call_of_a_realm_is_counted_by_what_became_of_it() {
    let (mut world, test) = (World::new(), EnvironmentName::test());
    world.deploy(KEYED);
    world.deploy(FAILS);
    let ann = world.consumer(&test, "ann", &["keyed"]);
    let bob = world.consumer(&test, "bob", &[]);
    let ((_, key), (_, other)) = (world.key(&test, ann), world.key(&test, bob));
    world.publish();
    let path = "/pipeline/default/v1/keyed";
    for (path, headers) in [
        (path, vec![("apikey", key.as_str())]),
        (path, vec![("apikey", key.as_str())]),
        (path, vec![]),
        (path, vec![("apikey", other.as_str())]),
        ("/pipeline/default/v1/fails", vec![]),
        ("/nowhere", vec![]),
        ("/healthz", vec![]),
    ] {
        world.call(&test, get(path, &headers)).await;
    }
    let first = counted(&world);
    assert_eq!(
        first,
        expected([
            ("keyed ann answer/2xx", 2),
            ("keyed ann took", 2),
            ("keyed - answer/4xx", 1),
            ("keyed - code/4xx/api-key-missing", 1),
            ("keyed - took", 1),
            ("keyed bob answer/4xx", 1),
            ("keyed bob code/4xx/consumer-not-allowed", 1),
            ("keyed bob took", 1),
            ("fails - answer/4xx", 1),
            ("fails - code/4xx/flow-error", 1),
            ("fails - took", 1),
            ("- - answer/4xx", 1),
            ("- - code/4xx/route-not-found", 1),
            ("- - took", 1),
        ]),
        "who was refused is known where the key was good; what the gateway answers itself is no call"
    );
    assert_eq!(counted(&world), BTreeMap::new(), "counts are taken once");
}

#[tokio::test]
async fn the_live_log_shows_calls_and_nothing_secret_of_them() {
    let (mut world, test) = (World::new(), EnvironmentName::test());
    world.deploy(&KEYED.replace("apiKey: true", "apiKey: { query: true }, routes: [\"/things/:id\"]"));
    let ann = world.consumer(&test, "ann", &["keyed"]);
    let (_, key) = world.key(&test, ann);
    world.publish();
    let base = "/pipeline/default/v1";
    let ids = [
        world.call(&test, get(&format!("{base}/keyed?apikey={key}"), &[("x-some", "hidden-header")])).await,
        world.call(&test, get(&format!("{base}/keyed/{key}"), &[])).await,
        world.call(&test, request("POST", &format!("{base}/keyed"), &[], "hidden-body")).await,
        world.call(&test, get("/healthz", &[])).await,
    ]
    .map(|reply| reply.header("x-request-id").to_owned());
    let known = world.gateway.recent_calls(&RealmName::default());
    let shown: Vec<_> = known
        .calls
        .iter()
        .map(|call| {
            let consumer = call.consumer.as_ref().map_or("-", |name| name.as_str());
            let code = call.code.as_deref().unwrap_or("-");
            format!(
                "{} {} {} {} {code} {consumer}",
                call.request_id,
                call.method,
                call.path,
                call.status.unwrap()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            format!("{} POST {base}/keyed 401 api-key-missing -", ids[2]),
            format!("{} GET {base}/keyed/… 404 route-not-found -", ids[1]),
            format!("{} GET {base}/keyed 200 - ann", ids[0]),
        ]
    );
    let text = format!("{known:?}");
    assert!(!text.contains(&key[12..]) && !text.contains("hidden"), "{text}");
    let other = world.gateway.recent_calls(&RealmName::parse("other").expect("a name"));
    assert_eq!(other.calls.len(), 0, "another realm's");
}

#[tokio::test]
async fn a_flood_is_told_in_samples_and_counted_whole() {
    let (mut world, test) = (World::new(), EnvironmentName::test());
    world.deploy(FAILS);
    world.publish();
    for _ in 0..1_000 {
        world.call(&test, get("/pipeline/default/v1/fails", &[])).await;
    }
    let known = world.gateway.recent_calls(&RealmName::default());
    assert_eq!((known.calls.len(), known.left_out), (200, 800));
    world.call(&test, get("/nowhere", &[])).await;
    let known = world.gateway.recent_calls(&RealmName::default());
    assert_eq!(known.calls.first().and_then(|call| call.code.as_deref()), Some("route-not-found"));
    assert_eq!(counted(&world)["fails - answer/4xx"], 1_000);
}
