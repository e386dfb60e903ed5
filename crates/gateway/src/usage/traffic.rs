//! Counts of calls by deployment, consumer, minute and outcome: what became of them, and how long they took.
//!
//! A call is counted when it has ended, whatever its end. What a known entry costs is one short lock and no allocation: its
//! key is made of ids, and the places of its outcome are those that the metrics use anyway. Names are looked up when the
//! counts are taken. Calls that came to no deployment are counted by realm and environment: they are refusals, which
//! allocate already.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tollgate_model::ids::{ConsumerId, DeploymentId};
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName, RealmName};
use tollgate_model::traffic::{CountedTraffic, DURATION_CLASSES, Measure, TrafficCaller};
use tollgate_snapshot::{ByIds, ConsumerEntry, Endpoint, shard_of};

use super::{SHARDS, shards};
use crate::metrics::Outcome;

/// A call that has ended.
pub(crate) struct EndedCall<'a> {
    pub(crate) to: Destination<'a>,
    pub(crate) consumer: Option<&'a Arc<ConsumerEntry>>,
    pub(crate) outcome: Outcome,
    pub(crate) began: Timestamp,
}

/// Where a call came to.
pub(crate) enum Destination<'a> {
    /// A deployment.
    Endpoint(&'a Arc<Endpoint>),
    /// None, in an environment of a realm.
    Nothing(&'a RealmName, &'a EnvironmentName),
}

/// Counts that were taken.
pub type TrafficCounts = BTreeMap<CountedTraffic, u64>;

/// The counts since they were last taken.
#[derive(Debug)]
pub(super) struct Counters {
    shards: [Mutex<ByIds<CounterKey, Counter>>; SHARDS],
    unrouted: Mutex<HashMap<(RealmName, EnvironmentName, i64), Counts>>,
    callers_in_a_shard: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct CounterKey {
    deployment: DeploymentId,
    caller: Caller,
    minute: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Caller {
    Unknown,
    Consumer(ConsumerId),
    Others,
}

#[derive(Debug)]
struct Counter {
    counts: Counts,
    endpoint: Arc<Endpoint>,
    consumer: Option<Arc<ConsumerEntry>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// By outcome; few of the many that there are.
    outcomes: Vec<(Outcome, u64)>,
    took: [u64; DURATION_CLASSES],
}

// === impl CounterKey ===

impl CounterKey {
    fn shard(&self) -> usize {
        let caller = match self.caller {
            Caller::Consumer(id) => id.as_u128(),
            Caller::Unknown | Caller::Others => 0,
        };
        shard_of::<SHARDS>(self.deployment.as_u128() ^ caller)
    }
}

// === impl Counters ===

impl Counters {
    pub(super) fn new(callers: usize) -> Self {
        Self { shards: shards(), unrouted: Mutex::default(), callers_in_a_shard: callers.div_ceil(SHARDS) }
    }

    /// Counts a call. Once a shard is full, further callers are put together for each deployment.
    pub(super) fn count(&self, call: &EndedCall<'_>) {
        let minute = call.began.as_second().div_euclid(60);
        match call.to {
            Destination::Endpoint(endpoint) => {
                let caller = call.consumer.map_or(Caller::Unknown, |consumer| Caller::Consumer(consumer.id));
                let key = CounterKey { deployment: endpoint.deployment, caller, minute };
                if !self.add(key, call, endpoint, call.consumer) {
                    self.add(CounterKey { caller: Caller::Others, ..key }, call, endpoint, None);
                }
            }
            Destination::Nothing(realm, environment) => {
                let mut unrouted = self.unrouted.lock().unwrap_or_else(PoisonError::into_inner);
                unrouted.entry((realm.clone(), environment.clone(), minute)).or_default().add(call.outcome);
            }
        }
    }

    /// Adds a call to an entry; `false` when there is none and no room for one.
    fn add(
        &self,
        key: CounterKey,
        call: &EndedCall<'_>,
        endpoint: &Arc<Endpoint>,
        consumer: Option<&Arc<ConsumerEntry>>,
    ) -> bool {
        let Some(shard) = self.shards.get(key.shard()) else { return false };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = shard.get_mut(&key) {
            counter.counts.add(call.outcome);
            return true;
        }
        if shard.len() >= self.callers_in_a_shard && matches!(key.caller, Caller::Consumer(_)) {
            return false;
        }
        let mut counts = Counts::default();
        counts.add(call.outcome);
        shard.insert(key, Counter { counts, endpoint: endpoint.clone(), consumer: consumer.cloned() });
        true
    }

    pub(super) fn drain(&self) -> TrafficCounts {
        let mut all = TrafficCounts::new();
        for shard in &self.shards {
            let taken = std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner));
            for (key, Counter { counts, endpoint, consumer }) in taken {
                let caller = match (key.caller, consumer) {
                    (Caller::Consumer(_), Some(consumer)) => caller(&consumer.name),
                    (Caller::Others, _) => TrafficCaller::Others,
                    (Caller::Unknown | Caller::Consumer(_), _) => TrafficCaller::Unknown,
                };
                let pipeline: (PipelineName, u32) = (endpoint.pipeline.clone(), endpoint.version.major);
                counts.drain_into(&mut all, |measure| CountedTraffic {
                    realm: endpoint.realm.clone(),
                    environment: endpoint.environment.clone(),
                    pipeline: Some(pipeline.clone()),
                    minute: key.minute,
                    caller: caller.clone(),
                    measure,
                });
            }
        }
        let unrouted = std::mem::take(&mut *self.unrouted.lock().unwrap_or_else(PoisonError::into_inner));
        for ((realm, environment, minute), counts) in unrouted {
            counts.drain_into(&mut all, |measure| CountedTraffic {
                realm: realm.clone(),
                environment: environment.clone(),
                pipeline: None,
                minute,
                caller: TrafficCaller::Unknown,
                measure,
            });
        }
        all
    }
}

fn caller(name: &ConsumerName) -> TrafficCaller {
    TrafficCaller::Consumer(name.clone())
}

// === impl Counts ===

impl Counts {
    fn add(&mut self, outcome: Outcome) {
        if let Some(took) = self.took.get_mut(outcome.took()) {
            *took += 1;
        }
        match self.outcomes.iter_mut().find(|(of, _)| of.is_same_end(outcome)) {
            Some((_, calls)) => *calls += 1,
            None => self.outcomes.push((outcome, 1)),
        }
    }

    fn drain_into(self, all: &mut TrafficCounts, of: impl Fn(Measure) -> CountedTraffic) {
        for (outcome, calls) in self.outcomes {
            let (class, code) = outcome.end();
            *all.entry(of(Measure::Answer(class))).or_default() += calls;
            if let Some(code) = code {
                *all.entry(of(Measure::Code(class, code.to_owned()))).or_default() += calls;
            }
        }
        for (class, calls) in self.took.into_iter().enumerate().filter(|(_, calls)| *calls > 0) {
            let class = u8::try_from(class).unwrap_or(u8::MAX);
            *all.entry(of(Measure::Took(class))).or_default() += calls;
        }
    }
}
