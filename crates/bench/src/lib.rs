//! What the benchmarks measure: a gateway before a realm of a given size.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Map, Value, json};
use tollgate_credential::keys::IssuedKey;
use tollgate_credential::keysets::{KeySet, KeySetKey, TokenRequest};
use tollgate_credential::private_keys::PrivateKey;
use tollgate_credential::seal::MasterKey;
use tollgate_credential::tokens;
use tollgate_gateway::{Gateway, GatewaySettings, ListenerId, Usage};
use tollgate_model::environments::Exposure;
use tollgate_model::keysets::{Algorithm, SigningKeyState};
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::objects::{Kind, StoredObject};
use tollgate_model::policies::Policies;
use tollgate_model::sources::{Clock as _, Random as _};
use tollgate_snapshot::{Builder, ObjectChange, SharedSnapshot, contexts};
use tollgate_testkit::{FixedClock, SeededRandom};

const AT: &str = "2026-01-01T00:00:00Z";
const CONSUMER: &str = "con_00000000000000000000000000000001";

/// A gateway, its realm, and a caller with good credentials.
pub struct World {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The listener that is called.
    pub listener: ListenerId,
    /// A key that may call every pipeline.
    pub key: String,
    /// A token that fits the key.
    pub token: String,
    builder: Builder,
    shared: Arc<SharedSnapshot>,
    random: SeededRandom,
    seq: u64,
}

/// How large a realm is, and what its pipelines demand.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// API keys.
    pub keys: usize,
    /// Pipelines, each with two routes.
    pub pipelines: usize,
    /// Algorithm of the tokens; without, a key is enough.
    pub tokens: Option<Algorithm>,
    /// Whether the gateway remembers tokens that it verified.
    pub remembers: bool,
}

// === impl World ===

impl World {
    /// Builds a realm.
    ///
    /// # Panics
    ///
    /// When the realm cannot be built, which is a fault of the benchmark.
    pub fn new(size: Size) -> Self {
        let random = SeededRandom::new(7);
        let clock = FixedClock::default();
        let master = Arc::new(MasterKey::generate(&random).expect("random"));
        let (realm, environment) = (RealmName::default(), EnvironmentName::test());
        let mut objects = vec![
            stored(Kind::Environment, "test", &json!({ "name": "test", "createdAt": AT })),
            stored(Kind::Policies, "current", &json!(Policies::initial(&[environment.clone()].into()))),
            stored(
                Kind::Consumer,
                "test/shop",
                &json!({ "id": CONSUMER, "name": "shop", "environment": "test",
                "pipelines": (0..size.pipelines).map(|n| format!("p{n}")).collect::<Vec<_>>(), "createdAt": AT }),
            ),
        ];
        let mut key = String::new();
        for n in 0..size.keys.max(1) {
            let issued = IssuedKey::generate(&environment, &random).expect("random");
            key = issued.plain.expose_secret().to_owned();
            objects.push(api_key(n, &issued.digest.to_string()));
        }
        for n in 0..size.pipelines {
            let jwt =
                if size.tokens.is_some() { json!({ "scopes": ["catalog:read"] }) } else { json!(false) };
            let trigger = json!({ "type": "rest", "externalApi": true, "apiKey": true, "jwt": jwt, "routes": [format!("/r{n}/:id")] });
            objects.push(stored(
                Kind::PipelineVersion,
                &format!("p{n}/0000000001.0000000000"),
                &json!({
                "version": "1.0", "loginFlow": false, "createdAt": AT, "createdBy": "bench",
                "pipeline": { "name": format!("p{n}"), "project": "store", "trigger": trigger,
                    "steps": [{ "json": { "products": [{ "id": 1, "name": "Lamp", "price": 32.5 }] } }] } }),
            ));
            objects.push(stored(Kind::Deployment, &format!("test/p{n}/v1"), &json!({
                "id": format!("dep_{n:032x}"), "pipeline": format!("p{n}"), "version": "1.0", "environment": "test",
                "policyVersion": "1.0", "deployedAt": AT, "deployedBy": "bench", "action": "deploy" })));
        }
        let algorithm = size.tokens.unwrap_or(Algorithm::Es256);
        let private = PrivateKey::generate(algorithm, &random).expect("a key");
        let bytes = private.to_bytes().expect("writes");
        let place = contexts::signing_key(&realm, &environment, "k1");
        let sealed = master.seal(&place, &bytes, &random).expect("random");
        objects.push(stored(Kind::SigningKey, "test/k1", &json!({ "kid": "k1", "environment": "test",
            "algorithm": algorithm.as_str(), "sealedPrivate": sealed, "state": { "is": "active" }, "createdAt": AT })));
        let set = KeySet::new(
            tokens::issuer(&realm, &environment),
            tokens::audience(&realm, &environment),
            vec![KeySetKey::new("k1".to_owned(), private, SigningKeyState::Active)],
        );
        let scopes = [tollgate_model::triggers::Scope::parse("catalog:read").expect("a scope")];
        let claims = Map::from_iter([("user".to_owned(), Value::from("portal"))]);
        let request = TokenRequest { subject: CONSUMER, scopes: &scopes, expires_in_ms: 900_000, claims };
        let token = set.sign(request, clock.now(), &random).expect("signs");

        let builder = Builder::load(1, objects, master);
        let shared = Arc::new(SharedSnapshot::empty());
        assert!(builder.current().problems().is_empty(), "{:?}", builder.current().problems());
        shared.publish(builder.current());
        let mut settings = GatewaySettings::default();
        if !size.remembers {
            settings.remembered_tokens = 0;
        }
        let gateway = Gateway::new(
            shared.clone(),
            Arc::new(clock),
            Arc::new(random.clone()),
            settings,
            Arc::new(Usage::new()),
        );
        let listener = ListenerId { environment, exposure: Exposure::External };
        Self { gateway, listener, key, token, builder, shared, random, seq: 1 }
    }

    /// Makes the request of a caller with these credentials; an empty one is left out.
    ///
    /// # Panics
    ///
    /// When the path is none.
    pub fn request(&self, path: &str, key: &str, token: &str) -> Request<Full<Bytes>> {
        let mut request = Request::builder().uri(path).header("host", "gateway.example");
        if !key.is_empty() {
            request = request.header("apikey", key);
        }
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(Full::default()).expect("a request")
    }

    /// Issues one more key and publishes the next snapshot.
    ///
    /// # Panics
    ///
    /// When there is no randomness.
    pub fn add_key(&mut self) {
        let issued = IssuedKey::generate(&self.listener.environment, &self.random).expect("random");
        let mut id = [0; 4];
        self.random.fill(&mut id).expect("random");
        let object = api_key(0x1000_0000 + u32::from_be_bytes(id) as usize, &issued.digest.to_string());
        self.seq += 1;
        let change =
            ObjectChange { realm: object.realm, kind: object.kind, key: object.key, body: Some(object.body) };
        self.shared.publish(self.builder.apply(self.seq, vec![change]));
    }

    /// Returns the address that calls in process come from.
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 40_000))
    }
}

fn api_key(n: usize, digest: &str) -> StoredObject {
    let id = format!("key_{n:032x}");
    stored(
        Kind::ApiKey,
        &format!("test/{id}"),
        &json!({ "id": id, "consumer": CONSUMER, "environment": "test", "name": "k",
        "digest": digest, "hint": "abcd", "createdAt": AT }),
    )
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
