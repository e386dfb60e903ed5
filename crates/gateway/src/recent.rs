//! The live log: the last calls of this gateway, for people who look at what happens now.
//!
//! It is in memory and nowhere else. Whether a call is kept is decided by two allowances that fill up again with time, one
//! for its deployment and one for all, so that a busy pipeline is told in samples and does not hide the others. A call that
//! is not kept costs two loads of atomics; one that is kept costs a short lock and its few words.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tollgate_model::names::RealmName;
use tollgate_model::recent_calls::{RecentCall, RecentCalls};

/// Calls in memory.
const CAPACITY: usize = 5_000;

/// How many calls of all are kept at once, and after how many microseconds there is room for one more.
const OF_ALL: Allowance = Allowance { burst: 1_000, every_us: 5_000 };

/// Likewise for one deployment, and for the calls of a listener that came to none.
const OF_ONE: Allowance = Allowance { burst: 200, every_us: 20_000 };

/// How many are let through.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    burst: i64,
    every_us: i64,
}

/// The last calls.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    ring: Mutex<VecDeque<(RealmName, Arc<RecentCall>)>>,
    /// When the allowance of all would be full again, in microseconds since 1970.
    full_at: AtomicI64,
    left_out: AtomicU64,
}

// === impl Allowance ===

impl Allowance {
    /// Takes one, if there is one. As in a rate limit, what is kept is the time at which all would be there again.
    fn take(self, full_at: &AtomicI64, now_us: i64) -> bool {
        let mut is_taken = false;
        let next = |full_at: i64| {
            // A clock that was set back must not keep it empty for longer than it takes to fill.
            let held = full_at.clamp(now_us, now_us.saturating_add(self.burst * self.every_us));
            let next = held.saturating_add(self.every_us);
            is_taken = next - now_us <= self.burst * self.every_us;
            match is_taken {
                true => Some(next),
                false => (held != full_at).then_some(held),
            }
        };
        // Nothing is written where nothing changes, as in a flood.
        let _ = full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        is_taken
    }
}

// === impl Recent ===

impl Recent {
    /// Keeps a call, if there is room for it; it is put together only then. `of_one` is the allowance of its deployment.
    pub(crate) fn note(
        &self,
        of_one: &AtomicI64,
        now_us: i64,
        call: impl FnOnce() -> Option<(RealmName, RecentCall)>,
    ) {
        if !OF_ONE.take(of_one, now_us) || !OF_ALL.take(&self.full_at, now_us) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let Some((realm, call)) = call() else { return };
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() >= CAPACITY {
            ring.pop_front();
        }
        ring.push_back((realm, Arc::new(call)));
    }

    /// Returns the calls of a realm, newest first.
    pub(crate) fn of(&self, realm: &RealmName) -> RecentCalls {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = ring.iter().rev().filter(|(of, _)| of == realm).map(|(_, call)| call.clone()).collect();
        RecentCalls { calls, left_out: self.left_out.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_fills_up_again_and_survives_a_clock_that_was_set_back() {
        let allowance = Allowance { burst: 3, every_us: 10 };
        let full_at = AtomicI64::new(0);
        let taken = |now| (0..10).filter(|_| allowance.take(&full_at, now)).count();
        assert_eq!(taken(1_000), 3);
        assert_eq!(taken(1_009), 0);
        assert_eq!(taken(1_020), 2);
        assert_eq!(taken(500), 0, "as empty as it was");
        assert_eq!(taken(530), 3, "and no longer than it takes to fill");
    }

    #[test]
    fn a_deployment_that_uses_up_its_own_leaves_others_theirs() {
        let recent = Recent::default();
        let (busy, quiet) = (AtomicI64::new(0), AtomicI64::new(0));
        let nothing = || None;
        for _ in 0..5_000 {
            recent.note(&busy, 1_000, nothing);
        }
        let before = recent.left_out.load(Ordering::Relaxed);
        recent.note(&quiet, 1_000, nothing);
        assert_eq!(recent.left_out.load(Ordering::Relaxed), before);
        assert_eq!(before, 5_000 - 200);
    }
}
