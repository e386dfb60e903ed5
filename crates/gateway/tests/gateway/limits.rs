//! Limits of callers and of the gateway: how they are counted, and that nobody uses them against somebody else.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tollgate_gateway::{Answer, GatewaySettings, ListenerId};
use tollgate_model::environments::Exposure;
use tollgate_model::names::EnvironmentName;

use crate::world::{World, get, remote, request};

fn listener() -> ListenerId {
    ListenerId { environment: EnvironmentName::test(), exposure: Exposure::External }
}

fn pipeline(name: &str, trigger: &str) -> String {
    format!(
        "{{kind: Pipeline, name: {name}, project: store, steps: [{{json: {{body: '{{{{ message.body }}}}'}}}}], \
         trigger: {{type: http, externalApi: true, {trigger}}}}}"
    )
}

fn code(answer: &Answer) -> &str {
    answer.headers().get("tollgate-error").map_or("", |code| code.to_str().expect("text"))
}

fn retry_after(answer: &Answer) -> &str {
    answer.headers().get("retry-after").map_or("", |value| value.to_str().expect("text"))
}

#[tokio::test]
async fn all_routes_and_all_that_is_deployed_of_an_api_share_its_limit() {
    let test = EnvironmentName::test();
    let mut world = World::new();
    let limit = "rateLimit: {limits: [{interval: day, limit: 4}]}, routes: ['/other/:id']";
    world.deploy(&pipeline("shared", limit));
    world.publish();
    for (path, left) in [("shared", "r=3"), ("other/1", "r=2"), ("other/2", "r=1")] {
        let reply = world.call(&test, get(&format!("/pipeline/default/v1/{path}"), &[])).await;
        assert!(reply.header("ratelimit").contains(left), "{path}: {reply:?}");
    }
    // A deployment is no way to get calls back.
    world.deploy(&pipeline("shared", limit));
    world.publish();
    let call = || world.call(&test, get("/pipeline/default/v1/shared", &[]));
    assert!(call().await.header("ratelimit").contains("r=0"));
    assert_eq!(call().await.code(), "rate-limited");
}

#[tokio::test]
async fn an_address_that_guesses_is_refused_and_good_credentials_from_it_never_are() {
    let test = EnvironmentName::test();
    let settings = GatewaySettings { bad_credentials_per_address: 5, ..GatewaySettings::default() };
    let mut world = World::with_settings(settings);
    world.deploy(&pipeline("keyed", "apiKey: true"));
    world.deploy(&pipeline("token", "jwt: true"));
    let alice = world.consumer(&test, "alice", &["keyed", "token"]);
    let (_, key) = world.key(&test, alice);
    let token = format!("Bearer {}", world.token(&test, alice, &[]));
    world.publish();
    let keyed = |key: &str| get("/pipeline/default/v1/keyed", &[("apikey", key)]);
    let with_token = |token: &str| get("/pipeline/default/v1/token", &[("authorization", token)]);
    let mut made_up = key.clone();
    made_up.replace_range(key.len() - 1.., if key.ends_with('A') { "B" } else { "A" });
    for bad in [made_up.as_str(), "junk", "tg_test_x", "tg_prod_x"] {
        assert_eq!(world.call(&test, keyed(bad)).await.code(), "api-key-invalid", "{bad}");
    }
    assert_eq!(world.call(&test, with_token("Bearer a.b.c")).await.code(), "jwt-invalid");
    for request in [keyed("junk"), keyed(&made_up), with_token("Bearer a.b.c")] {
        let reply = world.call(&test, request).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (429, "too-many-bad-credentials"));
        assert_eq!((reply.header("retry-after"), reply.header("connection")), ("1", "close"));
        assert_eq!(reply.header("www-authenticate"), "", "says nothing of what was wrong");
    }
    // Without credentials there is nothing that could be a guess.
    assert_eq!(world.call(&test, get("/pipeline/default/v1/keyed", &[])).await.code(), "api-key-missing");
    // Whoever shares the address is served.
    assert_eq!(world.call(&test, keyed(&key)).await.status, 200);
    assert_eq!(world.call(&test, with_token(&token)).await.status, 200);
    // Another address is another guesser.
    let other = SocketAddr::from(([192, 0, 2, 99], 1));
    let answer = world.gateway.handle(&listener(), other, keyed("junk")).await;
    assert_eq!(code(&answer), "api-key-invalid");
    // What has ended was good once: its holder must learn that, and is no guesser.
    world.clock.advance(Duration::from_secs(3_600));
    for _ in 0..10 {
        assert_eq!(world.call(&test, with_token(&token)).await.code(), "jwt-invalid");
    }
    assert_eq!(world.call(&test, keyed("junk")).await.code(), "api-key-invalid");
}

#[tokio::test]
async fn guessing_passwords_becomes_slow_and_a_password_that_was_right_goes_on() {
    let test = EnvironmentName::test();
    let settings = GatewaySettings { bad_credentials_per_address: 10, ..GatewaySettings::default() };
    let mut world = World::with_settings(settings);
    world.deploy(&pipeline("basic", "basicAuth: true"));
    let alice = world.consumer(&test, "alice", &["basic"]);
    world.basic(&test, alice, "alice", "correct horse battery");
    let bob = world.consumer(&test, "bob", &["basic"]);
    world.basic(&test, bob, "bob", "another long password");
    world.publish();
    let call = async |user: &str, password: &str| {
        let credentials = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
        world.call(&test, get("/pipeline/default/v1/basic", &[("authorization", &credentials)])).await
    };
    assert_eq!(call("alice", "correct horse battery").await.status, 200);
    assert_eq!(call("alice", "wrong").await.code(), "basic-auth-invalid");
    assert_eq!(call("nobody", "wrong").await.code(), "basic-auth-invalid");
    for (user, password) in [("alice", "wrong"), ("nobody", "wrong"), ("bob", "another long password")] {
        let reply = call(user, password).await;
        assert_eq!(reply.code(), "too-many-bad-credentials", "{user}: nothing tells who exists");
    }
    assert_eq!(call("alice", "correct horse battery").await.status, 200, "never locked out by others");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(call("bob", "another long password").await.status, 200, "and nobody for long");
    assert_eq!(call("alice", "wrong").await.code(), "basic-auth-invalid");
    assert_eq!(call("bob", "another long password").await.status, 200);
}

#[tokio::test]
async fn a_flood_of_made_up_keys_keeps_nobody_out_who_has_a_password() {
    let test = EnvironmentName::test();
    let settings = GatewaySettings { bad_credentials_per_address: 10, ..GatewaySettings::default() };
    let mut world = World::with_settings(settings);
    world.deploy(&pipeline("keyed", "apiKey: true"));
    world.deploy(&pipeline("basic", "basicAuth: true"));
    let alice = world.consumer(&test, "alice", &["basic"]);
    world.basic(&test, alice, "alice", "correct horse battery");
    world.publish();
    for _ in 0..100 {
        world.call(&test, get("/pipeline/default/v1/keyed", &[("apikey", "junk")])).await;
    }
    let guess = world.call(&test, get("/pipeline/default/v1/keyed", &[("apikey", "junk")])).await;
    assert_eq!(guess.code(), "too-many-bad-credentials");
    // A password that was never right before, and so must be looked at.
    let credentials = format!("Basic {}", BASE64_STANDARD.encode("alice:correct horse battery"));
    let call = get("/pipeline/default/v1/basic", &[("authorization", &credentials)]);
    assert_eq!(world.call(&test, call).await.status, 200);
}

type Call = Pin<Box<dyn Future<Output = Answer>>>;

/// A call that waits for its body.
fn begin(world: &World, path: &str, headers: &[(&str, &str)]) -> Call {
    let request = request("POST", path, headers, "").map(|_| crate::attacks::Silence);
    let gateway = world.gateway.clone();
    Box::pin(async move { gateway.handle(&listener(), remote(), request).await })
}

fn metrics(world: &World) -> String {
    let mut out = tollgate_gateway::Exposition::default();
    world.gateway.write_metrics(&mut out);
    out.into_text()
}

async fn is_waiting(call: &mut Call) -> bool {
    std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_pending())).await
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_runs_so_many_calls_at_once_queues_some_and_turns_the_rest_away() {
    let test = EnvironmentName::test();
    let mut world = World::new();
    let bounded = "apiKey: true, concurrency: {limit: 2, queue: 1, queueTimeoutMs: 500}";
    world.deploy(&pipeline("bounded", bounded));
    world.deploy(&pipeline("free", ""));
    let alice = world.consumer(&test, "alice", &["bounded"]);
    let (_, key) = world.key(&test, alice);
    world.publish();
    let path = "/pipeline/default/v1/bounded";
    let keyed = [("apikey", key.as_str())];
    // Who shows no good credentials takes no place, however slowly the body comes.
    for _ in 0..10 {
        let mut refused = begin(&world, path, &[("apikey", "junk")]);
        assert!(!is_waiting(&mut refused).await);
    }
    let (mut first, mut second) = (begin(&world, path, &keyed), begin(&world, path, &keyed));
    assert!(is_waiting(&mut first).await && is_waiting(&mut second).await);
    let mut queued = begin(&world, path, &keyed);
    assert!(is_waiting(&mut queued).await);
    let told = metrics(&world);
    assert!(
        told.contains("\ntollgate_calls_running 2\n") && told.contains("\ntollgate_calls_waiting 1\n"),
        "{told}"
    );
    // Early: no time passes for whom there is no room.
    let turned_away = world.gateway.handle(&listener(), remote(), get(path, &keyed)).await;
    assert_eq!((code(&turned_away), retry_after(&turned_away)), ("overloaded", "1"));
    assert_eq!(world.call(&test, get("/pipeline/default/v1/free", &[])).await.status, 200);
    // Never late: the queue has a deadline.
    let started = tokio::time::Instant::now();
    assert_eq!(code(&queued.await), "overloaded");
    assert_eq!(started.elapsed(), Duration::from_millis(500));
    // A version that is deployed anew has no places beside those of the one before.
    world.deploy(&pipeline("bounded", bounded));
    world.publish();
    let mut queued = begin(&world, path, &keyed);
    assert!(is_waiting(&mut queued).await);
    assert_eq!(code(&world.gateway.handle(&listener(), remote(), get(path, &keyed)).await), "overloaded");
    // Who hangs up gives their place back, in the queue and before the flow.
    drop(queued);
    drop(first);
    assert_eq!(world.call(&test, get(path, &keyed)).await.status, 200);
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn all_calls_together_have_a_bound_and_the_pages_of_the_gateway_none() {
    let test = EnvironmentName::test();
    let settings = GatewaySettings { max_calls: 1, call_queue: 0, ..GatewaySettings::default() };
    let mut world = World::with_settings(settings);
    world.deploy(&pipeline("one", ""));
    world.deploy(&pipeline("two", ""));
    world.publish();
    let mut first = begin(&world, "/pipeline/default/v1/one", &[]);
    assert!(is_waiting(&mut first).await);
    let call = || world.call(&test, get("/pipeline/default/v1/two", &[]));
    assert_eq!(call().await.code(), "overloaded");
    for path in ["/healthz", "/readyz", "/.well-known/jwks.json"] {
        assert_eq!(world.call(&test, get(path, &[])).await.status, 200, "{path}");
    }
    drop(first);
    assert_eq!(call().await.status, 200);
    let text = metrics(&world);
    assert!(
        text.contains("\ntollgate_calls_running 0\n") && text.contains("\ntollgate_calls_waiting 0\n"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_a_place_among_all_until_the_deadline_and_no_longer() {
    let settings = GatewaySettings {
        max_calls: 1,
        call_queue: 1,
        call_queue_timeout: Duration::from_millis(700),
        ..GatewaySettings::default()
    };
    let mut world = World::with_settings(settings);
    world.deploy(&pipeline("one", ""));
    world.deploy(&pipeline("two", ""));
    world.publish();
    let (one, two) = ("/pipeline/default/v1/one", "/pipeline/default/v1/two");
    let mut first = begin(&world, one, &[]);
    assert!(is_waiting(&mut first).await);
    let mut queued = begin(&world, two, &[]);
    assert!(is_waiting(&mut queued).await);
    assert_eq!(code(&world.gateway.handle(&listener(), remote(), get(two, &[])).await), "overloaded");
    let started = tokio::time::Instant::now();
    let late = queued.await;
    assert_eq!((code(&late), retry_after(&late)), ("overloaded", "1"));
    assert_eq!(started.elapsed(), Duration::from_millis(700));
    // Whoever gets the place in time is served.
    let gateway = world.gateway.clone();
    let queued = tokio::spawn(async move { gateway.handle(&listener(), remote(), get(two, &[])).await });
    tokio::time::sleep(Duration::from_millis(600)).await;
    drop(first);
    assert_eq!(queued.await.expect("no panic").status(), 200);
}
