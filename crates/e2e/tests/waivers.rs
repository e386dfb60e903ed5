//! Waivers, realm settings and verdicts beforehand, as people and programs meet them: command line and HTTP.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_e2e::{Home, Server};
use tollgate_testkit::wait_until;

const WAIVERS: &str = "/api/v1/realms/default/waivers";

fn orders(api_key: bool, more: &str) -> String {
    format!(
        "kind: Pipeline
name: orders
project: store
trigger: {{ type: rest, methods: [GET], externalApi: true, apiKey: {api_key}{more} }}
steps:
  - json: {{ ok: true }}
"
    )
}

fn apply(home: &Home, server: &Server<'_>, text: &str) {
    let path = home.file("orders.yaml", text);
    server.cli(&["apply", "-f", &path]).expect_code(0);
}

fn waive<'a>(environment: &'a str, end: [&'a str; 2]) -> Vec<&'a str> {
    let what = ["waiver", "create", "--pipeline", "orders", "--env", environment];
    let why = ["--policy", "external-api-access", "--reason", "the shop sends tokens from January on"];
    what.into_iter().chain(why).chain(end).collect()
}

/// Returns how many changes the journal has.
fn changes(server: &Server<'_>) -> usize {
    server.json(&["audit", "list"])["items"].as_array().expect("entries").len()
}

/// Returns `deployments`, `conformant`, `waived` and `notConformant` of an environment.
fn counts(server: &Server<'_>, environment: &str) -> Vec<u64> {
    let report = server.json(&["policy", "conformance", "--env", environment]);
    let fields = ["deployments", "conformant", "waived", "notConformant"];
    fields.map(|field| report["environments"][0][field].as_u64().expect("a number")).to_vec()
}

#[tokio::test]
async fn a_waiver_admits_is_counted_apart_and_ends_by_itself_or_early() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let tighten = ["policy", "set", "external-api-access", "--env", "prod=jwt-with-api-key", "--yes"];
    server.cli(&tighten).expect_code(0);
    apply(&home, &server, &orders(true, ""));
    let deploy = ["deploy", "orders", "--env", "prod"];
    server.cli(&deploy).expect_code(3);

    let waiver = server.json(&waive("prod", ["--for", "14d"]));
    assert_eq!((&waiver["code"], &waiver["state"]), (&json!("missing-jwt"), &json!("active")));
    let id = waiver["id"].as_str().expect("an id");
    let until = waiver["until"].as_str().expect("a time");
    let words = format!("admitted by waiver {id} until {until}: Missing external JWT");
    let deployed = server.cli(&deploy).expect_code(0).expect_words(&words);
    assert!(deployed.stdout.contains(&format!("by waiver until {until}")), "{deployed:?}");
    let journal = server.json(&["audit", "list"]);
    let entry = &journal["items"][0];
    assert_eq!(entry["action"], "deployment.deploy");
    assert!(entry["reason"].as_str().is_some_and(|reason| reason.contains(id)), "{entry}");

    // Wherever conformance is shown.
    assert_eq!(counts(&server, "prod"), [1, 0, 1, 0]);
    let deployment = &server.json(&["deployments", "--env", "prod"])["items"][0];
    assert_eq!((&deployment["standing"], &deployment["conforms"]), (&json!("waived"), &json!(true)));
    assert_eq!(deployment["waived"][0]["waiver"], id);
    for command in [vec!["deployments"], vec!["get", "deployments"], vec!["policy", "conformance"]] {
        let shown = server.cli(&command).expect_code(0);
        assert!(shown.stdout.contains(&format!("by waiver until {until}")), "{shown:?}");
    }
    let path = home.file("orders.yaml", &orders(true, ""));
    server.cli(&["apply", "-f", &path]).expect_code(0).expect_words(&format!("passes by waiver {id}"));
    let applied = server.json(&["apply", "-f", &path, "--dry-run"]);
    let verdicts = applied["items"][0]["verdicts"].as_array().expect("verdicts");
    assert!(verdicts.iter().any(|it| it["environment"] == "prod" && it["standing"] == "waived"), "{applied}");

    // A second one is refused by name, and takes the place of the first when told to; this one is short.
    let again = waive("prod", ["--for", "3s"]);
    server.cli(&again).expect_code(1).expect_words(id);
    let mut replacing = again.clone();
    replacing.push("--replace");
    let short = server.json(&replacing);
    let list = |arguments: &[&str]| {
        let all: Vec<&str> = ["waiver", "list"].iter().chain(arguments).copied().collect();
        let items = server.json(&all)["items"].take();
        items.as_array().expect("items").iter().map(|it| it["id"].clone()).collect::<Vec<Value>>()
    };
    wait_until("the end of the waiver", Duration::from_secs(20), async || {
        counts(&server, "prod") == [1, 0, 0, 1]
    })
    .await;
    assert_eq!((list(&[]), list(&["--all"])), (vec![], vec![short["id"].clone()]));
    server.cli(&deploy).expect_code(3);

    // Ended early; the journal keeps all of them.
    let third = server.json(&waive("prod", ["--for", "1d"]));
    assert_eq!(counts(&server, "prod"), [1, 0, 1, 0]);
    let third = third["id"].as_str().expect("an id");
    server.cli(&["waiver", "end", third]).expect_code(0);
    assert_eq!(counts(&server, "prod"), [1, 0, 0, 1]);
    server.cli(&["waiver", "get", third]).expect_code(4);
    let journal = server.json(&["audit", "list"]);
    // The second that was refused by name is told, too.
    let entries = journal["items"].as_array().expect("entries").iter();
    let made: Vec<_> =
        entries.filter(|it| it["action"] == "waiver.create").map(|it| &it["outcome"]).collect();
    assert_eq!(made, ["done", "done", "refused", "done"]);
    assert_eq!(journal["items"][0]["action"], "waiver.end");
    server.cli(&["audit", "verify"]).expect_code(0);
}

#[tokio::test]
async fn a_waiver_that_is_wrong_is_refused_with_what_to_write_and_not_stored() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    apply(&home, &server, &orders(false, ""));
    let before = changes(&server);
    for (end, code, words) in [
        (["--until", "2020-01-01"], 1, "has passed"),
        (["--for", "0s"], 1, "has passed"),
        (["--for", "31d"], 1, "30 days at most"),
        (["--until", "2999-01-01"], 1, "30 days at most"),
        (["--until", "soon"], 2, "2030-01-31"),
        (["--for", "soon"], 2, "`90d`"),
    ] {
        server.cli(&waive("test", end)).expect_code(code).expect_words(words);
    }
    let without_end = &waive("test", ["--for", "1d"])[..10];
    server.cli(without_end).expect_code(2).expect_words("--until <DATE>|--for <DURATION>");
    let mut other = waive("test", ["--for", "1d"]);
    other.extend(["--code", "missing-jwt"]);
    server.cli(&other).expect_code(1).expect_words("code missing-api-key (Missing external API Key)");
    server.cli(&waive("moon", ["--for", "1d"])).expect_code(4);
    let refused = server.cli(&["-o", "json", "waiver", "end", "wvr_01a20f1e14c17aa7ab5c53d4a37cf6ab"]);
    assert_eq!(refused.expect_code(4).json()["code"], "not-found");

    let token = std::fs::read_to_string(home.data().join("admin-token")).expect("a token");
    let bearer = format!("Bearer {}", token.trim());
    let body = json!({ "pipeline": "orders", "environment": "test", "policy": "external-api-access", "reason": "x" });
    let call =
        async |bearer: &str| server.call("console", WAIVERS, &[("authorization", bearer)], Some(&body)).await;
    let problem = call(&bearer).await.expect(422, "waiver-without-end").json();
    assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("`until`")), "{problem}");
    call("").await.expect(401, "unauthenticated");
    assert_eq!(changes(&server), before, "something was stored");

    // What the realm allows is what counts, also after a restart.
    server.cli(&["realm", "set", "--max-waiver-days", "366"]).expect_code(2);
    server.cli(&["realm", "set", "--max-waiver-days", "60"]).expect_code(0);
    assert_eq!(server.stop(), Some(0));
    let server = Server::start(&home, &[]);
    assert_eq!(server.json(&["realm", "get"])["settings"], json!({ "maxWaiverDays": 60 }));
    server.cli(&waive("test", ["--for", "31d"])).expect_code(0);
    server.cli(&["delete", "pipeline", "orders"]).expect_code(0);
    assert_eq!(server.json(&["waiver", "list", "--all"])["items"], json!([]));
}

#[tokio::test]
async fn verdicts_are_seen_before_anybody_deploys_promotes_or_rolls_back() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let set = |value: &str| {
        server.cli(&["policy", "set", "external-api-access", "--env", value, "--yes"]).expect_code(0);
    };
    set("test=any");
    set("prod=jwt-with-api-key");
    for text in [orders(false, ""), orders(true, ""), orders(true, ", jwt: true")] {
        apply(&home, &server, &text);
        server.cli(&["deploy", "orders", "--env", "test"]).expect_code(0);
    }
    set("test=api-key");

    // Stored versions: where each would be refused today.
    let versions = server.json(&["get", "pipeline", "orders", "--versions"]);
    let admitted = |item: &Value| {
        let verdicts = item["verdicts"].as_array().expect("verdicts").iter();
        verdicts.filter(|it| it["conforms"] == true).map(|it| it["environment"].clone()).collect::<Vec<_>>()
    };
    let all: Vec<_> = versions["items"].as_array().expect("items").iter().map(admitted).collect();
    assert_eq!(all, [vec![], vec![json!("test")], vec![json!("prod"), json!("test")]]);
    let table = server.cli(&["get", "pipeline", "orders", "--versions"]).expect_code(0);
    assert!(table.stdout.contains("test: refused (Missing external API Key)"), "{table:?}");
    let old = ["get", "pipeline", "orders", "--version", "1.1"];
    server.cli(&old).expect_code(0).expect_words("1.1 would be refused today in prod: Missing external JWT");

    // What a rollback can go back to; the first is where it goes.
    let candidates = server.json(&["rollback", "orders", "--env", "test", "--list"]);
    let shown: Vec<_> = candidates["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|it| (it["version"].as_str(), it["verdict"]["standing"].as_str()))
        .collect();
    assert_eq!(shown, [(Some("1.1"), Some("conformant")), (Some("1.0"), Some("notConformant"))]);
    let before = changes(&server);
    server.cli(&["rollback", "orders@1.0", "--env", "test", "--dry-run"]).expect_code(3);
    let would = server.json(&["rollback", "orders", "--env", "test", "--dry-run"]);
    assert_eq!((&would["dryRun"], &would["deployment"]["version"]), (&json!(true), &json!("1.1")));
    server.cli(&["rollback", "orders@1.0", "--env", "test", "--list"]).expect_code(2);
    server.cli(&["rollback", "orders", "--env", "prod", "--list"]).expect_code(4);
    assert_eq!(changes(&server), before, "something was stored");
    server.cli(&["rollback", "orders", "--env", "test"]).expect_code(0);

    // prod's verdict while it runs in test only, and the same when asked for and when tried.
    let deployment = &server.json(&["deployments"])["items"][0];
    assert_eq!(deployment["version"], "1.1");
    let elsewhere = &deployment["elsewhere"][0];
    assert_eq!(
        (&elsewhere["environment"], &elsewhere["standing"]),
        (&json!("prod"), &json!("notConformant"))
    );
    let table = server.cli(&["deployments"]).expect_code(0);
    assert!(table.stdout.contains("prod: refused (Missing external JWT)"), "{table:?}");
    let before = changes(&server);
    let promote = ["-o", "json", "promote", "orders", "--from", "test", "--to", "prod"];
    let mut dry = promote.to_vec();
    dry.push("--dry-run");
    let refused = server.cli(&dry).expect_code(3).json();
    assert_eq!(refused["violations"], elsewhere["violations"]);
    assert_eq!(changes(&server), before, "something was stored");
    assert_eq!(server.cli(&promote).expect_code(3).json()["violations"], elsewhere["violations"]);

    // A deploy whose route is taken is told so beforehand.
    let other =
        orders(true, ", routes: [{ path: /orders, methods: [GET] }]").replace("name: orders", "name: other");
    let path = home.file("other.yaml", &other);
    server.cli(&["apply", "-f", &path]).expect_code(0);
    let deploy = ["deploy", "other", "--env", "test"];
    let mut dry = deploy.to_vec();
    dry.push("--dry-run");
    server.cli(&dry).expect_code(1).expect_words("is taken by pipeline `orders`");
    server.cli(&deploy).expect_code(1).expect_words("is taken by pipeline `orders`");
}
