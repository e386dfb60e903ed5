//! Fetches the keys of issuers outside in the background, and keeps them in `DATA/issuer-keys.json`.
//!
//! No call waits for an issuer. Keys are fetched on a schedule; at once when an issuer is set, when somebody asks for it,
//! or when a call names a key that is not known. What calls ask for is damped: however many ask, an issuer is asked once
//! in five seconds at most, and ever less often while it fails.
//!
//! A start begins with the keys on disk, before the first call. The process is ready once each issuer was asked, or has keys
//! that count.

mod addresses;
mod fetch;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tollgate_app::issuers::IssuerKeysState;
use tollgate_credential::issuers::IssuerKeys;
use tollgate_model::issuers::Issuer;
use tollgate_model::names::RealmName;
use tollgate_model::sources::Clock;
use tollgate_snapshot::{
    FetchedKeys, IssuerEntry, KeyRing, KeySource, REFETCH_AFTER, SharedSnapshot, Snapshot,
};

use fetch::{FetchError, Fetcher};

/// How often is looked whether keys are due.
const TICK: Duration = Duration::from_millis(100);
/// How many issuers are asked at once.
const AT_ONCE: usize = 8;
/// How long an issuer is left alone after an attempt, however many calls ask.
const REST: Duration = REFETCH_AFTER.unsigned_abs();
/// How long a start waits for issuers that do not answer.
const LONGEST_START: Duration = Duration::from_secs(30);

/// Whoever fetches keys, and what became of it.
pub(crate) struct IssuerTask {
    ring: Arc<KeyRing>,
    shared: Arc<SharedSnapshot>,
    clock: Arc<dyn Clock>,
    path: PathBuf,
    /// What was on disk at the start, by the text of its source, and has no place yet.
    kept: Mutex<HashMap<String, FetchedKeys>>,
    tried: Mutex<HashMap<KeySource, Tried>>,
}

/// The last attempt to fetch the keys of an issuer.
#[derive(Debug, Clone)]
struct Tried {
    at: Timestamp,
    error: Option<String>,
}

/// When the keys of an issuer are fetched next.
#[derive(Debug, Clone, Default)]
struct Due {
    /// At the start of the process: at once.
    at: Option<Instant>,
    /// Not before, whoever asks.
    rests_until: Option<Instant>,
    failures: u32,
    refresh_asked_at: Option<Timestamp>,
    running: bool,
}

/// What one attempt gave: keys, and the text that they were read from.
type Fetched = Result<(IssuerKeys, Vec<u8>), FetchError>;

// === impl IssuerTask ===

impl IssuerTask {
    pub(crate) fn new(
        ring: Arc<KeyRing>,
        shared: Arc<SharedSnapshot>,
        clock: Arc<dyn Clock>,
        path: PathBuf,
    ) -> Arc<Self> {
        Arc::new(Self { ring, shared, clock, path, kept: Mutex::default(), tried: Mutex::default() })
    }

    /// Reads the keys on disk, and puts those in place that the snapshot on disk knows: calls begin with them.
    pub(crate) async fn restore(&self) {
        let path = self.path.clone();
        let kept = match tokio::task::spawn_blocking(move || KeyRing::restore(&path)).await {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => return,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the keys of issuers on disk cannot be used");
                return;
            }
            Err(_) => return,
        };
        *lock(&self.kept) = kept;
        if let Some(snapshot) = self.shared.load() {
            self.make_places(&snapshot);
        }
    }

    /// Waits until each issuer was asked or has keys that count, 30 seconds at most.
    pub(crate) async fn begun(&self) {
        let all = async {
            while !self.shared.load().is_some_and(|snapshot| self.are_settled(&snapshot)) {
                tokio::time::sleep(TICK).await;
            }
        };
        if tokio::time::timeout(LONGEST_START, all).await.is_err() {
            tracing::warn!("issuers do not answer: calls begin without their keys");
        }
    }

    /// Tells how this process stands with the keys of an issuer.
    pub(crate) fn state(&self, realm: &RealmName, issuer: &Issuer) -> Option<IssuerKeysState> {
        let source = KeySource::of(realm, issuer);
        let keys = self.ring.slot(&source)?.keys();
        let tried = lock(&self.tried).get(&source).cloned();
        let names = keys.iter().flat_map(|keys| keys.keys.names(&issuer.settings.algorithms));
        Some(IssuerKeysState {
            fetched_at: keys.as_ref().map(|keys| keys.fetched_at),
            usable: keys.as_ref().is_some_and(|keys| keys.are_fresh(issuer, self.clock.now())),
            keys: names.map(|(kid, algorithm)| (kid.map(str::to_owned), algorithm.to_string())).collect(),
            tried_at: tried.as_ref().map(|tried| tried.at),
            error: tried.and_then(|tried| tried.error),
        })
    }

    /// Fetches keys until `shutdown` turns true.
    pub(crate) async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let fetcher = match Fetcher::new() {
            Ok(fetcher) => Arc::new(fetcher),
            Err(error) => {
                tracing::error!(%error, "no keys of issuers can be fetched");
                return;
            }
        };
        let (mut due, mut running) = (HashMap::<KeySource, Due>::new(), JoinSet::<Fetched>::new());
        let mut asked = HashMap::<Id, Arc<IssuerEntry>>::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut began_at = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
            while let Some(ended) = running.try_join_next_with_id() {
                let (id, fetched) = match ended {
                    Ok(ended) => ended,
                    // What an issuer says made it panic: an attempt like any other that failed.
                    Err(error) => (error.id(), Err(FetchError::Panicked)),
                };
                if let Some(entry) = asked.remove(&id) {
                    self.take(&entry, fetched, &mut due).await;
                }
            }
            let Some(snapshot) = self.shared.load() else { continue };
            let (sources, now) = (self.make_places(&snapshot), Instant::now());
            due.retain(|source, _| sources.contains(source));
            lock(&self.tried).retain(|source, _| sources.contains(source));
            for entry in snapshot.issuers() {
                let Some(slot) = self.ring.slot(&entry.source) else { continue };
                let (wanted, asked_at) = (slot.take_wanted(), entry.issuer.refresh_asked_at);
                let due = due.entry(entry.source).or_insert_with(|| Due::at_once(asked_at));
                if running.len() < AT_ONCE && due.begins(wanted, asked_at, now) {
                    let (fetcher, settings) = (fetcher.clone(), entry.issuer.settings.clone());
                    let task = running.spawn(async move { fetcher.fetch(&settings).await });
                    asked.insert(task.id(), entry.clone());
                }
            }
            let waited = now.duration_since(*began_at.get_or_insert(now));
            if !self.ring.has_begun() && (self.are_settled(&snapshot) || waited >= LONGEST_START) {
                self.ring.begin();
            }
        }
    }

    /// Has a place for the keys of each issuer, with those in it that were on disk; returns where keys come from.
    fn make_places(&self, snapshot: &Snapshot) -> HashSet<KeySource> {
        let sources: HashSet<_> = snapshot.issuers().map(|entry| entry.source).collect();
        self.ring.keep(&sources);
        let mut kept = lock(&self.kept);
        if !kept.is_empty() {
            for source in &sources {
                let slot = self.ring.slot(source).filter(|slot| slot.keys().is_none());
                if let (Some(keys), Some(slot)) = (kept.remove(&source.to_string()), slot) {
                    slot.put(keys);
                }
            }
        }
        sources
    }

    /// Tells whether each issuer was asked once, or has keys that count.
    fn are_settled(&self, snapshot: &Snapshot) -> bool {
        let (tried, now) = (lock(&self.tried), self.clock.now());
        snapshot.issuers().all(|entry| tried.contains_key(&entry.source) || self.ring.has_keys_of(entry, now))
    }

    /// Takes the keys that an attempt gave, and decides when the next one is.
    async fn take(&self, entry: &IssuerEntry, fetched: Fetched, due: &mut HashMap<KeySource, Due>) {
        let (Some(due), Some(slot)) = (due.get_mut(&entry.source), self.ring.slot(&entry.source)) else {
            return;
        };
        let IssuerEntry { realm, issuer, .. } = entry;
        let (name, environment) = (issuer.name.as_str(), issuer.environment.as_str());
        let refresh = Duration::from_secs(issuer.settings.refresh_seconds.into());
        let (now, at) = (Instant::now(), self.clock.now());
        let error = match fetched {
            Ok((keys, jwks)) => {
                if due.failures > 0 || slot.keys().is_none_or(|before| before.jwks != jwks) {
                    tracing::info!(%realm, environment, issuer = name, keys = ?keys, "the keys of an issuer were fetched");
                }
                slot.put(FetchedKeys { keys, jwks, fetched_at: at });
                due.succeeded(refresh, now);
                self.save().await;
                None
            }
            Err(error) => {
                let usable = slot.keys().is_some_and(|keys| keys.are_fresh(issuer, at));
                tracing::warn!(%realm, environment, issuer = name, %error, usable,
                    "the keys of an issuer cannot be fetched: older ones count until they are too old");
                due.failed(refresh, now);
                Some(error.to_string())
            }
        };
        lock(&self.tried).insert(entry.source, Tried { at, error });
    }

    async fn save(&self) {
        let (ring, path) = (self.ring.clone(), self.path.clone());
        let saved = tokio::task::spawn_blocking(move || ring.save(&path)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "the keys of issuers cannot be saved: a start without these issuers begins without keys");
        }
    }
}

// === impl Due ===

impl Due {
    fn at_once(refresh_asked_at: Option<Timestamp>) -> Self {
        Self { refresh_asked_at, ..Self::default() }
    }

    /// Tells whether keys are fetched now, which then runs: at their time, when a person asks, or when a call `wanted` them.
    fn begins(&mut self, wanted: bool, refresh_asked_at: Option<Timestamp>, now: Instant) -> bool {
        if self.running {
            return false;
        }
        if self.refresh_asked_at != refresh_asked_at {
            // A person asks: at once.
            *self = Self { failures: self.failures, ..Self::at_once(refresh_asked_at) };
        }
        let rests = self.rests_until.is_some_and(|until| now < until);
        self.running = (wanted && !rests) || self.at.is_none_or(|at| at <= now);
        self.running
    }

    /// Keys were fetched: the next are at their time, and none sooner than in a while, whoever asks.
    fn succeeded(&mut self, refresh: Duration, now: Instant) {
        self.running = false;
        (self.failures, self.at, self.rests_until) = (0, Some(now + refresh), Some(now + REST));
    }

    /// They were not: each pause is twice the one before, up to the time between two fetches.
    fn failed(&mut self, refresh: Duration, now: Instant) {
        self.running = false;
        let pause = REST.saturating_mul(1 << self.failures.min(10)).min(refresh.max(REST));
        self.failures = self.failures.saturating_add(1);
        (self.at, self.rests_until) = (Some(now + pause), Some(now + pause));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
