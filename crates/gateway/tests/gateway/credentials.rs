//! Keys, passwords and tokens: what works, and what is refused like anything else that does not.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::SignedDuration;
use tollgate_credential::seal::MasterKey;
use tollgate_model::calls::CountedCaller;
use tollgate_model::consumers::{ApiKey, BasicAuth, Consumer};
use tollgate_model::environments::Exposure;
use tollgate_model::names::EnvironmentName;

use crate::world::{World, get};

const KEYED: &str = "{kind: Pipeline, name: keyed, project: store, steps: [{json: {ok: true}}], \
                     trigger: {type: rest, externalApi: true, apiKey: true}}";
const QUERIED: &str = "{kind: Pipeline, name: queried, project: store, \
                       steps: [{json: {seen: '{{ message.queryAndPath }}'}}], \
                       trigger: {type: rest, externalApi: true, apiKey: {query: true}}}";
const BASIC: &str = "{kind: Pipeline, name: basic, project: store, steps: [{json: {ok: true}}], \
                     trigger: {type: rest, externalApi: true, basicAuth: true}}";
const BASIC_KEYED: &str = "{kind: Pipeline, name: both, project: store, steps: [{json: {ok: true}}], \
                           trigger: {type: rest, externalApi: true, basicAuth: true, apiKey: true}}";
const TOKEN: &str = "{kind: Pipeline, name: token, project: store, steps: [{json: {me: '{{ consumer.name }}', scope: '{{ claims.scope }}'}}], \
                     trigger: {type: rest, externalApi: true, jwt: true, \
                     routes: [{path: /token-admin, scopes: [admin]}]}}";
const ALL: [&str; 5] = ["keyed", "queried", "basic", "both", "token"];

fn world() -> World {
    let mut world = World::new();
    for file in [KEYED, QUERIED, BASIC, BASIC_KEYED, TOKEN] {
        world.deploy(file);
    }
    world
}

fn path(name: &str) -> String {
    format!("/pipeline/default/v1/{name}")
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

async fn code_of(
    world: &World,
    environment: &EnvironmentName,
    name: &str,
    headers: &[(&str, &str)],
) -> String {
    world.call(environment, get(&path(name), headers)).await.code().to_owned()
}

#[tokio::test]
async fn every_key_that_does_not_work_gets_the_same_answer() {
    let (test, prod) = (EnvironmentName::test(), EnvironmentName::prod());
    let mut world = world();
    let alice = world.consumer(&test, "alice", &ALL);
    let in_prod = world.consumer(&prod, "alice", &ALL);
    let gone = world.consumer(&test, "gone", &ALL);
    let (_, good) = world.key(&test, alice);
    let (revoked_id, revoked) = world.key(&test, alice);
    let (expired_id, expired) = world.key(&test, alice);
    let (_, other_environment) = world.key(&prod, in_prod);
    let (_, orphan) = world.key(&test, gone);
    let now = world.now();
    // As seen by a gateway whose clock is behind.
    world.change::<ApiKey>(
        |it| it.id == revoked_id,
        |it| it.revoked_at = Some(now + SignedDuration::from_secs(5)),
    );
    world.change::<ApiKey>(|it| it.id == expired_id, |it| it.expires_at = Some(now));
    world.delete::<Consumer>(|it| it.id == gone);
    world.publish();

    assert_eq!(code_of(&world, &test, "keyed", &[("apikey", &good)]).await, "");
    let mut mistyped = good.clone();
    mistyped.replace_range(10..11, if &good[10..11] == "a" { "b" } else { "a" });
    let mut answers = Vec::new();
    for key in [
        &revoked,
        &expired,
        &other_environment,
        &orphan,
        &mistyped,
        "junk",
        "an-imported-key-that-nobody-has",
    ] {
        let reply = world.call(&test, get(&path("keyed"), &[("apikey", key)])).await;
        assert_eq!(reply.code(), "api-key-invalid", "{key}");
        let mut body = reply.json();
        body["requestId"].take();
        answers.push((reply.status, reply.header("www-authenticate").to_owned(), body));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(code_of(&world, &test, "keyed", &[("apikey", "")]).await, "api-key-missing");
}

#[tokio::test]
async fn a_key_works_until_its_last_moment_and_its_use_is_noted() {
    let test = EnvironmentName::test();
    let mut world = world();
    let alice = world.consumer(&test, "alice", &ALL);
    let (id, key) = world.key(&test, alice);
    let end = world.now() + SignedDuration::from_secs(10);
    world.change::<ApiKey>(|it| it.id == id, |it| it.expires_at = Some(end));
    world.publish();
    world.clock.advance(Duration::from_secs(9));
    assert_eq!(code_of(&world, &test, "keyed", &[("apikey", &key)]).await, "");
    assert_eq!(world.usage.drain(), [(id.into(), world.now())]);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(code_of(&world, &test, "keyed", &[("apikey", &key)]).await, "api-key-invalid");
    assert_eq!(world.usage.drain(), [], "a refused key was not used");
}

#[tokio::test]
async fn a_key_in_the_url_works_only_where_the_trigger_says_so() {
    let test = EnvironmentName::test();
    let mut world = world();
    let alice = world.consumer(&test, "alice", &ALL);
    let (_, key) = world.key(&test, alice);
    world.publish();
    let call = async |name: &str, query: &str, headers: &[(&str, &str)]| {
        world.call(&test, get(&format!("{}?{query}", path(name)), headers)).await
    };
    assert_eq!(call("keyed", &format!("apikey={key}"), &[]).await.code(), "api-key-missing");
    let reply = call("queried", &format!("a=1&apikey={key}"), &[]).await;
    assert_eq!(reply.json()["seen"], serde_json::json!({ "a": "1" }), "the flow sees no key");
    assert_eq!(call("queried", "apikey=", &[]).await.code(), "api-key-missing");
    assert_eq!(call("queried", "apikey=junk", &[]).await.code(), "api-key-invalid");
    let twice = format!("apikey={key}&apikey={key}");
    assert_eq!(call("queried", &twice, &[]).await.code(), "request-malformed");
    let both = format!("%61pikey={key}");
    assert_eq!(call("queried", &both, &[("apikey", &key)]).await.code(), "request-malformed");
}

#[tokio::test]
async fn basic_credentials_must_be_right_and_of_an_associated_consumer() {
    let test = EnvironmentName::test();
    let mut world = world();
    let alice = world.consumer(&test, "alice", &ALL);
    let bob = world.consumer(&test, "bob", &["both"]);
    let alices = world.basic(&test, alice, "alice", "right");
    let bobs = world.basic(&test, bob, "bob", "secret");
    world.basic(&test, alice, "old", "right");
    let (alices_id, alices_key) = world.key(&test, alice);
    let now = world.now();
    world.change::<BasicAuth>(|it| it.username == "old", |it| it.revoked_at = Some(now));
    world.publish();
    for (authorization, code) in [
        (basic("alice", "right"), ""),
        (basic("alice", "right"), ""),
        (basic("alice", "wrong"), "basic-auth-invalid"),
        (basic("nobody", "right"), "basic-auth-invalid"),
        (basic("old", "right"), "basic-auth-invalid"),
        (basic("Alice", "right"), "basic-auth-invalid"),
        ("Basic !!!".to_owned(), "basic-auth-invalid"),
        ("Bearer x".to_owned(), "basic-auth-invalid"),
        (basic("bob", "secret"), "consumer-not-allowed"),
    ] {
        assert_eq!(
            code_of(&world, &test, "basic", &[("authorization", &authorization)]).await,
            code,
            "{authorization}"
        );
    }
    let mut used = world.usage.drain();
    used.sort();
    let mut expected = [(alices.into(), world.now()), (bobs.into(), world.now())];
    expected.sort();
    assert_eq!(used, expected, "a user name without its password was not used");
    let calls: Vec<_> = world.usage.drain_calls().calls.into_keys().map(|of| of.caller).collect();
    assert_eq!(calls, [CountedCaller::Consumer("alice".parse().expect("a name"), Some(alices.into()))]);
    let missing = world.call(&test, get(&path("basic"), &[])).await;
    assert_eq!(missing.code(), "basic-auth-invalid");
    assert!(missing.header("www-authenticate").starts_with("Basic realm="));
    for (user, password, code) in [("alice", "right", ""), ("bob", "secret", "basic-auth-invalid")] {
        let authorization = basic(user, password);
        let headers = [("apikey", alices_key.as_str()), ("authorization", authorization.as_str())];
        assert_eq!(code_of(&world, &test, "both", &headers).await, code, "{user} with the key of alice");
    }
    let calls: Vec<_> = world.usage.drain_calls().calls.into_keys().map(|of| of.caller).collect();
    let by_key = CountedCaller::Consumer("alice".parse().expect("a name"), Some(alices_id.into()));
    assert_eq!(calls, [by_key], "the key told first who called");
    // A remembered success does not outlive its credential.
    world.change::<BasicAuth>(|it| it.username == "alice", |it| it.revoked_at = Some(now));
    world.publish();
    let authorization = basic("alice", "right");
    assert_eq!(
        code_of(&world, &test, "basic", &[("authorization", &authorization)]).await,
        "basic-auth-invalid"
    );
}

#[tokio::test]
async fn a_token_alone_names_its_consumer() {
    let test = EnvironmentName::test();
    let mut world = world();
    let alice = world.consumer(&test, "alice", &ALL);
    let bob = world.consumer(&test, "bob", &[]);
    world.publish();
    let bearer = |consumer, scopes: &[&str]| format!("Bearer {}", world.token(&test, consumer, scopes));
    let alices = bearer(alice, &["read", "admin"]);
    let reply = world.call(&test, get(&path("token"), &[("authorization", &alices)])).await;
    assert_eq!(reply.json(), serde_json::json!({ "me": "alice", "scope": "read admin" }));
    let lower = alices.replacen("Bearer", "bearer", 1);
    assert_eq!(code_of(&world, &test, "token-admin", &[("authorization", &lower)]).await, "");
    let similar = bearer(alice, &["administrator", "read"]);
    assert_eq!(code_of(&world, &test, "token-admin", &[("authorization", &similar)]).await, "scope-missing");
    assert_eq!(
        code_of(&world, &test, "token", &[("authorization", &bearer(bob, &[]))]).await,
        "consumer-not-allowed"
    );
    for missing in ["Bearer", "Bearer ", "Basic YTpi", "x"] {
        assert_eq!(
            code_of(&world, &test, "token", &[("authorization", missing)]).await,
            "jwt-missing",
            "{missing}"
        );
    }
}

#[tokio::test]
async fn a_token_that_does_not_work_is_refused() {
    let (test, prod) = (EnvironmentName::test(), EnvironmentName::prod());
    let mut world = world();
    let alice = world.consumer(&test, "alice", &ALL);
    let gone = world.consumer(&test, "gone", &ALL);
    world.consumer(&prod, "alice", &ALL);
    let good = world.token(&test, alice, &["read"]);
    let deleted = world.token(&test, gone, &["read"]);
    let revoked = world.token(&test, alice, &["read"]);
    let claims = tollgate_credential::tokens::decode_unverified(&revoked).expect("a token").claims;
    world.revoke_token(&test, claims["jti"].as_str().expect("a jti"));
    world.delete::<Consumer>(|it| it.id == gone);
    world.publish();

    let (header, rest) = good.split_once('.').expect("three parts");
    let (payload, signature) = rest.split_once('.').expect("three parts");
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"at+jwt"}"#);
    let admin = String::from_utf8(URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("text");
    let admin = URL_SAFE_NO_PAD.encode(admin.replace("read", "admin"));
    for (token, what) in [
        (deleted, "of a deleted consumer"),
        (revoked, "revoked"),
        (world.token(&prod, alice, &["read"]), "of another environment"),
        (format!("{header}.{payload}.{flipped}{}", &signature[1..]), "with a changed signature"),
        (format!("{header}.{admin}.{signature}"), "with more scopes than were signed"),
        (format!("{none}.{payload}."), "without a signature"),
        (format!("{none}.{payload}.{signature}"), "of algorithm none"),
        (format!("{good}="), "padded"),
        (format!("{good} {good}"), "twice"),
        ("x".repeat(20_000), "oversized"),
    ] {
        let authorization = format!("Bearer {token}");
        let reply = world.call(&test, get(&path("token"), &[("authorization", &authorization)])).await;
        assert_eq!(reply.code(), "jwt-invalid", "a token {what}");
        assert!(!reply.text.contains(what), "the answer says why");
    }
    let authorization = format!("Bearer {good}");
    assert_eq!(code_of(&world, &test, "token", &[("authorization", &authorization)]).await, "");
    world.clock.advance(Duration::from_secs(700));
    assert_eq!(
        code_of(&world, &test, "token", &[("authorization", &authorization)]).await,
        "jwt-invalid",
        "expired"
    );
}

#[tokio::test]
async fn revoking_a_consumers_tokens_ends_those_issued_before() {
    let test = EnvironmentName::test();
    let mut world = world();
    let alice = world.consumer(&test, "alice", &ALL);
    let before = format!("Bearer {}", world.token(&test, alice, &[]));
    world.clock.advance(Duration::from_secs(5));
    let now = world.now();
    world.change::<Consumer>(|it| it.id == alice, |it| it.tokens_revoked_before = Some(now));
    world.publish();
    world.clock.advance(Duration::from_secs(1));
    let after = format!("Bearer {}", world.token(&test, alice, &[]));
    assert_eq!(code_of(&world, &test, "token", &[("authorization", &before)]).await, "jwt-invalid");
    assert_eq!(code_of(&world, &test, "token", &[("authorization", &after)]).await, "");
}

#[tokio::test]
async fn a_check_that_cannot_be_made_is_neither_passed_nor_failed() {
    let test = EnvironmentName::test();
    let mut world = world();
    let alice = world.consumer(&test, "alice", &ALL);
    let (_, key) = world.key(&test, alice);
    let token = format!("Bearer {}", world.token(&test, alice, &[]));
    assert_eq!(
        code_of(&world, &test, "keyed", &[("apikey", &key)]).await,
        "check-unavailable",
        "no snapshot yet"
    );
    // Under another master key the signing keys do not open; API keys need none.
    let other = MasterKey::generate(&world.random).expect("random");
    world.publish_under(Arc::new(other));
    let good = [("authorization", token.as_str())];
    assert_eq!(code_of(&world, &test, "token", &good).await, "check-unavailable");
    assert_eq!(
        code_of(&world, &test, "token", &[("authorization", "Bearer junk")]).await,
        "check-unavailable"
    );
    assert_eq!(code_of(&world, &test, "token", &[]).await, "jwt-missing", "this much is known");
    assert_eq!(code_of(&world, &test, "keyed", &[("apikey", &key)]).await, "");
}

#[tokio::test]
async fn a_pipeline_answers_only_where_it_is_exposed() {
    let (test, staging) = (EnvironmentName::test(), crate::world::environment("staging"));
    let mut world = world();
    let alice = world.consumer(&test, "alice", &ALL);
    let (_, key) = world.key(&test, alice);
    world.publish();
    let request = || get(&path("keyed"), &[("apikey", &key)]);
    assert_eq!(world.call(&test, request()).await.code(), "");
    assert_eq!(world.call_on(&test, Exposure::Internal, request()).await.code(), "route-not-found");
    assert_eq!(world.call(&staging, request()).await.code(), "route-not-found");
}

#[tokio::test]
async fn a_rate_limit_counts_consumers_or_credentials_or_addresses() {
    let test = EnvironmentName::test();
    let mut world = World::new();
    let limited = |name: &str, by: &str, keyed: bool| {
        format!(
            "{{kind: Pipeline, name: {name}, project: store, steps: [{{json: {{ok: true}}}}], trigger: {{type: rest, \
             externalApi: true, apiKey: {keyed}, rateLimit: {{by: {by}, limits: [{{interval: day, limit: 1}}]}}}}}}"
        )
    };
    world.deploy(&limited("by-consumer", "consumer", true));
    world.deploy(&limited("by-credential", "credential", true));
    world.deploy(&limited("by-address", "consumer", false));
    let names = ["by-consumer", "by-credential"];
    let alice = world.consumer(&test, "alice", &names);
    let bob = world.consumer(&test, "bob", &names);
    let [first, second, bobs] = [alice, alice, bob].map(|consumer| world.key(&test, consumer).1);
    world.publish();
    for (name, key, code) in [
        ("by-consumer", &first, ""),
        ("by-consumer", &second, "rate-limited"),
        ("by-consumer", &bobs, ""),
        ("by-credential", &first, ""),
        ("by-credential", &first, "rate-limited"),
        ("by-credential", &second, ""),
        ("by-address", &first, ""),
        ("by-address", &bobs, "rate-limited"),
    ] {
        assert_eq!(code_of(&world, &test, name, &[("apikey", key)]).await, code, "{name}");
    }
}
