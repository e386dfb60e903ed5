//! A realm with two environments, built object by object, and a gateway before it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tollgate_credential::keys::IssuedKey;
use tollgate_credential::keysets::{KeySet, KeySetKey, TokenRequest};
use tollgate_credential::passwords::{self, Password};
use tollgate_credential::private_keys::PrivateKey;
use tollgate_credential::seal::MasterKey;
use tollgate_credential::tokens;
use tollgate_gateway::{ExplainError, Gateway, GatewaySettings, ListenerId, Refusals, Usage};
use tollgate_listener::ClientCertificate;
use tollgate_model::certificates::{Certificate, KnownBy};
use tollgate_model::consumers::{ApiKey, BasicAuth, Consumer};
use tollgate_model::deployments::{DeployAction, Deployment};
use tollgate_model::document::parse_pipeline;
use tollgate_model::environments::{Environment, Exposure, Realm};
use tollgate_model::explanations::{CallToExplain, Check, CheckOutcome, CheckReport, Explanation};
use tollgate_model::ids::{BasicAuthId, CertificateId, ConsumerId, DeploymentId, KeyId};
use tollgate_model::keysets::{Algorithm, SigningKey, SigningKeyState, TokenRevocation};
use tollgate_model::names::{CredentialName, EnvironmentName, PipelineName, RealmName, ValueName};
use tollgate_model::objects::{Object, StoredObject};
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::policies::Policies;
use tollgate_model::sources::{Clock as _, Random as _};
use tollgate_model::triggers::Scope;
use tollgate_model::values::{Account, Global};
use tollgate_model::versions::Version;
use tollgate_snapshot::{Builder, SharedSnapshot, Snapshot, contexts};
use tollgate_testkit::{FixedClock, SeededRandom};

/// Everything that a test puts in place.
pub(crate) struct World {
    pub(crate) clock: FixedClock,
    pub(crate) random: SeededRandom,
    pub(crate) shared: Arc<SharedSnapshot>,
    pub(crate) usage: Arc<Usage>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) gateway: Arc<Gateway>,
    objects: Vec<StoredObject>,
    master: Arc<MasterKey>,
    key_sets: Vec<(EnvironmentName, KeySet)>,
}

/// An answer with its body.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) bytes: Bytes,
}

pub(crate) fn environment(name: &str) -> EnvironmentName {
    EnvironmentName::parse(name).expect("a name")
}

pub(crate) fn remote() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 40_000))
}

/// A request of `GET path` with these headers and a `Host`.
pub(crate) fn get(path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    request("GET", path, headers, "")
}

/// A request with a `Host`; the body has no declared length.
pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "gateway.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body.to_owned())).expect("a request")
}

/// Settings under which a test may send as many bad credentials as it likes.
fn patient() -> GatewaySettings {
    GatewaySettings { bad_credentials_per_address: u32::MAX, ..GatewaySettings::default() }
}

// === impl Reply ===

impl Reply {
    /// Returns the code of an answer of the gateway; empty for a flow's.
    pub(crate) fn code(&self) -> &str {
        self.headers.get("tollgate-error").and_then(|code| code.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

// === impl World ===

impl World {
    /// Environments `test` and `prod` with a signing key each, and nothing else.
    pub(crate) fn new() -> Self {
        Self::seeded(1)
    }

    /// One whose keys, tokens and ids are others than those of [`World::new`].
    pub(crate) fn seeded(seed: u64) -> Self {
        Self::make(seed, patient())
    }

    pub(crate) fn with_settings(settings: GatewaySettings) -> Self {
        Self::make(1, settings)
    }

    fn make(seed: u64, settings: GatewaySettings) -> Self {
        let (clock, random) = (FixedClock::default(), SeededRandom::new(seed));
        let (shared, usage) = (Arc::new(SharedSnapshot::empty()), Arc::new(Usage::new()));
        let refusals = Arc::new(Refusals::new());
        let gateway = Gateway::keeping(
            shared.clone(),
            Arc::new(clock.clone()),
            Arc::new(random.clone()),
            settings,
            usage.clone(),
            refusals.clone(),
        );
        let master = Arc::new(MasterKey::generate(&random).expect("random"));
        let mut world = Self {
            clock,
            random,
            shared,
            usage,
            refusals,
            gateway,
            objects: Vec::new(),
            master,
            key_sets: Vec::new(),
        };
        for name in ["test", "prod"] {
            world.add_environment(name);
        }
        world.allow_upstreams(&["127.0.0.1"]);
        world.put(&Policies::initial(&[EnvironmentName::test(), EnvironmentName::prod()].into()));
        world
    }

    /// Lets flows call these networks, and takes away what they could call before.
    pub(crate) fn allow_upstreams(&mut self, networks: &[&str]) {
        self.settings(json!({ "allowUpstreams": networks }));
    }

    pub(crate) fn settings(&mut self, settings: Value) {
        let settings = serde_json::from_value(settings).expect("settings");
        self.put(&Realm { name: RealmName::default(), created_at: self.now(), settings });
    }

    fn add_environment(&mut self, name: &str) {
        let name = environment(name);
        self.put(&Environment { name: name.clone(), created_at: self.now(), listeners: BTreeMap::new() });
        let realm = RealmName::default();
        let key = PrivateKey::generate(Algorithm::Es256, &self.random).expect("a key");
        let kid = key.make_kid(&self.random).expect("an id");
        let place = contexts::signing_key(&realm, &name, &kid);
        let private = key.to_bytes().expect("bytes");
        self.put(&SigningKey {
            kid: kid.clone(),
            environment: name.clone(),
            algorithm: Algorithm::Es256,
            public_jwk: key.public_jwk(&kid),
            sealed_private: self.master.seal(&place, &private, &self.random).expect("sealed"),
            state: SigningKeyState::Active,
            created_at: self.now(),
        });
        let keys = vec![KeySetKey::new(kid, key, SigningKeyState::Active)];
        let set = KeySet::new(tokens::issuer(&realm, &name), tokens::audience(&realm, &name), keys);
        self.key_sets.push((name, set));
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn bytes(&self) -> [u8; 10] {
        let mut bytes = [0; 10];
        self.random.fill(&mut bytes).expect("random");
        bytes
    }

    /// Puts an object, in place of the one with its key.
    pub(crate) fn put<T: Object>(&mut self, object: &T) {
        let (realm, kind, key) = (RealmName::default(), T::KIND, object.key());
        self.objects.retain(|it| it.kind != kind || it.key != key);
        let body = serde_json::to_string(object).expect("JSON");
        self.objects.push(StoredObject { realm, kind, key, revision: 1, body });
    }

    /// Changes a policy, in the environments that it names.
    pub(crate) fn policy(&mut self, policy: Value) {
        let today = self.objects.iter().find(|it| it.kind == Policies::KIND).expect("policies");
        let policy = serde_json::from_value(policy).expect("a policy");
        let changed = today.parse::<Policies>().expect("policies").change(policy).expect("fits");
        self.put(&changed);
    }

    /// Has calls in `test` refused from now plus these seconds on, announced now.
    pub(crate) fn enforce_in(&mut self, seconds: i64) {
        let at = self.now() + SignedDuration::from_secs(seconds);
        let value = json!({ "atGateway": at.to_string(), "announcedAt": self.now().to_string() });
        self.policy(json!({ "name": "enforcement", "environments": { "test": value } }));
    }

    /// Puts objects that do not parse in the place of those of a kind.
    pub(crate) fn spoil<T: Object>(&mut self) {
        let of_kind = self.objects.iter_mut().filter(|it| it.kind == T::KIND);
        of_kind.for_each(|it| it.body = "{}".to_owned());
    }

    /// Changes the one object of a kind for which `of` holds.
    pub(crate) fn change<T: Object>(&mut self, of: impl Fn(&T) -> bool, change: impl FnOnce(&mut T)) {
        let objects = self.objects.iter().filter(|it| it.kind == T::KIND);
        let mut object =
            objects.filter_map(|it| it.parse::<T>().ok()).find(|it| of(it)).expect("the object exists");
        change(&mut object);
        self.put(&object);
    }

    /// Takes away the objects of a kind for which `of` holds.
    pub(crate) fn delete<T: Object>(&mut self, of: impl Fn(&T) -> bool) {
        self.objects.retain(|it| it.kind != T::KIND || !it.parse::<T>().is_ok_and(|it| of(&it)));
    }

    /// Deploys a pipeline to both environments as version 1.0.
    pub(crate) fn deploy(&mut self, file: &str) {
        let pipeline = parse_pipeline(file).expect("a pipeline").value;
        let name = pipeline.name.clone();
        self.put(&PipelineVersion {
            version: Version::FIRST,
            pipeline,
            login_flow: false,
            created_at: self.now(),
            created_by: "admin".to_owned(),
        });
        for environment in [EnvironmentName::test(), EnvironmentName::prod()] {
            self.put(&Deployment {
                id: DeploymentId::new(self.now(), self.bytes()),
                pipeline: name.clone(),
                version: Version::FIRST,
                environment,
                policy_version: Version::FIRST,
                deployed_at: self.now(),
                deployed_by: "admin".to_owned(),
                action: DeployAction::Deploy,
                attested: None,
            });
        }
    }

    pub(crate) fn consumer(
        &mut self,
        environment: &EnvironmentName,
        name: &str,
        pipelines: &[&str],
    ) -> ConsumerId {
        let id = ConsumerId::new(self.now(), self.bytes());
        self.put(&Consumer {
            id,
            name: name.parse().expect("a name"),
            environment: environment.clone(),
            description: String::new(),
            pipelines: pipelines.iter().map(|name| PipelineName::parse(name).expect("a name")).collect(),
            tokens_revoked_before: None,
            created_at: self.now(),
        });
        id
    }

    pub(crate) fn key(&mut self, environment: &EnvironmentName, consumer: ConsumerId) -> (KeyId, String) {
        let issued = IssuedKey::generate(environment, &self.random).expect("random");
        let id = KeyId::new(self.now(), self.bytes());
        self.put(&ApiKey {
            id,
            consumer,
            environment: environment.clone(),
            name: CredentialName::parse("main").expect("a name"),
            digest: issued.digest.to_string(),
            hint: issued.hint.clone(),
            created_at: self.now(),
            expires_at: None,
            revoked_at: None,
            replaced_by: None,
            rotated_at: None,
            retire_unused_seconds: None,
            imported: false,
        });
        (id, issued.plain.expose_secret().to_owned())
    }

    pub(crate) fn basic(
        &mut self,
        environment: &EnvironmentName,
        consumer: ConsumerId,
        user: &str,
        password: &str,
    ) -> BasicAuthId {
        let password = Password::parse(password).expect("a password");
        let id = BasicAuthId::new(self.now(), self.bytes());
        self.put(&BasicAuth {
            id,
            consumer,
            environment: environment.clone(),
            username: user.to_owned(),
            password_hash: passwords::hash(&password, &self.random).expect("hashes"),
            created_at: self.now(),
            revoked_at: None,
        });
        id
    }

    /// Binds client certificates to a consumer.
    pub(crate) fn certificate(
        &mut self,
        environment: &EnvironmentName,
        consumer: ConsumerId,
        known_by: KnownBy,
    ) -> CertificateId {
        let id = CertificateId::new(self.now(), self.bytes());
        self.put(&Certificate {
            id,
            consumer,
            environment: environment.clone(),
            name: CredentialName::parse("main").expect("a name"),
            known_by,
            created_at: self.now(),
            expires_at: None,
            revoked_at: None,
        });
        id
    }

    /// Issues a token that lives ten minutes.
    pub(crate) fn token(
        &self,
        environment: &EnvironmentName,
        consumer: ConsumerId,
        scopes: &[&str],
    ) -> String {
        let scopes: Vec<_> = scopes.iter().map(|scope| Scope::parse(scope).expect("a scope")).collect();
        let subject = consumer.to_string();
        let request =
            TokenRequest { subject: &subject, scopes: &scopes, expires_in_ms: 600_000, claims: Map::new() };
        let (_, set) = self.key_sets.iter().find(|(name, _)| name == environment).expect("an environment");
        set.sign(request, self.now(), &self.random).expect("a token")
    }

    pub(crate) fn revoke_token(&mut self, environment: &EnvironmentName, jti: &str) {
        self.put(&TokenRevocation {
            environment: environment.clone(),
            jti: jti.to_owned(),
            revoked_at: self.now(),
            forget_after: self.now() + SignedDuration::from_hours(24),
        });
    }

    pub(crate) fn global(&mut self, environment: &EnvironmentName, name: &str, value: Value) {
        let name = ValueName::parse(name).expect("a name");
        self.put(&Global { name, environment: environment.clone(), value, updated_at: self.now() });
    }

    /// Sets an account with one field.
    pub(crate) fn account(&mut self, environment: &EnvironmentName, name: &str, field: &str, secret: &str) {
        let name = ValueName::parse(name).expect("a name");
        let place = contexts::account_field(&RealmName::default(), environment, &name, field);
        let sealed = self.master.seal(&place, secret.as_bytes(), &self.random).expect("sealed");
        let fields = [(field.to_owned(), sealed)].into();
        self.put(&Account { name, environment: environment.clone(), fields, updated_at: self.now() });
    }

    /// Builds the snapshot of what is there and puts it in place.
    pub(crate) fn publish(&self) -> Arc<Snapshot> {
        self.publish_under(self.master.clone())
    }

    /// Like [`World::publish`], under another master key than the one that sealed the secrets.
    pub(crate) fn publish_under(&self, master: Arc<MasterKey>) -> Arc<Snapshot> {
        let snapshot = Builder::load(1, self.objects.clone(), master).current();
        self.shared.publish(snapshot.clone());
        snapshot
    }

    /// Calls the external listener of an environment.
    pub(crate) async fn call(&self, environment: &EnvironmentName, request: Request<Full<Bytes>>) -> Reply {
        self.call_on(environment, Exposure::External, request).await
    }

    pub(crate) async fn call_on(
        &self,
        environment: &EnvironmentName,
        exposure: Exposure,
        request: Request<Full<Bytes>>,
    ) -> Reply {
        let listener = ListenerId { environment: environment.clone(), exposure };
        let explained = match call_to_explain(&listener, &request) {
            Some(call) => {
                let shown = request.extensions().get::<ClientCertificate>().cloned();
                self.gateway.explain_with(&RealmName::default(), &call, shown).await.ok()
            }
            None => None,
        };
        let answer = self.gateway.handle(&listener, remote(), request).await;
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.expect("a body in memory").to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let reply = Reply { status: parts.status, headers: parts.headers, text, bytes };
        if let Some(explained) = explained {
            self.assert_explained(&explained, &reply);
        }
        reply
    }

    /// Explains a call of the external listener of an environment.
    pub(crate) async fn explain(
        &self,
        environment: &EnvironmentName,
        request: &Request<Full<Bytes>>,
    ) -> Result<Explanation, ExplainError> {
        let listener = ListenerId { environment: environment.clone(), exposure: Exposure::External };
        let call = call_to_explain(&listener, request).expect("can be put into words");
        self.gateway.explain(&RealmName::default(), &call).await
    }

    /// Fails unless an explanation, made just before a call, said what the call was answered, and the refusal that was
    /// kept says the same of every check.
    #[track_caller]
    fn assert_explained(&self, explained: &Explanation, reply: &Reply) {
        let answer = &explained.answer;
        match (answer.status, &answer.code) {
            (Some(status), code) => {
                let code = code.as_deref().unwrap_or_default();
                assert_eq!(
                    (status, code),
                    (reply.status.as_u16(), reply.code()),
                    "{explained:#?} {reply:#?}"
                );
            }
            // The flow, or the body, decides; no check that comes before may.
            (None, _) => {
                let of_checks = |check: &CheckReport| {
                    check.check < Check::Body
                        && matches!(check.outcome, CheckOutcome::Failed | CheckOutcome::Unavailable)
                };
                assert!(!explained.checks.iter().any(of_checks), "{explained:#?}");
                let kept = self.refusal_of(reply);
                let decided = kept.iter().flat_map(|kept| &kept.checks).find(|check| of_checks(check));
                assert_eq!(decided, None, "{explained:#?} {reply:#?}");
            }
        }
        let is_silent = |check: &CheckReport| check.outcome == CheckOutcome::Failed && check.why.is_none();
        assert!(!explained.checks.iter().any(is_silent), "says nothing: {explained:#?}");
        let is_own_page =
            explained.reached.pipeline.is_none() && answer.code.as_deref() == Some("method-not-allowed");
        if let Some(kept) = self.refusal_of(reply).filter(|_| answer.code.is_some() && !is_own_page) {
            assert_eq!((kept.status, kept.code.as_str()), (reply.status.as_u16(), reply.code()));
            assert_eq!((&kept.reached, &kept.sent), (&explained.reached, &explained.sent));
            for (kept, explained) in kept.checks.iter().zip(&explained.checks) {
                assert_eq!((kept.check, kept.outcome), (explained.check, explained.outcome), "{reply:#?}");
            }
        }
    }

    /// Returns what was kept of a call that was refused.
    pub(crate) fn refusal_of(&self, reply: &Reply) -> Option<Arc<tollgate_model::explanations::Refusal>> {
        self.refusals.find(&RealmName::default(), reply.header("x-request-id").parse().ok()?)
    }
}

/// Puts a request into words; `None` for what has no words.
fn call_to_explain(listener: &ListenerId, request: &Request<Full<Bytes>>) -> Option<CallToExplain> {
    use http_body::Body as _;

    let mut headers = Vec::new();
    for (name, value) in request.headers() {
        headers.push((name.to_string(), value.to_str().ok()?.to_owned()));
    }
    // Of these two, hyper takes the length away.
    let is_declared =
        ["content-length", "transfer-encoding"].iter().any(|it| request.headers().contains_key(*it));
    if !is_declared && !request.body().is_end_stream() {
        headers.push(("transfer-encoding".to_owned(), "chunked".to_owned()));
    }
    let has_host = request.headers().contains_key("host") && request.uri().authority().is_none();
    has_host.then(|| CallToExplain {
        environment: listener.environment.clone(),
        exposure: listener.exposure,
        method: request.method().to_string(),
        url: request.uri().to_string(),
        headers,
        body_length: None,
        certificate: None,
        remote: remote().ip(),
    })
}
