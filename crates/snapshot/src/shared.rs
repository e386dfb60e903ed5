//! The snapshot that calls see.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;

use crate::Snapshot;

/// What stands for "never" where a time is kept as a number.
const NEVER: i64 = i64::MIN;

/// The current snapshot, swapped whole. Reading takes no lock; a call keeps the one that it began with.
#[derive(Debug)]
pub struct SharedSnapshot {
    current: ArcSwapOption<Snapshot>,
    /// When it was last known to be what the store holds, in milliseconds since 1970.
    confirmed_ms: AtomicI64,
}

// === impl SharedSnapshot ===

impl SharedSnapshot {
    /// Returns a place without a snapshot: calls are answered 503 until there is one.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns the current snapshot; `None` before the first.
    pub fn load(&self) -> Option<Arc<Snapshot>> {
        self.current.load_full()
    }

    /// Puts the next snapshot in place.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.current.store(Some(snapshot));
    }

    /// Notes that the store held nothing newer at a moment.
    pub fn confirm(&self, at: Timestamp) {
        self.confirmed_ms.fetch_max(at.as_millisecond(), Ordering::Relaxed);
    }

    /// Returns when the store was last known to hold nothing newer; `None` when that was not heard since the start, as
    /// with a snapshot from disk.
    pub fn confirmed_at(&self) -> Option<Timestamp> {
        let confirmed_ms = self.confirmed_ms.load(Ordering::Relaxed);
        Timestamp::from_millisecond(confirmed_ms).ok().filter(|_| confirmed_ms != NEVER)
    }
}

impl Default for SharedSnapshot {
    fn default() -> Self {
        Self { current: ArcSwapOption::empty(), confirmed_ms: AtomicI64::new(NEVER) }
    }
}
