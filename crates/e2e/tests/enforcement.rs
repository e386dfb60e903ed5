//! What policies mean at the gateway, and environments that come and go, on the real binary.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tollgate_e2e::{Home, Reply, Server};
use tollgate_testkit::{Postgres, free_port, wait_until};

const PATIENCE: Duration = Duration::from_secs(20);
const OPEN: &str = "/pipeline/default/v1/open";
const ORDERS: &str = "/pipeline/default/v1/orders";

fn pipeline(name: &str, switches: &str, steps: &str) -> String {
    format!(
        "kind: Pipeline\nname: {name}\nproject: store\ntrigger: {{ type: rest, methods: [GET, POST], \
         externalApi: true, {switches} }}\nsteps: {steps}\n"
    )
}

fn apply(home: &Home, server: &Server<'_>, text: &str) {
    let path = home.file("pipeline.yaml", text);
    server.cli(&["apply", "-f", &path]).expect_code(0);
}

fn deploy(server: &Server<'_>, pipeline: &str, environment: &str) {
    server.cli(&["deploy", pipeline, "--env", environment]).expect_code(0);
}

/// Returns the time of the server's last policy version, a little in the past.
fn policies_saved_at(server: &Server<'_>) -> Timestamp {
    let versions = server.json(&["policy", "versions"]);
    versions["items"][0]["createdAt"].as_str().and_then(|at| at.parse().ok()).expect("a time")
}

/// Lets `open`, which demands no key, run in `test`, where keys are demanded from now on.
async fn let_open_fall_out(home: &Home, server: &Server<'_>) {
    server.cli(&["policy", "set", "external-api-access", "--env", "test=any", "--yes"]).expect_code(0);
    apply(home, server, &pipeline("open", "apiKey: false", "[{ json: { ok: true } }]"));
    deploy(server, "open", "test");
    server.cli(&["policy", "set", "external-api-access", "--env", "test=api-key", "--yes"]).expect_code(0);
    wait_until("the deployment", PATIENCE, async || call(server, OPEN).await.status == 200).await;
}

async fn call(server: &Server<'_>, path: &str) -> Reply {
    server.call("test", path, &[], None).await
}

async fn a_date_refuses_calls(home: &Home, arguments: &[&str]) {
    let server = Server::start(home, arguments);
    let_open_fall_out(home, &server).await;
    let reply = call(&server, OPEN).await.expect(200, "");
    assert!(!reply.headers.contains_key("sunset"), "policies are enforced at deploy time: {reply:?}");

    let past = ["policy", "set", "enforcement", "--env", "test=atGateway@2020-01-01", "--yes"];
    server.cli(&past).expect_code(1).expect_words("has passed");
    let date = policies_saved_at(&server) + SignedDuration::from_secs(8);
    let value = format!("test=atGateway@{date}");
    server.cli(&["policy", "set", "enforcement", "--env", &value, "--yes"]).expect_code(0);
    let announced = policies_saved_at(&server).as_second();
    wait_until("the announcement", PATIENCE, async || {
        let reply = call(&server, OPEN).await;
        let expected = (Some(format!("@{announced}")), true);
        let told = (reply.headers.get("deprecation").cloned(), reply.headers.contains_key("sunset"));
        // A machine that is busy enough may be past the date already.
        reply.code() == "policy-not-conformant" || (reply.status == 200 && told == expected)
    })
    .await;
    wait_until("the date", PATIENCE, async || call(&server, OPEN).await.code() == "policy-not-conformant")
        .await;
    let refused = call(&server, OPEN).await.expect(403, "policy-not-conformant");
    assert!(!refused.text.contains("API Key") && !refused.headers.contains_key("sunset"), "{refused:?}");
    wait_until("the log to say why", PATIENCE, async || server.log().contains("Missing external API Key"))
        .await;
    server.call("prod", OPEN, &[], None).await.expect(404, "route-not-found");

    assert_eq!(server.stop(), Some(0));
    let server = Server::start(home, arguments);
    call(&server, OPEN).await.expect(403, "policy-not-conformant");
    apply(home, &server, &pipeline("open", "apiKey: true", "[{ json: { ok: true } }]"));
    deploy(&server, "open", "test");
    wait_until("the mended one", PATIENCE, async || call(&server, OPEN).await.code() == "api-key-missing")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_what_does_not_conform_are_announced_and_then_refused() {
    a_date_refuses_calls(&Home::new(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_what_does_not_conform_are_refused_on_postgresql() {
    let postgres = Postgres::start().await.expect("PostgreSQL is installed");
    a_date_refuses_calls(&Home::new(), &["--database", &postgres.url()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sensitive_fields_of_the_policy_stay_out_of_the_log_of_what_runs_already() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    server.cli(&["policy", "set", "external-api-access", "--env", "test=any", "--yes"]).expect_code(0);
    let steps = "[{ log: { message: \"noted {{ message }}\" } }, { json: { ok: true } }]";
    apply(&home, &server, &pipeline("open", "apiKey: false", steps));
    deploy(&server, "open", "test");
    let send = async |nonce: u32| {
        let body = json!({ "orders": [{ "email": format!("ana-{nonce}@shop.example"), "n": nonce }] });
        server.call("test", &format!("{OPEN}?iban=DE-{nonce}"), &[], Some(&body)).await
    };
    wait_until("the deployment", PATIENCE, async || send(1).await.status == 200).await;
    wait_until("the line", PATIENCE, async || server.log().contains("ana-1@shop.example")).await;
    server.cli(&["policy", "set", "sensitive-fields", "--env", "test=email,iban", "--yes"]).expect_code(0);
    let mut nonce = 1;
    wait_until("the policy", PATIENCE, async || {
        nonce += 1;
        send(nonce).await;
        server.log().contains(&format!(r#"\"n\":{nonce}"#))
            && !server.log().contains(&format!("ana-{nonce}@"))
    })
    .await;
    assert!(!server.log().contains(&format!("DE-{nonce}")), "the query hides it, too");
}

/// A key of a new consumer in `staging` that may call `orders` and `login`.
fn staging_key(home: &Home, server: &Server<'_>) -> String {
    let create = ["consumer", "create", "shop", "--env", "staging", "--pipeline", "orders,login"];
    let made = server.json(&create);
    let key = made["items"][0]["key"]["key"].as_str().expect("shown once").to_owned();
    home.keep_secret(&key);
    key
}

async fn orders(server: &Server<'_>, key: &str, token: &str) -> Option<Reply> {
    server.try_call("staging", ORDERS, &[("apikey", key), ("authorization", token)], None).await.ok()
}

fn create_staging<'a>(address: &'a str, internal: &'a str) -> [&'a str; 11] {
    [
        "environment",
        "create",
        "staging",
        "--policy",
        "external-api-access=jwt-with-api-key",
        "--policy",
        "internal-api-access=api-key",
        "--listen",
        address,
        "--listen",
        internal,
    ]
}

async fn sign_in(server: &Server<'_>, home: &Home, key: &str) -> String {
    let path = "/pipeline/default/v1/login";
    wait_until("the login flow", PATIENCE, async || {
        let reply = server.try_call("staging", path, &[("apikey", key)], Some(&json!({}))).await;
        reply.is_ok_and(|reply| reply.status == 200)
    })
    .await;
    let reply = server.call("staging", path, &[("apikey", key)], Some(&json!({}))).await.expect(200, "");
    let token = reply.headers["authorization"].clone();
    home.keep_secret(token.trim_start_matches("Bearer "));
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_comes_with_its_listeners_goes_with_its_keys_and_comes_back_empty() {
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    let address = format!("127.0.0.1:{}", free_port());
    let internal = format!("internal=127.0.0.1:{}", free_port());
    server.add_listener("staging", &address);
    apply(&home, &server, &pipeline("orders", "apiKey: true, jwt: true", "[{ json: { ok: true } }]"));
    let claims = "[{ json: { user: ana } }, { jwtGenerate: { scopes: [], expiresInMs: 900000 } }]";
    apply(&home, &server, &pipeline("login", "apiKey: true", claims));

    let made = server.json(&create_staging(&address, &internal));
    assert_eq!(made["listeners"]["external"], address.as_str());
    let listed = server.json(&["environment", "list"]);
    let staging = listed["items"].as_array().expect("items").iter().find(|it| it["name"] == "staging");
    let staging = staging.expect("listed");
    assert_eq!(staging["policies"]["external-api-access"], "jwt-with-api-key");
    assert_eq!(staging["policies"]["enforcement"], "atDeploy");
    deploy(&server, "orders", "staging");
    deploy(&server, "login", "staging");
    let key = staging_key(&home, &server);
    let token = sign_in(&server, &home, &key).await;
    orders(&server, &key, &token).await.expect("an answer").expect(200, "");

    // After a restart it listens again; with something deployed it stays.
    assert_eq!(server.stop(), Some(0));
    let mut server = Server::start(&home, &[]);
    server.add_listener("staging", &address);
    wait_until("the listener after a restart", PATIENCE, async || {
        orders(&server, &key, &token).await.is_some_and(|reply| reply.status == 200)
    })
    .await;
    let refused = server.cli(&["--output", "json", "environment", "delete", "staging"]).expect_code(1).json();
    assert_eq!(refused["code"], "environment-in-use");
    assert!(refused["detail"].as_str().is_some_and(|text| text.contains("`orders` v1")), "{refused}");
    server.cli(&["undeploy", "orders", "--env", "staging"]).expect_code(0);
    server.cli(&["undeploy", "login", "--env", "staging"]).expect_code(0);
    server.cli(&["environment", "delete", "staging", "--reason", "no longer needed"]).expect_code(0);
    wait_until("the listener to close", PATIENCE, async || orders(&server, "", "").await.is_none()).await;
    server.cli(&["deploy", "orders", "--env", "staging"]).expect_code(4);

    // Its next life knows nothing of the one before.
    server.cli(&create_staging(&address, &internal)).expect_code(0);
    deploy(&server, "orders", "staging");
    deploy(&server, "login", "staging");
    let next_key = staging_key(&home, &server);
    let next_token = sign_in(&server, &home, &next_key).await;
    orders(&server, &next_key, &next_token).await.expect("an answer").expect(200, "");
    orders(&server, &key, &next_token).await.expect("an answer").expect(401, "api-key-invalid");
    orders(&server, &next_key, &token).await.expect("an answer").expect(401, "jwt-invalid");
    assert_eq!(server.json(&["audit", "verify"])["intact"], true);
    home.assert_secrets_stayed_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_that_lacks_something_is_not_made_and_an_address_in_use_is_waited_for() {
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    let holder = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = holder.local_addr().expect("an address").to_string();
    let done = ["audit", "list", "--outcome", "done"];
    let before = server.json(&done);
    let create = ["environment", "create", "qa", "--listen", "127.0.0.1:25999"];
    let both = ["--policy", "external-api-access=api-key", "--policy", "internal-api-access=any"];
    let attempts: [(Vec<&str>, i32, &str); 6] = [
        (create.to_vec(), 1, "no value for `external-api-access` and `internal-api-access`"),
        ([&create[..], &both[..2]].concat(), 1, "no value for `internal-api-access`"),
        ([&create[..3], &both[..]].concat(), 2, "--listen"),
        ([&create[..3], &both[..], &["--listen", "localhost"]].concat(), 2, "write IP:PORT"),
        ([&create[..3], &both[..], &["--listen", "127.0.0.1:0"]].concat(), 1, "port 0"),
        (vec!["environment", "delete", "prod"], 1, "always exists"),
    ];
    for (arguments, code, words) in attempts {
        server.cli(&arguments).expect_code(code).expect_words(words);
    }
    server.cli(&["environment", "delete", "moon"]).expect_code(4).expect_words("it has `prod`, `test`");
    assert_eq!(server.json(&done), before, "nothing was stored");

    let create = ["environment", "create", "qa", "--listen", &address];
    server.cli(&[&create[..], &both[..]].concat()).expect_code(0);
    wait_until("the error in the log", PATIENCE, async || server.log().contains("cannot listen")).await;
    drop(holder);
    server.add_listener("qa", &address);
    wait_until("the address", Duration::from_secs(30), async || {
        let reply = server.try_call("qa", "/healthz", &[], None::<&Value>).await;
        reply.is_ok_and(|reply| reply.status == 200)
    })
    .await;
}
