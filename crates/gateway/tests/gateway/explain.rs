//! Explanations: they say what calls are answered, tell why, cost the caller nothing and show no secret.
//!
//! That every explanation agrees with the call is checked by [`World::call_on`], for every call of every test here; the
//! calls below are made up for it.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use serde_json::json;
use tollgate_gateway::ExplainError;
use tollgate_model::consumers::ApiKey;
use tollgate_model::explanations::{CallToExplain, Check, CheckOutcome, Explanation};
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::sources::Random as _;

use crate::world::{World, get, remote, request};

/// Triggers of every kind, each with what its calls are likely to trip over.
const TRIGGERS: [&str; 9] = [
    "apiKey: true",
    "apiKey: {query: true}, methods: [GET, POST], maxRequestBytes: 10",
    "jwt: {scopes: [read]}",
    "apiKey: true, jwt: true, routes: [{path: '/NAME/:id', scopes: [read]}]",
    "apiKey: true, cors: {allowOrigins: ['https://a.example']}",
    "rateLimit: {limits: [{interval: day, limit: 2}]}",
    "apiKey: true, rateLimit: {by: credential, limits: [{interval: day, limit: 3}]}",
    "apiKey: true, basicAuth: true",
    "basicAuth: true",
];

struct Made {
    world: World,
    apikeys: Vec<String>,
    authorizations: Vec<String>,
}

fn name(index: usize) -> String {
    format!("p{index}")
}

fn made(seed: u64) -> Made {
    let test = EnvironmentName::test();
    let mut world = World::seeded(seed);
    let mut names: Vec<String> = Vec::new();
    for (index, trigger) in TRIGGERS.iter().enumerate() {
        let (name, steps) =
            (name(index), if index % 2 == 0 { "{ok: true}" } else { "{at: '{{ message.path }}'}" });
        let trigger = trigger.replace("NAME", &name);
        world.deploy(&format!(
            "{{kind: Pipeline, name: {name}, project: store, trigger: {{type: rest, externalApi: true, {trigger}}}, \
             steps: [{{json: {steps}}}]}}"
        ));
        names.push(name);
    }
    world.deploy(
        "{kind: Pipeline, name: text, project: store, steps: [{json: {ok: true}}], trigger: {type: http, \
         externalApi: true, requestContentTypes: ['text/*']}}",
    );
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let alice = world.consumer(&test, "alice", &all);
    let bob = world.consumer(&test, "bob", &all);
    let carol = world.consumer(&test, "carol", &[]);
    let mut apikeys: Vec<String> = [alice, bob, carol].map(|it| world.key(&test, it).1).into();
    let (revoked, plain) = world.key(&test, alice);
    world.change::<ApiKey>(|key| key.id == revoked, |key| key.revoked_at = Some(key.created_at));
    apikeys.push(plain);
    let (expired, plain) = world.key(&test, alice);
    world.change::<ApiKey>(|key| key.id == expired, |key| key.expires_at = Some(key.created_at));
    apikeys.push(plain);
    let prod = EnvironmentName::prod();
    let in_prod = world.consumer(&prod, "alice", &all);
    apikeys.push(world.key(&prod, in_prod).1);
    apikeys.extend(["tg_test_junk".to_owned(), "short".to_owned(), "looks-like-an-imported-key".to_owned()]);
    let mistyped = format!("{}x", &apikeys[0][..apikeys[0].len() - 1]);
    apikeys.push(mistyped);
    world.basic(&test, alice, "ann", "open-sesame");
    let bearer = |token: String| format!("Bearer {token}");
    let mut authorizations = vec![
        bearer(world.token(&test, alice, &["read"])),
        bearer(world.token(&test, alice, &[])),
        bearer(world.token(&test, bob, &["read"])),
        bearer(world.token(&test, carol, &["read"])),
        bearer(world.token(&prod, in_prod, &["read"])),
        bearer("junk".to_owned()),
        "Bearer".to_owned(),
        format!("Basic {}", STANDARD.encode("ann:open-sesame")),
        "Basic !".to_owned(),
        "Other thing".to_owned(),
    ];
    let revoked = world.token(&test, alice, &["read"]);
    let jti =
        tollgate_credential::tokens::decode_unverified(&revoked).expect("a token").claims["jti"].clone();
    world.revoke_token(&test, jti.as_str().expect("text"));
    authorizations.push(bearer(revoked));
    let mut tampered = authorizations[0].clone();
    tampered.truncate(tampered.len() - 2);
    authorizations.push(format!("{tampered}AA"));
    world.publish();
    Made { world, apikeys, authorizations }
}

#[tokio::test]
async fn what_an_explanation_says_is_what_made_up_calls_are_answered() {
    let (mut refused, mut passed) = (std::collections::BTreeMap::new(), 0);
    for seed in 1..=12 {
        let Made { world, apikeys, authorizations } = made(seed);
        if seed == 12 {
            // Tokens have expired.
            world.clock.advance(std::time::Duration::from_secs(700));
        }
        let pick = |of: usize| {
            let mut byte = [0; 4];
            world.random.fill(&mut byte).expect("random");
            u32::from_le_bytes(byte) as usize % of
        };
        for _ in 0..240 {
            let path = match pick(12) {
                0 => "/pipeline/default/v1/nothing".to_owned(),
                1 => "/healthz".to_owned(),
                2 => "/pipeline/default/v1/p3/%ff".to_owned(),
                3 => "/pipeline/default/v1//p1".to_owned(),
                4 => format!("/pipeline/default/v1/p1?apikey={}", apikeys[pick(apikeys.len())]),
                5 => "/pipeline/default/v1/p3/7".to_owned(),
                6 => "/pipeline/default/v1/text".to_owned(),
                _ => format!("/pipeline/default/v1/{}", name(pick(TRIGGERS.len()))),
            };
            let mut headers: Vec<(&str, &str)> = Vec::new();
            if pick(5) > 0 {
                headers.push(("apikey", &apikeys[if pick(2) > 0 { 0 } else { pick(apikeys.len()) }]));
            }
            if pick(5) > 0 {
                let which = if pick(2) > 0 { 0 } else { pick(authorizations.len()) };
                headers.push(("authorization", &authorizations[which]));
            }
            match pick(12) {
                0 => headers.push(("apikey", "twice")),
                1 => headers
                    .extend([("origin", "https://a.example"), ("access-control-request-method", "GET")]),
                2 => headers.push(("content-length", "11")),
                3 => headers.push(("content-type", "application/pdf")),
                4 => headers.push(("content-length", "x")),
                _ => {}
            }
            let method = ["GET", "GET", "POST", "OPTIONS", "DELETE", "BREW"][pick(6)];
            let body = match headers.iter().find(|(name, _)| *name == "content-length") {
                Some(_) => r#"{"a":12345}"#,
                None if method == "POST" && pick(2) > 0 => r#"{"a":1}"#,
                None => "",
            };
            let reply = world.call(&EnvironmentName::test(), request(method, &path, &headers, body)).await;
            match reply.code() {
                "" => passed += 1,
                code => *refused.entry(code.to_owned()).or_insert(0) += 1,
            }
        }
    }
    assert!(passed > 100, "{passed}");
    let met: Vec<&str> = refused.keys().map(String::as_str).collect();
    let expected = [
        "api-key-invalid",
        "api-key-missing",
        "basic-auth-invalid",
        "consumer-not-allowed",
        "content-type-unsupported",
        "jwt-consumer-mismatch",
        "jwt-invalid",
        "jwt-missing",
        "method-not-allowed",
        "rate-limited",
        "request-malformed",
        "request-too-large",
        "route-not-found",
        "scope-missing",
    ];
    let missed: Vec<_> = expected.iter().filter(|code| !met.contains(code)).collect();
    assert!(missed.is_empty(), "the made up calls never met {missed:?}: {refused:?}");
}

fn decided(explanation: &Explanation) -> (Check, CheckOutcome, &str) {
    let last = explanation
        .checks
        .iter()
        .find(|check| matches!(check.outcome, CheckOutcome::Failed | CheckOutcome::Unavailable));
    let last = last.unwrap_or_else(|| panic!("nothing failed: {explanation:#?}"));
    (last.check, last.outcome, last.why.as_deref().unwrap_or_default())
}

#[tokio::test]
async fn details_that_a_caller_never_gets_are_told() {
    let test = EnvironmentName::test();
    let made = made(1);
    let (world, keys, tokens) = (&made.world, &made.apikeys, &made.authorizations);
    let explain = async |path: &str, headers: &[(&str, &str)]| {
        world.explain(&test, &get(&format!("/pipeline/default/v1/{path}"), headers)).await.expect("explained")
    };
    for (path, key, token, check, words) in [
        ("p0", 3, None, Check::ApiKeyNotRevoked, "of consumer alice was revoked at 2026"),
        ("p0", 4, None, Check::ApiKeyNotExpired, "of consumer alice expired at 2026"),
        ("p0", 5, None, Check::ApiKeyEnvironment, "this is a key of prod, and here is test"),
        ("p0", 6, None, Check::ApiKeyForm, "has not the shape"),
        ("p0", 8, None, Check::ApiKeyKnown, "no consumer of this environment has this key"),
        ("p0", 9, None, Check::ApiKeyChecksum, "mistyped"),
        ("p0", 2, None, Check::ApiKeyAssociation, "consumer carol is not associated"),
        ("p2", 0, Some(1), Check::Scopes, "the route demands read; the token has none"),
        ("p2", 0, Some(3), Check::TokenAssociation, "consumer carol is not associated"),
        ("p2", 0, Some(4), Check::TokenKey, "which is not in the key set"),
        ("p2", 0, Some(5), Check::TokenForm, "malformed"),
        ("p2", 0, Some(10), Check::TokenNotRevoked, "revoked by its jti"),
        ("p2", 0, Some(11), Check::TokenSignature, "signature is wrong"),
        ("p3", 0, Some(2), Check::TokenBinding, "the token was issued to consumer bob"),
        ("p7", 1, Some(7), Check::BasicAuthBinding, "the user name is that of consumer alice"),
    ] {
        let mut headers = vec![("apikey", keys[key].as_str())];
        headers.extend(token.map(|token: usize| ("authorization", tokens[token].as_str())));
        let explanation = explain(path, &headers).await;
        let (failed, outcome, why) = decided(&explanation);
        assert_eq!((failed, outcome), (check, CheckOutcome::Failed), "{path} {why}");
        assert!(why.contains(words), "{check}: {why}");
    }
    let wrong = format!("Basic {}", STANDARD.encode("ann:sesame-open"));
    let explanation = explain("p8", &[("authorization", &wrong)]).await;
    let (check, _, why) = decided(&explanation);
    assert!(check == Check::BasicAuthValid && why.starts_with("the password is not that of bas_"), "{why}");

    world.clock.advance(std::time::Duration::from_secs(700));
    let explanation = explain("p2", &[("authorization", &tokens[0])]).await;
    let (check, _, why) = decided(&explanation);
    assert!(check == Check::TokenTimes && why.contains("its `exp` is 20"), "{why}");
    assert_eq!(explanation.revision, Some(1));
    let facts = explanation.sent.token.expect("what the token says");
    assert_eq!(facts.iss.as_deref(), Some("urn:tollgate:default:test"));

    // A call that passes: what it was known by, and what is left to the flow.
    let explanation = explain("p0", &[("apikey", &keys[0])]).await;
    assert_eq!((explanation.answer.status, explanation.answer.code), (Some(200), None));
    assert_eq!(explanation.reached.consumer.as_ref().map(|name| name.as_str()), Some("alice"));
    let explanation = explain("p1", &[("apikey", &keys[0])]).await;
    assert_eq!(explanation.answer.status, None, "the flow decides");
    let flow = explanation.checks.last().expect("all checks");
    assert_eq!((flow.check, flow.outcome), (Check::Flow, CheckOutcome::NotReached));
}

#[tokio::test]
async fn a_policy_that_refuses_calls_is_named() {
    let test = EnvironmentName::test();
    let mut world = made(1).world;
    world.policy(json!({ "name": "no-p0", "condition": "name != 'p0'", "message": "not p0",
        "environments": { "test": "required", "prod": "off" } }));
    world.enforce_in(60);
    world.publish();
    let call = get("/pipeline/default/v1/p0", &[]);
    let explanation = world.explain(&test, &call).await.expect("explained");
    assert_eq!(decided(&explanation).0, Check::ApiKeyPresent);
    let enforcement =
        explanation.checks.iter().find(|it| it.check == Check::Enforcement).expect("all checks");
    assert!(
        enforcement
            .why
            .as_deref()
            .is_some_and(|why| why.contains("refused from 2026") && why.contains("not p0"))
    );
    world.clock.set(world.now() + SignedDuration::from_secs(61));
    let explanation = world.explain(&test, &call).await.expect("explained");
    let (check, _, why) = decided(&explanation);
    assert!(check == Check::Enforcement && why.contains("not p0"), "{why}");
    world.call(&test, call).await;
}

#[tokio::test]
async fn an_explanation_costs_the_caller_nothing_and_leaves_no_trace() {
    let test = EnvironmentName::test();
    let made = made(1);
    let (world, key) = (&made.world, made.apikeys[0].as_str());
    let call = || get("/pipeline/default/v1/p6", &[("apikey", key)]);
    for _ in 0..50 {
        let explanation = world.explain(&test, &call()).await.expect("explained");
        assert_eq!(explanation.answer.status, Some(200));
        let limit = explanation.checks.iter().find(|it| it.check == Check::RateLimit).expect("all checks");
        assert_eq!(limit.why.as_deref(), Some("left after this call: 2 of 3 a day"));
    }
    assert_eq!(world.usage.drain(), [], "no use is noted");
    assert_eq!(world.usage.drain_calls(), Default::default(), "no call is counted");
    for _ in 0..20 {
        world.explain(&test, &get("/pipeline/default/v1/p0", &[])).await.expect("explained");
    }
    assert_eq!(world.refusals.recent(&RealmName::default()).len(), 0, "no refusal is kept");
    for status in [200, 200, 200, 429] {
        assert_eq!(world.call(&test, call()).await.status.as_u16(), status);
    }
    let explanation = world.explain(&test, &call()).await.expect("explained");
    assert_eq!((explanation.answer.status, decided(&explanation).0), (Some(429), Check::RateLimit));
}

#[tokio::test]
async fn neither_an_explanation_nor_what_is_kept_of_a_refusal_shows_a_secret() {
    let test = EnvironmentName::test();
    let made = made(1);
    let world = &made.world;
    let basic = format!("Basic {}", STANDARD.encode("ann:pass-of-ann"));
    let mut secrets =
        vec!["pass-of-ann".to_owned(), STANDARD.encode("ann:pass-of-ann"), "query-secret".to_owned()];
    secrets.extend(made.apikeys.iter().filter(|key| key.len() > 6).cloned());
    secrets
        .extend(made.authorizations.iter().filter_map(|it| it.split_once(' ')).map(|(_, it)| it.to_owned()));
    secrets.retain(|secret| secret.len() > 5);
    let mut authorizations = made.authorizations.clone();
    authorizations.push(basic);
    for path in ["p0", "p1", "p2", "p3", "p7", "p8", "nothing"] {
        for key in &made.apikeys {
            for (path, authorization) in authorizations.iter().flat_map(|it| {
                [format!("{path}?apikey={key}"), format!("{path}/{key}"), format!("{path}?x=query-secret")]
                    .map(|path| (path, it))
            }) {
                let headers =
                    [("apikey", key.as_str()), ("authorization", authorization.as_str()), ("x-other", key)];
                let call = get(&format!("/pipeline/default/v1/{path}"), &headers);
                let explanation = world.explain(&test, &call).await.expect("explained");
                let shown = format!("{explanation:?}");
                if let Some(secret) = secrets.iter().find(|secret| shown.contains(secret.as_str())) {
                    panic!("{secret} is shown in {shown}");
                }
            }
        }
    }
    for (key, authorization) in made.apikeys.iter().zip(authorizations.iter().cycle()) {
        let headers = [("apikey", key.as_str()), ("authorization", authorization)];
        // In a path only what looks like one of ours is known for a key.
        let segment = if key.starts_with("tg_") { key } else { "x" };
        let path = format!("/pipeline/default/v1/nothing/{segment}?apikey={key}");
        world.call(&test, get(&path, &headers)).await;
        world.call(&test, get("/pipeline/default/v1/p7", &headers)).await;
    }
    let kept = world.refusals.recent(&RealmName::default());
    assert!(kept.len() > 10);
    let shown = serde_json::to_string(&kept.iter().map(|it| &**it).collect::<Vec<_>>()).expect("writes");
    if let Some(secret) = secrets.iter().find(|it| it.len() > 16 && shown.contains(it.as_str())) {
        panic!("{secret} is kept in {shown}");
    }
    assert!(!shown.contains("pass-of-ann") && shown.contains("tg_test_…"), "{shown}");
}

#[tokio::test]
async fn what_http_cannot_carry_is_not_explained() {
    let world = made(1).world;
    let call = |change: fn(&mut CallToExplain)| {
        let mut call = CallToExplain {
            environment: EnvironmentName::test(),
            exposure: tollgate_model::environments::Exposure::External,
            method: "GET".to_owned(),
            url: "http://127.0.0.1:7001/pipeline/default/v1/p0".to_owned(),
            headers: Vec::new(),
            body_length: None,
            certificate: None,
            remote: remote().ip(),
        };
        change(&mut call);
        call
    };
    for (call, error) in [
        (call(|it| it.method = "GET /".to_owned()), ExplainError::Method),
        (call(|it| it.method = String::new()), ExplainError::Method),
        (call(|it| it.url = "http://a b/".to_owned()), ExplainError::Url),
        (call(|it| it.url = "/a\r\nx: y".to_owned()), ExplainError::Url),
        (call(|it| it.url = String::new()), ExplainError::Url),
        (
            call(|it| it.headers = vec![("x".into(), "a".into()), ("x\r\ny".into(), "z".into())]),
            ExplainError::Header(2),
        ),
        (call(|it| it.headers = vec![("x".into(), "a\r\napikey: b".into())]), ExplainError::Header(1)),
        (call(|it| it.headers = vec![("x".into(), "a\0".into())]), ExplainError::Header(1)),
        (call(|it| it.headers = vec![("x".into(), "a".into()); 100]), ExplainError::Fields),
        (
            call(|it| (it.headers, it.body_length) = (vec![("content-length".into(), "1".into())], Some(1))),
            ExplainError::Length,
        ),
        (call(|it| it.url = "/pipeline/other/v1/p0".to_owned()), ExplainError::OtherRealm),
    ] {
        assert_eq!(world.gateway.explain(&RealmName::default(), &call).await.err(), Some(error));
    }
    // What HTTP can carry and the gateway does not take is explained.
    for (call, code) in [
        (call(|it| it.url = format!("/{}", "a".repeat(9_000))), "uri-too-long"),
        (call(|it| it.headers = vec![("x".into(), "a".repeat(50_000))]), "headers-too-large"),
        (call(|it| it.headers = vec![("host".into(), "a@b".into())]), "request-malformed"),
        (call(|it| it.body_length = Some(u64::MAX)), "request-too-large"),
        (call(|_| {}), "api-key-missing"),
    ] {
        let explanation = world.gateway.explain(&RealmName::default(), &call).await.expect("explained");
        assert_eq!(explanation.answer.code.as_deref(), Some(code));
    }
}

#[tokio::test]
async fn another_realm_learns_nothing() {
    let made = made(1);
    let other = RealmName::parse("other").expect("a name");
    let listener = EnvironmentName::test();
    let call = |url: &str| CallToExplain {
        environment: listener.clone(),
        exposure: tollgate_model::environments::Exposure::External,
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: vec![("apikey".to_owned(), made.apikeys[0].clone())],
        body_length: None,
        certificate: None,
        remote: remote().ip(),
    };
    // Whether there is such a pipeline or not.
    for url in ["/pipeline/default/v1/p0", "/pipeline/default/v1/nothing"] {
        let explained = made.world.gateway.explain(&other, &call(url)).await;
        assert_eq!(explained.err(), Some(ExplainError::OtherRealm));
    }
    made.world.call(&listener, get("/pipeline/default/v1/p0", &[])).await;
    assert_eq!(made.world.refusals.recent(&other).len(), 0);
    assert_eq!(made.world.refusals.recent(&RealmName::default()).len(), 1);
}
