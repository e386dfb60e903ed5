//! Ways around the checks that were thought of, each of which must stay closed.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use serde_json::Value;
use tollgate_gateway::{GatewaySettings, ListenerId};
use tollgate_model::environments::Exposure;
use tollgate_model::names::EnvironmentName;

use crate::world::{Reply, World, get, remote, request};

const SECRET: &str = "{kind: Pipeline, name: secret, project: store, \
    trigger: {type: rest, externalApi: true, apiKey: {query: true}, routes: ['/items/:id']}, \
    steps: [{json: {message: '{{ message }}'}}]}";

/// Everything that is logged by the whole process, the other tests included: they hold no secret that may be logged
/// either.
pub(crate) static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("the only one");
    log
});

#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

/// A body of which nothing ever comes.
pub(crate) struct Silence;

// === impl Log ===

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
    }

    /// Returns the fields of the access line for which `of` holds.
    fn line(&self, of: impl Fn(&Value) -> bool) -> Option<Value> {
        let text = self.text();
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines
            .find(|line| line["target"] == "tollgate::access" && of(&line["fields"]))
            .and_then(|mut line| line.get_mut("fields").map(Value::take))
    }

    pub(crate) fn line_of(&self, reply: &Reply) -> Value {
        self.line(|fields| fields["request_id"] == reply.header("x-request-id"))
            .expect("every call has a line")
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl Silence ===

impl Body for Silence {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_around_its_route() {
    let test = EnvironmentName::test();
    let mut world = World::new();
    world.deploy(SECRET);
    world.publish();
    for path in [
        "//pipeline/default/v1/secret",
        "/pipeline/default/v1//secret",
        "/pipeline/default/v1/./secret",
        "/x/../pipeline/default/v1/secret",
        "/pipeline/default/v1/%2e/secret",
        "/pipeline%2fdefault/v1/secret",
        "/pipeline/default/v1/secret%00",
        "/pipeline/default/v1/secret%0d%0aapikey:%20x",
        "/pipeline/default/v1/items/..%2fsecret",
        "/pipeline/default/v1\\secret",
        // Overlong UTF-8: a slash and a dot in two bytes and three.
        "/pipeline/default/v1%c0%afsecret",
        "/pipeline/default/v1/%c0%ae%c0%ae/secret",
        "/pipeline/default/v1/%e0%80%afsecret",
    ] {
        assert_eq!(world.call(&test, get(path, &[])).await.code(), "request-malformed", "{path}");
    }
    for path in [
        "/pipeline/default/v1/secret/",
        "/pipeline/default/v1/%73ecret",
        "/pipeline/default/V1/secret",
        "/pipeline/default/v01/secret",
        "/pipeline/default/v1/secret;x",
        "/pipeline/default/v1;x/secret",
        "/pipeline/default/v1/secret;x=1",
        "/pipeline/default/v1/secret.",
        "/pipeline/default/v1/secret.json",
        "/pipeline/default/v1/Secret",
        "/PIPELINE/default/v1/secret",
        "/pipeline/Default/v1/secret",
        "/pipeline/default/v1/secret%20",
        "/pipeline/default/v1/..;/secret",
        "/pipeline/default/v1/items/",
        "/",
    ] {
        assert_eq!(world.call(&test, get(path, &[])).await.code(), "route-not-found", "{path}");
    }
}

#[tokio::test]
async fn what_a_caller_sends_twice_is_never_chosen_from() {
    let test = EnvironmentName::test();
    let mut world = World::new();
    world.deploy(SECRET);
    let alice = world.consumer(&test, "alice", &["secret"]);
    let (_, key) = world.key(&test, alice);
    world.publish();
    let path = "/pipeline/default/v1/secret";
    for second in ["", "junk", &key] {
        let reply = world.call(&test, get(path, &[("apikey", &key), ("apikey", second)])).await;
        assert_eq!(reply.code(), "request-malformed", "{second:?}");
        assert_eq!(reply.header("connection"), "close");
    }
    let joined = format!("{key}, {key}");
    assert_eq!(world.call(&test, get(path, &[("apikey", &joined)])).await.code(), "api-key-invalid");
}

#[tokio::test]
async fn what_looks_like_the_header_of_the_key_is_not() {
    let test = EnvironmentName::test();
    let mut world = World::new();
    world.deploy(&SECRET.replace("apiKey: {query: true}", "apiKey: true"));
    let alice = world.consumer(&test, "alice", &["secret"]);
    let (_, key) = world.key(&test, alice);
    world.publish();
    let path = "/pipeline/default/v1/secret";
    for name in ["api_key", "api-key", "x-apikey", "apikey_", "apikey1"] {
        assert_eq!(world.call(&test, get(path, &[(name, &key)])).await.code(), "api-key-missing", "{name}");
    }
    let in_query = format!("{path}?apikey={key}");
    assert_eq!(world.call(&test, get(&in_query, &[])).await.code(), "api-key-missing");
    for authorization in
        [format!("ApiKey {key}"), format!("Bearer {key}"), format!("Basic {key}"), key.clone()]
    {
        let reply = world.call(&test, get(path, &[("authorization", &authorization)])).await;
        assert_eq!(reply.code(), "api-key-missing", "{authorization}");
    }
    let long = format!("{key}{}", "A".repeat(30_000));
    assert_eq!(world.call(&test, get(path, &[("apikey", &long)])).await.code(), "api-key-invalid");
    for around in [format!("\"{key}\""), format!("{key},"), format!("{key};x"), format!("{key}\u{e9}")] {
        let reply = world.call(&test, get(path, &[("apikey", &around)])).await;
        assert_eq!(reply.code(), "api-key-invalid", "{around:?}");
    }
}

#[tokio::test]
async fn a_parameter_of_the_route_cannot_be_replaced_by_the_query() {
    let test = EnvironmentName::test();
    let mut world = World::new();
    world.deploy(SECRET);
    let alice = world.consumer(&test, "alice", &["secret"]);
    let (_, key) = world.key(&test, alice);
    world.publish();
    let path = "/pipeline/default/v1/items/a%20b?id=other&x=1&x=2";
    let reply = world.call(&test, get(path, &[("apikey", &key), ("cookie", "c")])).await;
    let message = &reply.json()["message"];
    assert_eq!(message["queryAndPath"], serde_json::json!({ "id": "a b", "x": ["1", "2"] }));
    assert_eq!(message["headers"]["apikey"], serde_json::Value::Null, "the flow sees no key");
    let broken = world.call(&test, get("/pipeline/default/v1/items/%ff", &[("apikey", &key)])).await;
    assert_eq!(broken.code(), "request-malformed", "no UTF-8");
}

#[tokio::test]
async fn no_secret_reaches_the_log() {
    let log = &*LOG;
    let test = EnvironmentName::test();
    let mut world = World::seeded(2);
    world.deploy(SECRET);
    let alice = world.consumer(&test, "alice", &["secret"]);
    let (_, key) = world.key(&test, alice);
    let token = world.token(&test, alice, &[]);
    world.publish();
    let path = format!("/pipeline/default/v1/items/private-id?apikey={key}&q=private-query");
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("x-note", "private-header")];
    let good = world.call(&test, request("POST", &path, &headers, "private-body")).await;
    let bad = world.call(&test, get("/pipeline/default/v1/secret", &[("apikey", "tg_test_wrong")])).await;

    let text = log.text();
    for secret in [key.as_str(), &token, "tg_test_", "private-"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let fields = log.line_of(&good);
    assert_eq!(fields["route"], "/pipeline/default/v1/items/:id");
    assert_eq!(fields["status"], 200);
    assert_eq!((&fields["consumer"], &fields["pipeline"]), (&"alice".into(), &"secret".into()));
    assert_eq!((&fields["version"], &fields["environment"]), (&"1.0".into(), &"test".into()));
    assert_eq!(log.line_of(&bad)["code"], "api-key-invalid");
}

#[tokio::test]
async fn a_caller_who_hangs_up_is_logged_all_the_same() {
    let (log, test) = (&*LOG, EnvironmentName::test());
    let mut world = World::seeded(3);
    world.deploy(&SECRET.replace("name: secret", "name: left"));
    let alice = world.consumer(&test, "alice", &["left"]);
    let (_, key) = world.key(&test, alice);
    world.publish();
    let listener = ListenerId { environment: test, exposure: Exposure::External };
    let request = request("POST", "/pipeline/default/v1/left", &[("apikey", &key)], "").map(|_| Silence);
    {
        let mut call = Box::pin(world.gateway.handle(&listener, remote(), request));
        let waits = std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context).is_pending()));
        assert!(waits.await, "the body never comes");
        assert_eq!(log.line(|fields| fields["pipeline"] == "left"), None, "it goes on");
    }
    let fields = log.line(|fields| fields["pipeline"] == "left").expect("a line");
    assert_eq!((&fields["hung_up"], &fields["consumer"]), (&true.into(), &"alice".into()));
    assert_eq!(fields["status"], Value::Null);
}

#[tokio::test]
async fn a_method_that_a_caller_makes_up_stays_out_of_the_log() {
    let (log, world) = (&*LOG, World::seeded(4));
    world.publish();
    let made_up = "X".repeat(10_000);
    let reply = world.call(&EnvironmentName::test(), request(&made_up, "/", &[], "")).await;
    assert_eq!(log.line_of(&reply)["method"], "other");
    assert!(!log.text().contains(&made_up));
}

#[tokio::test]
async fn a_refused_call_is_logged_with_the_consumer_that_made_it() {
    let (log, test) = (&*LOG, EnvironmentName::test());
    let mut world = World::seeded(5);
    let limit = "{kind: Pipeline, name: NAME, project: store, steps: [{json: {}}], trigger: {type: rest, \
        externalApi: true, apiKey: true, rateLimit: {limits: [{interval: day, limit: 1}]}}}";
    world.deploy(&limit.replace("NAME", "limited"));
    world.deploy(&limit.replace("NAME", "others"));
    let alice = world.consumer(&test, "alice", &["limited"]);
    let (_, key) = world.key(&test, alice);
    world.publish();
    let call = async |path| log.line_of(&world.call(&test, get(path, &[("apikey", &key)])).await);
    assert_eq!(call("/pipeline/default/v1/limited").await["status"], 200);
    let limited = call("/pipeline/default/v1/limited").await;
    assert_eq!((&limited["code"], &limited["consumer"]), (&"rate-limited".into(), &"alice".into()));
    let other = call("/pipeline/default/v1/others").await;
    assert_eq!((&other["code"], &other["consumer"]), (&"consumer-not-allowed".into(), &"alice".into()));
}

#[tokio::test]
async fn large_bodies_cannot_use_up_the_memory() {
    let test = EnvironmentName::test();
    let settings = GatewaySettings { max_bodies_bytes: 0, ..GatewaySettings::default() };
    let mut world = World::with_settings(settings);
    world.deploy(SECRET);
    let alice = world.consumer(&test, "alice", &["secret"]);
    let (_, key) = world.key(&test, alice);
    world.publish();
    let headers = [("apikey", key.as_str()), ("content-type", "text/plain")];
    let send = |len: usize| request("POST", "/pipeline/default/v1/secret", &headers, &"x".repeat(len));
    let reply = world.call(&test, send(64 * 1024 + 1)).await;
    assert_eq!((reply.code(), reply.header("retry-after")), ("overloaded", "1"));
    assert_eq!(world.call(&test, send(64 * 1024)).await.status, 200, "small ones need none of it");
}

#[tokio::test]
async fn an_answer_that_nobody_takes_counts_as_the_body_that_it_came_from() {
    let test = EnvironmentName::test();
    let settings = GatewaySettings { max_bodies_bytes: 1024, ..GatewaySettings::default() };
    let mut world = World::with_settings(settings);
    world.deploy(SECRET);
    let alice = world.consumer(&test, "alice", &["secret"]);
    let (_, key) = world.key(&test, alice);
    world.publish();
    let headers = [("apikey", key.as_str()), ("content-type", "text/plain")];
    let large = || request("POST", "/pipeline/default/v1/secret", &headers, &"x".repeat(64 * 1024 + 1));
    let listener = ListenerId { environment: test.clone(), exposure: Exposure::External };
    let answer = world.gateway.handle(&listener, remote(), large()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(world.call(&test, large()).await.code(), "overloaded");
    drop(answer);
    assert_eq!(world.call(&test, large()).await.status, 200);
}
