//! The snapshot that calls see.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::Snapshot;

/// The current snapshot, swapped whole. Reading takes no lock; a call keeps the one that it began with.
#[derive(Debug, Default)]
pub struct SharedSnapshot(ArcSwapOption<Snapshot>);

// === impl SharedSnapshot ===

impl SharedSnapshot {
    /// Returns a place without a snapshot: calls are answered 503 until there is one.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Returns the current snapshot; `None` before the first.
    pub fn load(&self) -> Option<Arc<Snapshot>> {
        self.0.load_full()
    }

    /// Puts the next snapshot in place.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.0.store(Some(snapshot));
    }
}
