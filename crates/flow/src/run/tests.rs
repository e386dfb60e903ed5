use std::net::IpAddr;
use std::sync::Mutex;

use serde_json::Map;
use tollgate_model::pipelines::Pipeline;
use tollgate_model::steps::LogLevel;
use tollgate_model::triggers::Scope as TokenScope;
use zeroize::Zeroizing;

use super::*;
use crate::host::{Overloaded, UpstreamRequest, UpstreamResponse};
use crate::messages::Message;

/// An outside that remembers what it was asked.
#[derive(Default)]
struct Outside {
    log: Mutex<Vec<String>>,
    requests: Mutex<Vec<UpstreamRequest>>,
    upstream: Option<UpstreamError>,
    overloaded: bool,
}

impl Host for Outside {
    fn http(&self, request: UpstreamRequest) -> BoxFuture<'_, Result<UpstreamResponse, UpstreamError>> {
        self.requests.lock().expect("lock").push(request);
        Box::pin(async {
            match &self.upstream {
                Some(error) => Err(error.clone()),
                None => Ok(UpstreamResponse {
                    status: 200,
                    headers: [(CONTENT_TYPE, HeaderValue::from_static("application/json"))]
                        .into_iter()
                        .collect(),
                    body: Bytes::from_static(b"{\"stock\":5}"),
                }),
            }
        })
    }

    fn issue_token(
        &self,
        claims: Map<String, Value>,
        scopes: &[TokenScope],
        life: u64,
    ) -> Result<String, IssueTokenError> {
        if claims.contains_key("nobody") {
            Err(IssueTokenError::NoConsumer)
        } else {
            Ok(format!("t.{}.{life}", scopes.len()))
        }
    }

    fn verify_token(&self, token: &str) -> Result<Map<String, Value>, VerifyError> {
        if token == "good" {
            Ok(Map::from_iter([("sub".to_owned(), json!("con_1"))]))
        } else {
            Err(VerifyError::Invalid)
        }
    }

    fn run_blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, Result<(), Overloaded>> {
        Box::pin(async move {
            if self.overloaded {
                return Err(Overloaded);
            }
            work();
            Ok(())
        })
    }

    fn log(&self, level: LogLevel, step: &str, message: &str) {
        self.log.lock().expect("lock").push(format!("{level:?} {step}: {message}"));
    }
}

fn compile(trigger: &Value, steps: &Value) -> Result<Flow, String> {
    let mut trigger = trigger.clone();
    trigger["externalApi"] = true.into();
    let pipeline = json!({ "name": "p", "project": "store", "trigger": trigger, "steps": steps,
        "sensitiveFields": ["email"] });
    let pipeline: Pipeline = serde_json::from_value(pipeline).map_err(|error| error.to_string())?;
    crate::compile(&pipeline).map_err(|errors| errors.iter().map(|e| format!("{e}\n")).collect())
}

fn flow(steps: Value) -> Flow {
    compile(&json!({ "type": "rest" }), &steps).expect("compiles")
}

fn call(body: Value) -> Call {
    Call {
        message: Message { body, method: "POST".to_owned(), ..Message::default() },
        claims: None,
        consumer: None,
        client: Some(IpAddr::from([203, 0, 113, 9])),
        metadata: crate::CallMetadata::default(),
        bearer: Some(Zeroizing::new("good".to_owned())),
        sensitive_fields: Arc::default(),
    }
}

fn values() -> Values {
    let hash = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$a2V5";
    let secret = |text: &str| Zeroizing::new(text.to_owned());
    let fields = vec![("token".to_owned(), secret("s3cret-value")), ("hash".to_owned(), secret(hash))];
    Values::new(Map::new(), vec![("portal".to_owned(), fields)])
}

async fn run(steps: Value, body: Value) -> FlowResponse {
    flow(steps).run(call(body), &values(), &Outside::default()).await
}

fn body(response: &FlowResponse) -> Value {
    assert_eq!(response.failure, None);
    serde_json::from_slice(&response.body).expect("JSON")
}

fn failure(response: FlowResponse) -> (u16, String, String) {
    let failure = response.failure.expect("failed");
    (failure.status.as_u16(), failure.code, failure.message)
}

#[tokio::test]
async fn the_last_message_is_the_response() {
    let response = run(
        json!([{ "json": { "asked": "{{ message.body.id }}", "m": "{{ message.method }}" } }]),
        json!({ "id": 7 }),
    )
    .await;
    assert_eq!(response.status, 200);
    assert_eq!(body(&response), json!({ "asked": 7, "m": "POST" }));
    assert_eq!(response.headers, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let constant = flow(json!([{ "json": { "a": 1 } }]));
    assert_eq!(
        constant.constant().map(|response| response.body.clone()),
        Some(Bytes::from_static(b"{\"a\":1}"))
    );
}

#[tokio::test]
async fn a_choice_takes_the_first_branch_that_holds() {
    let steps = json!([{ "choice": { "when": [
        { "condition": "message.body.n > 10", "steps": [{ "json": "big" }] },
        { "condition": "message.body.n > 5", "steps": [{ "json": "middle" }] }],
        "otherwise": [{ "json": "small" }] } }]);
    for (n, word) in [(11, "big"), (6, "middle"), (1, "small")] {
        assert_eq!(body(&run(steps.clone(), json!({ "n": n })).await), json!(word));
    }
    let through = json!([{ "json": { "kept": true } }, { "choice": { "when": [{ "condition": "false", "steps": [] }] } }]);
    assert_eq!(body(&run(through, json!({})).await), json!({ "kept": true }));
}

#[tokio::test]
async fn errors_answer_as_their_author_said_or_say_nothing() {
    let assert = json!([{ "assert": { "condition": "false", "status": 401, "error": "no {{ message.body.x }}", "code": "nope" } }]);
    assert_eq!(failure(run(assert, json!({ "x": "entry" })).await), (401, "nope".into(), "no entry".into()));
    let throw = json!([{ "throw": { "error": "gone", "status": 410 } }]);
    assert_eq!(failure(run(throw, json!({})).await), (410, "flow-failed".into(), "gone".into()));
    for steps in [
        json!([{ "json": "{{ message.body.card.nope }}" }]),
        json!([{ "assert": { "condition": "message.body.card" } }]),
        json!([{ "json": 1 }, { "jwtGenerate": { "expiresInMs": 1000 } }]),
    ] {
        let response = run(steps, json!({ "card": "4111" })).await;
        assert!(!response.failure.as_ref().expect("failed").detail.contains("4111"));
        assert_eq!(failure(response), (500, "flow-failed".into(), "the flow failed".into()));
    }
}

#[tokio::test]
async fn an_error_that_may_happen_becomes_the_message() {
    let steps = json!([{ "throw": { "error": "e", "code": "c" }, "failOnError": false }]);
    assert_eq!(body(&run(steps, json!({})).await), json!({ "success": false, "error": "e", "code": "c" }));
    let block = json!([{ "block": { "steps": [{ "throw": { "error": "e" } }],
        "onError": [{ "json": { "was": "{{ message.error }}" } }] } }]);
    assert_eq!(body(&run(block, json!({})).await), json!({ "was": "e" }));
}

#[tokio::test]
async fn a_message_cannot_grow_without_end() {
    let twice = [
        json!({ "json": { "a": "{{ message }}", "b": "{{ message }}" } }),
        json!({ "json": "{{ message }}{{ message }}" }),
        json!({ "json": "{{ [message, message] }}" }),
    ];
    for step in twice {
        let mut flow = flow(json!(vec![step; 40]));
        flow.max_step_bytes = 1 << 16;
        let response = flow.run(call(json!("x")), &values(), &Outside::default()).await;
        assert!(response.failure.as_ref().is_some_and(|failure| failure.detail.contains("too much data")));
        assert_eq!(failure(response).0, 500);
    }
    let mut deeper = json!("{{ message }}");
    for _ in 0..50 {
        deeper = json!([deeper]);
    }
    let response = run(json!(vec![json!({ "json": deeper }); 400]), json!(1)).await;
    assert!(response.failure.is_some_and(|failure| failure.detail.contains("too deep")));
}

#[tokio::test]
async fn many_expressions_cannot_cost_more_than_a_step_may() {
    let step = json!({ "json": vec!["{{ message.body.all(x, x == \"y\") }}"; 1000] });
    let response = run(json!([step]), json!(vec!["x"; 2000])).await;
    assert!(response.failure.is_some_and(|failure| failure.detail.contains("would take too long")));
}

#[test]
fn a_run_that_works_long_gives_way_between_steps_and_a_short_one_does_not() {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let (values, outside) = (values(), Outside::default());
    let step = json!({ "assert": { "condition": "message.body.all(x, x != message.body)" } });
    let flow = flow(json!([step, step, { "json": 1 }]));
    for (length, gives_way) in [(1, false), (8000, true)] {
        let mut run = Box::pin(flow.run(call(json!(vec!["x"; length])), &values, &outside));
        assert_eq!(run.as_mut().poll(&mut context).is_pending(), gives_way, "{length}");
    }
}

#[tokio::test]
async fn respond_ends_the_flow_even_from_a_branch() {
    let steps = json!([
        { "choice": { "when": [{ "condition": "true", "steps": [{ "respond": { "status": 201,
            "headers": { "location": "/items/{{ message.body.id }}" }, "body": { "made": "{{ message.body.id }}" } } }] }] } },
        { "throw": { "error": "not reached" } }]);
    let response = run(steps, json!({ "id": 4 })).await;
    assert_eq!((response.status.as_u16(), body(&response)), (201, json!({ "made": 4 })));
    assert!(response.headers.iter().any(|(name, value)| name == "location" && value == "/items/4"));
    let text = json!([{ "respond": { "headers": { "content-type": "text/csv" }, "body": "a,b" } }]);
    let response = run(text, json!({})).await;
    assert_eq!(response.headers, [(CONTENT_TYPE, HeaderValue::from_static("text/csv"))]);
    assert_eq!(response.body, "a,b");
    let split = json!([{ "respond": { "headers": { "x-a": "{{ message.body.x }}" } } }]);
    assert_eq!(failure(run(split, json!({ "x": "1\r\nset-cookie: a=b" })).await).0, 500);
}

#[tokio::test]
async fn an_http_trigger_answers_text_as_it_is() {
    let trigger = json!({ "type": "http", "responseContentType": "text/xml" });
    let flow = compile(&trigger, &json!([{ "json": "<a>{{ message.body }}</a>" }])).expect("compiles");
    let response = flow.run(call(json!("x")), &values(), &Outside::default()).await;
    assert_eq!(response.body, "<a>x</a>");
    assert_eq!(response.headers, [(CONTENT_TYPE, HeaderValue::from_static("text/xml"))]);
}

#[tokio::test]
async fn a_login_flow_answers_logged_with_the_token_in_a_header() {
    let response = run(
        json!([{ "json": { "user": "ana" } }, { "jwtGenerate": { "scopes": ["a:b"], "expiresInMs": 1000 } }]),
        json!({}),
    )
    .await;
    assert_eq!(body(&response), json!({ "status": "logged" }));
    let (_, value) = response.headers.iter().find(|(name, _)| *name == AUTHORIZATION).expect("a token");
    assert_eq!(value, "Bearer t.1.1000");
    let twice = json!([{ "json": {} }, { "jwtGenerate": { "expiresInMs": 1000 } },
        { "respond": { "headers": { "authorization": "Bearer mine" } } }]);
    let response = run(twice, json!({})).await;
    let tokens: Vec<_> = response.headers.iter().filter(|(name, _)| *name == AUTHORIZATION).collect();
    assert_eq!(tokens, [&(AUTHORIZATION, HeaderValue::from_static("Bearer t.0.1000"))]);
    let nobody =
        run(json!([{ "json": { "nobody": 1 } }, { "jwtGenerate": { "expiresInMs": 1000 } }]), json!({}))
            .await;
    assert_eq!(failure(nobody).0, 500);
    assert_eq!(
        body(&run(json!([{ "jwtDecode": {} }]), json!({})).await),
        json!({ "dataToken": { "sub": "con_1" } })
    );
    let mut bad = call(json!({}));
    bad.bearer = Some(Zeroizing::new("bad".to_owned()));
    let response = flow(json!([{ "jwtDecode": {} }])).run(bad, &values(), &Outside::default()).await;
    assert_eq!(failure(response).0, 401);
}

#[tokio::test]
async fn upstreams_are_called_and_their_failures_have_statuses() {
    let steps = json!([{ "http": { "method": "POST", "url": "https://stock.example/items", "body": { "id": "{{ message.body.id }}" } } },
        { "json": { "stock": "{{ message.body.stock }}", "status": "{{ message.status }}" } }]);
    let outside = Outside::default();
    let response = flow(steps.clone()).run(call(json!({ "id": 3 })), &values(), &outside).await;
    assert_eq!(body(&response), json!({ "stock": 5, "status": 200 }));
    let request = outside.requests.lock().expect("lock").remove(0);
    assert_eq!((request.body, request.method.as_str()), (Bytes::from_static(b"{\"id\":3}"), "POST"));
    assert!(!request.headers.contains_key(AUTHORIZATION), "the caller's token went along");
    for (error, status, code) in [
        (UpstreamError::Unreachable, 502, "upstream-unreachable"),
        (UpstreamError::TooLarge, 502, "upstream-unreachable"),
        (UpstreamError::Timeout, 504, "upstream-timeout"),
        (UpstreamError::Malformed("it has two lengths"), 502, "upstream-malformed"),
    ] {
        let outside = Outside { upstream: Some(error), ..Outside::default() };
        let (got, name, _) =
            failure(flow(steps.clone()).run(call(json!({ "id": 3 })), &values(), &outside).await);
        assert_eq!((got, name.as_str()), (status, code));
    }
}

#[tokio::test]
async fn passwords_are_checked_off_the_call_path_and_overload_is_503() {
    let steps = json!([{ "assert": { "condition": "verifyPassword(message.body.password, accounts.portal.hash)", "status": 401, "error": "no" } },
        { "json": 1 }]);
    assert_eq!(
        failure(run(steps.clone(), json!({ "password": "x" })).await),
        (401, "flow-failed".into(), "no".into())
    );
    let outside = Outside { overloaded: true, ..Outside::default() };
    let response = flow(steps).run(call(json!({ "password": "x" })), &values(), &outside).await;
    let (status, code, _) = failure(response);
    assert_eq!((status, code.as_str()), (503, "flow-overloaded"));
}

#[tokio::test]
async fn secrets_and_sensitive_fields_do_not_reach_log_or_error() {
    let outside = Outside::default();
    let steps = json!([
        { "log": { "level": "warn", "message": "{{ message.body }} {{ message.body.email }} {{ accounts.portal.token }}" }, "name": "note" },
        { "throw": { "error": "bad {{ accounts.portal.token }}", "code": "{{ accounts.portal.token }}" } }]);
    let response =
        flow(steps).run(call(json!({ "email": "ana@shop.example", "n": 1 })), &values(), &outside).await;
    assert_eq!(*outside.log.lock().expect("lock"), ["Warn note: {\"email\":\"***\",\"n\":1} *** ***"]);
    assert_eq!(failure(response), (500, "***".into(), "bad ***".into()));
}

#[tokio::test]
async fn the_address_of_the_client_is_hidden_like_any_field() {
    let outside = Outside::default();
    let steps = json!([{ "log": { "message": "{{ client.address }} {{ client }} {{ 'of ' + client.address }}" }, "name": "note" }]);
    let lines = async |names: &[&str]| {
        let names: SensitiveFields = names.iter().map(|name| name.parse().expect("a name")).collect();
        let call = Call { sensitive_fields: Arc::new(names), ..call(Value::Null) };
        flow(steps.clone()).run(call, &values(), &outside).await;
        std::mem::take(&mut *outside.log.lock().expect("lock"))
    };
    assert_eq!(lines(&[]).await, [r#"Info note: 203.0.113.9 {"address":"203.0.113.9"} of 203.0.113.9"#]);
    assert_eq!(lines(&["address"]).await, [r#"Info note: *** {"address":"***"} ***"#]);
}

#[tokio::test]
async fn what_is_made_of_a_sensitive_field_is_masked_in_the_log() {
    let outside = Outside::default();
    let messages = [
        "{{ message.body.email.work }}",
        "{{ 'to ' + message.body.email.work }}",
        "{{ message.body[\"email\"].work + '!' }}",
        "{{ [message].map(m, m.body.email) }}",
        "{{ message.body.n + 1 }}",
    ];
    let steps: Vec<_> =
        messages.iter().map(|message| json!({ "log": { "message": message }, "name": "note" })).collect();
    flow(json!(steps))
        .run(call(json!({ "email": { "work": "ana@shop.example" }, "n": 1 })), &values(), &outside)
        .await;
    let lines = outside.log.lock().expect("lock").clone();
    assert_eq!(
        lines,
        ["Info note: ***", "Info note: ***", "Info note: ***", "Info note: ***", "Info note: 2"]
    );
}

#[tokio::test]
async fn fields_of_the_policy_are_masked_with_those_of_the_pipeline() {
    let outside = Outside::default();
    let messages = [
        "{{ message.body }}",
        "{{ message.headers }} {{ message.headers[\"x-token\"] }}",
        "{{ message.queryAndPath.iban }} at {{ message.path }}",
        "{{ message.body.list.map(it, it.iban) }}",
        "{{ 'to ' + message.body.iban + '!' }}",
        "{{ message.body['ib' + 'an'] }}",
        "{{ message.body.map(name, message.body[name]) }}",
        "{{ message.body.list[0].n }} {{ message.body.list[0] }}",
        "{{ message.body.Iban }}",
        "{{ message.form }} {{ message.contentType }}",
    ];
    let steps: Vec<_> = messages.iter().map(|message| json!({ "log": { "message": message } })).collect();
    let body = json!({ "iban": "DE1", "Iban": "shown", "email": "ana", "list": [{ "iban": "DE2", "n": 1 }] });
    let named = |name: &str, value: &str| Map::from_iter([(name.to_owned(), value.into())]);
    let message = Message {
        body,
        headers: named("x-token", "t"),
        query_and_path: named("iban", "DE3"),
        path: "/of/DE3".to_owned(),
        content_type: "text/plain".to_owned(),
        ..Message::default()
    };
    let names = ["iban", "x-token"].map(|name| name.parse().expect("a name"));
    let call = Call { message, sensitive_fields: Arc::new(names.into()), ..call(Value::Null) };
    flow(json!(steps)).run(call, &values(), &outside).await;
    let lines = outside.log.lock().expect("lock").clone();
    let shown: Vec<_> = lines.iter().filter_map(|line| Some(line.split_once(": ")?.1)).collect();
    assert_eq!(
        shown,
        [
            r#"{"iban":"***","Iban":"shown","email":"***","list":[{"iban":"***","n":1}]}"#,
            r#"{"x-token":"***"} ***"#,
            "*** at ***",
            "***",
            "***",
            "***",
            "***",
            r#"1 {"iban":"***","n":1}"#,
            "shown",
            "null text/plain",
        ]
    );
}

#[tokio::test]
async fn the_text_of_a_form_with_a_sensitive_field_is_masked_whole() {
    let outside = Outside::default();
    let message = Message {
        body: "email=ana&n=1".into(),
        form: json!({ "email": "ana", "n": "1" }),
        ..Message::default()
    };
    let call = Call { message, ..call(Value::Null) };
    flow(json!([{ "log": { "message": "{{ message.body }} {{ message.form }}" } }]))
        .run(call, &values(), &outside)
        .await;
    let lines = outside.log.lock().expect("lock").clone();
    assert!(lines[0].ends_with(r#"*** {"email":"***","n":"1"}"#), "{lines:?}");
}

#[tokio::test]
async fn a_header_is_masked_however_its_name_is_written() {
    let outside = Outside::default();
    let message = Message {
        body: json!({ "x-token": "shown" }),
        headers: Map::from_iter([("x-token".to_owned(), "t".into()), ("accept".to_owned(), "a".into())]),
        ..Message::default()
    };
    let names = ["X-Token"].map(|name| name.parse().expect("a name"));
    let call = Call { message, sensitive_fields: Arc::new(names.into()), ..call(Value::Null) };
    let read = "{{ message.headers }} {{ message.headers[\"x-token\"] }} {{ message.body }}";
    let whole = json!([{ "log": { "message": read } }, { "log": { "message": "{{ message }}" } }]);
    flow(whole).run(call, &values(), &outside).await;
    let lines = outside.log.lock().expect("lock").clone();
    let hidden = r#"{"x-token":"***","accept":"a"}"#;
    assert!(lines[0].ends_with(&format!(r#"{hidden} *** {{"x-token":"shown"}}"#)), "{lines:?}");
    assert!(lines[1].contains(&format!(r#""headers":{hidden}"#)), "{lines:?}");
}

#[tokio::test]
async fn what_an_author_tells_callers_stays_as_it_was_written() {
    let steps = json!([{ "throw": { "error": "no such user {{ message.body.email }}" } }]);
    assert_eq!(failure(run(steps, json!({ "email": "ana" })).await).2, "no such user ana");
}

#[test]
fn mistakes_are_found_all_at_once_where_they_stand() {
    let errors = compile(
        &json!({ "type": "rest" }),
        &json!([
            { "json": { "a": "{{ mesage }}" } },
            { "assert": { "condition": "{{ true }}" } },
            { "choice": { "when": [{ "condition": "1 +", "steps": [{ "log": { "message": "{{" } }] }] } },
            { "http": { "url": "{{ message.body.url }}" } },
            { "respond": { "headers": { "content-length": "1" } } },
        ]),
    )
    .expect_err("mistakes");
    for at in [
        "/steps/0/json/a: unknown name `mesage`",
        "/steps/1/assert/condition: ",
        "/steps/2/choice/when/0/condition: ",
        "/steps/2/choice/when/0/steps/0/log/message: ",
        "/steps/3/http/url: a caller could choose the host",
        "/steps/4/respond/headers/content-length: ",
    ] {
        assert!(errors.contains(at), "{at} is missing in\n{errors}");
    }
    assert!(compile(&json!({ "type": "rest" }), &json!([])).is_err());
}

/// Writes down what a watcher is told.
#[derive(Default)]
struct Notes(Vec<String>);

impl Watcher for Notes {
    fn begin(&mut self, pointer: &str, label: &str, message: tollgate_model::trials::Shown) {
        self.0.push(format!("begin {pointer} {label} {} {}", message.value, message.cut));
    }

    fn branch(&mut self, taken: &str) {
        self.0.push(format!("branch {taken}"));
    }

    fn end(&mut self, message: Option<tollgate_model::trials::Shown>, error: Option<StepFault>) {
        let message = message.map(|it| it.value.to_string());
        self.0.push(format!("end {message:?} {:?}", error.map(|it| (it.status, it.message, it.went_on))));
    }
}

async fn watched(steps: Value, body: Value) -> (Vec<String>, FlowResponse) {
    let mut notes = Notes::default();
    let response = flow(steps).run_watched(call(body), &values(), &Outside::default(), &mut notes).await;
    (notes.0, response)
}

#[tokio::test]
async fn whoever_watches_sees_every_step_and_the_branch_it_took() {
    let steps = json!([
        { "json": { "n": "{{ message.body.n }}" }, "name": "first" },
        { "choice": { "when": [{ "condition": "message.n == 2", "steps": [{ "json": 2 }] }] } },
        { "block": { "steps": [{ "throw": { "error": "no" }, "failOnError": false }, { "throw": { "error": "no" } }],
                     "onError": [{ "json": { "then": 1 } }] } },
    ]);
    let (notes, response) = watched(steps.clone(), json!({ "n": 2 })).await;
    let known: Vec<_> = notes.iter().map(String::as_str).collect();
    assert!(
        known.first().is_some_and(|it| it.starts_with("begin /steps/0 first {\"body\":{\"n\":2}")),
        "{known:#?}"
    );
    assert_eq!(
        known.get(1..),
        Some(
            [
                "end Some(\"{\\\"n\\\":2}\") None",
                "begin /steps/1 /steps/1 {\"n\":2} false",
                "branch /steps/1/choice/when/0",
                "begin /steps/1/choice/when/0/steps/0 /steps/1/choice/when/0/steps/0 {\"n\":2} false",
                "end Some(\"2\") None",
                "end Some(\"2\") None",
                "begin /steps/2 /steps/2 2 false",
                "begin /steps/2/block/steps/0 /steps/2/block/steps/0 2 false",
                "end None Some((500, \"no\", true))",
                "begin /steps/2/block/steps/1 /steps/2/block/steps/1 {\"success\":false,\"error\":\"no\",\"code\":\"flow-failed\"} false",
                "end None Some((500, \"no\", false))",
                "branch /steps/2/block/onError",
                "begin /steps/2/block/onError/0 /steps/2/block/onError/0 {\"success\":false,\"error\":\"no\",\"code\":\"flow-failed\"} false",
                "end Some(\"{\\\"then\\\":1}\") None",
                "end Some(\"{\\\"then\\\":1}\") None",
            ]
            .as_slice()
        )
    );
    assert_eq!(body(&response), json!({ "then": 1 }));
    let (notes, _) = watched(steps, json!({ "n": 1 })).await;
    assert!(notes.contains(&"branch none".to_owned()), "{notes:#?}");
}

#[tokio::test]
async fn a_watched_run_shows_no_secret_no_sensitive_field_and_no_token() {
    let steps = json!([
        { "json": { "all": "{{ accounts }}", "in": "a {{ accounts.portal.token }} b", "email": "{{ message.body.email }}",
                    "{{ accounts.portal.token }}": 1, "list": ["{{ accounts.portal.token }}"], "headers": { "EMAIL": "x@y" } } },
        { "log": { "message": "{{ accounts.portal.token }}" } },
        { "throw": { "error": "{{ accounts.portal.token }}", "code": "{{ accounts.portal.token }}" }, "failOnError": false },
        { "jwtGenerate": { "expiresInMs": 1000 } },
        { "respond": { "headers": { "x-secret": "{{ accounts.portal.token }}", "email": "a@b" },
                       "body": { "t": "{{ accounts.portal.token }}", "email": "a@b.example" } } },
    ]);
    let (notes, response) = watched(steps, json!({ "email": "a@b.example" })).await;
    let all = format!("{notes:#?} {response:?} {}", String::from_utf8_lossy(&response.body));
    for hidden in ["s3cret-value", "$argon2id", "a@b", "x@y", "t.0.1000"] {
        assert!(!all.contains(hidden), "{hidden} is shown: {all}");
    }
    assert!(all.contains("Bearer ***") && all.contains("a *** b"), "{all}");
}

#[tokio::test]
async fn what_is_long_is_not_shown_in_part() {
    // A secret that would lie across the end of a text that is cut.
    let text = format!("{}{}", "x".repeat(4_090), "{{ accounts.portal.token }}");
    let (notes, _) = watched(json!([{ "json": { "text": text, "many": vec!["y".repeat(3_000); 9] } }, { "log": { "message": "l" } }]), json!(1)).await;
    let all = notes.join("\n");
    assert!(
        !all.contains("s3cret") && !all.contains("xxxx") && all.contains("a text of 4102 bytes"),
        "{all}"
    );
    assert!(all.len() < 60_000 && all.contains("true"), "{}", all.len());
}
