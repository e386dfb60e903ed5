//! Traffic that is not written down yet.
//!
//! While the store is away it is kept, up to a bound: beyond it callers are put together, and beyond twice the bound new
//! entries are given up, which the log tells.

use std::collections::BTreeMap;

use tollgate_app::errors::Error;
use tollgate_app::{App, TrafficBatch};
use tollgate_gateway::TrafficCounts;
use tollgate_model::traffic::{CountedTraffic, Measure, TrafficCaller};

/// Entries that are kept with their callers told apart.
const MAX_ENTRIES: usize = 200_000;

/// What is not written down yet.
pub(super) struct PendingTraffic {
    waiting: BTreeMap<CountedTraffic, u64>,
    /// What was handed to the store without hearing that it arrived: it is handed over again as it was.
    sent: Option<TrafficBatch>,
    max_entries: usize,
}

// === impl PendingTraffic ===

impl PendingTraffic {
    /// Takes what a gateway counted.
    pub(super) fn add(&mut self, counts: TrafficCounts) {
        let mut lost = 0;
        for (of, calls) in counts {
            if let Some(waiting) = self.waiting.get_mut(&of) {
                *waiting += calls;
            } else if self.waiting.len() < self.max_entries {
                self.waiting.insert(of, calls);
            } else {
                let together = CountedTraffic { caller: TrafficCaller::Others, ..of };
                if self.waiting.len() < 2 * self.max_entries || self.waiting.contains_key(&together) {
                    *self.waiting.entry(together).or_default() += calls;
                } else {
                    lost += calls_of(&together, calls);
                }
            }
        }
        if lost > 0 {
            tracing::warn!(calls = lost, "the store is away for too long: traffic is not counted");
        }
    }

    /// Writes until nothing is left or the store fails.
    pub(super) async fn write(&mut self, app: &App) {
        if let Err(error) = self.try_write(app).await {
            tracing::warn!(%error, calls = self.calls(), "traffic could not be written down; it is kept");
        }
    }

    async fn try_write(&mut self, app: &App) -> Result<(), Error> {
        let traffic = app.traffic();
        loop {
            let batch = match self.sent.take() {
                Some(batch) => batch,
                None if self.waiting.is_empty() => return Ok(()),
                None => traffic.batch(&mut self.waiting)?,
            };
            let batch = self.sent.insert(batch);
            traffic.add(batch).await?;
            self.sent = None;
        }
    }

    /// Says of how many calls it was never written down what became of them.
    pub(super) fn give_up(&self) {
        let calls = self.calls();
        if calls > 0 {
            tracing::warn!(calls, "what became of these calls was not written down");
        }
    }

    fn calls(&self) -> u64 {
        let sent = self.sent.iter().flat_map(|batch| batch.rows.iter().map(|(of, calls)| (of, calls)));
        self.waiting.iter().chain(sent).map(|(of, calls)| calls_of(of, *calls)).sum()
    }
}

impl Default for PendingTraffic {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), sent: None, max_entries: MAX_ENTRIES }
    }
}

/// Of the entries of a call one counts it.
fn calls_of(of: &CountedTraffic, calls: u64) -> u64 {
    if matches!(of.measure, Measure::Answer(_)) { calls } else { 0 }
}

#[cfg(test)]
mod tests {
    use tollgate_model::traffic::AnswerClass;

    use super::*;

    #[test]
    fn what_waits_for_the_store_is_bounded() {
        let of = |minute, n: usize, measure| CountedTraffic {
            realm: "default".parse().expect("a name"),
            environment: "test".parse().expect("a name"),
            pipeline: Some(("shop".parse().expect("a name"), 1)),
            minute,
            caller: TrafficCaller::Consumer(format!("c{n}").parse().expect("a name")),
            measure,
        };
        let answer = || Measure::Answer(AnswerClass::Successful);
        let mut pending = PendingTraffic { max_entries: 10, ..PendingTraffic::default() };
        for _ in 0..3 {
            pending.add((0..20).map(|n| (of(1, n, answer()), 1)).collect());
        }
        assert_eq!((pending.calls(), pending.waiting.len()), (60, 11));
        pending.add((2..100).map(|minute| (of(minute, 0, answer()), 1)).collect());
        assert_eq!(pending.waiting.len(), 20);
        let before = pending.calls();
        pending
            .add([(of(1, 0, answer()), 1), (of(99, 0, answer()), 1), (of(1, 0, Measure::Took(1)), 1)].into());
        assert_eq!(pending.calls(), before + 1);
    }
}
