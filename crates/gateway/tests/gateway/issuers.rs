//! Tokens of issuers outside: taken where a trigger says so, by keys that are there and not too old.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tollgate_credential::issuers::IssuerKeys;
use tollgate_credential::keysets::{KeySet, KeySetKey, TokenRequest};
use tollgate_credential::private_keys::PrivateKey;
use tollgate_model::consumers::Consumer;
use tollgate_model::issuers::{Issuer, IssuerAlgorithm};
use tollgate_model::keysets::{Algorithm, SigningKey, SigningKeyState};
use tollgate_model::names::EnvironmentName;
use tollgate_model::triggers::Scope;
use tollgate_snapshot::FetchedKeys;
use tollgate_testkit::IssuerKeyPair;

use crate::world::{Reply, World, get};

const URL: &str = "https://login.example";

/// A system outside that issues tokens.
struct Outside(KeySet);

/// A world in whose environment `test` the issuer `corp` is set; `alice` may call everything.
struct Setting {
    world: World,
    corp: Outside,
}

fn pipeline(name: &str, trigger: &str) -> String {
    format!(
        "{{kind: Pipeline, name: {name}, project: store, trigger: {{type: rest, externalApi: true, {trigger}}}, \
         steps: [{{json: {{me: '{{{{ consumer.name }}}}', sub: '{{{{ claims.sub }}}}'}}}}]}}"
    )
}

// === impl Outside ===

impl Outside {
    fn new(world: &World, url: &str, kid: &str) -> Self {
        let key = PrivateKey::generate(Algorithm::Es256, &world.random).expect("a key");
        let keys = vec![KeySetKey::new(kid.to_owned(), key, SigningKeyState::Active)];
        Self(KeySet::new(url.to_owned(), "orders".to_owned(), keys))
    }

    /// Issues a token that says it is `client`'s.
    fn token(&self, world: &World, client: &str, minutes: u64) -> String {
        let scopes = [Scope::parse("read").expect("a scope")];
        let claims = Map::from_iter([("team".to_owned(), Value::from("blue"))]);
        let request =
            TokenRequest { subject: client, scopes: &scopes, expires_in_ms: minutes * 60_000, claims };
        self.0.sign(request, world.now(), &world.random).expect("a token")
    }
}

// === impl Setting ===

impl Setting {
    fn new() -> Self {
        let mut world = World::new();
        for (name, trigger) in [
            ("own", "jwt: true"),
            ("corp", "jwt: {issuers: [corp]}"),
            ("both", "jwt: {issuers: [tollgate, corp]}"),
            ("keyed", "apiKey: true, jwt: {issuers: [corp]}"),
            ("scoped", "jwt: {issuers: [corp], scopes: [admin]}"),
            ("lost", "jwt: {issuers: [gone]}"),
        ] {
            world.deploy(&pipeline(name, trigger));
        }
        world.consumer(
            &EnvironmentName::test(),
            "alice",
            &["own", "corp", "both", "keyed", "scoped", "lost"],
        );
        let corp = Outside::new(&world, URL, "k1");
        let mut setting = Self { world, corp };
        setting.set(&json!({}));
        setting.fetch();
        setting
    }

    /// Sets the issuer, with some settings changed, and has its keys be fetched now.
    fn set(&mut self, change: &Value) {
        let now = self.world.now();
        let mut settings = json!({ "issuer": URL, "audience": "orders", "algorithms": ["ES256"],
            "consumer": { "claim": "client_id" }, "maxStaleSeconds": 3600 });
        settings.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        let issuer: Issuer = serde_json::from_value(json!({ "name": "corp", "environment": "test",
            "settings": settings, "createdAt": now, "updatedAt": now }))
        .expect("an issuer");
        self.world.put(&issuer);
    }

    /// Publishes the snapshot and puts what the issuer publishes now in the place of its keys.
    fn fetch(&self) {
        self.fetched(&self.corp.0.jwks(self.world.now()));
    }

    /// Publishes the snapshot and puts a JWK Set in the place of the issuer's keys.
    fn fetched(&self, jwks: &Value) {
        let snapshot = self.world.publish();
        let ring = self.world.gateway.issuer_keys();
        ring.keep(&snapshot.issuers().map(|entry| entry.source).collect());
        let (now, jwks) = (self.world.now(), jwks.to_string().into_bytes());
        for entry in snapshot.issuers() {
            let keys = IssuerKeys::parse(&jwks).expect("keys");
            let slot = ring.slot(&entry.source).expect("a place");
            slot.put(FetchedKeys { keys, jwks: jwks.clone(), fetched_at: now });
        }
    }

    /// Tells whether a call asked for newer keys.
    fn is_wanted(&self) -> bool {
        let snapshot = self.world.publish();
        let entry = snapshot.issuers().next().expect("an issuer");
        self.world.gateway.issuer_keys().slot(&entry.source).expect("a place").take_wanted()
    }

    async fn call(&self, pipeline: &str, token: &str) -> Reply {
        let authorization = format!("Bearer {token}");
        let request = get(&format!("/pipeline/default/v1/{pipeline}"), &[("authorization", &authorization)]);
        self.world.call(&EnvironmentName::test(), request).await
    }

    async fn code(&self, pipeline: &str, token: &str) -> String {
        self.call(pipeline, token).await.code().to_owned()
    }
}

#[tokio::test]
async fn a_token_is_taken_where_the_trigger_lists_its_issuer_and_nowhere_else() {
    let setting = Setting::new();
    let token = setting.corp.token(&setting.world, "alice", 10);
    let reply = setting.call("corp", &token).await;
    assert_eq!(reply.json(), json!({ "me": "alice", "sub": "alice" }));
    assert_eq!(setting.code("corp", &token).await, "", "as good the second time");
    assert_eq!(setting.code("both", &token).await, "");
    assert_eq!(setting.code("own", &token).await, "jwt-invalid", "`jwt: true` is for login flows");
    assert_eq!(setting.code("scoped", &token).await, "scope-missing");
    let alice = setting.world.publish();
    let test = EnvironmentName::test();
    let scope = alice.scope(&Default::default(), &test).expect("a scope");
    let own = setting.world.token(&test, scope.consumer_named("alice").expect("alice").id, &[]);
    assert_eq!(setting.code("own", &own).await, "");
    assert_eq!(setting.code("both", &own).await, "");
    assert_eq!(setting.code("corp", &own).await, "jwt-invalid", "login flows are not listed");
}

#[tokio::test]
async fn a_token_of_each_algorithm_is_taken_where_that_is_listed_and_nowhere_else() {
    let mut setting = Setting::new();
    let now = setting.world.now().as_second();
    let claims = json!({ "iss": URL, "aud": "orders", "sub": "alice", "client_id": "alice", "jti": "j1",
        "iat": now, "exp": now + 600, "scope": "read" });
    let keys = IssuerKeyPair::of_every_algorithm();
    let tokens: Vec<_> =
        keys.iter().map(|key| (key.algorithm(), key.token(key.algorithm().as_str(), &claims))).collect();
    let said: Vec<_> = keys.iter().map(|key| key.public_jwk(key.algorithm().as_str())).collect();
    let unsaid = said.iter().cloned().map(|mut jwk| {
        jwk.as_object_mut().expect("an object").remove("alg");
        jwk
    });
    for jwks in [json!({ "keys": said }), json!({ "keys": unsaid.collect::<Vec<_>>() })] {
        for listed in IssuerAlgorithm::ALL {
            setting.set(&json!({ "algorithms": [listed] }));
            setting.fetched(&jwks);
            for (algorithm, token) in &tokens {
                let code = if *algorithm == listed { "" } else { "jwt-invalid" };
                assert_eq!(setting.code("corp", token).await, code, "{algorithm} where {listed} is listed");
                assert_eq!(setting.code("corp", token).await, code, "the second time");
            }
        }
    }
    // One key of RSA under the name of one algorithm, used with another that is listed, too.
    setting.set(&json!({ "algorithms": IssuerAlgorithm::ALL }));
    setting.fetched(&json!({ "keys": said }));
    for (key, other) in [("RS256", "PS256"), ("PS512", "RS512"), ("RS384", "RS512"), ("PS384", "PS256")] {
        let other = keys.iter().find(|it| it.algorithm().as_str() == other).expect("a key");
        assert_eq!(setting.code("corp", &other.token(key, &claims)).await, "jwt-invalid", "{key}");
    }
}

#[tokio::test]
async fn an_issuer_is_known_in_its_environment_only_and_one_that_is_not_set_cannot_be_checked() {
    let setting = Setting::new();
    let token = setting.corp.token(&setting.world, "alice", 10);
    assert_eq!(setting.code("lost", &token).await, "check-unavailable");
    let authorization = format!("Bearer {token}");
    let request = get("/pipeline/default/v1/corp", &[("authorization", &authorization)]);
    assert_eq!(setting.world.call(&EnvironmentName::prod(), request).await.code(), "check-unavailable");
    // The key of one issuer under the name of another.
    let other = Outside::new(&setting.world, "https://evil.example", "k1");
    let forged = other.token(&setting.world, "alice", 10);
    assert_eq!(setting.code("corp", &forged).await, "jwt-invalid");
    let forged = Outside::new(&setting.world, URL, "k1").token(&setting.world, "alice", 10);
    assert_eq!(setting.code("corp", &forged).await, "jwt-invalid", "its URL and key id, another key");
    for junk in ["x", "a.b.c", &"x".repeat(20_000)] {
        assert_eq!(setting.code("corp", junk).await, "jwt-invalid");
    }
}

#[tokio::test]
async fn an_issuer_that_does_not_parse_is_not_taken_for_one_that_is_not_there() {
    let mut setting = Setting::new();
    let token = setting.corp.token(&setting.world, "alice", 10);
    setting.world.spoil::<Issuer>();
    let snapshot = setting.world.publish();
    assert_eq!(setting.code("corp", &token).await, "check-unavailable");
    assert!(snapshot.problems().iter().any(|it| it.contains("test/corp")), "{:?}", snapshot.problems());
}

#[tokio::test]
async fn token_and_key_must_be_of_one_consumer_also_when_the_token_comes_from_outside() {
    let mut setting = Setting::new();
    let test = EnvironmentName::test();
    let bob = setting.world.consumer(&test, "bob", &["keyed"]);
    let (_, key) = setting.world.key(&test, bob);
    setting.fetch();
    for (client, code) in [("alice", "jwt-consumer-mismatch"), ("bob", "")] {
        let authorization = format!("Bearer {}", setting.corp.token(&setting.world, client, 10));
        let headers = [("apikey", key.as_str()), ("authorization", authorization.as_str())];
        let reply = setting.world.call(&test, get("/pipeline/default/v1/keyed", &headers)).await;
        assert_eq!(reply.code(), code);
    }
}

#[tokio::test]
async fn whose_a_token_is_the_settings_say_and_a_token_of_nobody_is_refused() {
    let mut setting = Setting::new();
    let token = |setting: &Setting, client: &str| setting.corp.token(&setting.world, client, 10);
    for nobody in ["carol", "", "../alice", "con_00000000000000000000000000000001"] {
        let token = token(&setting, nobody);
        assert_eq!(setting.code("corp", &token).await, "jwt-invalid", "{nobody}");
    }
    setting.set(&json!({ "consumer": { "claim": "client_id", "values": { "client-7": "alice" } } }));
    setting.fetch();
    assert_eq!(setting.code("corp", &token(&setting, "client-7")).await, "");
    assert_eq!(setting.code("corp", &token(&setting, "alice")).await, "jwt-invalid");
    setting.set(&json!({ "consumer": { "name": "alice" } }));
    setting.fetch();
    assert_eq!(setting.code("corp", &token(&setting, "anybody")).await, "");
    let now = setting.world.now();
    setting.world.change::<Consumer>(|_| true, |it| it.tokens_revoked_before = Some(now));
    setting.fetch();
    assert_eq!(setting.code("corp", &token(&setting, "anybody")).await, "jwt-invalid", "revoked by consumer");
}

#[tokio::test]
async fn a_token_from_outside_that_was_seen_ends_like_any_other() {
    let mut setting = Setting::new();
    let token = setting.corp.token(&setting.world, "alice", 10);
    assert_eq!(setting.code("corp", &token).await, "");
    setting.world.clock.advance(Duration::from_secs(629));
    assert_eq!(setting.code("corp", &token).await, "");
    setting.world.clock.advance(Duration::from_secs(1));
    assert_eq!(setting.code("corp", &token).await, "jwt-invalid");

    // Another key under the id that a token names, which was seen under the one before.
    let token = setting.corp.token(&setting.world, "alice", 10);
    assert_eq!(setting.code("corp", &token).await, "");
    setting.corp = Outside::new(&setting.world, URL, "k1");
    setting.fetch();
    assert_eq!(setting.code("corp", &token).await, "jwt-invalid");
}

#[tokio::test]
async fn a_start_waits_for_the_keys_of_issuers_where_they_are_known_and_for_none_later() {
    let setting = Setting::new();
    let ready = async |environment: EnvironmentName| {
        let reply = setting.world.call(&environment, get("/readyz", &[])).await;
        (reply.status.as_u16(), reply.code().to_owned())
    };
    let (yes, no) = ((200, String::new()), (503, "check-unavailable".to_owned()));
    let ring = setting.world.gateway.issuer_keys();
    assert_eq!(ready(EnvironmentName::test()).await, yes, "they were fetched");
    setting.world.clock.advance(Duration::from_secs(3601));
    assert_eq!(ready(EnvironmentName::test()).await, no, "they are too old, and nobody was asked");
    setting.fetch();
    assert_eq!(ready(EnvironmentName::test()).await, yes);
    ring.keep(&Default::default());
    assert_eq!(ready(EnvironmentName::test()).await, no);
    assert_eq!(ready(EnvironmentName::prod()).await, yes, "nobody is known there");
    ring.begin();
    assert_eq!(ready(EnvironmentName::test()).await, yes, "one that does not answer holds nothing up");
}

#[tokio::test]
async fn a_token_from_outside_is_revoked_like_any_other() {
    let mut setting = Setting::new();
    let token = setting.corp.token(&setting.world, "alice", 10);
    assert_eq!(setting.code("corp", &token).await, "");
    let claims = tollgate_credential::tokens::decode_unverified(&token).expect("a token").claims;
    setting.world.revoke_token(&EnvironmentName::test(), claims["jti"].as_str().expect("a jti"));
    setting.fetch();
    assert_eq!(setting.code("corp", &token).await, "jwt-invalid");
}

#[tokio::test]
async fn a_token_that_lives_longer_than_the_policies_allow_is_refused() {
    let mut setting = Setting::new();
    let rules = json!({ "maxTokenLifetimeMs": 600_000, "apiKey": true });
    setting.world.policy(json!({ "name": "login-flows", "environments": { "test": rules } }));
    setting.fetch();
    let of = |setting: &Setting, minutes| setting.corp.token(&setting.world, "alice", minutes);
    assert_eq!(setting.code("corp", &of(&setting, 10)).await, "");
    let long = of(&setting, 11);
    assert_eq!(setting.code("corp", &long).await, "jwt-invalid");
    let lax = json!({ "maxTokenLifetimeMs": 660_000, "apiKey": true });
    setting.world.policy(json!({ "name": "login-flows", "environments": { "prod": lax } }));
    setting.fetch();
    assert_eq!(setting.code("corp", &long).await, "jwt-invalid", "what holds in prod does not hold in test");
    setting.world.policy(json!({ "name": "login-flows", "environments": { "test": lax } }));
    setting.fetch();
    assert_eq!(setting.code("corp", &long).await, "");
    setting.world.policy(json!({ "name": "login-flows", "environments": { "test": rules } }));
    setting.fetch();
    assert_eq!(setting.code("corp", &long).await, "jwt-invalid", "though it was seen");
}

#[tokio::test]
async fn without_keys_or_with_keys_that_are_too_old_nobody_knows() {
    let setting = Setting::new();
    let early = setting.corp.token(&setting.world, "alice", 120);
    setting.world.clock.advance(Duration::from_secs(3600));
    assert_eq!(setting.code("corp", &early).await, "", "stale within the bound");
    setting.world.clock.advance(Duration::from_secs(1));
    let reply = setting.call("corp", &early).await;
    assert_eq!((reply.code(), reply.header("retry-after")), ("check-unavailable", "1"));
    assert_eq!(
        setting.code("corp", &setting.corp.token(&setting.world, "alice", 10)).await,
        "check-unavailable"
    );
    setting.fetch();
    assert_eq!(setting.code("corp", &early).await, "");
    setting.world.gateway.issuer_keys().keep(&Default::default());
    assert_eq!(setting.code("corp", &early).await, "check-unavailable");
}

#[tokio::test]
async fn an_unknown_key_has_keys_fetched_once_in_a_while_and_is_then_refused() {
    let mut setting = Setting::new();
    let before = setting.corp.token(&setting.world, "alice", 10);
    setting.corp = Outside::new(&setting.world, URL, "k2");
    let after = setting.corp.token(&setting.world, "alice", 10);
    assert_eq!(setting.code("corp", &after).await, "jwt-invalid", "the keys were fetched just now");
    assert!(!setting.is_wanted());
    setting.world.clock.advance(Duration::from_secs(5));
    for _ in 0..100 {
        assert_eq!(setting.code("corp", &after).await, "check-unavailable", "nobody knows until then");
    }
    assert!(setting.is_wanted() && !setting.is_wanted(), "a storm asks once");
    assert_eq!(setting.code("corp", &before).await, "", "others are not held up");
    setting.fetch();
    assert_eq!(setting.code("corp", &after).await, "");
    assert_eq!(
        setting.code("corp", &before).await,
        "jwt-invalid",
        "its key is gone, though it was seen before"
    );
    assert!(!setting.is_wanted());
}

#[tokio::test]
async fn a_login_flow_that_cannot_be_checked_does_not_stop_tokens_from_outside() {
    let mut setting = Setting::new();
    let token = setting.corp.token(&setting.world, "alice", 10);
    setting.world.spoil::<SigningKey>();
    setting.world.publish();
    assert_eq!(setting.code("both", &token).await, "");
}
