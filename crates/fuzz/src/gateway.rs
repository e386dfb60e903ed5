//! The head of a request: normalisation, routing and checks, through the gateway as a whole.
//!
//! An input is a request as text: method and target in the first line, then header fields, then a body after an empty
//! line. `{key}` in a field is a good API key, `{token}` a good token. Each route answers with its own name, so that
//! what was reached can be compared with what the path says.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use tollgate_credential::keys::IssuedKey;
use tollgate_credential::keysets::{KeySet, KeySetKey, TokenRequest};
use tollgate_credential::private_keys::PrivateKey;
use tollgate_credential::seal::MasterKey;
use tollgate_credential::tokens;
use tollgate_gateway::{Gateway, GatewaySettings, ListenerId, TOLLGATE_ERROR, Usage};
use tollgate_model::environments::Exposure;
use tollgate_model::keysets::{Algorithm, SigningKeyState};
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::objects::{Kind, StoredObject};
use tollgate_model::policies::Policies;
use tollgate_model::sources::Clock as _;
use tollgate_snapshot::{Builder, SharedSnapshot, contexts};
use tollgate_testkit::{FixedClock, SeededRandom};

pub(crate) const WORDS: &[&str] = &[
    "GET ",
    "POST ",
    "OPTIONS ",
    "/pipeline/default/v1/open",
    "/pipeline/default/v1/keyed",
    "/pipeline/default/v1/items/7",
    "/pipeline/default/v1/items/secret",
    "/pipeline/default/v1/both",
    "/root/x",
    "/healthz",
    "/.well-known/jwks.json",
    "\nhost: a",
    "\napikey: {key}",
    "\nauthorization: Bearer {token}",
    "\norigin: https://shop.example",
    "\naccess-control-request-method: GET",
    "\ncontent-type: application/json",
    "\ncontent-length: 1",
    "\ntransfer-encoding: chunked",
    "?apikey={key}",
    "?x=1",
    "%2e%2e",
    "%2f",
    "%5c",
    "%00",
    "/./",
    "/../",
    "//",
    ";",
    "#",
    "\n\n{\"a\":1}",
    "http://a/",
    "a:1",
    "*",
];

const AT: &str = "2026-01-01T00:00:00Z";
const CONSUMER: &str = "con_00000000000000000000000000000001";

struct World {
    runtime: tokio::runtime::Runtime,
    gateway: Arc<Gateway>,
    listener: ListenerId,
    key: String,
    token: String,
}

static WORLD: LazyLock<World> = LazyLock::new(World::new);

/// The routes of each pipeline besides its own, what it demands, and its name is what it answers.
const PIPELINES: [(&str, &str); 5] = [
    (
        "open",
        r#"{ "type": "rest", "externalApi": true, "methods": ["GET", "POST"], "cors": { "allowOrigins": ["https://shop.example"] } }"#,
    ),
    ("items", r#"{ "type": "rest", "externalApi": true, "routes": ["/items/:id"] }"#),
    ("rooted", r#"{ "type": "rest", "externalApi": true, "removePrefix": true, "routes": ["/root/:name"] }"#),
    (
        "keyed",
        r#"{ "type": "rest", "externalApi": true, "apiKey": { "query": true }, "routes": ["/items/secret"] }"#,
    ),
    ("both", r#"{ "type": "rest", "externalApi": true, "apiKey": true, "jwt": true }"#),
];

pub(crate) fn run(input: &[u8]) {
    let world = &*WORLD;
    let Some(request) = world.request(input) else { return };
    let (path, method) = (request.uri().path().to_owned(), request.method().clone());
    let one = |name: &str| {
        let mut values = request.headers().get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).and_then(|it| it.to_str().ok()).map(str::to_owned)
    };
    let key_shown = one("apikey").is_some_and(|it| it == world.key);
    let key_in_query = request
        .uri()
        .query()
        .is_some_and(|query| percent_decode_str(query).decode_utf8_lossy().contains(&world.key));
    let token_shown = one("authorization").is_some_and(|it| {
        it.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer ")) && it.ends_with(&world.token)
    });
    let remote = SocketAddr::from(([127, 0, 0, 1], 40_000));
    let (status, code, body) = world.runtime.block_on(async {
        let answer = world.gateway.handle(&world.listener, remote, request).await;
        let (parts, body) = answer.into_parts();
        let code = parts.headers.get(TOLLGATE_ERROR).and_then(|it| it.to_str().ok()).map(str::to_owned);
        (parts.status, code, body.collect().await.expect("in memory").to_bytes())
    });
    assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "a call failed");
    assert_eq!(code.is_some(), status.is_client_error() || status.is_server_error(), "{status} {code:?}");
    if status != StatusCode::OK || method == http::Method::HEAD {
        return;
    }
    let Ok(Value::String(reached)) = serde_json::from_slice::<Value>(&body) else {
        let page = matches!(&*path, "/healthz" | "/readyz") || path.ends_with("/.well-known/jwks.json");
        return assert!(page, "{path} answered by nobody: {body:?}");
    };
    assert_eq!(Some(reached.as_str()), expected(&path), "{path} led elsewhere");
    match reached.as_str() {
        "keyed" => assert!(key_shown || key_in_query, "{path} without its key"),
        "both" => assert!(key_shown && token_shown, "{path} without key and token"),
        _ => {}
    }
}

/// Returns which pipeline a path leads to, read by hand.
fn expected(path: &str) -> Option<&'static str> {
    let segment = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8().ok()?;
        let plain =
            !decoded.is_empty() && !decoded.contains(['/', '\\', '\0']) && decoded != "." && decoded != "..";
        plain.then_some(())
    };
    match path.strip_prefix("/pipeline/default/v1/") {
        Some("items/secret") => Some("keyed"),
        Some(rest) => match rest.strip_prefix("items/") {
            Some(id) if !id.contains('/') => segment(id).map(|()| "items"),
            _ => PIPELINES.iter().map(|(name, _)| *name).find(|name| *name == rest),
        },
        None => path
            .strip_prefix("/root/")
            .filter(|name| !name.contains('/'))
            .and_then(segment)
            .map(|()| "rooted"),
    }
}

// === impl World ===

impl World {
    fn new() -> Self {
        let (random, clock) = (SeededRandom::new(7), FixedClock::default());
        let master = Arc::new(MasterKey::generate(&random).expect("random"));
        let (realm, environment) = (RealmName::default(), EnvironmentName::test());
        let issued = IssuedKey::generate(&environment, &random).expect("random");
        let mut objects = vec![
            stored(Kind::Environment, "test", &json!({ "name": "test", "createdAt": AT })),
            stored(Kind::Policies, "current", &json!(Policies::initial(&[environment.clone()].into()))),
            stored(
                Kind::Consumer,
                "test/shop",
                &json!({ "id": CONSUMER, "name": "shop", "environment": "test",
                "pipelines": ["keyed", "both"], "createdAt": AT }),
            ),
            stored(
                Kind::ApiKey,
                "test/key_00000000000000000000000000000001",
                &json!({
                "id": "key_00000000000000000000000000000001", "consumer": CONSUMER, "environment": "test",
                "name": "k", "digest": issued.digest, "hint": "abcd", "createdAt": AT }),
            ),
        ];
        for (n, (name, trigger)) in PIPELINES.iter().enumerate() {
            let trigger: Value = serde_json::from_str(trigger).expect("JSON");
            objects.push(stored(Kind::PipelineVersion, &format!("{name}/0000000001.0000000000"), &json!({
                "version": "1.0", "loginFlow": false, "createdAt": AT, "createdBy": "a",
                "pipeline": { "name": name, "project": "store", "trigger": trigger, "steps": [{ "json": name }] } })));
            objects.push(stored(
                Kind::Deployment,
                &format!("test/{name}/v1"),
                &json!({
                "id": format!("dep_{n:032x}"), "pipeline": name, "version": "1.0", "environment": "test",
                "policyVersion": "1.0", "deployedAt": AT, "deployedBy": "a", "action": "deploy" }),
            ));
        }
        let private = PrivateKey::generate(Algorithm::Hs256, &random).expect("a key");
        let place = contexts::signing_key(&realm, &environment, "k1");
        let sealed = master.seal(&place, &private.to_bytes().expect("writes"), &random).expect("random");
        objects.push(stored(
            Kind::SigningKey,
            "test/k1",
            &json!({ "kid": "k1", "environment": "test",
            "algorithm": "HS256", "sealedPrivate": sealed, "state": { "is": "active" }, "createdAt": AT }),
        ));
        let key = KeySetKey::new("k1".to_owned(), private, SigningKeyState::Active);
        let (issuer, audience) =
            (tokens::issuer(&realm, &environment), tokens::audience(&realm, &environment));
        let request =
            TokenRequest { subject: CONSUMER, scopes: &[], expires_in_ms: 900_000, claims: Map::new() };
        let set = KeySet::new(issuer, audience, vec![key]);
        let token = set.sign(request, clock.now(), &random).expect("signs");
        let snapshot = Builder::load(1, objects, master).current();
        assert!(snapshot.problems().is_empty(), "{:?}", snapshot.problems());
        let shared = Arc::new(SharedSnapshot::empty());
        shared.publish(snapshot);
        let (clock, random) = (Arc::new(clock), Arc::new(random));
        let gateway = Gateway::new(shared, clock, random, GatewaySettings::default(), Arc::new(Usage::new()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = ListenerId { environment, exposure: Exposure::External };
        Self { runtime, gateway, listener, key: issued.plain.expose_secret().to_owned(), token }
    }

    /// Reads an input; `None` when it is no request that hyper could hand over.
    fn request(&self, input: &[u8]) -> Option<Request<Full<Bytes>>> {
        let filled =
            String::from_utf8_lossy(input).replace("{key}", &self.key).replace("{token}", &self.token);
        let (head, body) = filled.split_once("\n\n").unwrap_or((&filled, ""));
        let mut lines = head.split('\n');
        let (method, target) = lines.next()?.split_once(' ')?;
        let mut request = Request::builder().method(method).uri(Uri::try_from(target).ok()?);
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let value = HeaderValue::from_bytes(value.trim().as_bytes()).ok()?;
            request = request.header(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
        }
        request.body(Full::from(body.to_owned())).ok()
    }
}

fn stored(kind: Kind, key: &str, body: &Value) -> StoredObject {
    StoredObject {
        realm: RealmName::default(),
        kind,
        key: key.to_owned(),
        revision: 1,
        body: body.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pipeline_can_be_reached_with_what_it_demands_and_not_without() {
        let world = &*WORLD;
        let status = |input: &str| {
            let request = world.request(input.as_bytes()).expect("a request");
            let remote = SocketAddr::from(([127, 0, 0, 1], 40_000));
            world.runtime.block_on(world.gateway.handle(&world.listener, remote, request)).status().as_u16()
        };
        let v1 = "GET /pipeline/default/v1";
        for (input, expected) in [
            (format!("{v1}/open\nhost: a"), 200),
            (format!("{v1}/items/7\nhost: a"), 200),
            ("GET /root/x\nhost: a".to_owned(), 200),
            (format!("{v1}/keyed\nhost: a"), 401),
            (format!("{v1}/keyed?apikey={{key}}\nhost: a"), 200),
            (format!("{v1}/items/secret\nhost: a\napikey: {{key}}"), 200),
            (format!("{v1}/both\nhost: a\napikey: {{key}}"), 401),
            (format!("{v1}/both\nhost: a\napikey: {{key}}\nauthorization: Bearer {{token}}"), 200),
            (format!("{v1}/open/../keyed\nhost: a"), 400),
            ("GET /healthz\nhost: a".to_owned(), 200),
        ] {
            assert_eq!(status(&input), expected, "{input}");
            run(input.as_bytes());
        }
    }
}
