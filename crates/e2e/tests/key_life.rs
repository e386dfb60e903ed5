//! Keys through their whole life with the real binary: rotated until unused, running out, revoked everywhere.

use std::time::Duration;

use serde_json::Value;
use tollgate_e2e::{Home, Outcome, Server};
use tollgate_testkit::{Postgres, wait_until};

const PATIENCE: Duration = Duration::from_secs(40);
const OPEN: &str = "/pipeline/default/v1/orders";

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

trait Says {
    fn says(&self, words: &str);
}

impl Says for Outcome {
    #[track_caller]
    fn says(&self, words: &str) {
        assert!(self.stdout.contains(words), "{self:?}");
    }
}

/// Deploys a pipeline and makes a consumer that may call it; returns the key and its id.
fn prepare(home: &Home, server: &Server<'_>) -> (String, String) {
    let file = home.file(
        "orders.yaml",
        "kind: Pipeline\nname: orders\nproject: store\ntrigger: { type: rest, externalApi: true, apiKey: true }\n\
         steps: [{ json: { ok: true } }]\n",
    );
    server.cli(&["apply", "-f", &file]).expect_code(0);
    server.cli(&["deploy", "orders", "--env", "test"]).expect_code(0);
    let made = server.json(&["consumer", "create", "shop", "--env", "test", "--pipeline", "orders"]);
    let key = text(&made, "/items/0/key/key").to_owned();
    home.keep_secret(&key);
    (key, text(&made, "/items/0/key/id").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_is_shown_with_its_successor_and_its_last_use_within_ten_seconds() {
    let home = Home::new();
    let server = Server::start(
        &home,
        &[
            "--listen",
            "metrics=127.0.0.1:0",
            "--listen",
            "console=127.0.0.1:0",
            "--listen",
            "test=127.0.0.1:0",
            "--listen",
            "prod=127.0.0.1:0",
            "--listen",
            "test.internal=127.0.0.1:0",
            "--listen",
            "prod.internal=127.0.0.1:0",
        ],
    );
    let (key, id) = prepare(&home, &server);
    let rotate =
        |arguments: &[&str]| server.cli(&[&["key", "rotate", &id, "--env", "test"], arguments].concat());
    rotate(&["--until-unused", "59s"]).expect_code(1).expect_words("a minute or more");
    rotate(&["--until-unused", "31d"]).expect_code(1);
    rotate(&["--until-unused", "7d", "--overlap", "1d"]).expect_code(2);
    rotate(&["--at-latest", "7d"]).expect_code(2);
    let new = rotate(&["--until-unused", "7d", "--at-latest", "30d"]).expect_code(0).stdout;
    home.keep_secret(new.trim());
    for key in [key.as_str(), new.trim()] {
        wait_until("both to work", PATIENCE, async || {
            server.call("test", OPEN, &[("apikey", key)], None).await.status == 200
        })
        .await;
    }
    wait_until("both last uses", Duration::from_secs(10), async || {
        let keys = server.json(&["key", "list", "shop", "--env", "test"]);
        keys["items"]
            .as_array()
            .is_some_and(|keys| keys.len() == 2 && keys.iter().all(|key| key["lastUsedAt"].is_string()))
    })
    .await;
    let listed = server.cli(&["key", "list", "shop", "--env", "test"]).expect_code(0).stdout;
    assert!(listed.contains("ENDS UNUSED AFTER") && listed.contains("REPLACED BY"), "{listed}");
    let keys = server.json(&["key", "list", "shop", "--env", "test"]);
    let old = keys["items"]
        .as_array()
        .expect("keys")
        .iter()
        .find(|it| it["id"] == id.as_str())
        .expect("the old key");
    assert_eq!(old["retireUnusedSeconds"], 7 * 86_400);
    assert!(old["expiresAt"].is_string() && old["replacedBy"].is_string());

    // One that runs out soon, and has no successor.
    let created =
        server.cli(&["key", "create", "shop", "--env", "test", "--name", "short", "--expires-in", "3d"]);
    let short = created.expect_code(0).stdout;
    home.keep_secret(short.trim());
    let expiring = server.json(&["key", "expiring", "--days", "7"]);
    assert_eq!(expiring["items"].as_array().map(Vec::len), Some(1), "{expiring}");
    assert_eq!(text(&expiring, "/items/0/name"), "short");
    assert_eq!(server.json(&["key", "expiring", "--days", "2"])["items"], serde_json::json!([]));
    server.cli(&["key", "list", "shop", "--env", "test"]).expect_code(0).expect_words("runs out at");
    let metrics = server.call("metrics", "/metrics", &[], None).await.text;
    let line = "tollgate_api_keys_expiring{realm=\"default\",environment=\"test\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    wait_until("the log to warn", PATIENCE, async || server.log().contains("runs out within 7 days")).await;
    home.assert_secrets_stayed_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_revoked_when_every_gateway_has_confirmed_and_who_lags_is_named() {
    let postgres = Postgres::start().await.expect("PostgreSQL");
    let url = postgres.url();
    let (first_home, second_home) = (Home::new(), Home::new());
    let first = Server::start(&first_home, &["--database", &url]);
    let master = first_home.data().join("master.key").display().to_string();
    let second = Server::start(&second_home, &["--database", &url, "--master-key-file", &master]);
    let (key, id) = prepare(&first_home, &first);
    let headers = [("apikey", key.as_str())];
    for server in [&first, &second] {
        wait_until("the key to work", PATIENCE, async || {
            server.call("test", OPEN, &headers, None).await.status == 200
        })
        .await;
    }
    let told = first.json(&["key", "revoke", &id, "--env", "test", "--wait"]);
    // Not a moment later: each has confirmed.
    for server in [&first, &second] {
        server.call("test", OPEN, &headers, None).await.expect(401, "api-key-invalid");
    }
    assert_eq!(told["confirmation"]["confirmed"], true);
    assert_eq!(told["confirmation"]["gateways"].as_array().map(Vec::len), Some(2), "{told}");

    // One that stands still has not confirmed, and is named.
    let made = first.cli(&["key", "create", "shop", "--env", "test"]).expect_code(0).stdout;
    first_home.keep_secret(made.trim());
    let keys = first.json(&["key", "list", "shop", "--env", "test"]);
    let newest =
        keys["items"].as_array().expect("keys").iter().find(|it| it["state"] == "active").expect("a key");
    let stopped = second.id().to_string();
    let signal = |name: &str| {
        let status = std::process::Command::new("kill").args([name, &stopped]).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot signal");
    };
    signal("-STOP");
    let revoke = ["key", "revoke", text(newest, "/id"), "--env", "test", "--wait", "--timeout", "2s"];
    let late = first.cli(&revoke);
    signal("-CONT");
    late.expect_code(1).expect_words(&format!("process {stopped}"));
    first
        .cli(&["key", "revoke", text(newest, "/id"), "--env", "test", "--wait"])
        .expect_code(0)
        .says("all 2 gateways");

    // One that ended is waited for no more.
    assert_eq!(second.stop(), Some(0));
    let made = first.cli(&["key", "create", "shop", "--env", "test"]).expect_code(0).stdout;
    first_home.keep_secret(made.trim());
    let keys = first.json(&["key", "list", "shop", "--env", "test"]);
    let newest =
        keys["items"].as_array().expect("keys").iter().find(|it| it["state"] == "active").expect("a key");
    first
        .cli(&["key", "revoke", text(newest, "/id"), "--env", "test", "--wait"])
        .expect_code(0)
        .says("1 gateway of 1");
}
