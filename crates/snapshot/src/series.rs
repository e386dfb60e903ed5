//! What is counted of the calls to one deployment.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Counters of calls. They hang on an endpoint, so that a call finds them without a lock and counts without an
/// allocation; what their numbers stand for is the gateway's business.
#[derive(Debug)]
pub struct CallSeries {
    outcomes: Box<[AtomicU64]>,
    durations: Box<[AtomicU64]>,
    nanos: AtomicU64,
    log_allowance: AtomicI64,
}

// === impl CallSeries ===

impl CallSeries {
    /// Returns counters at zero for so many outcomes, and so many classes of durations.
    pub fn new(outcomes: usize, durations: usize) -> Self {
        let zeros = |len| std::iter::repeat_with(AtomicU64::default).take(len).collect();
        Self {
            outcomes: zeros(outcomes),
            durations: zeros(durations),
            nanos: AtomicU64::new(0),
            log_allowance: AtomicI64::new(0),
        }
    }

    /// Counts a call. Numbers out of range are not counted.
    pub fn count(&self, outcome: usize, duration: usize, took: Duration) {
        if let (Some(outcome), Some(duration)) = (self.outcomes.get(outcome), self.durations.get(duration)) {
            outcome.fetch_add(1, Ordering::Relaxed);
            duration.fetch_add(1, Ordering::Relaxed);
            self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Returns what the live log remembers of how many calls it kept.
    pub fn log_allowance(&self) -> &AtomicI64 {
        &self.log_allowance
    }

    /// Returns how many calls ended in each way.
    pub fn outcomes(&self) -> impl Iterator<Item = u64> {
        self.outcomes.iter().map(|calls| calls.load(Ordering::Relaxed))
    }

    /// Returns how many calls took each class of durations.
    pub fn durations(&self) -> impl Iterator<Item = u64> {
        self.durations.iter().map(|calls| calls.load(Ordering::Relaxed))
    }

    /// Returns how long all calls took together.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}
