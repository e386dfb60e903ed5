//! What calls leave behind for others to write down: when each credential of a consumer was last used, how many calls there
//! were, and what became of them.

mod calls;
mod traffic;

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use tollgate_model::ids::CredentialId;
use tollgate_snapshot::{ByIds, shard_of};

pub use calls::CallCounts;
pub(crate) use calls::PassedCall;
pub use traffic::TrafficCounts;
pub(crate) use traffic::{Destination, EndedCall};

const SHARDS: usize = 32;

type Noted = ByIds<CredentialId, Timestamp>;

/// What was noted since the notes were last taken.
#[derive(Debug)]
pub struct Usage {
    shards: [Mutex<Noted>; SHARDS],
    calls: calls::Counters,
    traffic: traffic::Counters,
}

// === impl Usage ===

impl Usage {
    /// Returns notes without an entry.
    pub fn new() -> Self {
        Self::telling_apart(calls::MAX_CALLERS)
    }

    /// Returns notes that tell about so many callers apart; calls of further ones are counted together.
    pub fn telling_apart(callers: usize) -> Self {
        Self {
            shards: shards(),
            calls: calls::Counters::new(callers),
            traffic: traffic::Counters::new(callers),
        }
    }

    /// Notes a use. A shard is locked for one insertion; memory is bounded by the number of credentials that exist.
    pub(crate) fn note(&self, credential: CredentialId, now: Timestamp) {
        if let Some(shard) = self.shards.get(shard_of::<SHARDS>(credential.as_u128())) {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.entry(credential).and_modify(|last| *last = (*last).max(now)).or_insert(now);
        }
    }

    /// Counts a call that passed the checks.
    pub(crate) fn count(&self, call: &PassedCall<'_>) {
        self.calls.count(call);
    }

    /// Counts a call that has ended.
    pub(crate) fn end(&self, call: &EndedCall<'_>) {
        self.traffic.count(call);
    }

    /// Takes the notes: every credential used since the last call, with its last use.
    pub fn drain(&self) -> Vec<(CredentialId, Timestamp)> {
        self.shards
            .iter()
            .flat_map(|shard| std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner)))
            .collect()
    }

    /// Takes the counts: the calls since the last call.
    pub fn drain_calls(&self) -> CallCounts {
        self.calls.drain()
    }

    /// Takes the counts of what became of calls since the last call.
    pub fn drain_traffic(&self) -> TrafficCounts {
        self.traffic.drain()
    }
}

impl Default for Usage {
    fn default() -> Self {
        Self::new()
    }
}

fn shards<T: Default>() -> [Mutex<T>; SHARDS] {
    std::array::from_fn(|_| Mutex::default())
}

#[cfg(test)]
mod tests {
    use tollgate_model::ids::{BasicAuthId, CertificateId, KeyId};

    use super::*;

    #[test]
    fn notes_keep_the_last_use_and_are_taken_once() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        // The same number, in ids of three kinds.
        let all: [CredentialId; 3] = [
            KeyId::new(at(1), [1; 10]).into(),
            CertificateId::new(at(1), [1; 10]).into(),
            BasicAuthId::new(at(1), [1; 10]).into(),
        ];
        let usage = Usage::new();
        for (n, credential) in (0..).zip(all) {
            usage.note(credential, at(20 + n));
            usage.note(credential, at(10));
        }
        let mut noted = usage.drain();
        noted.sort();
        assert_eq!(noted, all.iter().copied().zip((20..).map(at)).collect::<Vec<_>>());
        assert_eq!(usage.drain(), []);
    }
}
