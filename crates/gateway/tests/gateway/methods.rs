//! HEAD and OPTIONS, on every kind of answer: neither leads around a check, and neither leaves bytes behind that the next
//! answer on the connection would begin with.

use std::net::SocketAddr;

use tollgate_model::names::EnvironmentName;

use crate::proxying::{exchange, path, serve};
use crate::world::{World, request};

fn pipeline(name: &str, trigger: &str, step: &str) -> String {
    format!(
        "{{kind: Pipeline, name: {name}, project: store, steps: [{step}], \
         trigger: {{type: http, methods: [GET, HEAD, OPTIONS], externalApi: true {trigger}}}}}"
    )
}

fn world() -> World {
    let mut world = World::new();
    for (name, trigger, step) in [
        ("open", "", "{json: {ok: true}}"),
        ("keyed", ", apiKey: true", "{json: {secret: true}}"),
        (
            "shared",
            ", apiKey: true, cors: {allowOrigins: ['https://shop.example']}",
            "{json: {secret: true}}",
        ),
        ("failing", "", "{throw: {status: 418, error: 'no tea here'}}"),
        ("empty", "", "{respond: {status: 204}}"),
        ("reset", "", "{respond: {status: 205, body: {ok: true}}}"),
        ("same", "", "{respond: {status: 304, headers: {etag: '\"a\"'}}}"),
        ("limited", ", rateLimit: {limits: [{interval: day, limit: 1}]}", "{json: {ok: true}}"),
    ] {
        world.deploy(&pipeline(name, trigger, step));
    }
    world.deploy(&pipeline("posted", "", "{json: {ok: true}}").replace("[GET, HEAD, OPTIONS]", "[POST]"));
    world
}

/// Returns what came of a call on a connection of its own: head and body.
async fn call(address: SocketAddr, method: &str, path: &str) -> (String, String) {
    let call = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let answer = exchange(address, &call).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {answer}"));
    (head.to_owned(), body.to_owned())
}

fn field<'a>(head: &'a str, name: &str) -> &'a str {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(|(found, _)| *found == name).map(|(_, value)| value).next().unwrap_or_default()
}

#[tokio::test]
async fn head_tells_what_get_would_and_leaves_nothing_behind() {
    let (address, _stop) = serve(world()).await;
    // The one call of the day.
    assert!(call(address, "GET", &path("limited")).await.0.starts_with("HTTP/1.1 200 "));
    let own = ["/healthz", "/readyz", "/.well-known/jwks.json", "/nothing"].map(str::to_owned);
    let names = ["open", "keyed", "failing", "empty", "reset", "same", "limited", "posted"];
    for path in own.into_iter().chain(names.map(path)) {
        let (get, body) = call(address, "GET", &path).await;
        let (head, nothing) = call(address, "HEAD", &path).await;
        assert_eq!(nothing, "", "{path}");
        assert_eq!(head.lines().next(), get.lines().next(), "{path}");
        for name in ["content-type", "tollgate-error", "www-authenticate", "allow", "retry-after", "etag"] {
            assert_eq!(field(&head, name), field(&get, name), "{path}: {name}");
        }
        if !body.is_empty() {
            assert_eq!(field(&head, "content-length"), body.len().to_string(), "{path}");
        }
        let two = format!(
            "HEAD {path} HTTP/1.1\r\nhost: a\r\n\r\nGET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        );
        let both = exchange(address, &two).await;
        let (_, next) = both.split_once("\r\n\r\n").expect("a head");
        assert!(next.starts_with("HTTP/1.1 200 OK\r\n") && next.ends_with("\r\n\r\nok\n"), "{path}: {both}");
    }
    for (name, status) in [("empty", "204"), ("reset", "205"), ("same", "304")] {
        let (get, body) = call(address, "GET", &path(name)).await;
        assert!(get.starts_with(&format!("HTTP/1.1 {status} ")) && body.is_empty(), "{name}: {get} {body}");
    }
}

#[tokio::test]
async fn options_leads_around_no_check() {
    let test = EnvironmentName::test();
    let world = world();
    world.publish();
    let origin = ("origin", "https://shop.example");
    let preflight = ("access-control-request-method", "GET");
    for (path, headers, status, code) in [
        ("/healthz".to_owned(), &[][..], 405, "method-not-allowed"),
        ("/.well-known/jwks.json".to_owned(), &[origin, preflight], 405, "method-not-allowed"),
        ("/nothing".to_owned(), &[origin, preflight], 404, "route-not-found"),
        (path("open"), &[], 200, ""),
        (path("posted"), &[origin, preflight], 405, "method-not-allowed"),
        (path("keyed"), &[], 401, "api-key-missing"),
        // What looks like a preflight is none where CORS is off: the flow would answer it.
        (path("keyed"), &[origin, preflight], 401, "api-key-missing"),
        // What lacks something of a preflight is none where CORS is on.
        (path("shared"), &[], 401, "api-key-missing"),
        (path("shared"), &[origin], 401, "api-key-missing"),
        (path("shared"), &[preflight], 401, "api-key-missing"),
        (path("shared"), &[origin, preflight], 204, ""),
        (path("shared"), &[("origin", "https://evil.example"), preflight], 204, ""),
    ] {
        let reply = world.call(&test, request("OPTIONS", &path, headers, "")).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (status, code), "{path} {headers:?}");
        assert!(!reply.text.contains("secret"), "{path} {headers:?}: {reply:?}");
        let allowed = reply.header("access-control-allow-origin");
        assert!(allowed.is_empty() || headers.contains(&origin), "{path} {headers:?}: {allowed}");
    }
}
