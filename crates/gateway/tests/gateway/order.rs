//! The first check that fails answers: every combination of faults against the documented order.

use http::Request;
use serde_json::json;
use tollgate_model::names::EnvironmentName;

use crate::world::{World, request};

/// What is wrong with one aspect of a call; `None` when nothing is.
type Fault = Option<&'static str>;

/// The aspects of a call in the order of their checks, each with the codes that it can fail with.
const ASPECTS: [&[Fault]; 9] = [
    &[None, Some("request-malformed")],
    &[None, Some("route-not-found")],
    &[None, Some("method-not-allowed")],
    &[None, Some("policy-not-conformant")],
    &[None, Some("request-too-large")],
    &[None, Some("api-key-missing"), Some("api-key-invalid"), Some("consumer-not-allowed")],
    &[None, Some("jwt-missing"), Some("jwt-invalid"), Some("jwt-consumer-mismatch"), Some("scope-missing")],
    &[None, Some("rate-limited")],
    &[None, Some("out-of-tea")],
];

const STATUSES: [(&str, u16); 15] = [
    ("", 200),
    ("request-malformed", 400),
    ("route-not-found", 404),
    ("method-not-allowed", 405),
    ("policy-not-conformant", 403),
    ("request-too-large", 413),
    ("api-key-missing", 401),
    ("api-key-invalid", 401),
    ("consumer-not-allowed", 403),
    ("jwt-missing", 401),
    ("jwt-invalid", 401),
    ("jwt-consumer-mismatch", 403),
    ("scope-missing", 403),
    ("rate-limited", 429),
    ("out-of-tea", 418),
];

fn challenge(code: &str) -> &'static str {
    match code {
        "api-key-missing" | "api-key-invalid" => "ApiKey",
        "jwt-missing" => "Bearer",
        "jwt-invalid" => r#"Bearer error="invalid_token""#,
        "scope-missing" => r#"Bearer error="insufficient_scope""#,
        _ => "",
    }
}

fn combinations() -> Vec<Vec<Fault>> {
    ASPECTS.iter().fold(vec![Vec::new()], |rows, faults| {
        let with = |row: &Vec<Fault>, fault: &Fault| row.iter().chain([fault]).copied().collect();
        rows.iter().flat_map(|row| faults.iter().map(move |fault| with(row, fault))).collect()
    })
}

fn pipeline(name: &str, limit: &str, steps: &str) -> String {
    format!(
        "{{kind: Pipeline, name: {name}, project: store, trigger: {{type: rest, methods: [POST], externalApi: true, \
         apiKey: true, jwt: {{scopes: [read]}}, maxRequestBytes: 10 {limit}}}, steps: [{steps}]}}"
    )
}

#[tokio::test]
async fn the_first_check_that_fails_answers() {
    let test = EnvironmentName::test();
    let mut world = World::new();
    let limit = ", rateLimit: {limits: [{interval: day, limit: 1}]}";
    let (fine, fails) = ("json: {ok: true}", "throw: {status: 418, error: no tea, code: out-of-tea}");
    let pipelines = [
        ("fine", "", fine),
        ("fails", "", fails),
        ("fine-limited", limit, fine),
        ("fails-limited", limit, fails),
    ];
    for (name, limit, steps) in pipelines {
        world.deploy(&pipeline(name, limit, &format!("{{{steps}}}")));
    }
    for (name, limit, steps) in pipelines {
        world.deploy(&pipeline(&format!("{name}-unruly"), limit, &format!("{{{steps}}}")));
    }
    let names = pipelines.map(|(name, ..)| name);
    world.policy(json!({ "name": "no-unruly", "condition": "!name.endsWith('-unruly')", "message": "unruly",
        "environments": { "test": "required", "prod": "off" } }));
    world.enforce_in(0);
    let alice = world.consumer(&test, "alice", &names);
    let bob = world.consumer(&test, "bob", &names);
    let carol = world.consumer(&test, "carol", &[]);
    let (_, alices_key) = world.key(&test, alice);
    let (_, carols_key) = world.key(&test, carol);
    let token = format!("Bearer {}", world.token(&test, alice, &["read"]));
    let unscoped = format!("Bearer {}", world.token(&test, alice, &["write"]));
    let bobs = format!("Bearer {}", world.token(&test, bob, &["read"]));
    world.publish();

    let make = |row: &[Fault]| {
        let [malformed, route, method, policy, size, key, jwt, limited, fails] = *row else {
            panic!("{row:?}")
        };
        let name = match (fails, limited) {
            (None, None) => "fine",
            (Some(_), None) => "fails",
            (None, Some(_)) => "fine-limited",
            (Some(_), Some(_)) => "fails-limited",
        };
        let name = if policy.is_some() { format!("{name}-unruly") } else { name.to_owned() };
        let route = if route.is_some() { "/elsewhere" } else { "/pipeline/default/v1" };
        let mut headers = Vec::new();
        match key {
            None => headers.push(("apikey", alices_key.as_str())),
            Some("api-key-invalid") => headers.push(("apikey", "tg_test_junk")),
            Some("consumer-not-allowed") => headers.push(("apikey", &carols_key)),
            Some(_) => {}
        }
        match jwt {
            None => headers.push(("authorization", token.as_str())),
            Some("jwt-invalid") => headers.push(("authorization", "Bearer junk")),
            Some("jwt-consumer-mismatch") => headers.push(("authorization", &bobs)),
            Some("scope-missing") => headers.push(("authorization", &unscoped)),
            Some(_) => {}
        }
        if size.is_some() {
            headers.push(("content-length", "11"));
        }
        let method = if method.is_some() { "DELETE" } else { "POST" };
        let mut request: Request<_> = request(method, &format!("{route}/{name}"), &headers, "");
        if malformed.is_some() {
            request.headers_mut().remove("host");
        }
        request
    };
    for limited in ["fine-limited", "fails-limited"] {
        let path = format!("/pipeline/default/v1/{limited}");
        let headers = [("apikey", alices_key.as_str()), ("authorization", token.as_str())];
        let reply = world.call(&test, request("POST", &path, &headers, "")).await;
        assert_ne!(reply.code(), "rate-limited", "the first call of the day");
    }

    for row in combinations() {
        let expected = row.iter().copied().flatten().next().unwrap_or_default();
        let reply = world.call(&test, make(&row)).await;
        assert_eq!(reply.code(), expected, "{row:?}");
        let status = STATUSES.iter().find(|(code, _)| *code == expected).map(|(_, status)| *status);
        assert_eq!(Some(reply.status.as_u16()), status, "{row:?}");
        assert_eq!(reply.header("www-authenticate"), challenge(expected), "{row:?}");
        assert_eq!(
            reply.header("allow"),
            if expected == "method-not-allowed" { "POST" } else { "" },
            "{row:?}"
        );
        assert!(reply.header("x-request-id").starts_with("req_"), "{row:?}");
        if !expected.is_empty() {
            let body = reply.json();
            assert_eq!(reply.header("content-type"), "application/problem+json");
            assert_eq!(body["code"], expected);
            assert_eq!(body["type"], format!("urn:tollgate:error:{expected}"));
            assert_eq!(body["status"], reply.status.as_u16());
            assert_eq!(body["requestId"], reply.header("x-request-id"));
        }
    }
}
