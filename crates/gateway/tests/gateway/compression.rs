//! Which answers are compressed, and what pages of other origins may read.

use std::io::Read as _;

use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;
use tollgate_model::names::EnvironmentName;
use tollgate_testkit::{Answer, Upstream};

use crate::world::{Reply, World, get, request};

fn pipeline(name: &str, trigger: &str, step: &str) -> String {
    format!(
        "{{kind: Pipeline, name: {name}, project: store, steps: [{step}], \
         trigger: {{type: http, methods: [GET, HEAD], externalApi: true {trigger}}}}}"
    )
}

fn text(length: usize) -> String {
    format!("{{json: {{text: '{}'}}}}", "a".repeat(length))
}

async fn coding(world: &World, name: &str, accepts: &str, more: &[(&str, &str)]) -> Reply {
    let mut headers = vec![("accept-encoding", accepts)];
    headers.extend(more);
    world.call(&EnvironmentName::test(), get(&format!("/pipeline/default/v1/{name}"), &headers)).await
}

#[tokio::test]
async fn what_a_caller_takes_and_nothing_is_given_away_by_is_compressed() {
    let test = EnvironmentName::test();
    let mut world = World::new();
    world.deploy(&pipeline("open", "", &text(5_000)));
    world.deploy(&pipeline("short", "", &text(100)));
    world.deploy(&pipeline("forced", ", compress: true", &text(5_000)));
    world.deploy(&pipeline("off", ", compress: false", &text(5_000)));
    world.deploy(&pipeline("keyed", ", apiKey: true", &text(5_000)));
    world.deploy(&pipeline("asked", ", apiKey: true, compress: true", &text(5_000)));
    world.deploy(&pipeline(
        "token",
        ", compress: true",
        &format!("{{respond: {{headers: {{authorization: 'Bearer x'}}, body: '{}'}}}}", "a".repeat(5_000)),
    ));
    world.deploy(&pipeline(
        "fixed",
        ", responseHeaders: { cache-control: 'private, No-Transform' }",
        &text(5_000),
    ));
    let alice = world.consumer(&test, "alice", &["keyed", "asked"]);
    let (_, key) = world.key(&test, alice);
    world.publish();
    let key = [("apikey", key.as_str())];
    for (name, accepts, more, expected) in [
        ("open", "gzip", &[][..], "gzip"),
        ("open", "gzip;q=0.5, br;q=0.8, zstd;q=0", &[], "br"),
        ("open", "zstd", &[], "zstd"),
        ("open", "identity", &[], ""),
        ("open", "gzip;q=0", &[], ""),
        ("open", "deflate", &[], ""),
        ("short", "gzip", &[], ""),
        ("off", "gzip", &[], ""),
        ("keyed", "gzip", &key, ""),
        // Shown though nobody asked for it: what an upstream or a flow makes of it is for this caller alone.
        ("open", "gzip", &key, ""),
        ("open", "gzip", &[("cookie", "session=x")], ""),
        ("open", "gzip", &[("authorization", "Bearer x")], ""),
        ("forced", "gzip", &[("cookie", "session=x")], "gzip"),
        ("asked", "gzip", &key, "gzip"),
        ("token", "gzip", &[], ""),
        ("fixed", "gzip", &[], ""),
    ] {
        let reply = coding(&world, name, accepts, more).await;
        assert_eq!(
            (reply.status, reply.header("content-encoding")),
            (StatusCode::OK, expected),
            "{name} {accepts}"
        );
    }
    let reply = coding(&world, "open", "gzip", &[]).await;
    let mut text = String::new();
    flate2::read::GzDecoder::new(&reply.bytes[..]).read_to_string(&mut text).expect("gzip");
    assert_eq!(text, format!("{{\"text\":\"{}\"}}", "a".repeat(5_000)));
    assert!(
        reply.header("vary").contains("accept-encoding") && !reply.headers.contains_key("content-length")
    );
    let plain = world.call(&test, get("/pipeline/default/v1/open", &[])).await;
    assert!(plain.header("vary").contains("accept-encoding"), "caches must keep the two apart");
    let head = request("HEAD", "/pipeline/default/v1/open", &[("accept-encoding", "gzip")], "");
    let head = world.call(&test, head).await;
    assert_eq!((head.header("content-encoding"), head.header("content-length")), ("", "5011"));
}

#[tokio::test]
async fn an_upstreams_answer_is_compressed_once_and_weakly_tagged() {
    let upstream = Upstream::start().await.expect("a port");
    let mut world = World::new();
    world.deploy(&pipeline("files", "", &format!("{{proxy: {{url: '{}'}}}}", upstream.url("/"))));
    world.publish();
    let answer = |status, fields: &[(&'static str, &'static str)]| {
        let text = Answer::new(status, "a".repeat(5_000));
        fields.iter().fold(text, |answer, (name, value)| {
            answer.header(HeaderName::from_static(name), HeaderValue::from_static(value))
        })
    };
    let plain = ("content-type", "text/plain");
    for (status, fields, coding_of, tag) in [
        (StatusCode::OK, &[plain, ("etag", "\"a\"")][..], "gzip", "W/\"a\""),
        (StatusCode::OK, &[plain, ("etag", "W/\"a\"")], "gzip", "W/\"a\""),
        (StatusCode::OK, &[plain, ("etag", "\"a\""), ("content-encoding", "br")], "br", "\"a\""),
        (StatusCode::OK, &[("content-type", "image/png"), ("etag", "\"a\"")], "", "\"a\""),
        (StatusCode::OK, &[("content-type", "text/event-stream")], "", ""),
        (StatusCode::OK, &[plain, ("set-cookie", "session=x")], "", ""),
        (StatusCode::PARTIAL_CONTENT, &[plain, ("content-range", "bytes 0-4999/9999")], "", ""),
    ] {
        upstream.answer(answer(status, fields));
        let reply = coding(&world, "files", "gzip", &[]).await;
        assert_eq!((reply.status, reply.header("content-encoding")), (status, coding_of), "{fields:?}");
        assert_eq!(reply.header("etag"), tag, "{fields:?}");
        assert!(coding_of == "gzip" || reply.bytes.len() == 5_000);
    }
}

#[tokio::test]
async fn pages_may_do_what_the_realm_says_where_the_trigger_says_nothing() {
    let test = EnvironmentName::test();
    let mut world = World::new();
    world.deploy(&pipeline("plain", "", "{json: 1}"));
    world.deploy(&pipeline("own", ", cors: { allowOrigins: ['https://own.example'] }", "{json: 1}"));
    world.deploy(&pipeline("none", ", cors: { allowOrigins: [] }", "{json: 1}"));
    world.settings(
        json!({ "cors": { "allowOrigins": ["https://shop.example"], "allowHeaders": ["apikey"] } }),
    );
    world.publish();
    let allowed = async |method: &str, name: &str, origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "GET")];
        let call = request(method, &format!("/pipeline/default/v1/{name}"), &headers, "");
        let reply = world.call(&test, call).await;
        (reply.status.as_u16(), reply.header("access-control-allow-origin").to_owned())
    };
    let (shop, own) = ("https://shop.example", "https://own.example");
    for (name, origin, expected) in
        [("plain", shop, shop), ("plain", own, ""), ("own", own, own), ("own", shop, ""), ("none", shop, "")]
    {
        assert_eq!(allowed("OPTIONS", name, origin).await, (204, expected.to_owned()), "{name} {origin}");
        assert_eq!(allowed("GET", name, origin).await, (200, expected.to_owned()), "{name} {origin}");
    }
}
