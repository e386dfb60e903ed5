//! Objects for tests, as the store keeps them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};
use tollgate_credential::private_keys::PrivateKey;
use tollgate_credential::seal::MasterKey;
use tollgate_model::environments::Exposure;
use tollgate_model::keysets::Algorithm;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::objects::Kind;
use tollgate_model::sources::{Random, RandomError};

use crate::{Builder, ObjectChange, Snapshot, contexts};

pub(crate) struct Fixed;

impl Random for Fixed {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        buffer.fill(7);
        Ok(())
    }
}

pub(crate) fn master() -> Arc<MasterKey> {
    Arc::new(MasterKey::generate(&Fixed).expect("random"))
}

pub(crate) fn realm() -> RealmName {
    RealmName::default()
}

pub(crate) fn put(kind: Kind, key: &str, body: &Value) -> ObjectChange {
    ObjectChange { realm: realm(), kind, key: key.to_owned(), body: Some(body.to_string()) }
}

pub(crate) fn delete(kind: Kind, key: &str) -> ObjectChange {
    ObjectChange { realm: realm(), kind, key: key.to_owned(), body: None }
}

pub(crate) fn environment(name: &str) -> ObjectChange {
    put(Kind::Environment, name, &json!({ "name": name, "createdAt": "2026-01-01T00:00:00Z" }))
}

pub(crate) fn version(name: &str, minor: u32, trigger: &Value, steps: &Value) -> ObjectChange {
    let body = json!({ "version": format!("1.{minor}"), "loginFlow": false, "createdAt": "2026-01-01T00:00:00Z",
        "createdBy": "admin", "pipeline": { "name": name, "project": "store", "trigger": trigger, "steps": steps } });
    put(Kind::PipelineVersion, &format!("{name}/0000000001.{minor:010}"), &body)
}

pub(crate) fn deployment(environment: &str, name: &str, minor: u32) -> ObjectChange {
    let body = json!({ "id": format!("dep_{}", "0".repeat(32)), "pipeline": name, "version": format!("1.{minor}"),
        "environment": environment, "policyVersion": "1.0", "deployedAt": "2026-01-01T00:00:00Z",
        "deployedBy": "admin", "action": "deploy" });
    put(Kind::Deployment, &format!("{environment}/{name}/v1"), &body)
}

pub(crate) fn key(environment: &str, n: u8, revoked: bool) -> ObjectChange {
    let id = format!("key_{}", format!("{n:02x}").repeat(16));
    let mut body = json!({ "id": id, "consumer": format!("con_{}", "0".repeat(32)), "environment": environment,
        "name": "k", "digest": format!("{n:02x}").repeat(32), "hint": "abcd", "createdAt": "2026-01-01T00:00:00Z" });
    if revoked {
        body["revokedAt"] = "2026-01-02T00:00:00Z".into();
    }
    put(Kind::ApiKey, &format!("{environment}/{id}"), &body)
}

/// A binding by the one fingerprint or the one name that there is.
pub(crate) fn certificate(environment: &str, n: u8, by_name: bool) -> ObjectChange {
    let id = format!("crt_{}", format!("{n:02x}").repeat(16));
    let known_by = if by_name {
        json!({ "san": { "san": "dns:shop.example", "issuer": "22".repeat(32) } })
    } else {
        json!({ "fingerprint": "11".repeat(32) })
    };
    let body = json!({ "id": id, "consumer": format!("con_{}", "0".repeat(32)), "environment": environment, "name": "c",
        "knownBy": known_by, "createdAt": "2026-01-01T00:00:00Z" });
    put(Kind::Certificate, &format!("{environment}/{id}"), &body)
}

pub(crate) fn consumer(environment: &str, name: &str, pipelines: &[&str]) -> ObjectChange {
    let body = json!({ "id": format!("con_{}", "0".repeat(32)), "name": name, "environment": environment,
        "pipelines": pipelines, "createdAt": "2026-01-01T00:00:00Z" });
    put(Kind::Consumer, &format!("{environment}/{name}"), &body)
}

pub(crate) fn signing_key(environment: &str) -> ObjectChange {
    let name = EnvironmentName::parse(environment).expect("a slug");
    let private = PrivateKey::generate(Algorithm::Hs256, &Fixed).expect("makes").to_bytes().expect("writes");
    let sealed =
        master().seal(&contexts::signing_key(&realm(), &name, "k1"), &private, &Fixed).expect("seals");
    put(
        Kind::SigningKey,
        &format!("{environment}/k1"),
        &json!({ "kid": "k1", "environment": environment,
        "algorithm": "HS256", "sealedPrivate": sealed, "state": { "is": "active" }, "createdAt": "2026-01-01T00:00:00Z" }),
    )
}

pub(crate) fn account(environment: &str, secret: &str) -> ObjectChange {
    let name = EnvironmentName::parse(environment).expect("a slug");
    let portal = tollgate_model::names::ValueName::parse("portal").expect("a name");
    let place = contexts::account_field(&realm(), &name, &portal, "token");
    let sealed = master().seal(&place, secret.as_bytes(), &Fixed).expect("seals");
    put(
        Kind::Account,
        &format!("{environment}/portal"),
        &json!({ "name": "portal", "environment": environment,
        "fields": { "token": sealed }, "updatedAt": "2026-01-01T00:00:00Z" }),
    )
}

/// The policies of a new realm with `test` and `prod`, one of them with other values in `test`.
pub(crate) fn policies(name: &str, test: &Value) -> ObjectChange {
    let mut policies = tollgate_model::policies::Policies::initial(&BTreeSet::from([
        EnvironmentName::test(),
        EnvironmentName::prod(),
    ]));
    let values = json!({ "name": name, "environments": { "test": test } });
    if !name.is_empty() {
        let policy = serde_json::from_value(values).expect("a policy");
        policies = policies.change(policy).expect("fits");
    }
    put(Kind::Policies, "current", &json!(policies))
}

/// Refuses calls in `test` to what does not conform.
pub(crate) fn enforced_from(date: &str) -> ObjectChange {
    policies("enforcement", &json!({ "atGateway": date, "announcedAt": "2026-01-01T00:00:00Z" }))
}

/// Waives the missing API key of a pipeline in `test`.
pub(crate) fn waiver(name: &str, n: u8, until: &str) -> ObjectChange {
    let id = format!("wvr_{}", format!("{n:02x}").repeat(16));
    let body = json!({ "id": id, "pipeline": name, "environment": "test", "policy": "external-api-access",
        "code": "missing-api-key", "until": until, "reason": "being mended",
        "createdAt": "2026-01-01T00:00:00Z", "createdBy": "admin" });
    put(Kind::Waiver, &format!("test/{name}/{id}"), &body)
}

pub(crate) fn open() -> Value {
    json!({ "type": "rest", "externalApi": true, "routes": ["/items/:id"] })
}

pub(crate) fn steps() -> Value {
    json!([{ "json": 1 }])
}

pub(crate) fn builder(changes: Vec<ObjectChange>) -> Builder {
    let mut builder = Builder::load(0, Vec::new(), master());
    builder.apply(1, [vec![policies("", &Value::Null)], changes].concat());
    builder
}

/// Writes down all that a gateway can see of a snapshot.
pub(crate) fn describe(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    for name in ["test", "prod"].map(|name| EnvironmentName::parse(name).expect("a slug")) {
        for exposure in Exposure::ALL {
            let Some(routes) = snapshot.listener(&name, exposure) else { continue };
            let _ = writeln!(out, "{name} {exposure:?} {}", routes.len());
            for path in ["/pipeline/default/v1/a", "/pipeline/default/v1/b", "/pipeline/default/v1/items/7"] {
                if let Some(found) = routes.find(path) {
                    let endpoint = found.endpoint;
                    let _ = writeln!(
                        out,
                        "  {path} {} {} {:?} {:?}",
                        endpoint.pipeline,
                        endpoint.version,
                        endpoint.flow.is_ok(),
                        endpoint.enforced
                    );
                }
            }
        }
        if let Some(scope) = snapshot.scope(&realm(), &name) {
            let mut keys: Vec<_> =
                scope.keys.iter().map(|(digest, key)| format!("{digest} {key:?}")).collect();
            keys.sort();
            let mut consumers: Vec<_> = scope.consumers.values().collect();
            let revoked: BTreeSet<_> = scope.revoked_tokens.iter().collect();
            consumers.sort_by_key(|consumer| consumer.name.clone());
            let _ = writeln!(
                out,
                "{keys:?} {consumers:?} {:?} {:?} {revoked:?}",
                scope.basic, scope.certificates
            );
            let _ = writeln!(
                out,
                "{:?} {:?}",
                scope.key_set.is_ok(),
                scope.values.as_ref().map(|it| it.mask("s3cret-1 s3cret-2"))
            );
            let _ = writeln!(out, "{:?}", scope.sensitive_fields);
        }
    }
    let _ =
        writeln!(out, "{:?} {} {:?}", snapshot.problems(), snapshot.schedules().len(), snapshot.addresses());
    out
}
