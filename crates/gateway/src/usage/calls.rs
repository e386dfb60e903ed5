//! Counts of calls by deployment, caller, credentials and minute.
//!
//! What a known entry costs is one short lock and no allocation: its key is made of ids. Names are looked up when the
//! counts are taken.

use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tollgate_model::calls::{CountedCaller, CountedCalls, ShownCredentials};
use tollgate_model::ids::{ConsumerId, CredentialId, DeploymentId};
use tollgate_snapshot::{ByIds, ConsumerEntry, Endpoint, shard_of};

use super::{SHARDS, shards};

/// Callers that are told apart between two drains, in all shards together.
pub(super) const MAX_CALLERS: usize = 65_536;

/// A call that passed the checks.
pub(crate) struct PassedCall<'a> {
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) consumer: Option<&'a Arc<ConsumerEntry>>,
    /// What told who calls, where that was not a token.
    pub(crate) credential: Option<CredentialId>,
    pub(crate) credentials: ShownCredentials,
    pub(crate) now: Timestamp,
}

/// Counts that were taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// How many calls of each.
    pub calls: BTreeMap<CountedCalls, u64>,
    /// How many of them are counted as [`CountedCaller::Others`], because there were too many callers at once.
    pub others: u64,
}

/// The counts since they were last taken.
#[derive(Debug)]
pub(super) struct Counters {
    shards: [Mutex<ByIds<CounterKey, Counter>>; SHARDS],
    callers_in_a_shard: usize,
    others: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct CounterKey {
    deployment: DeploymentId,
    caller: Caller,
    credentials: ShownCredentials,
    minute: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Caller {
    Unknown,
    Consumer(ConsumerId, Option<CredentialId>),
    Others,
}

#[derive(Debug)]
struct Counter {
    calls: u64,
    endpoint: Arc<Endpoint>,
    consumer: Option<Arc<ConsumerEntry>>,
}

// === impl CounterKey ===

impl CounterKey {
    fn shard(&self) -> usize {
        let caller = match self.caller {
            Caller::Consumer(id, _) => id.as_u128(),
            Caller::Unknown | Caller::Others => 0,
        };
        shard_of::<SHARDS>(self.deployment.as_u128() ^ caller)
    }
}

// === impl Counters ===

impl Counters {
    pub(super) fn new(callers: usize) -> Self {
        Self { shards: shards(), callers_in_a_shard: callers.div_ceil(SHARDS), others: AtomicU64::new(0) }
    }

    /// Counts a call. Once a shard is full, further callers are put together for each deployment: memory is bounded by
    /// the number of callers told apart and of deployments that exist.
    pub(super) fn count(&self, call: &PassedCall<'_>) {
        let key = CounterKey {
            deployment: call.endpoint.deployment,
            caller: call
                .consumer
                .map_or(Caller::Unknown, |consumer| Caller::Consumer(consumer.id, call.credential)),
            credentials: call.credentials,
            minute: call.now.as_second().div_euclid(60),
        };
        if self.add(key, call, call.consumer) {
            return;
        }
        self.others.fetch_add(1, Ordering::Relaxed);
        self.add(CounterKey { caller: Caller::Others, ..key }, call, None);
    }

    /// Adds a call to an entry; `false` when there is none and no room for one.
    fn add(&self, key: CounterKey, call: &PassedCall<'_>, consumer: Option<&Arc<ConsumerEntry>>) -> bool {
        let Some(shard) = self.shards.get(key.shard()) else { return false };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let full = shard.len() >= self.callers_in_a_shard && matches!(key.caller, Caller::Consumer(..));
        match shard.entry(key) {
            Entry::Occupied(mut entry) => {
                let counter = entry.get_mut();
                counter.calls = counter.calls.saturating_add(1);
            }
            Entry::Vacant(_) if full => return false,
            Entry::Vacant(entry) => {
                entry.insert(Counter {
                    calls: 1,
                    endpoint: call.endpoint.clone(),
                    consumer: consumer.cloned(),
                });
            }
        }
        true
    }

    pub(super) fn drain(&self) -> CallCounts {
        let mut counts =
            CallCounts { others: self.others.swap(0, Ordering::Relaxed), ..CallCounts::default() };
        for shard in &self.shards {
            let taken = std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner));
            for (key, Counter { calls, endpoint, consumer }) in taken {
                let caller = match (key.caller, consumer) {
                    (Caller::Consumer(_, credential), Some(consumer)) => {
                        CountedCaller::Consumer(consumer.name.clone(), credential)
                    }
                    (Caller::Others, _) => CountedCaller::Others,
                    (Caller::Unknown | Caller::Consumer(..), _) => CountedCaller::Unknown,
                };
                let of = CountedCalls {
                    realm: endpoint.realm.clone(),
                    environment: endpoint.environment.clone(),
                    pipeline: endpoint.pipeline.clone(),
                    major: endpoint.version.major,
                    minute: key.minute,
                    caller,
                    credentials: key.credentials,
                };
                // A deployment that was taken away and made again has another id and the same name.
                *counts.calls.entry(of).or_default() += calls;
            }
        }
        counts
    }
}
