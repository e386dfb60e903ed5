//! Tokens of an issuer outside, from the real binary's first fetch to its start without the issuer.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]
#![expect(clippy::disallowed_methods, reason = "tokens of somebody else are of the real time")]

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tollgate_e2e::{Home, Reply, Server};
use tollgate_testkit::{Acceptor, Authority, FakeIssuer, IssuerMood, wait_until};

const PATIENCE: Duration = Duration::from_secs(40);
const ORDERS: &str = "/pipeline/default/v1/orders";

const PIPELINE: &str = "kind: Pipeline\nname: orders\nproject: store\n\
    trigger: { type: rest, externalApi: true, apiKey: true, jwt: { issuers: [corp], scopes: [read] } }\n\
    steps: [{ json: { me: \"{{ consumer.name }}\", team: \"{{ claims.team }}\" } }]\n";

fn claims(client: &str, seconds: i64) -> Value {
    let now = Timestamp::now().as_second();
    json!({ "aud": "orders", "sub": "u1", "azp": client, "jti": format!("{client}-{now}"),
        "iat": now, "exp": now + seconds, "scope": "read", "team": "blue" })
}

fn token(issuer: &FakeIssuer, client: &str, seconds: i64) -> String {
    issuer.token(&claims(client, seconds))
}

async fn call(server: &Server<'_>, key: &str, token: &str) -> Reply {
    let authorization = format!("Bearer {token}");
    server.call("test", ORDERS, &[("apikey", key), ("authorization", &authorization)], None).await
}

async fn comes(server: &Server<'_>, what: &str, key: &str, token: &str, code: &str) {
    wait_until(what, PATIENCE, async || call(server, key, token).await.code() == code).await;
}

fn keys_of(server: &Server<'_>) -> Value {
    server.json(&["issuer", "get", "corp", "--env", "test"])["keys"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_an_issuer_are_taken_through_rotation_failure_and_a_start_without_it() {
    let issuer = FakeIssuer::start().await.expect("an issuer");
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let file = home.file("orders.yaml", PIPELINE);
    server.cli(&["apply", "-f", &file]).expect_code(0);
    server.cli(&["deploy", "orders", "--env", "test"]).expect_code(1).expect_words("not set in test");
    let url = issuer.url();
    let create = [
        "issuer",
        "create",
        "corp",
        "--env",
        "test",
        "--issuer",
        &url,
        "--audience",
        "orders",
        "--algorithm",
        "ES256",
        "--consumer-claim",
        "azp",
        "--refresh",
        "10s",
        "--max-stale",
        "7d",
    ];
    server.cli(&create).expect_code(1).expect_words("plain http");
    server.cli(&[&create[..], &["--internal-addresses"]].concat()).expect_code(0);
    server.cli(&[&create[..], &["--internal-addresses"]].concat()).expect_code(1).expect_words("already");
    server.cli(&["deploy", "orders", "--env", "test"]).expect_code(0);
    server.cli(&["issuer", "delete", "corp", "--env", "test"]).expect_code(1).expect_words("`orders` v1");
    let made = server.json(&["consumer", "create", "shop", "--env", "test", "--pipeline", "orders"]);
    let key = made["items"][0]["key"]["key"].as_str().expect("a key").to_owned();
    home.keep_secret(&key);

    // Somebody calls; whatever is not as it should be is refused.
    let good = token(&issuer, "shop", 600);
    home.keep_secret(&good);
    comes(&server, "the keys of the issuer", &key, &good, "").await;
    let reply = call(&server, &key, &good).await.expect(200, "");
    assert_eq!(reply.json(), json!({ "me": "shop", "team": "blue" }));
    call(&server, &key, &token(&issuer, "other", 600)).await.expect(401, "jwt-invalid");
    call(&server, &key, &token(&issuer, "shop", -60)).await.expect(401, "jwt-invalid");
    let forever = token(&issuer, "shop", 400 * 86_400);
    call(&server, &key, &forever).await.expect(401, "jwt-invalid");
    let claims: Vec<&str> = good.split('.').collect();
    let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{}.", claims[1]);
    call(&server, &key, &none).await.expect(401, "jwt-invalid");
    assert_eq!(keys_of(&server)["state"], "usable");
    let listed = server.cli(&["issuer", "list", "--env", "test"]).expect_code(0).stdout;
    assert!(listed.contains("corp") && listed.contains("usable"), "{listed}");

    // The issuer rotates: an unknown key has the new ones fetched.
    issuer.rotate();
    let rotated = token(&issuer, "shop", 600);
    comes(&server, "the new key", &key, &rotated, "").await;
    call(&server, &key, &good).await.expect(401, "jwt-invalid");
    assert_eq!(keys_of(&server)["keys"][0]["kid"], "k2");
    // Nobody asks, and they are fetched again all the same.
    let asked = issuer.asked();
    wait_until("a fetch in the background", PATIENCE, async || issuer.asked() > asked).await;

    // A token is revoked by its id, whatever its issuer takes for ids.
    let now = Timestamp::now().as_second();
    let of = |jti: &str| {
        issuer.token(
            &json!({ "aud": "orders", "sub": "u1", "azp": "shop", "jti": jti, "iat": now, "exp": now + 600,
            "scope": "read", "team": "blue" }),
        )
    };
    for jti in ["urn:uuid:0b6f41b1-3b6d-4f0e-9d7a-000000000001", "AT.1/a+b=", &"x".repeat(256)] {
        let stolen = of(jti);
        call(&server, &key, &stolen).await.expect(200, "");
        server.cli(&["jwt", "revoke", "--env", "test", "--jti", jti]).expect_code(0);
        call(&server, &key, &stolen).await.expect(401, "jwt-invalid");
    }
    server
        .cli(&["jwt", "revoke", "--env", "test", "--jti", "a b"])
        .expect_code(1)
        .expect_words("256 visible");
    call(&server, &key, &rotated).await.expect(200, "");

    // However it fails, what was fetched goes on to count.
    for mood in [IssuerMood::Broken, IssuerMood::Huge, IssuerMood::Redirecting, IssuerMood::Confused] {
        issuer.mood(mood);
        let asked = issuer.asked();
        server.cli(&["issuer", "refresh", "corp", "--env", "test"]).expect_code(0);
        wait_until("an attempt", PATIENCE, async || {
            issuer.asked() > asked && !keys_of(&server)["error"].is_null()
        })
        .await;
        call(&server, &key, &rotated).await.expect(200, "");
    }
    issuer.rotate();
    let unknown = token(&issuer, "shop", 600);
    comes(&server, "nobody to know", &key, &unknown, "check-unavailable").await;
    let asked = issuer.asked();
    for _ in 0..50 {
        call(&server, &key, &unknown).await.expect(503, "check-unavailable");
    }
    assert!(
        issuer.asked() <= asked + 5,
        "a storm of unknown keys became {} questions",
        issuer.asked() - asked
    );
    issuer.mood(IssuerMood::Well);
    server.cli(&["issuer", "refresh", "corp", "--env", "test"]).expect_code(0);
    comes(&server, "the third key", &key, &unknown, "").await;

    // A start without the issuer begins with the keys on disk.
    assert_eq!(server.stop(), Some(0));
    issuer.mood(IssuerMood::Silent);
    let server = Server::start(&home, &[]);
    server.call("test", "/readyz", &[], None).await.expect(200, "");
    call(&server, &key, &unknown).await.expect(200, "");
    let gone = call(&server, &key, &rotated).await;
    assert!(["jwt-invalid", "check-unavailable"].contains(&gone.code()), "by the age of the keys: {gone:?}");

    // Its definition is a file as well, and each change stands in the journal.
    let file = json!({ "kind": "Issuer", "name": "corp", "environments": { "test": { "issuer": url, "audience": "billing",
        "algorithms": ["ES256"], "consumer": { "claim": "azp" }, "internalAddresses": true, "maxStaleSeconds": 86_400 } } });
    let file = home.file("issuer.json", &file.to_string());
    for (command, words) in
        [("diff", "+    audience: billing"), ("apply", "corp: updated"), ("apply", "corp: unchanged")]
    {
        let said = server.cli(&[command, "-f", &file]).expect_code(0).stdout;
        assert!(said.contains(words), "{said}");
    }
    comes(&server, "the new audience", &key, &unknown, "jwt-invalid").await;
    let journal = server.cli(&["audit", "list", "--output", "json"]).expect_code(0).stdout;
    for action in ["issuer.create", "issuer.refresh", "issuer.set"] {
        assert!(journal.contains(action), "{action}");
    }
    server.cli(&["undeploy", "orders", "--env", "test"]).expect_code(0);
    server.cli(&["issuer", "delete", "corp", "--env", "test"]).expect_code(0);
    server.cli(&["issuer", "get", "corp", "--env", "test"]).expect_code(4);
    home.assert_secrets_stayed_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_every_algorithm_that_is_listed_are_taken() {
    let issuer = FakeIssuer::start().await.expect("an issuer");
    issuer.rotate_to_every_algorithm();
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let file = home.file("orders.yaml", PIPELINE);
    server.cli(&["apply", "-f", &file]).expect_code(0);
    let url = issuer.url();
    let create = |algorithms: &[&str]| {
        let words = "issuer create corp --env test --audience orders --consumer-claim azp --internal-addresses --issuer";
        let mut words: Vec<_> = words.split(' ').chain([url.as_str()]).collect();
        algorithms.iter().for_each(|algorithm| words.extend(["--algorithm", algorithm]));
        server.cli(&words)
    };
    for wrong in ["HS256", "HS512", "none", "ES521", "es512"] {
        create(&["ES256", wrong]).expect_code(2).expect_words("is not an algorithm for tokens of issuers");
    }
    let algorithms = issuer.algorithms();
    assert_eq!(algorithms.len(), 10);
    create(&algorithms).expect_code(0);
    server.cli(&["deploy", "orders", "--env", "test"]).expect_code(0);
    let made = server.json(&["consumer", "create", "shop", "--env", "test", "--pipeline", "orders"]);
    let key = made["items"][0]["key"]["key"].as_str().expect("a key").to_owned();
    let token = |algorithm: &&'static str| (*algorithm, issuer.token_with(algorithm, &claims("shop", 600)));
    let tokens: Vec<_> = algorithms.iter().map(token).collect();
    comes(&server, "the keys of the issuer", &key, &tokens[0].1, "").await;
    for (algorithm, token) in &tokens {
        let reply = call(&server, &key, token).await;
        assert_eq!((reply.status, reply.code()), (200, ""), "{algorithm}");
    }
    let told = keys_of(&server)["keys"].take();
    let told = told.as_array().expect("keys").iter().filter_map(|key| key["algorithm"].as_str());
    assert_eq!(told.collect::<Vec<_>>(), algorithms);

    // What is taken off the list counts no more, also for tokens that were taken before.
    let narrow = json!({ "kind": "Issuer", "name": "corp", "environments": { "test": { "issuer": url, "audience": "orders",
        "algorithms": ["PS384", "ES512"], "consumer": { "claim": "azp" }, "internalAddresses": true } } });
    let narrow = home.file("issuer.json", &narrow.to_string());
    server.cli(&["apply", "-f", &narrow]).expect_code(0);
    for (algorithm, token) in &tokens {
        let listed = ["PS384", "ES512"].contains(algorithm);
        let (status, code) = if listed { (200, "") } else { (401, "jwt-invalid") };
        comes(&server, "the shorter list", &key, token, code).await;
        call(&server, &key, token).await.expect(status, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_an_issuer_that_no_trusted_ca_vouches_for_are_answered_503() {
    let (ca, other) = (Authority::new("Ours"), Authority::new("Theirs"));
    let acceptor = Acceptor::tls(&ca.issue_for_server(&["dns:localhost"]));
    let issuer = FakeIssuer::start_behind(acceptor).await.expect("an issuer");
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let file = home.file("orders.yaml", PIPELINE);
    let (ours, theirs) = (home.file("ours.pem", &ca.pem()), home.file("theirs.pem", &other.pem()));
    let key_file = home.file("key.pem", &ca.issue_for_server(&["dns:localhost"]).key);
    server.cli(&["apply", "-f", &file]).expect_code(0);
    let url = issuer.url();
    let set = |ca: &str| {
        let words = format!(
            "issuer create corp --env test --issuer {url} --audience orders --algorithm ES256 --consumer-claim azp \
             --internal-addresses --ca {ca}"
        );
        server.cli(&words.split_whitespace().collect::<Vec<_>>())
    };
    set(&key_file).expect_code(2).expect_words("private key");
    set(&theirs).expect_code(0);
    server.cli(&["deploy", "orders", "--env", "test"]).expect_code(0);
    let made = server.json(&["consumer", "create", "shop", "--env", "test", "--pipeline", "orders"]);
    let key = made["items"][0]["key"]["key"].as_str().expect("a key").to_owned();
    let good = token(&issuer, "shop", 600);
    wait_until("an attempt", PATIENCE, async || !keys_of(&server)["error"].is_null()).await;
    assert_eq!(keys_of(&server)["state"], "unavailable");
    call(&server, &key, &good).await.expect(503, "check-unavailable");
    assert_eq!(issuer.asked(), 0, "keys were asked of somebody for whom nobody vouches");

    server.cli(&["undeploy", "orders", "--env", "test"]).expect_code(0);
    server.cli(&["issuer", "delete", "corp", "--env", "test"]).expect_code(0);
    set(&ours).expect_code(0);
    server.cli(&["deploy", "orders", "--env", "test"]).expect_code(0);
    comes(&server, "the keys over TLS", &key, &good, "").await;
    assert_eq!(keys_of(&server)["state"], "usable");
}
