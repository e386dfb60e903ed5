//! What is counted for Prometheus, and that callers can make no series.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use jiff::SignedDuration;
use tollgate_gateway::{Exposition, ListenerId};
use tollgate_model::environments::Exposure;
use tollgate_model::keysets::SigningKey;
use tollgate_model::names::EnvironmentName;
use tollgate_model::policies::Policies;

use crate::world::{World, get, remote, request};

const KEYED: &str = "kind: Pipeline\nname: keyed\nproject: store\ntrigger: { type: rest, externalApi: true, apiKey: true }\nsteps: [{ json: 1 }]\n";
const FAILS: &str = "kind: Pipeline\nname: fails\nproject: store\ntrigger: { type: rest, externalApi: true }\nsteps: [{ throw: { error: no, code: my-own, status: 418 } }]\n";

fn text(world: &World) -> String {
    let mut out = Exposition::default();
    world.gateway.write_metrics(&mut out);
    out.into_text()
}

/// Returns the samples of a family.
fn samples(world: &World, family: &str) -> Vec<String> {
    let text = text(world);
    let of = |line: &&str| line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' ']));
    text.lines().filter(of).map(|line| line.replacen(family, "", 1)).collect()
}

#[tokio::test]
async fn calls_are_counted_by_deployment_status_and_code() {
    let (mut world, test) = (World::new(), EnvironmentName::test());
    world.deploy(KEYED);
    let ann = world.consumer(&test, "ann", &["keyed"]);
    let (_, key) = world.key(&test, ann);
    world.publish();
    let path = "/pipeline/default/v1/keyed";
    for (path, headers) in [
        (path, vec![("apikey", key.as_str())]),
        (path, vec![("apikey", key.as_str())]),
        (path, vec![]),
        (path, vec![("apikey", "wrong")]),
        ("/nowhere", vec![]),
        ("/healthz", vec![]),
    ] {
        world.call(&test, get(path, &headers)).await;
    }
    let of = "environment=\"test\",realm=\"default\",pipeline=\"keyed\",major=\"1\"";
    let listener = "environment=\"test\",exposure=\"external\"";
    assert_eq!(
        samples(&world, "tollgate_calls_total"),
        [
            format!("{{{of},status=\"2xx\"}} 2"),
            format!("{{{of},status=\"4xx\",code=\"api-key-missing\"}} 1"),
            format!("{{{of},status=\"4xx\",code=\"api-key-invalid\"}} 1"),
            format!("{{{listener},status=\"2xx\"}} 1"),
            format!("{{{listener},status=\"4xx\",code=\"route-not-found\"}} 1"),
        ]
    );
    assert_eq!(
        samples(&world, "tollgate_call_duration_seconds_count"),
        [format!("{{{of}}} 4"), format!("{{{listener}}} 2")]
    );
    let buckets = samples(&world, "tollgate_call_duration_seconds_bucket");
    assert_eq!(buckets.len(), 2 * 15);
    assert!(buckets.contains(&format!("{{{of},le=\"+Inf\"}} 4")), "{buckets:?}");
    assert!(!text(&world).contains(&key) && !text(&world).contains("ann"));
}

#[tokio::test]
async fn callers_make_no_series_and_a_redeploy_keeps_the_counts() {
    let (mut world, test) = (World::new(), EnvironmentName::test());
    world.deploy(FAILS);
    world.publish();
    let call = async |world: &World, x: u32| {
        for path in [format!("/pipeline/default/v1/fails?x={x}"), format!("/pipeline/default/v1/no-{x}")] {
            world.call(&test, get(&path, &[("x-some", &format!("some-{x}"))])).await;
        }
    };
    call(&world, 0).await;
    let before = text(&world).lines().count();
    for x in 1..20 {
        call(&world, x).await;
    }
    world.deploy(FAILS);
    world.publish();
    call(&world, 20).await;
    assert_eq!(text(&world).lines().count(), before);
    let made_up = samples(&world, "tollgate_calls_total");
    let expected = "{environment=\"test\",realm=\"default\",pipeline=\"fails\",major=\"1\",status=\"4xx\",code=\"other\"} 21";
    assert_eq!(made_up[0], expected);
}

#[tokio::test]
async fn a_call_is_in_flight_until_it_ends_and_one_that_hung_up_has_no_status() {
    let (mut world, test) = (World::new(), EnvironmentName::test());
    world.deploy(&KEYED.replace("apiKey: true", "apiKey: false, methods: [POST]"));
    world.publish();
    let listener = ListenerId { environment: test.clone(), exposure: Exposure::External };
    let call = request("POST", "/pipeline/default/v1/keyed", &[("content-length", "5")], "");
    // A body that never comes.
    let call = call.map(|_| Silent);
    {
        let mut answer = pin!(world.gateway.handle(&listener, remote(), call));
        let polled = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context).is_pending())).await;
        assert!(polled, "it waits for its body");
        assert_eq!(
            samples(&world, "tollgate_calls_in_flight"),
            ["{environment=\"test\",exposure=\"external\"} 1"]
        );
    }
    assert_eq!(
        samples(&world, "tollgate_calls_in_flight"),
        ["{environment=\"test\",exposure=\"external\"} 0"]
    );
    assert!(samples(&world, "tollgate_calls_total")[0].ends_with("status=\"none\"} 1"));
}

/// A body of which nothing ever arrives.
struct Silent;

impl http_body::Body for Silent {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn readiness_tells_revision_and_age_and_wants_policies_and_keys() {
    let (mut world, test) = (World::new(), EnvironmentName::test());
    let ready = async |world: &World| world.call(&test, get("/readyz", &[])).await;
    assert_eq!(ready(&world).await.code(), "check-unavailable");
    world.publish();
    let told = ready(&world).await;
    assert_eq!(told.header("content-type"), "application/json");
    assert_eq!(
        told.json(),
        serde_json::json!({ "ready": true, "revision": 1, "ageSeconds": null, "problems": 0 })
    );
    world.shared.confirm(world.now());
    world.shared.confirm(world.now() - SignedDuration::from_secs(9));
    world.clock.advance(std::time::Duration::from_millis(2500));
    assert_eq!(ready(&world).await.json()["ageSeconds"], 2.5);
    // An environment that does not exist.
    let moon = crate::world::environment("moon");
    assert_eq!(world.call(&moon, get("/readyz", &[])).await.status, 503);
    // What does not parse is as if it were not there.
    let spoils: [fn(&mut World); 3] =
        [World::spoil::<Policies>, World::spoil::<SigningKey>, |world| world.delete::<Policies>(|_| true)];
    for spoil in spoils {
        let mut world = World::new();
        world.publish();
        assert_eq!(ready(&world).await.status, 200);
        spoil(&mut world);
        world.publish();
        assert_eq!(ready(&world).await.code(), "check-unavailable");
    }
    world.delete::<SigningKey>(|_| true);
    world.publish();
    assert_eq!(ready(&world).await.status, 503);
}
