//! Counted calls that are not written down yet.
//!
//! While the store is away they are kept, up to a bound: beyond it new callers are counted together, and beyond twice
//! the bound new entries are given up. Either is said in the log, with how many calls it concerns.

use std::collections::BTreeMap;

use tollgate_app::CallBatch;
use tollgate_app::{App, errors::Error};
use tollgate_gateway::CallCounts;
use tollgate_model::calls::{CountedCaller, CountedCalls};

/// Entries that are kept with their callers told apart.
const MAX_ENTRIES: usize = 100_000;

/// What is not written down yet.
pub(super) struct PendingCalls {
    waiting: BTreeMap<CountedCalls, u64>,
    /// What was handed to the store without hearing that it arrived: it is handed over again as it was.
    sent: Option<CallBatch>,
    max_entries: usize,
}

// === impl PendingCalls ===

impl PendingCalls {
    /// Takes what a gateway counted.
    pub(super) fn add(&mut self, counts: CallCounts) {
        let (mut others, mut lost) = (counts.others, 0);
        for (of, calls) in counts.calls {
            if let Some(waiting) = self.waiting.get_mut(&of) {
                *waiting += calls;
            } else if self.waiting.len() < self.max_entries {
                self.waiting.insert(of, calls);
            } else {
                let together = CountedCalls { caller: CountedCaller::Others, ..of };
                if self.waiting.len() < 2 * self.max_entries || self.waiting.contains_key(&together) {
                    *self.waiting.entry(together).or_default() += calls;
                    others += calls;
                } else {
                    lost += calls;
                }
            }
        }
        if others > 0 {
            tracing::warn!(
                calls = others,
                "too many callers at once: calls are counted without telling who called"
            );
        }
        if lost > 0 {
            tracing::warn!(calls = lost, "the store is away for too long: calls are not counted");
        }
    }

    /// Writes until nothing is left or the store fails.
    pub(super) async fn write(&mut self, app: &App) {
        if let Err(error) = self.try_write(app).await {
            let waiting = self.calls();
            tracing::warn!(%error, calls = waiting, "counted calls could not be written down; they are kept");
        }
    }

    async fn try_write(&mut self, app: &App) -> Result<(), Error> {
        let calls = app.calls();
        loop {
            let batch = match self.sent.take() {
                Some(batch) => batch,
                None if self.waiting.is_empty() => return Ok(()),
                None => calls.batch(&mut self.waiting)?,
            };
            let batch = self.sent.insert(batch);
            calls.add(batch).await?;
            self.sent = None;
        }
    }

    /// Says how many calls were never written down.
    pub(super) fn give_up(&self) {
        let calls = self.calls();
        if calls > 0 {
            tracing::warn!(calls, "these calls were counted and not written down");
        }
    }

    fn calls(&self) -> u64 {
        let sent = self.sent.iter().flat_map(|batch| batch.calls.iter().map(|(_, calls)| calls));
        self.waiting.values().chain(sent).sum()
    }
}

impl Default for PendingCalls {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), sent: None, max_entries: MAX_ENTRIES }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(minute: i64, caller: CountedCaller) -> CountedCalls {
        CountedCalls {
            realm: "default".parse().expect("a name"),
            environment: "test".parse().expect("a name"),
            pipeline: "shop".parse().expect("a name"),
            major: 1,
            minute,
            caller,
            credentials: "api-key".parse().expect("credentials"),
        }
    }

    fn caller(n: usize) -> CountedCaller {
        CountedCaller::Consumer(format!("c{n}").parse().expect("a name"), None)
    }

    #[test]
    fn what_waits_for_the_store_is_bounded_and_counts_every_call_it_can() {
        let mut pending = PendingCalls { max_entries: 10, ..PendingCalls::default() };
        for minute in 0..5 {
            for _ in 0..3 {
                let calls = (0..20).map(|n| (of(minute, caller(n)), 1)).collect();
                pending.add(CallCounts { calls, others: 0 });
            }
        }
        assert_eq!(pending.calls(), 5 * 3 * 20);
        let apart = pending.waiting.keys().filter(|of| of.caller != CountedCaller::Others).count();
        assert_eq!((apart, pending.waiting.len()), (10, 15));

        // Minutes go by: at twice the bound only what has an entry is counted.
        for minute in 5..100 {
            pending.add(CallCounts { calls: [(of(minute, caller(0)), 1)].into(), others: 0 });
        }
        assert_eq!(pending.waiting.len(), 20);
        let before = pending.calls();
        pending.add(CallCounts { calls: [(of(0, caller(0)), 1), (of(99, caller(0)), 1)].into(), others: 0 });
        assert_eq!(pending.calls(), before + 1);
    }
}
