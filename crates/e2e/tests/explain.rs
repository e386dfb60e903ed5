//! Why a call is answered as it is, why one was refused, and who can call what: through command line and HTTP.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tollgate_e2e::{Home, Reply, Server};
use tollgate_testkit::{Postgres, wait_until};

const BASE: &str = "/pipeline/default/v1";

/// Triggers, by the name of their pipeline.
const PIPELINES: [(&str, &str); 6] = [
    ("keyed", "apiKey: true, maxRequestBytes: 10, methods: [GET, POST]"),
    ("both", "apiKey: true, jwt: { scopes: [read] }"),
    ("admin", "apiKey: true, jwt: { scopes: [admin] }"),
    ("basic", "apiKey: true, basicAuth: true"),
    ("limited", "apiKey: true, rateLimit: { limits: [{ interval: day, limit: 2 }] }"),
    ("open", "methods: [GET]"),
];

const LOGIN: &str = "kind: Pipeline\nname: login\nproject: store\ntrigger: { type: rest, methods: [GET], \
                     externalApi: true, apiKey: true }\nsteps: [{ json: {} }, { jwtGenerate: { scopes: [read], expiresInMs: 900000 } }]\n";

/// Credentials that calls are made with.
struct Keys {
    ann: String,
    bob: String,
    /// Of nobody's pipelines.
    eve: String,
    /// Of the environment `prod`.
    prod: String,
    revoked: String,
    anns_token: String,
    bobs_token: String,
}

/// Deploys everything in `test` and makes consumers.
async fn prepared(home: &Home, server: &Server<'_>) -> Keys {
    server.cli(&["policy", "set", "external-api-access", "--env", "test=any", "--yes"]).expect_code(0);
    let mut names = vec!["login"];
    let mut files = vec![home.file("login.yaml", LOGIN)];
    for (name, trigger) in PIPELINES {
        names.push(name);
        files.push(home.file(
            &format!("{name}.yaml"),
            &format!(
                "kind: Pipeline\nname: {name}\nproject: store\ntrigger: {{ type: rest, externalApi: true, {trigger} }}\n\
                 steps: [{{ json: {{ path: '{{{{ message.path }}}}' }} }}]\n"
            ),
        ));
    }
    for (name, file) in names.iter().zip(&files) {
        server.cli(&["apply", "-f", file]).expect_code(0);
        server.cli(&["deploy", name, "--env", "test"]).expect_code(0);
    }
    let all = names.join(",");
    let create = |name: &str, environment: &str, pipelines: &str| {
        let mut arguments = vec!["consumer", "create", name, "--env", environment];
        if !pipelines.is_empty() {
            arguments.extend(["--pipeline", pipelines]);
        }
        let made = server.json(&arguments);
        let key = made["items"][0]["key"]["key"].as_str().expect("shown once").to_owned();
        home.keep_secret(&key);
        key
    };
    let (ann, bob, eve) =
        (create("ann", "test", &all), create("bob", "test", &all), create("eve", "test", ""));
    let prod = create("ann", "prod", &all);
    let second = server.json(&["key", "create", "ann", "--env", "test", "--name", "second"]);
    let revoked = second["key"].as_str().expect("shown once").to_owned();
    home.keep_secret(&revoked);
    let id = second["id"].as_str().expect("an id");
    server.cli(&["key", "revoke", id, "--env", "test"]).expect_code(0);
    let login = format!("{BASE}/login");
    wait_until("the first call", Duration::from_secs(10), async || {
        let called = server.call("test", &login, &[("apikey", &bob)], None).await.status == 200;
        called && server.call("test", &login, &[("apikey", &revoked)], None).await.status == 401
    })
    .await;
    let token = async |key: &str| {
        let reply = server.call("test", &login, &[("apikey", key)], None).await;
        let token = reply.headers["authorization"].clone();
        home.keep_secret(token.strip_prefix("Bearer ").expect("a token"));
        token
    };
    let (anns_token, bobs_token) = (token(&ann).await, token(&bob).await);
    Keys { ann, bob, eve, prod, revoked, anns_token, bobs_token }
}

/// Explains a call by the command line.
fn explain(server: &Server<'_>, method: &str, path: &str, headers: &[(&str, &str)], more: &[&str]) -> Value {
    let url = format!("{}{path}", server.url("test"));
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let mut arguments = vec!["explain", method, &url];
    arguments.extend(headers.iter().flat_map(|header| ["-H", header]));
    arguments.extend(more);
    server.json(&arguments)
}

/// Returns the check that refuses, and why.
fn refused_by(document: &Value) -> (&str, &str) {
    let checks = document["checks"].as_array().expect("checks");
    let fault = checks.iter().find(|it| it["outcome"] == "failed" || it["outcome"] == "unavailable");
    let fault = fault.unwrap_or_else(|| panic!("nothing refuses: {document:#}"));
    (fault["check"].as_str().expect("a name"), fault["why"].as_str().unwrap_or_default())
}

fn code_of(reply: &Reply) -> &str {
    reply.headers.get("tollgate-error").map(String::as_str).unwrap_or_default()
}

fn request_id(reply: &Reply) -> String {
    reply.headers["x-request-id"].clone()
}

#[tokio::test]
async fn every_refusal_and_a_passing_call_are_explained_as_they_are_answered() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let keys = prepared(&home, &server).await;
    let password = server.cli_with_input(
        &[
            "-o",
            "json",
            "basic-auth",
            "create",
            "ann",
            "--env",
            "test",
            "--username",
            "ann-user",
            "--password-stdin",
        ],
        "the-password-of-ann\n",
    );
    password.expect_code(0);
    home.keep_secret("the-password-of-ann");
    // `ann-user:the-password-of-ann`, and with another password.
    let (right, wrong) =
        ("Basic YW5uLXVzZXI6dGhlLXBhc3N3b3JkLW9mLWFubg==", "Basic YW5uLXVzZXI6bm90LXRoZS1wYXNzd29yZA==");
    home.keep_secret(right.strip_prefix("Basic ").expect("a scheme"));
    let path = |name: &str| format!("{BASE}/{name}");
    let (ann, token) = (keys.ann.as_str(), keys.anns_token.as_str());
    wait_until("the credential", Duration::from_secs(10), async || {
        let headers = [("apikey", ann), ("authorization", right)];
        server.call("test", &path("basic"), &headers, None).await.status == 200
    })
    .await;
    let prefix = |key: &str| format!("tg_test_…{}", &key[key.len() - 4..]);
    for (name, headers, code, check, words) in [
        ("nothing", vec![], "route-not-found", "route", ""),
        ("keyed", vec![], "api-key-missing", "api-key-present", ""),
        ("keyed", vec![("apikey", "junk")], "api-key-invalid", "api-key-form", "shape"),
        (
            "keyed",
            vec![("apikey", keys.prod.as_str())],
            "api-key-invalid",
            "api-key-environment",
            "key of prod, and here is test",
        ),
        (
            "keyed",
            vec![("apikey", &keys.revoked)],
            "api-key-invalid",
            "api-key-not-revoked",
            "of consumer ann was revoked at 20",
        ),
        (
            "keyed",
            vec![("apikey", &keys.eve)],
            "consumer-not-allowed",
            "api-key-association",
            "eve is not associated",
        ),
        ("basic", vec![("apikey", ann)], "basic-auth-invalid", "basic-auth-present", ""),
        (
            "basic",
            vec![("apikey", ann), ("authorization", wrong)],
            "basic-auth-invalid",
            "basic-auth-valid",
            "password is not that of bas_",
        ),
        (
            "basic",
            vec![("apikey", &keys.bob), ("authorization", right)],
            "basic-auth-invalid",
            "basic-auth-binding",
            "",
        ),
        ("both", vec![("apikey", ann)], "jwt-missing", "token-present", ""),
        (
            "both",
            vec![("apikey", ann), ("authorization", "Bearer junk")],
            "jwt-invalid",
            "token-form",
            "malformed",
        ),
        (
            "both",
            vec![("apikey", ann), ("authorization", &keys.bobs_token)],
            "jwt-consumer-mismatch",
            "token-binding",
            "consumer bob",
        ),
        (
            "admin",
            vec![("apikey", ann), ("authorization", token)],
            "scope-missing",
            "scopes",
            "demands admin; the token has read",
        ),
    ] {
        let explained = explain(&server, "GET", &path(name), &headers, &[]);
        let reply = server.call("test", &path(name), &headers, None).await;
        assert_eq!(
            (reply.status, code_of(&reply)),
            (explained["answer"]["status"].as_u64().expect("one") as u16, code)
        );
        assert_eq!(explained["answer"]["code"], code, "{name}");
        let (failed, why) = refused_by(&explained);
        assert!(failed == check && why.contains(words), "{name} {failed}: {why}");
        // The refusal itself says the same.
        let kept = server.json(&["explain", &request_id(&reply)]);
        assert_eq!(refused_by(&kept), (failed, why), "{name}");
        for field in ["pipeline", "version", "route", "consumer", "key", "sent"] {
            assert_eq!(kept[field], explained[field], "{name} {field}");
        }
    }
    let explained = explain(&server, "GET", &path("keyed"), &[("apikey", &keys.revoked)], &[]);
    assert_eq!((&explained["consumer"], &explained["key"]["name"]), (&json!("ann"), &json!("second")));
    assert_eq!(explained["sent"]["apiKey"], json!({ "place": "header", "shown": prefix(&keys.revoked) }));

    // What needs more than headers.
    let explained = explain(&server, "DELETE", &path("keyed"), &[], &[]);
    assert_eq!(explained["answer"]["code"], "method-not-allowed");
    let explained = explain(&server, "POST", &path("keyed"), &[("apikey", ann)], &["--body-length", "11"]);
    let reply = server.call("test", &path("keyed"), &[("apikey", ann)], Some(&json!("123456789"))).await;
    assert_eq!(
        (explained["answer"]["code"].as_str(), code_of(&reply)),
        (Some("request-too-large"), "request-too-large")
    );
    let explained = explain(&server, "GET", "/a%2fb", &[], &[]);
    assert_eq!(
        (&explained["answer"]["code"], refused_by(&explained).0),
        (&json!("request-malformed"), "request-form")
    );

    // Rate limits are looked at, and not charged.
    let headers = [("apikey", ann)];
    for left in ["1 of 2", "0 of 2"] {
        for _ in 0..5 {
            let explained = explain(&server, "GET", &path("limited"), &headers, &[]);
            let limit =
                explained["checks"].as_array().expect("checks").iter().find(|it| it["check"] == "rate-limit");
            let why = limit.expect("a check")["why"].as_str().expect("words");
            assert!(why.contains(left), "{why}");
        }
        server.call("test", &path("limited"), &headers, None).await.expect(200, "");
    }
    assert_eq!(explain(&server, "GET", &path("limited"), &headers, &[])["answer"]["code"], "rate-limited");
    server.call("test", &path("limited"), &headers, None).await.expect(429, "rate-limited");

    // A call that passes, for programs and for people.
    let headers = [("apikey", ann), ("authorization", token)];
    let explained = explain(&server, "GET", &path("both"), &headers, &[]);
    assert_eq!(explained["answer"], json!({ "status": null, "code": null }));
    let passed =
        explained["checks"].as_array().expect("checks").iter().filter(|it| it["outcome"] == "passed").count();
    assert!(passed > 20, "{explained:#}");
    assert_eq!(explained["sent"]["token"]["iss"], "urn:tollgate:default:test");
    let url = format!("{}{}?x=1", server.url("test"), path("both"));
    let people = server.cli(&["explain", "GET", &url, "-H", &format!("apikey: {ann}")]).expect_code(0);
    for words in [
        "would be answered 401 jwt-missing (test, external listener)",
        "token-present",
        "FAILED",
        "not demanded: ",
        &prefix(ann),
    ] {
        assert!(people.stdout.contains(words), "{words} in {people:?}");
    }

    // The policies refuse from a moment on.
    let soon = now(&server) + SignedDuration::from_secs(3);
    let at =
        server.cli(&["policy", "set", "enforcement", "--env", &format!("test=atGateway@{soon}"), "--yes"]);
    at.expect_code(0);
    server.cli(&["policy", "set", "external-api-access", "--env", "test=api-key", "--yes"]).expect_code(0);
    wait_until("the policies refuse", Duration::from_secs(20), async || {
        server.call("test", &path("open"), &[], None).await.status == 403
    })
    .await;
    let explained = explain(&server, "GET", &path("open"), &[], &[]);
    assert_eq!(explained["answer"], json!({ "status": 403, "code": "policy-not-conformant" }));
    let (check, why) = refused_by(&explained);
    assert!(check == "enforcement" && why.contains("Missing external API Key"), "{why}");

    // Nothing that was asked or refused stands anywhere in plain: not in what was written, not in what was answered.
    let mut answers = format!("{}{explained}{}", people.stdout, server.json(&["refusals"]));
    answers.push_str(
        &explain(&server, "GET", &path("basic"), &[("apikey", ann), ("authorization", right)], &[])
            .to_string(),
    );
    for secret in [
        ann,
        &keys.revoked,
        token.strip_prefix("Bearer ").expect("a token"),
        "the-password-of-ann",
        &right[6..],
    ] {
        assert!(!answers.contains(secret), "a secret is shown");
    }
    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}

/// Returns the time by the server's clock.
fn now(server: &Server<'_>) -> Timestamp {
    let document = server.json(&["explain", "GET", "/healthz", "--env", "test"]);
    document["at"].as_str().expect("a time").parse().expect("a time")
}

#[tokio::test]
async fn a_refused_call_is_known_by_its_request_id_also_after_a_restart() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let keys = prepared(&home, &server).await;
    let path = format!("{BASE}/keyed");
    let reply = server
        .call("test", &format!("{path}?apikey=hidden-in-the-query"), &[("apikey", &keys.eve)], None)
        .await;
    home.keep_secret("hidden-in-the-query");
    let id = request_id(&reply);
    let known = server.json(&["explain", &id]);
    assert_eq!(
        (&known["code"], &known["path"], &known["consumer"]),
        (&json!("consumer-not-allowed"), &json!(path), &json!("eve"))
    );
    assert_eq!((&known["requestId"], &known["remote"]), (&json!(id), &json!("127.0.0.1")));
    let list = server.json(&[
        "refusals",
        "--code",
        "consumer-not-allowed",
        "--pipeline",
        "keyed",
        "--env",
        "test",
        "--consumer",
        "eve",
    ]);
    assert_eq!(list["items"][0]["requestId"], json!(id));
    assert_eq!(server.json(&["refusals", "--consumer", "nobody"])["items"], json!([]));
    let table = server.cli(&["refusals"]).expect_code(0);
    assert!(table.stdout.contains(&id) && table.stdout.contains("eve is not associated"), "{table:?}");
    assert_eq!(server.stop(), Some(0));

    let server = Server::start(&home, &[]);
    assert_eq!(server.json(&["explain", &id]), known, "written down before the end");
    assert_eq!(server.json(&["refusals", "--consumer", "eve"])["items"][0]["requestId"], json!(id));
    let people = server.cli(&["explain", &id]).expect_code(0);
    assert!(people.stdout.contains("was answered 403 consumer-not-allowed at 20"), "{people:?}");

    // Bad input.
    let unknown = format!("req_{}", "0".repeat(32));
    server.cli(&["explain", &unknown]).expect_code(4).expect_words("kept for 3 days");
    let passed = server.call("test", &path, &[("apikey", &keys.ann)], None).await;
    server.cli(&["explain", &request_id(&passed)]).expect_code(4).expect_words("there is no refused call");
    server.cli(&["explain", "req_junk"]).expect_code(2).expect_words("32 hexadecimal digits");
    server.cli(&["explain", &id, "/a"]).expect_code(2).expect_words("by its request id alone");
    server.cli(&["explain", "GET"]).expect_code(2).expect_words("a URL is missing");
    server.cli(&["explain", "GET", "/a"]).expect_code(2).expect_words("--env");
    server.cli(&["explain", "GET", "http://127.0.0.1:1/a"]).expect_code(2).expect_words("listens at");
    server.cli(&["explain", "GET", "/a", "--env", "nowhere"]).expect_code(4);
    server
        .cli(&["explain", "GET", "/a", "--env", "test", "-H", "no-colon"])
        .expect_code(2)
        .expect_words("no colon");
    let crlf = server
        .cli(&["explain", "GET", "/a", "--env", "test", "-H", "x: a\r\napikey: b", "-o", "json"])
        .expect_code(1);
    assert_eq!(crlf.json()["code"], "call-invalid");
    server.cli(&["explain", "G T", "/a", "--env", "test"]).expect_code(1).expect_words("no method");
    let long = format!("x: {}", "a".repeat(60_000));
    let document = server.json(&["explain", "GET", "/a", "--env", "test", "-H", &long]);
    assert_eq!(document["answer"]["code"], "headers-too-large");
    let internal = server.json(&["explain", "GET", &path, "--env", "test", "--internal"]);
    assert_eq!(internal["answer"]["code"], "route-not-found");
    server.cli(&["refusals", "--env", "nowhere"]).expect_code(4);
    server.cli(&["refusals", "--since", "yesterday"]).expect_code(2);
    for refused in ["refusals", "refusals/req_x", "listeners", "access/unused", "pipelines/keyed/callers"] {
        let path = format!("/api/v1/realms/default/{refused}");
        server.call("console", &path, &[], None).await.expect(401, "unauthenticated");
    }
    let ask = "/api/v1/realms/default/environments/test/explain";
    server.call("console", ask, &[], Some(&json!({ "url": "/a" }))).await.expect(401, "unauthenticated");
    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}

#[tokio::test]
async fn a_flood_of_refusals_is_bounded_said_and_leaves_room_for_others() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let keys = prepared(&home, &server).await;
    let mut last = String::new();
    for _ in 0..400 {
        last = request_id(&server.call("test", &format!("{BASE}/keyed"), &[], None).await);
    }
    server
        .call("test", &format!("{BASE}/both"), &[("apikey", &keys.ann)], None)
        .await
        .expect(401, "jwt-missing");
    let mut list = Value::Null;
    wait_until("it is said that some were not kept", Duration::from_secs(10), async || {
        list = server.json(&["refusals", "--pipeline", "keyed"]);
        list["notKept"].as_u64() > Some(250)
    })
    .await;
    let kept = list["items"].as_array().expect("items").len();
    assert!((100..130).contains(&kept), "{kept}");
    assert_eq!(server.json(&["refusals", "--pipeline", "both"])["items"].as_array().map(Vec::len), Some(1));
    let refused = server.cli(&["explain", &last, "-o", "json"]).expect_code(4);
    assert_eq!(refused.json()["code"], "refusal-not-kept");
    server.cli(&["refusals"]).expect_code(0).expect_words("more were refused and not kept");
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_process_explains_the_refusals_of_all() {
    let postgres = Postgres::start().await.expect("a database");
    let (one, other) = (Home::new(), Home::new());
    let first = Server::start(&one, &["--database", &postgres.url()]);
    let keys = prepared(&one, &first).await;
    let master = one.data().join("master.key").display().to_string();
    let token = std::fs::read_to_string(one.data().join("admin-token")).expect("a token");
    let second = Server::start(&other, &["--database", &postgres.url(), "--master-key-file", &master]);
    let reply = first.call("test", &format!("{BASE}/keyed"), &[("apikey", &keys.eve)], None).await;
    let path = format!("/api/v1/realms/default/refusals/{}", request_id(&reply));
    let bearer = format!("Bearer {}", token.trim());
    wait_until("the other process knows it", Duration::from_secs(20), async || {
        let known = second.call("console", &path, &[("authorization", &bearer)], None).await;
        known.status == 200 && known.json()["consumer"] == "eve"
    })
    .await;
    assert_eq!((first.stop(), second.stop()), (Some(0), Some(0)));
}

#[tokio::test]
async fn who_can_call_what_and_what_nobody_uses() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let keys = prepared(&home, &server).await;
    for _ in 0..2 {
        server.call("test", &format!("{BASE}/keyed"), &[("apikey", &keys.ann)], None).await.expect(200, "");
    }
    server.call("test", &format!("{BASE}/open"), &[], None).await.expect(200, "");
    let mut callers = Value::Null;
    wait_until("the calls are counted", Duration::from_secs(30), async || {
        callers = server.json(&["access", "callers", "keyed"]);
        callers["deployments"][0]["callers"][0]["usage"]["calls"] == 2
    })
    .await;
    let deployment = &callers["deployments"][0];
    assert_eq!(deployment["demands"], json!({ "apiKey": true, "token": false, "basicAuth": false }));
    let by = &deployment["callers"];
    assert_eq!(
        (&by[0]["consumer"], &by[1]["consumer"], by.as_array().map(Vec::len)),
        (&json!("ann"), &json!("bob"), Some(2))
    );
    assert_eq!(by[0]["keys"].as_array().map(Vec::len), Some(1), "the revoked one does not count");
    assert_eq!(callers["notDeployed"], json!([{ "environment": "prod", "consumers": ["ann"] }]));
    let table = server.cli(&["access", "callers", "both", "--env", "test"]).expect_code(0);
    assert!(table.stdout.contains("API key + token") && table.stdout.contains("key default …"), "{table:?}");
    let table = server.cli(&["access", "callers", "open"]).expect_code(0);
    assert!(table.stdout.contains("anybody"), "{table:?}");

    let of = server.json(&["access", "of", "eve", "--env", "test"]);
    assert_eq!(of["deployments"].as_array().map(Vec::len), Some(1), "what anybody can call");
    let of = server.json(&["access", "of", "ann", "--env", "test"]);
    assert_eq!(of["deployments"].as_array().map(Vec::len), Some(7));
    let table = server.cli(&["access", "of", "ann", "--env", "test"]).expect_code(0);
    assert!(
        table.stdout.contains("/pipeline/default/v1/admin") && table.stdout.contains("token with admin"),
        "{table:?}"
    );
    let table = server.cli(&["access", "of", "ann", "--env", "prod"]).expect_code(0);
    assert!(table.stdout.contains("associated, and not deployed: admin, basic"), "{table:?}");

    let unused = server.json(&["access", "unused", "--days", "30", "--env", "test"]);
    let associations = unused["associations"].as_array().expect("a list");
    let of_ann: Vec<_> =
        associations.iter().filter(|it| it["consumer"] == "ann").map(|it| &it["pipeline"]).collect();
    assert!(!of_ann.contains(&&json!("keyed")) && of_ann.contains(&&json!("basic")), "{of_ann:?}");
    assert!(associations.iter().all(|it| it["tooYoung"] == true), "made just now");
    let table = server.cli(&["access", "unused", "--days", "30"]).expect_code(0);
    assert!(table.stdout.contains("too young to tell"), "{table:?}");

    // As of before the consumer was deleted.
    let then = now(&server);
    server.cli(&["consumer", "delete", "bob", "--env", "test"]).expect_code(0);
    let now = server.json(&["access", "callers", "keyed", "--env", "test"]);
    assert_eq!(now["deployments"][0]["callers"].as_array().map(Vec::len), Some(1));
    let before = server.json(&["access", "callers", "keyed", "--env", "test", "--as-of", &then.to_string()]);
    assert_eq!(before["deployments"][0]["callers"].as_array().map(Vec::len), Some(2));

    // Bad input.
    server.cli(&["access", "callers", "nothing"]).expect_code(4);
    server.cli(&["access", "callers", "keyed", "--as-of", "2999-01-01T00:00:00Z"]).expect_code(1);
    server.cli(&["access", "of", "nobody", "--env", "test"]).expect_code(4);
    server.cli(&["access", "unused", "--days", "91"]).expect_code(2).expect_words("1..=90");
    server.cli(&["access", "unused"]).expect_code(2);
    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}
