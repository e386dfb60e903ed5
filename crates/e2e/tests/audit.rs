//! An auditor's questions, through the command line and the API: who was refused, what was before, what was then, and is
//! the record whole.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_e2e::{Home, Server};
use tollgate_testkit::wait_until;

const PIPELINE: &str = "kind: Pipeline\nname: orders\nproject: store\ntrigger: { type: rest, externalApi: true, apiKey: KEY }\nsteps: [{ json: 1 }]\n";
const PATIENCE: Duration = Duration::from_secs(30);
const MADE_UP: &str = "tgu_0000000000000000000000000000000000000000";

fn apply(home: &Home, server: &Server<'_>, api_key: bool) {
    let path = home.file("orders.yaml", &PIPELINE.replace("KEY", &api_key.to_string()));
    server.cli(&["apply", "-f", &path]).expect_code(0);
}

fn list(server: &Server<'_>, filters: &[&str]) -> Vec<Value> {
    let arguments = [&["audit", "list", "--limit", "500"], filters].concat();
    server.json(&arguments)["items"].as_array().expect("items").clone()
}

fn column<'a>(entries: &'a [Value], field: &str) -> Vec<&'a str> {
    entries.iter().map(|entry| entry[field].as_str().unwrap_or_default()).collect()
}

fn newest(server: &Server<'_>) -> Value {
    server.json(&["audit", "list", "--limit", "1"])["items"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_refused_what_is_found_exported_and_proven() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    apply(&home, &server, false);
    let refused = server.cli(&["deploy", "orders", "--env", "test", "-o", "json"]).expect_code(3);
    let request = refused.json()["requestId"].as_str().expect("an id").to_owned();
    // A policy that somebody changed meanwhile.
    let token = std::fs::read_to_string(home.data().join("admin-token")).expect("a token");
    let bearer = format!("Bearer {}", token.trim());
    let path = "/api/v1/realms/default/policies/external-api-access";
    let change = json!({ "environments": { "test": "any", "prod": "any" } });
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let reply = client
        .put(format!("{}{path}", server.url("console")))
        .header("authorization", &bearer)
        .header("if-match", "\"99\"")
        .header("content-type", "application/json")
        .body(change.to_string())
        .send()
        .await
        .expect("an answer");
    assert_eq!(reply.status().as_u16(), 412);
    server
        .cli_with_input(&["login", "--user", "admin", "--password-stdin"], "hunter2-hunter2")
        .expect_code(5);
    server
        .cli(&["--token", MADE_UP, "policy", "set", "external-api-access", "--env", "test=any", "--yes"])
        .expect_code(5);

    // Those of the admin are there at once.
    let mine = list(&server, &["--outcome", "refused", "--actor", "admin"]);
    assert_eq!(column(&mine, "code"), ["precondition-failed", "policy-refused"]);
    assert_eq!(list(&server, &["--request", &request]), [mine[1].clone()]);
    assert_eq!(list(&server, &["--kind", "deployment", "--key", "test/orders/v1"]), [mine[1].clone()]);
    assert_eq!(list(&server, &["--action", "policy.set", "--since", "1h"])[0], mine[0]);
    assert_eq!(list(&server, &["--outcome", "refused", "--until", "1h"]), Vec::<Value>::new());
    // Those of strangers within seconds.
    let strangers = ["--outcome", "refused", "--actor", "nobody"];
    wait_until("the strangers", PATIENCE, async || list(&server, &strangers).len() >= 2).await;
    let sign_in = list(&server, &["--action", "user.sign-in"]);
    assert_eq!((&sign_in[0]["code"], &sign_in[0]["about"]["key"]), (&json!("login-failed"), &json!("admin")));
    let made_up = list(&server, &["--outcome", "refused", "--actor", "nobody", "--kind", "policies"]);
    assert_eq!(column(&made_up, "code"), ["unauthenticated"], "{made_up:?}");
    assert_eq!(list(&server, &["--source", "127.0.0.1", "--outcome", "refused"]).len(), 4);

    // What people see.
    let table = server.cli(&["audit", "list", "--outcome", "refused"]).expect_code(0).stdout;
    assert!(table.contains("policy-refused") && table.contains("deployment test/orders/v1"), "{table}");
    let shown = server.cli(&["audit", "show", &mine[1]["seq"].to_string()]).expect_code(0).stdout;
    assert!(
        shown.contains("aimed at       deployment test/orders/v1") && shown.contains(&request),
        "{shown}"
    );

    // The same in either format.
    let listed = list(&server, &["--outcome", "refused"]);
    let jsonl = server.cli(&["audit", "export", "--outcome", "refused"]).expect_code(0).stdout;
    let mut lines: Vec<Value> = jsonl.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    lines.reverse();
    for field in ["seq", "at", "actor", "source", "action", "requestId", "reason", "outcome", "hash"] {
        let of = |entries: &[Value]| entries.iter().map(|it| it[field].clone()).collect::<Vec<_>>();
        assert_eq!(of(&lines), of(&listed), "{field}");
    }
    let csv =
        server.cli(&["audit", "export", "--outcome", "refused", "--format", "csv"]).expect_code(0).stdout;
    let rows: Vec<&str> = csv.trim_end().split("\r\n").skip(1).collect();
    assert_eq!(rows.len(), listed.len(), "{csv}");
    for (row, entry) in rows.iter().rev().zip(&listed) {
        assert!(
            row.starts_with(&format!("{},{},default,", entry["seq"], entry["at"].as_str().expect("a time"))),
            "{row}"
        );
        assert!(
            row.contains(entry["code"].as_str().expect("a code"))
                && row.ends_with(entry["hash"].as_str().expect("a hash"))
        );
    }
    let document = server.json(&["audit", "export"]);
    assert_eq!(document["items"].as_array().map(Vec::len), Some(list(&server, &[]).len()));

    // An export proves itself, without a server, and what is changed in it shows.
    let whole = server.cli(&["audit", "export", "--outcome", "refused", "--chain"]).expect_code(0).stdout;
    let intact = home.file("export.jsonl", &whole);
    let offline =
        |path: &str| server.cli(&["--server", "http://127.0.0.1:9", "audit", "verify", "--file", path]);
    assert!(offline(&intact).expect_code(0).stdout.starts_with("intact: "));
    let online = server.json(&["audit", "verify"]);
    let report = server.json(&["audit", "verify", "--file", &intact]);
    assert_eq!((&online["intact"], &report["seq"]), (&json!(true), &online["entries"]));
    assert_eq!(report["hash"], online["headHash"]);
    for (name, text) in [
        ("changed.jsonl", whole.replace("policy-refused", "policy-allowed")),
        ("cut.jsonl", whole.lines().skip(1).map(|line| format!("{line}\n")).collect()),
    ] {
        let path = home.file(name, &text);
        let broken = offline(&path).expect_code(1);
        assert!(broken.stderr.contains("BROKEN at line"), "{broken:?}");
    }
    for secret in ["hunter2", MADE_UP, "argon2"] {
        assert!(!whole.contains(secret) && !jsonl.contains(secret), "{secret}");
    }
    home.keep_secret("hunter2-hunter2");
    home.keep_secret(MADE_UP);
    home.assert_secrets_stayed_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_last_is_written_when_the_server_stops() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    server.cli(&["--token", MADE_UP, "get", "pipeline"]).expect_code(5);
    assert_eq!(server.stop(), Some(0));
    let server = Server::start(&home, &[]);
    let refused = list(&server, &["--outcome", "refused"]);
    assert_eq!(
        (column(&refused, "action"), column(&refused, "actor")),
        (vec!["pipeline.read"], vec!["nobody"])
    );
    assert_eq!(server.json(&["audit", "verify"])["intact"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_was_is_answered_as_of_a_time() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let time_of = |server: &Server<'_>| newest(server)["at"].as_str().expect("a time").to_owned();
    let before = time_of(&server);
    apply(&home, &server, true);
    server.cli(&["deploy", "orders", "--env", "test"]).expect_code(0);
    let deployed = time_of(&server);
    server
        .cli(&["policy", "set", "external-api-access", "--env", "test=jwt-with-api-key", "--yes"])
        .expect_code(0);
    let stricter = time_of(&server);
    server.cli(&["undeploy", "orders", "--env", "test"]).expect_code(0);
    server.cli(&["delete", "pipeline", "orders"]).expect_code(0);
    server.cli(&["get", "pipeline", "orders"]).expect_code(4);

    let conforming = |at: &str| {
        let report = server.json(&["policy", "conformance", "--env", "test", "--as-of", at]);
        let test = &report["environments"][0];
        (
            test["deployments"].as_u64(),
            test["conformant"].as_u64(),
            report["policyVersion"].as_str().map(str::to_owned),
        )
    };
    let version = |text: &str| Some(text.to_owned());
    assert_eq!(conforming(&before), (Some(0), Some(0), version("1.0")));
    assert_eq!(conforming(&deployed), (Some(1), Some(1), version("1.0")));
    assert_eq!(conforming(&stricter), (Some(1), Some(0), version("1.1")));
    assert_eq!(conforming("0s"), (Some(0), Some(0), version("1.1")));

    let got = server.cli(&["get", "pipeline", "orders", "--as-of", &stricter]).expect_code(0);
    assert!(got.stdout.contains("name: orders"), "{got:?}");
    assert!(got.stderr.contains("1.0 would be refused then in test: Missing external JWT"), "{got:?}");
    let listed = server.json(&["get", "deployment", "--as-of", &deployed]);
    assert_eq!(listed["items"][0]["conforms"], true);
    assert_eq!(server.json(&["deployments", "--as-of", &before])["items"], json!([]));
    let policy =
        server.cli(&["get", "policy", "external-api-access", "--as-of", &deployed]).expect_code(0).stdout;
    assert!(policy.contains("test: api-key"), "{policy}");

    // Bad input says why, and stores nothing.
    let last = newest(&server);
    server.cli(&["get", "pipeline", "--as-of", "2999-01-01"]).expect_code(1).expect_words("is in the future");
    server.cli(&["get", "pipeline", "--as-of", "2001-01-01"]).expect_code(1).expect_words("it was made at");
    server.cli(&["get", "pipeline", "--as-of", "yesterday"]).expect_code(2).expect_words("how long ago");
    server
        .cli(&["audit", "list", "--since", "2h", "--until", "3h"])
        .expect_code(1)
        .expect_words("earlier `since`");
    server.cli(&["audit", "list", "--kind", "nothing"]).expect_code(1).expect_words("there are account");
    server.cli(&["audit", "list", "--outcome", "lost"]).expect_code(2);
    server.cli(&["audit", "show", "99999"]).expect_code(4);
    server.cli(&["audit", "export", "--format", "csv", "-o", "yaml"]).expect_code(2);
    server.cli(&["audit", "export", "--format", "csv", "--chain"]).expect_code(1).expect_words("chain");
    server.cli(&["audit", "verify", "--file", "/nowhere"]).expect_code(1).expect_words("cannot read");
    assert_eq!(newest(&server), last);
}
