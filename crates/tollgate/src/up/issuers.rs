//! Fetches the keys of issuers outside in the background, and keeps them in `DATA/issuer-keys.json`.
//!
//! No call waits for an issuer. Keys are fetched on a schedule; at once when an issuer is set, when somebody asks for it,
//! or when a call names a key that is not known. What calls ask for is damped: however many ask, an issuer is asked once
//! in five seconds at most, and ever less often while it fails.

mod addresses;
mod fetch;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tollgate_app::issuers::IssuerKeysState;
use tollgate_credential::issuers::IssuerKeys;
use tollgate_model::issuers::Issuer;
use tollgate_model::names::RealmName;
use tollgate_model::sources::Clock;
use tollgate_snapshot::{FetchedKeys, IssuerEntry, KeyRing, KeySource, REFETCH_AFTER, SharedSnapshot};

use fetch::{FetchError, Fetcher};

/// How often is looked whether keys are due.
const TICK: Duration = Duration::from_millis(100);
/// How many issuers are asked at once.
const AT_ONCE: usize = 8;

/// Whoever fetches keys, and what became of it.
pub(crate) struct IssuerTask {
    ring: Arc<KeyRing>,
    shared: Arc<SharedSnapshot>,
    clock: Arc<dyn Clock>,
    path: PathBuf,
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

/// What one attempt gave.
struct Outcome {
    entry: Arc<IssuerEntry>,
    fetched: Result<(IssuerKeys, Vec<u8>), FetchError>,
}

// === impl IssuerTask ===

impl IssuerTask {
    pub(crate) fn new(
        ring: Arc<KeyRing>,
        shared: Arc<SharedSnapshot>,
        clock: Arc<dyn Clock>,
        path: PathBuf,
    ) -> Arc<Self> {
        Arc::new(Self { ring, shared, clock, path, tried: Mutex::default() })
    }

    /// Tells how this process stands with the keys of an issuer.
    pub(crate) fn state(&self, realm: &RealmName, issuer: &Issuer) -> Option<IssuerKeysState> {
        let source = KeySource::of(realm, issuer);
        let keys = self.ring.slot(&source)?.keys();
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner).get(&source).cloned();
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
        let mut kept = self.restore().await;
        let (mut due, mut running) = (HashMap::<KeySource, Due>::new(), JoinSet::<Outcome>::new());
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = shutdown.wait_for(|stop| *stop) => return,
            }
            while let Some(ended) = running.try_join_next() {
                match ended {
                    Ok(outcome) => self.take(outcome, &mut due).await,
                    Err(error) => tracing::error!(%error, "a task panicked"),
                }
            }
            let Some(snapshot) = self.shared.load() else { continue };
            let sources: HashSet<_> = snapshot.issuers().map(|entry| entry.source).collect();
            self.ring.keep(&sources);
            due.retain(|source, _| sources.contains(source));
            self.tried
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|source, _| sources.contains(source));
            for entry in snapshot.issuers() {
                let Some(slot) = self.ring.slot(&entry.source) else { continue };
                let mut wanted = slot.take_wanted();
                let due = due.entry(entry.source).or_insert_with(|| {
                    if let Some(keys) = kept.remove(&entry.source.to_string()) {
                        slot.put(keys);
                    }
                    Due { refresh_asked_at: entry.issuer.refresh_asked_at, ..Due::default() }
                });
                let now = Instant::now();
                if !due.running && due.refresh_asked_at != entry.issuer.refresh_asked_at {
                    // A person asks: at once.
                    due.refresh_asked_at = entry.issuer.refresh_asked_at;
                    due.at = None;
                    due.rests_until = None;
                }
                wanted &= due.rests_until.is_none_or(|rests_until| rests_until <= now);
                if !due.running && running.len() < AT_ONCE && (wanted || due.at.is_none_or(|at| at <= now)) {
                    due.running = true;
                    let (fetcher, entry) = (fetcher.clone(), entry.clone());
                    running.spawn(async move {
                        let fetched = fetcher.fetch(&entry.issuer.settings).await;
                        Outcome { entry, fetched }
                    });
                }
            }
        }
    }

    /// Takes the keys that an attempt gave, and decides when the next one is.
    async fn take(&self, outcome: Outcome, due: &mut HashMap<KeySource, Due>) {
        let Outcome { entry, fetched } = outcome;
        let (Some(due), Some(slot)) = (due.get_mut(&entry.source), self.ring.slot(&entry.source)) else {
            return;
        };
        let IssuerEntry { realm, issuer, .. } = entry.as_ref();
        let (name, environment) = (issuer.name.as_str(), issuer.environment.as_str());
        let refresh = Duration::from_secs(issuer.settings.refresh_seconds.into());
        let rest = REFETCH_AFTER.unsigned_abs();
        let (now, at) = (Instant::now(), self.clock.now());
        due.running = false;
        let error = match fetched {
            Ok((keys, jwks)) => {
                if due.failures > 0 || slot.keys().is_none_or(|before| before.jwks != jwks) {
                    tracing::info!(%realm, environment, issuer = name, keys = ?keys, "the keys of an issuer were fetched");
                }
                slot.put(FetchedKeys { keys, jwks, fetched_at: at });
                (due.failures, due.at, due.rests_until) = (0, Some(now + refresh), Some(now + rest));
                self.save().await;
                None
            }
            Err(error) => {
                let usable = slot.keys().is_some_and(|keys| keys.are_fresh(issuer, at));
                tracing::warn!(%realm, environment, issuer = name, %error, usable,
                    "the keys of an issuer cannot be fetched: older ones count until they are too old");
                let pause = rest.saturating_mul(1 << due.failures.min(10)).min(refresh.max(rest));
                due.failures = due.failures.saturating_add(1);
                (due.at, due.rests_until) = (Some(now + pause), Some(now + pause));
                Some(error.to_string())
            }
        };
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.insert(entry.source, Tried { at, error });
    }

    async fn save(&self) {
        let (ring, path) = (self.ring.clone(), self.path.clone());
        let saved = tokio::task::spawn_blocking(move || ring.save(&path)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "the keys of issuers cannot be saved: a start without these issuers begins without keys");
        }
    }

    async fn restore(&self) -> HashMap<String, FetchedKeys> {
        let path = self.path.clone();
        match tokio::task::spawn_blocking(move || KeyRing::restore(&path)).await {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => HashMap::new(),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the keys of issuers on disk cannot be used");
                HashMap::new()
            }
            Err(_) => HashMap::new(),
        }
    }
}
