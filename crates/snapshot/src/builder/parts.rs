//! The parts of a scope, each made from the stored objects of one kind.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Map;
use tollgate_credential::keysets::{KeySet, KeySetKey};
use tollgate_credential::private_keys::PrivateKey;
use tollgate_credential::tokens;
use tollgate_flow::Values;
use tollgate_model::certificates::Certificate;
use tollgate_model::consumers::{BasicAuth, Consumer};
use tollgate_model::environments::{Environment, Realm};
use tollgate_model::issuers::Issuer;
use tollgate_model::keysets::{SigningKey, SigningKeyState, TokenRevocation};
use tollgate_model::names::{EnvironmentName, IssuerName, RealmName};
use tollgate_model::objects::{Kind, Object as _, keys};
use tollgate_model::values::{Account, Global};
use tollgate_model::waivers::Waiver;
use zeroize::Zeroizing;

use crate::builder::{Builder, Part, Snapshot, unreadable};
use crate::enforcement::no_value;
use crate::scopes::{BasicEntry, ConsumerEntry};
use crate::{Broken, ByIds, IssuerEntry, Scope, contexts};

// === impl Builder ===

impl Builder {
    pub(super) fn make_part(
        &self,
        realm: &RealmName,
        environment: &EnvironmentName,
        part: Part,
        next: &mut Snapshot,
    ) {
        let exists =
            self.objects.contains_key(&(realm.clone(), Kind::Environment, keys::environment(environment)));
        let scopes = next.scopes.entry(realm.clone()).or_default();
        if !exists {
            scopes.remove(environment);
            return;
        }
        let scope = scopes
            .entry(environment.clone())
            .or_insert_with(|| Arc::new(Scope::new(realm.clone(), environment.clone())));
        let scope = Arc::make_mut(scope);
        let prefix = format!("{environment}/");
        match part {
            Part::Keys => {
                let place = (realm.clone(), environment.clone());
                scope.keys = self.keys.get(&place).cloned().unwrap_or_default();
            }
            Part::Basic => {
                let entries = self
                    .of_kind::<BasicAuth>(realm, &prefix)
                    .filter(|it| it.revoked_at.is_none())
                    .map(|it| {
                        let BasicAuth { id, consumer, username, password_hash, .. } = it;
                        (username, Arc::new(BasicEntry { id, consumer, password_hash }))
                    });
                scope.basic = Arc::new(entries.collect());
            }
            Part::Certificates => {
                scope.certificates = Arc::new(self.of_kind::<Certificate>(realm, &prefix).collect());
            }
            Part::Consumers => {
                let entries = self.of_kind::<Consumer>(realm, &prefix).map(|it| {
                    let Consumer { id, name, pipelines, tokens_revoked_before, .. } = it;
                    let subject = id.to_string();
                    (id, Arc::new(ConsumerEntry { id, subject, name, pipelines, tokens_revoked_before }))
                });
                let consumers: ByIds<_, _> = entries.collect();
                let named = consumers.values().map(|it: &Arc<ConsumerEntry>| (it.name.clone(), it.id));
                scope.consumer_ids = Arc::new(named.collect());
                scope.consumers = Arc::new(consumers);
            }
            Part::KeySet => scope.key_set = self.make_key_set(realm, environment).map(Arc::new),
            Part::Issuers => {
                // Named by their keys: one that does not parse answers 503, and is not taken for one that is not there.
                let issuers = self.bodies(realm, Issuer::KIND, &prefix).filter_map(|(key, body)| {
                    let name = IssuerName::parse(key.strip_prefix(&prefix)?).ok()?;
                    let issuer: Result<Issuer, _> = serde_json::from_str(body);
                    let entry = issuer.map(|issuer| Arc::new(IssuerEntry::new(realm, issuer)));
                    Some((name, entry.map_err(|_| unreadable(realm, Issuer::KIND, key))))
                });
                scope.issuers = Arc::new(issuers.collect());
            }
            Part::RevokedTokens => {
                // Read from the keys: a record that does not parse revokes all the same.
                let revoked = self
                    .bodies(realm, TokenRevocation::KIND, &prefix)
                    .filter_map(|(key, _)| key.strip_prefix(&prefix).map(str::to_owned));
                scope.revoked_tokens = Arc::new(revoked.collect::<HashSet<_>>());
            }
            Part::Values => scope.values = self.make_values(realm, environment).map(Arc::new),
            Part::Settings => {
                let realm = self.every::<Realm>(realm, keys::realm(realm).as_str()).next();
                scope.settings = match realm {
                    Some(realm) => realm.map(|it| Arc::new(it.settings)),
                    None => Ok(Arc::default()),
                };
            }
            Part::SensitiveFields => {
                let fields = self.law(realm).and_then(|law| {
                    let fields = law.policies().sensitive_fields(environment).cloned();
                    fields.ok_or_else(|| no_value(environment))
                });
                scope.sensitive_fields = fields.map(Arc::new);
                scope.max_token_lifetime_ms = self.law(realm).and_then(|law| {
                    let rules = law.policies().login_flow_rules(environment);
                    rules.map(|rules| rules.max_token_lifetime_ms.get()).ok_or_else(|| no_value(environment))
                });
            }
        }
    }

    fn make_key_set(&self, realm: &RealmName, environment: &EnvironmentName) -> Result<KeySet, Broken> {
        let mut set = Vec::new();
        for key in self.every::<SigningKey>(realm, &format!("{environment}/")) {
            let key = key?;
            if matches!(key.state, SigningKeyState::Revoked { .. }) {
                continue;
            }
            let broken = || {
                Broken(format!(
                    "signing key {} of {environment} does not open under this master key",
                    key.kid
                ))
            };
            let place = contexts::signing_key(realm, environment, &key.kid);
            let private = self.master.open(&place, &key.sealed_private).map_err(|_| broken())?;
            let private = PrivateKey::from_bytes(key.algorithm, &private).map_err(|_| broken())?;
            set.push(KeySetKey::new(key.kid.clone(), private, key.state));
        }
        if set.is_empty() {
            return Err(Broken(format!("environment {environment} of realm {realm} has no signing key")));
        }
        Ok(KeySet::new(tokens::issuer(realm, environment), tokens::audience(realm, environment), set))
    }

    fn make_values(&self, realm: &RealmName, environment: &EnvironmentName) -> Result<Values, Broken> {
        let prefix = format!("{environment}/");
        let globals = self
            .every::<Global>(realm, &prefix)
            .map(|global| global.map(|it| (it.name.to_string(), it.value)))
            .collect::<Result<Map<_, _>, Broken>>()?;
        let mut accounts = Vec::new();
        for account in self.every::<Account>(realm, &prefix) {
            let account = account?;
            let mut fields = Vec::new();
            for (field, sealed) in &account.fields {
                let place = contexts::account_field(realm, environment, &account.name, field);
                let secret = self
                    .master
                    .open(&place, sealed)
                    .ok()
                    .and_then(|bytes| {
                        std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned()))
                    })
                    .ok_or_else(|| {
                        Broken(format!(
                            "account `{}` of {environment} does not open under this master key",
                            account.name
                        ))
                    })?;
                fields.push((field.clone(), secret));
            }
            accounts.push((account.name.to_string(), fields));
        }
        Ok(Values::new(globals, accounts))
    }
}

/// Tells whether an object that a scope can do without is what its kind says. Those that a scope can't do without
/// make the part broken instead.
pub(super) fn is_readable(kind: Kind, body: &str) -> bool {
    match kind {
        Kind::BasicAuth => serde_json::from_str::<BasicAuth>(body).is_ok(),
        Kind::Certificate => serde_json::from_str::<Certificate>(body).is_ok(),
        Kind::Consumer => serde_json::from_str::<Consumer>(body).is_ok(),
        Kind::Environment => serde_json::from_str::<Environment>(body).is_ok(),
        Kind::Waiver => serde_json::from_str::<Waiver>(body).is_ok(),
        _ => true,
    }
}
