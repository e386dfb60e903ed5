//! The whole journey on one binary: policy, refused deploy, fixed trigger, consumer, key, login flow, token, call.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::time::Duration;

use serde_json::{Value, json};
use tollgate_e2e::{Home, Reply, Server};
use tollgate_testkit::{Postgres, wait_until};

const PRODUCTS: &str = "/pipeline/default/v1/product-list";

/// `{"alg":"none","typ":"at+jwt"}`.
const ALG_NONE: &str = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0";

fn product_list(api_key: bool, jwt: &str) -> String {
    format!(
        "kind: Pipeline
name: product-list
project: store
trigger: {{ type: rest, methods: [GET], externalApi: true, apiKey: {api_key}, jwt: {jwt} }}
steps:
  - json: {{ products: [{{ id: 1, name: Lamp }}], caller: \"{{{{ consumer.name }}}}\" }}
"
    )
}

fn login(name: &str, scopes: &str, expires_in_ms: u64) -> String {
    format!(
        "kind: Pipeline
name: {name}
project: store
trigger: {{ type: rest, methods: [POST], externalApi: true, apiKey: true }}
steps:
  - assert:
      condition: message.body.user == globals[\"portal-user\"] && verifyPassword(message.body.password, accounts.portal.passwordHash)
      status: 401
      error: invalid user or password
  - json: {{ user: \"{{{{ message.body.user }}}}\" }}
  - jwtGenerate: {{ scopes: [{scopes}], expiresInMs: {expires_in_ms} }}
"
    )
}

struct Journey<'a> {
    home: &'a Home,
    server: Server<'a>,
}

impl Journey<'_> {
    fn apply(&self, text: &str) {
        let path = self.home.file("pipeline.yaml", text);
        self.server.cli(&["apply", "-f", &path]).expect_code(0);
    }

    fn deploy(&self, pipeline: &str, environment: &str) {
        self.server.cli(&["deploy", pipeline, "--env", environment]).expect_code(0);
    }

    fn consumer(&self, name: &str, pipelines: &str) -> (String, String) {
        let made =
            self.server.json(&["consumer", "create", name, "--env", "test,prod", "--pipeline", pipelines]);
        let key = |environment: &str| {
            let items = made["items"].as_array().expect("items");
            let item =
                items.iter().find(|item| item["consumer"]["environment"] == environment).expect("made");
            let key = item["key"]["key"].as_str().expect("shown once").to_owned();
            self.home.keep_secret(&key);
            key
        };
        (key("test"), key("prod"))
    }

    async fn products(&self, environment: &str, key: &str, token: &str) -> Reply {
        let bearer = if token.is_empty() { String::new() } else { format!("Bearer {token}") };
        self.server.call(environment, PRODUCTS, &[("apikey", key), ("authorization", &bearer)], None).await
    }

    async fn sign_in(&self, environment: &str, flow: &str, key: &str, password: &str) -> Reply {
        let body = json!({ "user": "portal", "password": password });
        let path = format!("/pipeline/default/v1/{flow}");
        self.server.call(environment, &path, &[("apikey", key)], Some(&body)).await
    }

    async fn token(&self, environment: &str, flow: &str, key: &str) -> String {
        let reply = self.sign_in(environment, flow, key, "open-sesame").await.expect(200, "");
        assert_eq!(reply.json(), json!({ "status": "logged" }));
        let token = reply.headers["authorization"].strip_prefix("Bearer ").expect("a token").to_owned();
        self.home.keep_secret(&token);
        token
    }
}

fn violations(document: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = document["violations"].as_array().expect("violations");
    all.iter().map(|it| (text(&it["pointer"]), text(&it["message"]))).collect()
}

async fn journey(home: &Home, arguments: &[&str]) {
    let it = Journey { home, server: Server::start(home, arguments) };
    let server = &it.server;
    let pair = |pointer: &str, message: &str| (pointer.to_owned(), message.to_owned());

    // Refused in test for the missing key; switched on, deployed.
    it.apply(&product_list(false, "false"));
    let refused = server.cli(&["deploy", "product-list", "--env", "test", "--output", "json"]).expect_code(3);
    assert_eq!(violations(&refused.json()), [pair("/trigger/apiKey", "Missing external API Key")]);
    assert_eq!(refused.json()["violations"][0]["fix"], true);
    assert_eq!(server.json(&["deployments"])["items"], json!([]), "a refused deploy changes nothing");
    it.apply(&product_list(true, "false"));
    it.deploy("product-list", "test");

    // Refused in prod for the missing token; switched on, deployed.
    server
        .cli(&["policy", "set", "external-api-access", "--env", "prod=jwt-with-api-key", "--yes"])
        .expect_code(0);
    let promote = ["promote", "product-list", "--from", "test", "--to", "prod", "--output", "json"];
    let refused = server.cli(&promote).expect_code(3);
    assert_eq!(violations(&refused.json()), [pair("/trigger/jwt", "Missing external JWT")]);
    it.apply(&product_list(true, "{ scopes: [catalog:read] }"));
    let deployed = server.cli(&["deploy", "product-list", "--env", "prod"]).expect_code(0);
    assert!(deployed.stderr.contains("no consumer of prod is associated"), "{deployed:?}");

    // Consumers, keys, and calls with the key alone.
    let (test_key, prod_key) = it.consumer("shop", "product-list");
    wait_until("the first call", Duration::from_secs(5), async || {
        it.products("test", &test_key, "").await.status == 200
    })
    .await;
    let answer = it.products("test", &test_key, "").await.expect(200, "").json();
    assert_eq!(answer["caller"], "shop");
    let challenge = it.products("test", "", "").await.expect(401, "api-key-missing");
    assert_eq!(challenge.headers["www-authenticate"], "ApiKey");
    it.products("prod", &test_key, "").await.expect(401, "api-key-invalid");
    it.products("test", "tg_test_0000000000000000000000000000000000000", "")
        .await
        .expect(401, "api-key-invalid");
    let (_, stranger_key) = it.consumer("stranger", "product-list");
    server
        .cli(&["consumer", "dissociate", "stranger", "--env", "prod", "--pipeline", "product-list"])
        .expect_code(0);
    wait_until("the dissociation", Duration::from_secs(5), async || {
        it.products("prod", &stranger_key, "").await.code() == "consumer-not-allowed"
    })
    .await;
    it.products("prod", &prod_key, "").await.expect(401, "jwt-missing");

    // A revoked key is dead within a second.
    let extra = server.json(&["key", "create", "shop", "--env", "test", "--name", "extra"]);
    let extra_key = extra["key"].as_str().expect("shown once");
    home.keep_secret(extra_key);
    wait_until("the new key", Duration::from_secs(1), async || {
        it.products("test", extra_key, "").await.status == 200
    })
    .await;
    server.cli(&["key", "revoke", extra["id"].as_str().expect("an id"), "--env", "test"]).expect_code(0);
    wait_until("the revocation", Duration::from_secs(1), async || {
        it.products("test", extra_key, "").await.code() == "api-key-invalid"
    })
    .await;

    // Login flows: a key alone suffices for them, even in prod.
    for environment in ["test", "prod"] {
        server.cli(&["global", "set", "portal-user", "portal", "--env", environment]).expect_code(0);
        let account = ["account", "set", "portal", "--hash", "passwordHash", "--env", environment];
        server.cli_with_input(&account, "open-sesame\n").expect_code(0);
    }
    home.keep_secret("open-sesame");
    for (name, scopes, life) in [
        ("login", "catalog:read", 900_000),
        ("login-bare", "", 900_000),
        ("login-short", "catalog:read", 1_000),
    ] {
        it.apply(&login(name, scopes, life));
        it.deploy(name, "prod");
        for consumer in ["shop", "stranger"] {
            server
                .cli(&["consumer", "associate", consumer, "--env", "prod", "--pipeline", name])
                .expect_code(0);
        }
    }
    it.deploy("login", "test");
    server.cli(&["consumer", "associate", "shop", "--env", "test", "--pipeline", "login"]).expect_code(0);
    wait_until("the login flow", Duration::from_secs(5), async || {
        it.sign_in("test", "login", &test_key, "open-sesame").await.status == 200
    })
    .await;
    it.sign_in("prod", "login", &prod_key, "wrong").await.expect(401, "flow-failed");
    let short_lived = it.token("prod", "login-short", &prod_key).await;
    let token = it.token("prod", "login", &prod_key).await;
    it.products("prod", &prod_key, &token).await.expect(200, "");

    // Every token that is not good.
    let other_environment = it.token("test", "login", &test_key).await;
    it.products("prod", &prod_key, &other_environment).await.expect(401, "jwt-invalid");
    let changed = flip_last_bit(&token);
    it.products("prod", &prod_key, &changed).await.expect(401, "jwt-invalid");
    let payload = token.split('.').nth(1).expect("three parts");
    it.products("prod", &prod_key, &format!("{ALG_NONE}.{payload}.")).await.expect(401, "jwt-invalid");
    server
        .cli(&["consumer", "associate", "stranger", "--env", "prod", "--pipeline", "product-list"])
        .expect_code(0);
    let of_another = it.token("prod", "login", &stranger_key).await;
    it.products("prod", &prod_key, &of_another).await.expect(403, "jwt-consumer-mismatch");
    let bare = it.token("prod", "login-bare", &prod_key).await;
    let refused = it.products("prod", &prod_key, &bare).await.expect(403, "scope-missing");
    assert_eq!(refused.headers["www-authenticate"], "Bearer error=\"insufficient_scope\"");

    // Stricter in test: who falls out goes on running, and cannot come back.
    server
        .cli(&["policy", "set", "external-api-access", "--env", "test=jwt-with-api-key", "--yes"])
        .expect_code(0);
    falls_out(server);
    it.products("test", &test_key, "").await.expect(200, "");
    server.cli(&["rollback", "product-list@1.0", "--env", "test"]).expect_code(3);
    it.products("test", &test_key, "").await.expect(200, "");

    // A token has expired when its time and the leeway of 30 seconds are over.
    wait_until("the short token expires", Duration::from_secs(45), async || {
        it.products("prod", &prod_key, &short_lived).await.code() == "jwt-invalid"
    })
    .await;

    // After a restart all of it is still true.
    let Journey { server, .. } = it;
    assert_eq!(server.stop(), Some(0), "SIGTERM is a clean stop");
    let it = Journey { home, server: Server::start(home, arguments) };
    falls_out(&it.server);
    it.products("test", &test_key, "").await.expect(200, "");
    it.products("test", extra_key, "").await.expect(401, "api-key-invalid");
    it.products("prod", &prod_key, &token).await.expect(200, "");
    it.products("prod", &prod_key, &of_another).await.expect(403, "jwt-consumer-mismatch");
    assert_eq!(it.server.json(&["audit", "verify"])["intact"], true);
    home.assert_secrets_stayed_secret();
}

#[track_caller]
fn falls_out(server: &Server<'_>) {
    let report = server.json(&["policy", "conformance", "--env", "test"]);
    let test = &report["environments"][0];
    assert_eq!(
        (&test["deployments"], &test["conformant"], &test["notConformant"]),
        (&json!(2), &json!(1), &json!(1)),
        "{report}"
    );
    let items = test["items"].as_array().expect("items");
    let out = items.iter().find(|item| item["conforms"] == false).expect("one falls out");
    assert_eq!((&out["pipeline"], &out["admittedBy"]), (&json!("product-list"), &json!("1.0")));
    let login = items.iter().find(|item| item["pipeline"] == "login").expect("deployed");
    assert_eq!((&login["conforms"], &login["loginFlow"]), (&json!(true), &json!(true)));
}

/// Changes one bit of a token's signature.
fn flip_last_bit(token: &str) -> String {
    let mut changed = token.to_owned();
    let at = token.len() - 10;
    let to = if token.as_bytes().get(at) == Some(&b'A') { "B" } else { "A" };
    changed.replace_range(at..=at, to);
    changed
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journey_on_the_embedded_database() {
    journey(&Home::new(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journey_on_postgresql() {
    let postgres = Postgres::start().await.expect("PostgreSQL is installed");
    journey(&Home::new(), &["--database", &postgres.url()]).await;
}
