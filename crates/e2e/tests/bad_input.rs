//! Bad input: a clear error that says what to write instead, and nothing stored.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use tollgate_e2e::{Home, Server};

const GOOD: &str = "kind: Pipeline
name: orders
project: store
trigger: { type: rest, externalApi: true, apiKey: true, routes: [/orders] }
steps:
  - json: { ok: true }
";

/// Returns the number of the last change.
fn head(server: &Server<'_>) -> u64 {
    let last = server.json(&["audit", "list", "--outcome", "done", "--limit", "1"]);
    last["items"][0]["seq"].as_u64().expect("an entry")
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_files_are_refused_with_place_and_remedy_and_nothing_is_stored() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let before = head(&server);
    let replaced = |from: &str, to: &str| {
        assert!(GOOD.contains(from), "{from}");
        GOOD.replacen(from, to, 1)
    };
    for (what, text, words) in [
        ("malformed YAML", replaced("{ ok: true }", "{ ok: true"), "not YAML"),
        ("an unknown step", replaced("- json:", "- jsn:"), "did you mean `json`?"),
        ("an unknown field", replaced("externalApi", "exteralApi"), "did you mean `externalApi`?"),
        (
            "a route that begins with a parameter",
            replaced("[/orders]", "[\"/:id\"]"),
            "put a fixed segment first",
        ),
        (
            "an expression that does not parse",
            replaced("{ ok: true }", "{ ok: \"{{ 1 + }}\" }"),
            "does not parse",
        ),
        ("an unknown name", replaced("{ ok: true }", "{ ok: \"{{ mesage }}\" }"), "did you mean `message`?"),
        ("a name that is not a slug", replaced("name: orders", "name: My Orders"), "for example `my-orders`"),
        (
            "an expiry over 365 days",
            replaced("json: { ok: true }", "jwtGenerate: { expiresInMs: 31536000001 }"),
            "365 days",
        ),
        ("a trigger of a later version", replaced("type: rest", "type: event"), "not in this version"),
        (
            "a policy that leaves out an environment",
            "kind: Policy\nname: external-api-access\nenvironments: { test: any }\n".to_owned(),
            "`prod`",
        ),
        ("basicAuth and jwt", replaced("apiKey: true", "jwt: true, basicAuth: true"), "turn one of them off"),
        (
            "a host that callers choose",
            replaced("json: { ok: true }", "http: { url: \"{{ message.body.url }}\" }"),
            "could choose the host",
        ),
        ("no kind", "name: x\n".to_owned(), "begin with `kind: Pipeline`"),
    ] {
        let path = home.file("bad.yaml", &text);
        let outcome = server.cli(&["apply", "--yes", "-f", &path]).expect_code(1);
        assert!(outcome.stderr.contains(words), "{what}: {outcome:#?}");
        assert!(outcome.stdout.is_empty(), "{what}: {outcome:#?}");
    }
    assert_eq!(head(&server), before, "something was stored");
    assert_eq!(server.json(&["get", "pipelines"])["items"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_commands_are_refused_and_nothing_is_stored() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    server.cli(&["consumer", "create", "shop", "--env", "test"]).expect_code(0);
    let good = home.file("good.yaml", GOOD);
    server.cli(&["apply", "-f", &good]).expect_code(0);
    let before = head(&server);
    server
        .cli(&["consumer", "create", "shop", "--env", "test"])
        .expect_code(1)
        .expect_words("there is a consumer `shop`");
    server.cli(&["consumer", "create", "other", "--env", "moon"]).expect_code(4).expect_words("`moon`");
    server
        .cli(&["consumer", "create", "other", "--env", "test", "--pipeline", "nope"])
        .expect_code(4)
        .expect_words("`nope`");
    server.cli(&["deploy", "nope", "--env", "test"]).expect_code(4).expect_words("`nope`");
    server.cli(&["deploy", "orders@7.7", "--env", "test"]).expect_code(4).expect_words("7.7");
    server.cli(&["deploy", "orders", "--env", "moon"]).expect_code(4).expect_words("`moon`");
    server.cli(&["undeploy", "orders", "--env", "test"]).expect_code(4).expect_words("not deployed");
    server.cli(&["rollback", "orders", "--env", "test"]).expect_code(4);
    server
        .cli(&["policy", "set", "external-api-access", "--env", "test=open", "--yes"])
        .expect_code(2)
        .expect_words("`jwt-with-api-key`");
    server
        .cli(&["policy", "set", "external-api-access", "--env", "moon=any", "--yes"])
        .expect_code(1)
        .expect_words("`moon`");
    server
        .cli(&["policy", "set", "external-api-access", "--env", "test=any"])
        .expect_code(2)
        .expect_words("--yes");
    server
        .cli(&["account", "set", "portal", "--env", "test", "--field", "token=hunter2hunter2"])
        .expect_code(2)
        .expect_words("stands in the arguments");
    server.cli(&["key", "revoke", "key_00000000000000000000000000000000", "--env", "test"]).expect_code(4);
    server.cli_with_input(&["key", "import", "shop", "--env", "test"], "short\n").expect_code(1);
    server.cli(&["--token", "tgu_not-a-token", "deployments"]).expect_code(5).expect_words("tollgate login");
    server.cli(&["--realm", "nowhere", "deployments"]).expect_code(4).expect_words("`nowhere`");
    assert_eq!(head(&server), before, "something was stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_update_is_refused() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let token = std::fs::read_to_string(home.data().join("admin-token")).expect("a token");
    let bearer = format!("Bearer {}", token.trim());
    let path = "/api/v1/realms/default/policies/external-api-access";
    let read = server.call("console", path, &[("authorization", &bearer)], None).await.expect(200, "");
    server.cli(&["policy", "set", "external-api-access", "--env", "prod=any", "--yes"]).expect_code(0);
    let again = server.call("console", path, &[("authorization", &bearer)], None).await.expect(200, "");
    assert_ne!(read.headers["etag"], again.headers["etag"]);
    let before = head(&server);
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let lost = client
        .put(format!("{}{path}", server.url("console")))
        .header("authorization", &bearer)
        .header("if-match", &read.headers["etag"])
        .header("content-type", "application/json")
        .body(r#"{"environments":{"test":"any"},"partial":true}"#)
        .send()
        .await
        .expect("an answer");
    assert_eq!(lost.status(), 412);
    assert!(lost.text().await.expect("a body").contains("read it again"));
    assert_eq!(head(&server), before, "something was stored");
}
