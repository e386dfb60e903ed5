//! What answers look like: headers, bodies, the gateway's own pages.

use std::time::Duration;

use serde_json::json;
use tollgate_model::names::EnvironmentName;

use crate::world::{World, get, request};

const OPEN: &str = "{kind: Pipeline, name: open, project: store, steps: [{json: {ok: true}}], \
    trigger: {type: rest, methods: [GET, HEAD], externalApi: true, \
    cors: {allowOrigins: ['https://shop.example'], allowHeaders: [apikey]}, \
    responseHeaders: {cache-control: no-store}}}";
const LIMITED: &str = "{kind: Pipeline, name: limited, project: store, steps: [{json: {ok: true}}], \
    trigger: {type: rest, externalApi: true, rateLimit: {limits: [{interval: minute, limit: 2}]}}}";
const OWN: &str = "{kind: Pipeline, name: own, project: store, \
    steps: [{respond: {headers: {cache-control: public}, body: {ok: true}}}], \
    trigger: {type: rest, externalApi: true, responseHeaders: {cache-control: no-store, x-by: us}}}";
const EMPTY: &str = "{kind: Pipeline, name: empty, project: store, steps: [{respond: {status: 204}}], \
    trigger: {type: rest, externalApi: true}}";

fn world() -> World {
    let mut world = World::new();
    for file in [OPEN, LIMITED, OWN, EMPTY] {
        world.deploy(file);
    }
    world.publish();
    world
}

#[tokio::test]
async fn a_flows_answer_is_its_own_and_carries_the_triggers_headers() {
    let (world, test) = (world(), EnvironmentName::test());
    let reply = world.call(&test, get("/pipeline/default/v1/open", &[])).await;
    assert_eq!((reply.status.as_u16(), reply.json()), (200, json!({ "ok": true })));
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("cache-control"), "no-store");
    assert!(reply.header("x-request-id").starts_with("req_"));
    assert!(!reply.headers.contains_key("tollgate-error"));
    let own = world.call(&test, get("/pipeline/default/v1/own", &[])).await;
    assert_eq!((own.header("cache-control"), own.header("x-by")), ("public", "us"));
    assert_eq!(own.headers.get_all("cache-control").iter().count(), 1);
}

#[tokio::test]
async fn head_and_no_content_have_no_body() {
    let (world, test) = (world(), EnvironmentName::test());
    let head = world.call(&test, request("HEAD", "/pipeline/default/v1/open", &[], "")).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), "11");
    let refused = world.call(&test, request("HEAD", "/pipeline/default/v1/limited", &[], "")).await;
    assert_eq!((refused.code(), refused.text.as_str()), ("method-not-allowed", ""), "HEAD must be offered");
    let empty = world.call(&test, get("/pipeline/default/v1/empty", &[])).await;
    assert_eq!((empty.status.as_u16(), empty.text.as_str()), (204, ""));
    assert!(!empty.headers.contains_key("content-type"));
}

#[tokio::test]
async fn pages_of_an_allowed_origin_may_read_answers_and_errors() {
    let (world, test) = (world(), EnvironmentName::test());
    let origin = ("origin", "https://shop.example");
    for method in ["GET", "PUT"] {
        let reply = world.call(&test, request(method, "/pipeline/default/v1/open", &[origin], "")).await;
        assert_eq!(reply.header("access-control-allow-origin"), "https://shop.example", "{method}");
        assert_eq!(reply.header("vary"), "origin", "{method}");
    }
    let other = get("/pipeline/default/v1/open", &[("origin", "https://evil.example")]);
    assert!(!world.call(&test, other).await.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn pages_learn_why_they_are_refused_and_read_what_is_exposed() {
    let test = EnvironmentName::test();
    let mut world = World::new();
    let pipeline = |name: &str, cors: &str| {
        format!(
            "{{kind: Pipeline, name: {name}, project: store, steps: [{{json: {{ok: true}}}}], trigger: {{type: rest, \
             externalApi: true, apiKey: true, cors: {{{cors}}}, maxRequestBytes: 10, \
             rateLimit: {{limits: [{{interval: day, limit: 1}}]}}}}}}"
        )
    };
    world.deploy(&pipeline("named", "allowOrigins: ['https://shop.example'], exposeHeaders: [ratelimit]"));
    world.deploy(&pipeline("anybody", "allowOrigins: ['*']"));
    let alice = world.consumer(&test, "alice", &["named", "anybody"]);
    let (_, key) = world.key(&test, alice);
    world.publish();
    let origin = ("origin", "https://shop.example");
    let always = "x-request-id, tollgate-error";
    for (name, allowed, exposed) in [
        ("named", "https://shop.example", "ratelimit, x-request-id, tollgate-error"),
        ("anybody", "*", always),
    ] {
        for (headers, code) in [
            (&[origin][..], "api-key-missing"),
            (&[origin, ("apikey", "junk")], "api-key-invalid"),
            (&[origin, ("content-length", "11")], "request-too-large"),
            (&[origin, ("apikey", &key)], ""),
            (&[origin, ("apikey", &key)], "rate-limited"),
        ] {
            let reply = world.call(&test, get(&format!("/pipeline/default/v1/{name}"), headers)).await;
            assert_eq!(reply.code(), code, "{name}");
            assert_eq!(reply.header("access-control-allow-origin"), allowed, "{name} {code}");
            assert_eq!(reply.header("access-control-expose-headers"), exposed, "{name} {code}");
            assert_eq!(reply.header("vary"), "origin", "{name} {code}");
            assert!(!reply.headers.contains_key("access-control-allow-credentials"), "{name} {code}");
        }
    }
}

#[tokio::test]
async fn routes_at_the_root_answer_there_and_demand_the_same() {
    let test = EnvironmentName::test();
    let mut world = World::new();
    world.deploy(
        "{kind: Pipeline, name: rooted, project: store, steps: [{json: {id: '{{ message.queryAndPath.id }}', \
         path: '{{ message.path }}'}}], trigger: {type: rest, methods: [GET], externalApi: true, apiKey: true, \
         removePrefix: true, routes: ['/products/:id', {path: /products/:id/parts, methods: [POST]}], \
         rateLimit: {limits: [{interval: day, limit: 10}]}}}",
    );
    let alice = world.consumer(&test, "alice", &["rooted"]);
    let bob = world.consumer(&test, "bob", &[]);
    let [alices, bobs] = [alice, bob].map(|consumer| world.key(&test, consumer).1);
    world.publish();
    let keyed = [("apikey", alices.as_str())];
    let reply = world.call(&test, get("/products/7", &keyed)).await;
    assert_eq!(reply.json(), json!({ "id": "7", "path": "/products/7" }));
    assert_eq!(reply.header("ratelimit"), "\"day\";r=9;t=8640");
    let parts = world.call(&test, request("POST", "/products/7/parts", &keyed, "")).await;
    assert_eq!((parts.code(), parts.header("ratelimit")), ("", "\"day\";r=8;t=17280"));
    // The path of the pipeline itself stays where it is.
    let own = world.call(&test, get("/pipeline/default/v1/rooted", &keyed)).await;
    assert_eq!(own.header("ratelimit"), "\"day\";r=7;t=25920");
    for (method, path, headers, code) in [
        ("GET", "/products/7", &[][..], "api-key-missing"),
        ("GET", "/products/7", &[("apikey", bobs.as_str())], "consumer-not-allowed"),
        ("POST", "/products/7", &keyed, "method-not-allowed"),
        ("GET", "/products/7/parts", &keyed, "method-not-allowed"),
        ("GET", "/products", &keyed, "route-not-found"),
        ("GET", "/products/7/8", &keyed, "route-not-found"),
        ("GET", "/rooted", &keyed, "route-not-found"),
        ("GET", "/pipeline/default/v1/products/7", &keyed, "route-not-found"),
        ("GET", "//products/7", &keyed, "request-malformed"),
        ("GET", "/products/../products/7", &keyed, "request-malformed"),
    ] {
        let reply = world.call(&test, request(method, path, headers, "")).await;
        assert_eq!(reply.code(), code, "{method} {path}");
    }
}

#[tokio::test]
async fn a_preflight_is_answered_where_cors_is_on_and_nowhere_else() {
    let (world, test) = (world(), EnvironmentName::test());
    let headers = [("origin", "https://shop.example"), ("access-control-request-method", "GET")];
    let preflight = |name: &str| request("OPTIONS", &format!("/pipeline/default/v1/{name}"), &headers, "");
    let reply = world.call(&test, preflight("open")).await;
    assert_eq!(reply.status.as_u16(), 204);
    assert_eq!(reply.header("access-control-allow-methods"), "GET, HEAD");
    assert_eq!(reply.header("access-control-allow-headers"), "apikey");
    assert_eq!(world.call(&test, preflight("limited")).await.code(), "method-not-allowed");
    let plain = request("OPTIONS", "/pipeline/default/v1/open", &[], "");
    assert_eq!(world.call(&test, plain).await.code(), "method-not-allowed", "not a preflight");
}

#[tokio::test]
async fn a_rate_limit_tells_its_state_and_when_to_come_back() {
    let (world, test) = (world(), EnvironmentName::test());
    let call = async || world.call(&test, get("/pipeline/default/v1/limited", &[])).await;
    let first = call().await;
    assert_eq!(first.header("ratelimit-policy"), "\"minute\";q=2;w=60");
    assert_eq!(first.header("ratelimit"), "\"minute\";r=1;t=30");
    assert_eq!(call().await.header("ratelimit"), "\"minute\";r=0;t=60");
    let refused = call().await;
    assert_eq!((refused.status.as_u16(), refused.code()), (429, "rate-limited"));
    assert_eq!(refused.header("retry-after"), "30");
    assert_eq!(refused.header("ratelimit"), "\"minute\";r=0;t=60");
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(call().await.status.as_u16(), 200);
}

#[tokio::test]
async fn health_is_told_before_and_after_the_first_snapshot() {
    let (world, test) = (World::new(), EnvironmentName::test());
    assert_eq!(world.call(&test, get("/healthz", &[])).await.status.as_u16(), 200);
    assert_eq!(world.call(&test, get("/readyz", &[])).await.status.as_u16(), 503);
    world.publish();
    assert_eq!(world.call(&test, get("/readyz", &[])).await.status.as_u16(), 200);
    let post = world.call(&test, request("POST", "/healthz", &[], "")).await;
    assert_eq!((post.code(), post.header("allow")), ("method-not-allowed", "GET, HEAD"));
}

#[tokio::test]
async fn public_keys_are_published_and_private_ones_are_not() {
    let (world, test) = (world(), EnvironmentName::test());
    let reply = world.call(&test, get("/.well-known/jwks.json", &[])).await;
    assert_eq!(reply.header("content-type"), "application/jwk-set+json");
    let keys = reply.json()["keys"].clone();
    assert_eq!(keys.as_array().map(Vec::len), Some(1));
    assert_eq!((&keys[0]["alg"], &keys[0]["d"]), (&json!("ES256"), &json!(null)));
    let named = world.call(&test, get("/pipeline/default/.well-known/jwks.json", &[])).await;
    assert_eq!(named.json()["keys"], keys);
    let prod = world.call(&EnvironmentName::prod(), get("/.well-known/jwks.json", &[])).await;
    assert_ne!(prod.json()["keys"], keys, "each environment has keys of its own");
    let other = world.call(&test, get("/pipeline/other/.well-known/jwks.json", &[])).await;
    assert_eq!(other.code(), "route-not-found");
}
