//! Flows behind the checks: their messages, tokens, upstreams, limits and schedules.

use http::StatusCode;
use serde_json::json;
use tollgate_credential::passwords::{self, Password};
use tollgate_model::names::EnvironmentName;
use tollgate_testkit::{Answer, Upstream};

use crate::world::{World, get, request};

fn open(name: &str, extra: &str, steps: &str) -> String {
    format!(
        "{{kind: Pipeline, name: {name}, project: store, steps: [{steps}], \
         trigger: {{type: http, methods: [GET, POST], externalApi: true {extra}}}}}"
    )
}

#[tokio::test]
async fn a_body_is_read_by_its_content_type_and_counted() {
    let test = EnvironmentName::test();
    let mut world = World::new();
    let echo = "{json: {body: '{{ message.body }}', form: '{{ message.form }}'}}";
    world.deploy(&open("echo", ", maxRequestBytes: 12", echo));
    world.deploy(&open("forms", "", echo));
    world.deploy(&open("constant", ", maxRequestBytes: 12", "{json: {ok: true}}"));
    world.deploy(&open("texts", ", requestContentTypes: ['text/*']", echo));
    world.publish();
    let post = async |name: &str, content_type: &str, body: &str| {
        let path = format!("/pipeline/default/v1/{name}");
        world.call(&test, request("POST", &path, &[("content-type", content_type)], body)).await
    };
    assert_eq!(post("echo", "application/json", r#"{"a":1}"#).await.json()["body"], json!({ "a": 1 }));
    assert_eq!(post("echo", "text/plain", "hello").await.json()["body"], "hello");
    let form = post("echo", "application/x-www-form-urlencoded", "a=1").await;
    assert_eq!(form.json()["form"], json!({ "a": "1" }));
    assert_eq!(post("echo", "multipart/form-data; boundary=b", "--c--").await.code(), "request-malformed");
    let multipart = post(
        "forms",
        "multipart/form-data; boundary=b",
        "--b\r\ncontent-disposition: form-data; name=a\r\n\r\n1\r\n--b--\r\n",
    );
    assert_eq!(multipart.await.json(), json!({ "body": null, "form": { "a": "1" } }));
    assert_eq!(post("echo", "application/json", "{").await.code(), "request-malformed");
    assert_eq!(post("echo", "text/plain", "thirteen char").await.code(), "request-too-large");
    assert_eq!(post("constant", "text/plain", "thirteen char").await.code(), "request-too-large");
    assert_eq!(post("texts", "text/plain", "hello").await.status.as_u16(), 200);
    assert_eq!(post("texts", "application/json", "{}").await.code(), "content-type-unsupported");
    assert_eq!(
        world.call(&test, get("/pipeline/default/v1/texts", &[])).await.status.as_u16(),
        200,
        "no body"
    );
}

#[tokio::test]
async fn a_login_flow_issues_the_token_that_opens_another_pipeline() {
    let test = EnvironmentName::test();
    let mut world = World::new();
    world.deploy(
        r#"
kind: Pipeline
name: login
project: store
trigger: { type: rest, methods: [POST], externalApi: true, apiKey: true }
steps:
  - assert:
      condition: message.body.user == globals["portal-user"] && verifyPassword(message.body.password, accounts.portal.passwordHash)
      status: 401
      error: invalid user or password
  - json: { user: "{{ message.body.user }}", sub: somebody-else, scope: admin }
  - jwtGenerate: { scopes: [catalog:read], expiresInMs: 900000 }
"#,
    );
    world.deploy(
        "{kind: Pipeline, name: list, project: store, \
         trigger: {type: rest, externalApi: true, apiKey: true, jwt: {scopes: [catalog:read]}}, \
         steps: [{jwtDecode: {}}, {json: {user: '{{ message.dataToken.user }}', sub: '{{ claims.sub }}'}}]}",
    );
    let alice = world.consumer(&test, "alice", &["login", "list"]);
    let (_, key) = world.key(&test, alice);
    let hash =
        passwords::hash(&Password::parse("s3cret").expect("a password"), &world.random).expect("hashes");
    world.account(&test, "portal", "passwordHash", &hash);
    world.global(&test, "portal-user", json!("ada"));
    world.publish();
    let login = async |password: &str| {
        let body = json!({ "user": "ada", "password": password }).to_string();
        let headers = [("apikey", key.as_str()), ("content-type", "application/json")];
        world.call(&test, request("POST", "/pipeline/default/v1/login", &headers, &body)).await
    };
    let wrong = login("guess").await;
    assert_eq!((wrong.status, wrong.code()), (StatusCode::UNAUTHORIZED, "flow-failed"));
    assert_eq!(wrong.json()["detail"], "invalid user or password");
    let right = login("s3cret").await;
    assert_eq!((right.status, right.json()), (StatusCode::OK, json!({ "status": "logged" })));
    let headers = [("apikey", key.as_str()), ("authorization", right.header("authorization"))];
    let list = world.call(&test, get("/pipeline/default/v1/list", &headers)).await;
    assert_eq!(
        list.json(),
        json!({ "user": "ada", "sub": alice.to_string() }),
        "the message cannot set claims"
    );
}

#[tokio::test]
async fn a_token_needs_a_consumer() {
    let test = EnvironmentName::test();
    let mut world = World::new();
    world.deploy(&open("anonymous", "", "{jwtGenerate: {expiresInMs: 60000}}"));
    world.publish();
    let reply = world.call(&test, get("/pipeline/default/v1/anonymous", &[])).await;
    assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!reply.headers.contains_key("authorization"));
}

#[tokio::test]
async fn an_upstream_that_is_slow_gone_or_silent_has_its_own_code() {
    let test = EnvironmentName::test();
    let upstream = Upstream::start().await.expect("a port");
    let gone = format!("http://127.0.0.1:{}/", tollgate_testkit::free_port());
    let mut world = World::new();
    let call = |url: &str, more: &str| format!("{{http: {{url: '{url}' {more}}}}}");
    world.deploy(&open("good", "", &call(&upstream.url("/good"), "")));
    world.deploy(&open("gone", "", &call(&gone, "")));
    world.deploy(&open("slow", "", &call(&upstream.url("/slow"), ", readTimeoutMs: 50")));
    world.deploy(&open("endless", ", timeoutMs: 50", &call(&upstream.url("/endless"), "")));
    world.publish();
    let code = async |name: &str| {
        let reply = world.call(&test, get(&format!("/pipeline/default/v1/{name}"), &[])).await;
        (reply.status.as_u16(), reply.code().to_owned())
    };
    assert_eq!(code("good").await, (200, String::new()));
    assert_eq!(code("gone").await, (502, "upstream-unreachable".to_owned()));
    upstream.answer(Answer::never());
    assert_eq!(code("slow").await, (504, "upstream-timeout".to_owned()));
    upstream.answer(Answer::never());
    assert_eq!(code("endless").await, (504, "flow-timeout".to_owned()));
}

#[tokio::test]
async fn a_schedule_runs_its_flow_and_tells_how_it_ended() {
    let mut world = World::new();
    let scheduled = |name: &str, step: &str| {
        format!(
            "{{kind: Pipeline, name: {name}, project: store, steps: [{step}], \
             trigger: {{type: scheduler, cron: '0 6 * * *'}}}}"
        )
    };
    world.deploy(&scheduled("fine", "{json: {at: '{{ metadata.pipeline }}'}}"));
    world.deploy(&scheduled("fails", "{throw: {error: no}}"));
    let snapshot = world.publish();
    let mut ends = Vec::new();
    for schedule in snapshot.schedules().iter().filter(|it| it.environment == EnvironmentName::test()) {
        let run = world.gateway.run_scheduled(&snapshot, schedule).await;
        ends.push((schedule.pipeline.to_string(), run.status.as_u16(), run.error));
    }
    ends.sort();
    let failed = Some("flow-failed".to_owned());
    assert_eq!(ends, [("fails".to_owned(), 500, failed), ("fine".to_owned(), 200, None)]);
}

#[tokio::test]
async fn an_upstream_learns_which_trace_its_call_is_part_of() {
    let test = EnvironmentName::test();
    let upstream = Upstream::start().await.expect("a port");
    let mut world = World::new();
    world.deploy(&open("calls", "", &format!("{{http: {{url: '{}'}}}}", upstream.url("/"))));
    world.publish();
    let path = "/pipeline/default/v1/calls";
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    world.call(&test, get(path, &[("traceparent", parent), ("tracestate", "a=1")])).await;
    let begun = world.call(&test, get(path, &[])).await;
    let told: Vec<_> = upstream.requests().into_iter().map(|request| request.headers).collect();
    let first = told[0]["traceparent"].to_str().expect("text");
    assert!(first.starts_with(&parent[..36]) && first.ends_with("-01") && first != parent, "{first}");
    assert_eq!(told[0]["tracestate"], "a=1");
    let id = begun.header("x-request-id").trim_start_matches("req_");
    assert!(told[1]["traceparent"].to_str().expect("text").starts_with(&format!("00-{id}-")));
}
