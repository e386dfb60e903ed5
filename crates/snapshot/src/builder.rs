//! From stored objects to snapshots.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Map;
use tollgate_credential::keys::KeyDigest;
use tollgate_credential::keysets::{KeySet, KeySetKey};
use tollgate_credential::private_keys::PrivateKey;
use tollgate_credential::seal::MasterKey;
use tollgate_credential::tokens;
use tollgate_flow::Values;
use tollgate_model::consumers::{ApiKey, BasicAuth, Consumer};
use tollgate_model::deployments::Deployment;
use tollgate_model::environments::Exposure;
use tollgate_model::keysets::{SigningKey, SigningKeyState};
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::objects::{Kind, Object, StoredObject, keys};
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::values::{Account, Global};
use zeroize::Zeroizing;

use crate::endpoints::{Deployed, Schedule, prepare};
use crate::routes::is_exposed;
use crate::scopes::{BasicEntry, ConsumerEntry, KeyEntry};
use crate::{Broken, Routes, Scope, contexts};

/// The kinds of objects that a gateway needs.
pub const KINDS: &[Kind] = &[
    Kind::Account,
    Kind::ApiKey,
    Kind::BasicAuth,
    Kind::Consumer,
    Kind::Deployment,
    Kind::Environment,
    Kind::Global,
    Kind::PipelineVersion,
    Kind::SigningKey,
    Kind::TokenRevocation,
];

/// Everything a gateway needs to answer, as of one entry of the journal.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The journal entry up to which it knows everything.
    pub seq: u64,
    listeners: HashMap<EnvironmentName, [Arc<Routes>; 2]>,
    scopes: HashMap<RealmName, HashMap<EnvironmentName, Arc<Scope>>>,
    schedules: Vec<Arc<Schedule>>,
    problems: Vec<String>,
}

/// One object that a change wrote or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectChange {
    /// The realm that it belongs to.
    pub realm: RealmName,
    /// Its kind.
    pub kind: Kind,
    /// Its key.
    pub key: String,
    /// Its JSON; `None` when it was deleted.
    pub body: Option<String>,
}

/// `(realm, kind, key)`.
type Place = (RealmName, Kind, String);

/// Holds the stored objects and makes snapshots of them.
pub struct Builder {
    master: Arc<MasterKey>,
    pub(crate) objects: BTreeMap<Place, String>,
    deployed: BTreeMap<(RealmName, String), Deployed>,
    snapshot: Arc<Snapshot>,
}

/// What of a snapshot must be made again.
#[derive(Default)]
struct Stale {
    listeners: bool,
    scopes: BTreeSet<(RealmName, EnvironmentName, Part)>,
}

/// A part of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Keys,
    Basic,
    Consumers,
    KeySet,
    RevokedTokens,
    Values,
}

// === impl Part ===

impl Part {
    const EVERY: [Self; 6] =
        [Self::Keys, Self::Basic, Self::Consumers, Self::KeySet, Self::RevokedTokens, Self::Values];
}

// === impl Snapshot ===

impl Snapshot {
    /// Returns the routes of a listener; `None` when there is no such environment.
    pub fn listener(&self, environment: &EnvironmentName, exposure: Exposure) -> Option<&Arc<Routes>> {
        let [external, internal] = self.listeners.get(environment)?;
        Some(match exposure {
            Exposure::External => external,
            Exposure::Internal => internal,
        })
    }

    /// Returns what callers of an environment are checked against.
    pub fn scope(&self, realm: &RealmName, environment: &EnvironmentName) -> Option<&Arc<Scope>> {
        self.scopes.get(realm)?.get(environment)
    }

    /// Returns the deployments that the clock starts.
    pub fn schedules(&self) -> &[Arc<Schedule>] {
        &self.schedules
    }

    /// Returns what is broken, in sentences without secrets.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

// === impl Builder ===

impl Builder {
    /// Makes the snapshot of all objects of [`KINDS`], as of a journal entry.
    pub fn load(seq: u64, objects: Vec<StoredObject>, master: Arc<MasterKey>) -> Self {
        let changes = objects
            .into_iter()
            .map(|it| ObjectChange { realm: it.realm, kind: it.kind, key: it.key, body: Some(it.body) })
            .collect();
        let snapshot = Arc::new(Snapshot::default());
        let mut builder = Self { master, objects: BTreeMap::new(), deployed: BTreeMap::new(), snapshot };
        builder.apply(seq, changes);
        builder
    }

    /// Makes the next snapshot. What the changes do not concern is shared with the one before.
    pub fn apply(&mut self, seq: u64, changes: Vec<ObjectChange>) -> Arc<Snapshot> {
        let mut next = Snapshot::clone(&self.snapshot);
        next.seq = seq;
        let mut stale = Stale::default();
        for change in changes.into_iter().filter(|change| KINDS.contains(&change.kind)) {
            self.take(change, &mut next, &mut stale);
        }
        for (realm, environment, part) in std::mem::take(&mut stale.scopes) {
            self.make_part(&realm, &environment, part, &mut next);
        }
        if stale.listeners {
            self.make_listeners(&mut next);
        }
        next.problems = self.problems(&next);
        self.snapshot = Arc::new(next);
        self.snapshot.clone()
    }

    /// Returns the latest snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        self.snapshot.clone()
    }

    fn take(&mut self, change: ObjectChange, next: &mut Snapshot, stale: &mut Stale) {
        let ObjectChange { realm, kind, key, body } = change;
        let place = (realm.clone(), kind, key.clone());
        let before = match &body {
            Some(body) => self.objects.insert(place, body.clone()),
            None => self.objects.remove(&place),
        };
        let environment = key.split('/').next().and_then(|name| EnvironmentName::parse(name).ok());
        let mut part =
            |part| stale.scopes.extend(environment.clone().map(|name| (realm.clone(), name, part)));
        match kind {
            Kind::Environment => {
                Part::EVERY.into_iter().for_each(part);
                stale.listeners = true;
            }
            Kind::Account | Kind::Global => part(Part::Values),
            Kind::BasicAuth => part(Part::Basic),
            Kind::Consumer => part(Part::Consumers),
            Kind::SigningKey => part(Part::KeySet),
            Kind::TokenRevocation => part(Part::RevokedTokens),
            Kind::ApiKey => {
                if let Some(name) = &environment {
                    replace_key(next, &realm, name, before.as_deref(), body.as_deref());
                }
            }
            Kind::Deployment => {
                let place = (realm.clone(), key);
                match body.as_deref().map(serde_json::from_str::<Deployment>) {
                    Some(Ok(deployment)) => {
                        let version = self.version(&realm, &deployment);
                        self.deployed.insert(place, prepare(&realm, &deployment, version));
                    }
                    Some(Err(_)) | None => drop(self.deployed.remove(&place)),
                }
                stale.listeners = true;
            }
            Kind::PipelineVersion => {
                // Versions are saved before they are deployed and never change; only a load may bring them later.
                let waiting: Vec<_> = self.waiting_for(&realm, &key);
                stale.listeners |= !waiting.is_empty();
                for (place, deployment) in waiting {
                    let version = self.version(&realm, &deployment);
                    self.deployed.insert(place, prepare(&realm, &deployment, version));
                }
            }
            _ => {}
        }
    }

    /// Finds deployments of a version that has just come or gone.
    fn waiting_for(&self, realm: &RealmName, version_key: &str) -> Vec<((RealmName, String), Deployment)> {
        self.of_kind::<Deployment>(realm, "")
            .filter(|it| keys::pipeline_version(&it.pipeline, it.version) == version_key)
            .map(|it| ((realm.clone(), it.key()), it))
            .collect()
    }

    fn version(&self, realm: &RealmName, deployment: &Deployment) -> Result<PipelineVersion, Broken> {
        let key = keys::pipeline_version(&deployment.pipeline, deployment.version);
        let broken = |what: &str| {
            Broken(format!("version {} of `{}` {what}", deployment.version, deployment.pipeline))
        };
        let body = self
            .objects
            .get(&(realm.clone(), Kind::PipelineVersion, key))
            .ok_or_else(|| broken("is deployed and not stored"))?;
        serde_json::from_str(body).map_err(|_| broken("does not parse"))
    }

    /// Returns the objects of a kind whose keys begin with `prefix`; those that do not parse are left out.
    fn of_kind<'a, T: Object + 'a>(
        &'a self,
        realm: &'a RealmName,
        prefix: &'a str,
    ) -> impl Iterator<Item = T> + 'a {
        self.objects
            .range((realm.clone(), T::KIND, prefix.to_owned())..)
            .take_while(move |((of, kind, key), _)| {
                of == realm && *kind == T::KIND && key.starts_with(prefix)
            })
            .filter_map(|(_, body)| serde_json::from_str(body).ok())
    }

    fn make_part(&self, realm: &RealmName, environment: &EnvironmentName, part: Part, next: &mut Snapshot) {
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
                let entries = self.of_kind::<ApiKey>(realm, &prefix).filter_map(key_entry);
                scope.keys = entries.collect();
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
            Part::Consumers => {
                let entries = self.of_kind::<Consumer>(realm, &prefix).map(|it| {
                    let Consumer { id, name, pipelines, tokens_revoked_before, .. } = it;
                    let subject = id.to_string();
                    (id, Arc::new(ConsumerEntry { id, subject, name, pipelines, tokens_revoked_before }))
                });
                scope.consumers = Arc::new(entries.collect());
            }
            Part::KeySet => scope.key_set = self.make_key_set(realm, environment).map(Arc::new),
            Part::RevokedTokens => {
                // Read from the keys: a record that does not parse revokes all the same.
                let kind = Kind::TokenRevocation;
                let revoked = self
                    .objects
                    .range((realm.clone(), kind, prefix.clone())..)
                    .take_while(|((of, found, key), _)| {
                        of == realm && *found == kind && key.starts_with(&prefix)
                    })
                    .filter_map(|((_, _, key), _)| key.strip_prefix(&prefix).map(str::to_owned));
                scope.revoked_tokens = Arc::new(revoked.collect::<HashSet<_>>());
            }
            Part::Values => scope.values = self.make_values(realm, environment).map(Arc::new),
        }
    }

    fn make_key_set(&self, realm: &RealmName, environment: &EnvironmentName) -> Result<KeySet, Broken> {
        let mut set = Vec::new();
        for key in self.of_kind::<SigningKey>(realm, &format!("{environment}/")) {
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
        let globals: Map<_, _> =
            self.of_kind::<Global>(realm, &prefix).map(|it| (it.name.to_string(), it.value)).collect();
        let mut accounts = Vec::new();
        for account in self.of_kind::<Account>(realm, &prefix) {
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

    /// Puts every endpoint behind its listeners.
    ///
    /// Realms share the listeners of an environment. Under `/pipeline/{realm}` they cannot meet; at the root (with
    /// `removePrefix`) the realm that comes first in the alphabet keeps a route, and the other's is reported.
    fn make_listeners(&self, next: &mut Snapshot) {
        let mut listeners: HashMap<EnvironmentName, [Routes; 2]> = HashMap::new();
        for (_, kind, key) in self.objects.keys() {
            if let (Kind::Environment, Ok(name)) = (kind, EnvironmentName::parse(key)) {
                listeners.entry(name).or_default();
            }
        }
        next.schedules.clear();
        for deployed in self.deployed.values() {
            match deployed {
                Deployed::Schedule(schedule) => next.schedules.push(schedule.clone()),
                Deployed::Endpoint(endpoint) => {
                    let Some([external, internal]) = listeners.get_mut(&endpoint.environment) else {
                        continue;
                    };
                    for (exposure, routes) in [(Exposure::External, external), (Exposure::Internal, internal)]
                    {
                        if is_exposed(&endpoint.trigger, exposure) {
                            routes.add(endpoint);
                        }
                    }
                }
            }
        }
        next.listeners = listeners.into_iter().map(|(name, routes)| (name, routes.map(Arc::new))).collect();
    }

    fn problems(&self, snapshot: &Snapshot) -> Vec<String> {
        let flows = self.deployed.values().filter_map(|deployed| match deployed {
            Deployed::Endpoint(endpoint) => endpoint.flow.as_ref().err(),
            Deployed::Schedule(schedule) => schedule.flow.as_ref().err(),
        });
        let scopes = snapshot.scopes.values().flat_map(HashMap::values);
        let parts =
            scopes.flat_map(|scope| [scope.key_set.as_ref().err(), scope.values.as_ref().err()]).flatten();
        let mut problems: Vec<String> = flows.chain(parts).map(|broken| broken.0.clone()).collect();
        problems.sort();
        problems
    }
}

/// Puts one key in the place of another in the index, which shares all others with the one before.
///
/// An environment that does not exist yet has no index; its keys are put there when it comes.
fn replace_key(
    next: &mut Snapshot,
    realm: &RealmName,
    environment: &EnvironmentName,
    before: Option<&str>,
    after: Option<&str>,
) {
    let parse = |body: &str| serde_json::from_str(body).ok().and_then(key_entry);
    let Some(scope) = next.scopes.get_mut(realm).and_then(|scopes| scopes.get_mut(environment)) else {
        return;
    };
    let index = &mut Arc::make_mut(scope).keys;
    if let Some((digest, entry)) = before.and_then(parse)
        && index.get(&digest).is_some_and(|held| held.id == entry.id)
    {
        index.remove(&digest);
    }
    if let Some((digest, entry)) = after.and_then(parse) {
        index.insert(digest, entry);
    }
}

fn key_entry(key: ApiKey) -> Option<(KeyDigest, Arc<KeyEntry>)> {
    let digest = KeyDigest::from_hex(&key.digest).ok()?;
    let ApiKey { id, consumer, expires_at, revoked_at, .. } = key;
    Some((digest, Arc::new(KeyEntry { id, consumer, expires_at, revoked_at })))
}

#[cfg(test)]
mod tests;
