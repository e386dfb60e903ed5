//! From stored objects to snapshots.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use imbl::OrdMap;
use jiff::Timestamp;
use tollgate_credential::seal::MasterKey;
use tollgate_model::deployments::Deployment;
use tollgate_model::environments::{Environment, Exposure};
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::objects::{Kind, Object, StoredObject, keys};
use tollgate_model::pipelines::PipelineVersion;

use crate::builder::api_keys::{Home, KeyChanges};
use crate::builder::parts::is_readable;
use crate::endpoints::{Deployed, Endpoint, Placed, Schedule, prepare};
use crate::enforcement::Law;
use crate::routes::is_exposed;
use crate::{Broken, ByIds, ConsumerEntry, IssuerEntry, KeyEntry, Keys, Routes, Scope};

pub(crate) mod api_keys;
mod judging;
mod loading;
mod parts;

pub use loading::Loading;

/// The kinds of objects that a gateway needs.
pub const KINDS: &[Kind] = &[
    Kind::Account,
    Kind::ApiKey,
    Kind::BasicAuth,
    Kind::Certificate,
    Kind::Consumer,
    Kind::Deployment,
    Kind::Environment,
    Kind::Global,
    Kind::Issuer,
    Kind::PipelineVersion,
    Kind::Policies,
    Kind::Realm,
    Kind::SigningKey,
    Kind::TokenRevocation,
    Kind::Waiver,
];

/// Everything a gateway needs to answer, as of one entry of the journal.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The journal entry up to which it knows everything.
    pub seq: u64,
    listeners: ByIds<EnvironmentName, [Arc<Routes>; 2]>,
    scopes: ByIds<RealmName, ByIds<EnvironmentName, Arc<Scope>>>,
    schedules: Vec<Arc<Schedule>>,
    addresses: Arc<BTreeMap<SocketAddr, (EnvironmentName, Exposure)>>,
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
pub(crate) type Place = (RealmName, Kind, String);

/// Holds the stored objects and makes snapshots of them.
pub struct Builder {
    master: Arc<MasterKey>,
    /// All but API keys. Persistent, so that an image of it costs nothing while changes go on.
    objects: OrdMap<Place, Arc<str>>,
    /// API keys, also those of environments that are not there (any more).
    keys: BTreeMap<Home, Keys>,
    deployed: BTreeMap<(RealmName, String), Deployed>,
    /// What each realm judges by.
    laws: HashMap<RealmName, Result<Law, Broken>>,
    /// Credentials, consumers and waivers that do not parse, which let nobody in; and environments, which listen
    /// nowhere.
    unreadable: BTreeSet<Place>,
    /// Sentences about routes that another deployment holds.
    taken: Vec<String>,
    snapshot: Arc<Snapshot>,
}

/// What of a snapshot must be made again.
#[derive(Default)]
struct Stale {
    keys: KeyChanges,
    listeners: bool,
    /// Keys of deployments.
    deployments: BTreeSet<(RealmName, String)>,
    /// Keys of pipeline versions, which concern whatever deploys them.
    versions: BTreeSet<(RealmName, String)>,
    /// Realms whose policies or waivers changed.
    laws: BTreeSet<RealmName>,
    /// What the deployments to be judged have keys that begin with.
    judged: BTreeSet<(RealmName, String)>,
    scopes: BTreeSet<(RealmName, EnvironmentName, Part)>,
}

/// A part of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Keys,
    Basic,
    Certificates,
    Consumers,
    KeySet,
    Issuers,
    RevokedTokens,
    Values,
    SensitiveFields,
    Settings,
}

// === impl Part ===

impl Part {
    const EVERY: [Self; 10] = [
        Self::Keys,
        Self::Basic,
        Self::Certificates,
        Self::Consumers,
        Self::KeySet,
        Self::Issuers,
        Self::RevokedTokens,
        Self::Values,
        Self::SensitiveFields,
        Self::Settings,
    ];
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

    /// Tells whether an environment can be called: in one realm at least its key set and the policies are loaded, and
    /// with them everything else.
    pub fn is_ready(&self, environment: &EnvironmentName) -> bool {
        let scopes = self.scopes.values().filter_map(|scopes| scopes.get(environment));
        // What the policies say of an environment is there as soon as they are.
        scopes.into_iter().any(|scope| scope.key_set.is_ok() && scope.sensitive_fields.is_ok())
    }

    /// Returns what callers are checked against, of every environment of every realm.
    pub fn scopes(&self) -> impl Iterator<Item = &Arc<Scope>> {
        self.scopes.values().flat_map(ByIds::values)
    }

    /// Returns every issuer outside whose tokens are taken somewhere.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<IssuerEntry>> {
        self.scopes().flat_map(|scope| scope.issuers.values()).filter_map(|entry| entry.as_ref().ok())
    }

    /// Returns the realms that have environments.
    pub fn realms(&self) -> impl Iterator<Item = &RealmName> {
        self.scopes.keys()
    }

    /// Returns the keys of a realm that work at a moment and stop working by themselves until another, with whose they are.
    pub fn expiring_keys(
        &self,
        realm: &RealmName,
        now: Timestamp,
        until: Timestamp,
    ) -> impl Iterator<Item = (&Arc<Scope>, &Arc<ConsumerEntry>, KeyEntry, Timestamp)> {
        let scopes = self.scopes.get(realm).into_iter().flat_map(|scopes| scopes.values());
        let keys = scopes.flat_map(|scope| scope.keys.expiring().map(move |key| (scope, key)));
        keys.filter_map(move |(scope, key)| {
            let at = key.expires_at.filter(|at| now < *at && *at <= until)?;
            Some((scope, scope.consumers.get(&key.consumer)?, key, at))
        })
    }

    /// Returns the deployments that the clock starts.
    pub fn schedules(&self) -> &[Arc<Schedule>] {
        &self.schedules
    }

    /// Returns the stored addresses of the environments' listeners, of all realms together: what listens there offers
    /// the environment's pipelines of every realm.
    pub fn addresses(&self) -> &Arc<BTreeMap<SocketAddr, (EnvironmentName, Exposure)>> {
        &self.addresses
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
        let mut loading = Loading::new(master);
        objects.into_iter().for_each(|object| loading.add(object));
        loading.finish(seq)
    }

    /// Makes the next snapshot. What the changes do not concern is shared with the one before.
    pub fn apply(&mut self, seq: u64, changes: Vec<ObjectChange>) -> Arc<Snapshot> {
        let mut next = Snapshot::clone(&self.snapshot);
        next.seq = seq;
        let mut changes = changes.into_iter().filter(|change| KINDS.contains(&change.kind)).peekable();
        if changes.peek().is_none() {
            // Everything is shared, and as broken as it was.
            self.snapshot = Arc::new(next);
            return self.snapshot.clone();
        }
        let mut stale = Stale::default();
        for change in changes {
            self.take(change, &mut stale);
        }
        self.make(next, stale)
    }

    /// Makes what is stale, and with it the next snapshot.
    fn make(&mut self, mut next: Snapshot, mut stale: Stale) -> Arc<Snapshot> {
        self.make_keys(&mut stale, &mut next);
        self.make_laws(&mut stale);
        for (realm, environment, part) in std::mem::take(&mut stale.scopes) {
            self.make_part(&realm, &environment, part, &mut next);
        }
        self.make_deployments(&mut stale);
        self.judge_deployments(&mut stale);
        if stale.listeners {
            self.make_listeners(&mut next);
        }
        next.problems = self.problems(&next);
        self.snapshot = Arc::new(next);
        self.snapshot.clone()
    }

    pub(crate) fn objects(&self) -> &OrdMap<Place, Arc<str>> {
        &self.objects
    }

    pub(crate) fn keys(&self) -> &BTreeMap<Home, Keys> {
        &self.keys
    }

    /// Returns the keys of stored API keys that do not parse.
    pub(crate) fn unreadable_keys(&self) -> impl Iterator<Item = (&RealmName, &str)> {
        let keys = self.unreadable.iter().filter(|(_, kind, _)| *kind == Kind::ApiKey);
        keys.map(|(realm, _, key)| (realm, key.as_str()))
    }

    pub(crate) fn master(&self) -> &Arc<MasterKey> {
        &self.master
    }

    /// Returns the latest snapshot.
    pub fn current(&self) -> Arc<Snapshot> {
        self.snapshot.clone()
    }

    fn take(&mut self, change: ObjectChange, stale: &mut Stale) {
        let ObjectChange { realm, kind, key, body } = change;
        if kind == Kind::ApiKey {
            return self.take_key(realm, key, body.as_deref(), stale);
        }
        let place = (realm.clone(), kind, key.clone());
        if body.as_deref().is_none_or(|body| is_readable(kind, body)) {
            self.unreadable.remove(&place);
        } else {
            self.unreadable.insert(place.clone());
        }
        match &body {
            Some(body) => self.objects.insert(place, body.as_str().into()),
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
            Kind::Certificate => part(Part::Certificates),
            Kind::Consumer => part(Part::Consumers),
            Kind::Issuer => part(Part::Issuers),
            Kind::SigningKey => part(Part::KeySet),
            Kind::TokenRevocation => part(Part::RevokedTokens),
            Kind::Realm => {
                let environments = self.bodies(&realm, Kind::Environment, "");
                let names = environments.filter_map(|(key, _)| EnvironmentName::parse(key).ok());
                stale.scopes.extend(names.map(|name| (realm.clone(), name, Part::Settings)));
            }
            Kind::Deployment => drop(stale.deployments.insert((realm, key))),
            Kind::PipelineVersion => drop(stale.versions.insert((realm, key))),
            Kind::Policies => {
                stale.laws.insert(realm.clone());
                stale.judged.insert((realm, String::new()));
            }
            Kind::Waiver => {
                stale.laws.insert(realm.clone());
                let pipeline = key.rsplit_once('/').map(|(pipeline, _)| format!("{pipeline}/"));
                stale.judged.insert((realm, pipeline.unwrap_or_default()));
            }
            _ => {}
        }
    }

    /// Makes what was deployed ready. After all objects were taken, so that each flow is compiled once, however many
    /// objects come and in whatever order.
    fn make_deployments(&mut self, stale: &mut Stale) {
        if !stale.versions.is_empty() {
            let concerned = self.deployed.iter().filter(|((realm, _), deployed)| {
                stale.versions.contains(&(realm.clone(), deployed.version_key()))
            });
            stale.deployments.extend(concerned.map(|(place, _)| place.clone()));
        }
        stale.listeners |= !stale.deployments.is_empty();
        stale.judged.extend(stale.deployments.iter().cloned());
        for (realm, key) in std::mem::take(&mut stale.deployments) {
            match self.make_deployment(&realm, &key) {
                Some(deployed) => self.deployed.insert((realm, key), deployed),
                None => self.deployed.remove(&(realm, key)),
            };
        }
    }

    fn make_deployment(&self, realm: &RealmName, key: &str) -> Option<Deployed> {
        let body = self.objects.get(&(realm.clone(), Kind::Deployment, key.to_owned()))?;
        let (placed, version) = match serde_json::from_str::<Deployment>(body) {
            Ok(deployment) => (Placed::from(&deployment), self.version(realm, &deployment)),
            Err(_) => (Placed::of_key(key)?, Err(unreadable(realm, Kind::Deployment, key))),
        };
        Some(prepare(realm, &placed, version))
    }

    fn version(&self, realm: &RealmName, deployment: &Deployment) -> Result<PipelineVersion, Broken> {
        let key = keys::pipeline_version(&deployment.pipeline, deployment.version);
        let body =
            self.objects.get(&(realm.clone(), Kind::PipelineVersion, key.clone())).ok_or_else(|| {
                Broken(format!(
                    "version {} of `{}` is deployed and not stored",
                    deployment.version, deployment.pipeline
                ))
            })?;
        serde_json::from_str(body).map_err(|_| unreadable(realm, Kind::PipelineVersion, &key))
    }

    /// Returns keys and JSON of the objects of a kind whose keys begin with `prefix`.
    fn bodies<'a>(
        &'a self,
        realm: &'a RealmName,
        kind: Kind,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.objects
            .range((realm.clone(), kind, prefix.to_owned())..)
            .take_while(move |((of, found, key), _)| of == realm && *found == kind && key.starts_with(prefix))
            .map(|((_, _, key), body)| (key.as_str(), body.as_ref()))
    }

    /// Returns the objects of a kind in all realms: realm, key and JSON. Others are passed over, however many there are.
    fn of_every_realm(&self, kind: Kind) -> impl Iterator<Item = (&RealmName, &str, &str)> {
        let first = self.objects.keys().next().map(|(realm, ..)| realm);
        let realms = std::iter::successors(first, move |realm| {
            // No key holds the last code point.
            let last =
                (RealmName::clone(realm), KINDS.last().copied().unwrap_or(kind), char::MAX.to_string());
            self.objects.range(last..).next().map(|((realm, ..), _)| realm)
        });
        realms.flat_map(move |realm| self.bodies(realm, kind, "").map(move |(key, body)| (realm, key, body)))
    }

    /// Returns the objects of a kind, for parts that are broken when one of them does not parse.
    fn every<'a, T: Object + 'a>(
        &'a self,
        realm: &'a RealmName,
        prefix: &'a str,
    ) -> impl Iterator<Item = Result<T, Broken>> + 'a {
        self.bodies(realm, T::KIND, prefix)
            .map(move |(key, body)| serde_json::from_str(body).map_err(|_| unreadable(realm, T::KIND, key)))
    }

    /// Returns the objects of a kind without those that do not parse.
    fn of_kind<'a, T: Object + 'a>(
        &'a self,
        realm: &'a RealmName,
        prefix: &'a str,
    ) -> impl Iterator<Item = T> + 'a {
        self.every(realm, prefix).filter_map(Result::ok)
    }

    /// Puts every endpoint behind its listeners.
    ///
    /// Realms share the listeners of an environment. Under `/pipeline/{realm}` they cannot meet; at the root (with
    /// `removePrefix`) the realm that comes first in the alphabet keeps a route, and the other's is reported.
    fn make_listeners(&mut self, next: &mut Snapshot) {
        let mut listeners: ByIds<EnvironmentName, [Routes; 2]> = ByIds::default();
        for (_, key, _) in self.of_every_realm(Kind::Environment) {
            if let Ok(name) = EnvironmentName::parse(key) {
                listeners.entry(name).or_default();
            }
        }
        next.schedules.clear();
        self.taken.clear();
        next.addresses = Arc::new(self.make_addresses());
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
                            let taken = routes.add(endpoint);
                            self.taken.extend(taken.iter().map(|path| taken_route(endpoint, exposure, path)));
                        }
                    }
                }
            }
        }
        next.listeners = listeners.into_iter().map(|(name, routes)| (name, routes.map(Arc::new))).collect();
    }

    /// Finds where environments listen. Two realms may give one environment two addresses: both are listened on, and
    /// each offers the pipelines of both realms. Of two environments with one address the first keeps it.
    fn make_addresses(&mut self) -> BTreeMap<SocketAddr, (EnvironmentName, Exposure)> {
        let mut addresses: BTreeMap<SocketAddr, (EnvironmentName, Exposure)> = BTreeMap::new();
        let mut taken = Vec::new();
        for (realm, _, body) in self.of_every_realm(Kind::Environment) {
            let Ok(environment) = serde_json::from_str::<Environment>(body) else { continue };
            for (exposure, address) in environment.listeners {
                let listener = (environment.name.clone(), exposure);
                let holder = addresses.entry(address).or_insert_with(|| listener.clone());
                if *holder != listener {
                    taken.push(format!(
                        "address {address} of {} of realm `{realm}` is taken by environment `{}`",
                        environment.name, holder.0
                    ));
                }
            }
        }
        self.taken.extend(taken);
        addresses
    }

    fn problems(&self, snapshot: &Snapshot) -> Vec<String> {
        let flows = self.deployed.values().filter_map(|deployed| match deployed {
            Deployed::Endpoint(endpoint) => endpoint.flow.as_ref().err(),
            Deployed::Schedule(schedule) => schedule.flow.as_ref().err(),
        });
        let scopes = snapshot.scopes.values().flat_map(ByIds::values);
        let parts = scopes.flat_map(|scope| {
            let Scope { key_set, values, sensitive_fields, settings, issuers, .. } = scope.as_ref();
            let parts = [
                key_set.as_ref().err(),
                values.as_ref().err(),
                sensitive_fields.as_ref().err(),
                settings.as_ref().err(),
            ];
            parts.into_iter().flatten().chain(issuers.values().filter_map(|entry| entry.as_ref().err()))
        });
        let mut problems: Vec<String> = flows.chain(parts).map(|broken| broken.0.clone()).collect();
        problems.extend(self.unreadable.iter().map(|(realm, kind, key)| unreadable(realm, *kind, key).0));
        problems.extend(self.taken.iter().cloned());
        problems.sort();
        problems.dedup();
        problems
    }
}

fn unreadable(realm: &RealmName, kind: Kind, key: &str) -> Broken {
    Broken(format!("stored {kind} `{key}` of realm `{realm}` does not parse"))
}

fn taken_route(endpoint: &Endpoint, exposure: Exposure, path: &str) -> String {
    let Endpoint { realm, environment, pipeline, version, .. } = endpoint;
    format!(
        "route `{path}` of `{pipeline}` {version} of realm `{realm}` is taken by another deployment on the {} listener of {environment}",
        exposure.as_str()
    )
}

#[cfg(test)]
mod tests;
