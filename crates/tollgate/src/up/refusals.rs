//! Writes down what gateways keep of refused calls, away from the calls.
//!
//! Every second, a bounded number at once: what a gateway keeps is bounded already, and waits in its memory while the
//! store is away. It stops after the listeners, so that calls refused last are written, too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tollgate_app::App;
use tollgate_app::errors::Error;
use tollgate_app::refused_calls::DroppedCount;
use tollgate_gateway::{Refusals, TakenRefusals};
use tollgate_model::explanations::Refusal;
use tollgate_model::names::RealmName;
use tollgate_model::sources::Random;

use super::supervise::supervise;

/// How often refused calls are written down.
const EVERY: Duration = Duration::from_secs(1);

/// How many are written in one transaction.
const BATCH: usize = 200;

/// Every how many times what is too old is deleted: about hourly.
const FORGET_EVERY: u32 = 3_600;

/// Longest time for what is written at the end.
const LAST_WRITE: Duration = Duration::from_secs(10);

/// Most minutes of which the counts of what was not kept wait for the store.
const MAX_MINUTES: usize = 10_000;

/// The task that writes, and what stops it.
pub(crate) struct RefusalsTask {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

/// What is not written down yet.
#[derive(Default)]
struct Pending {
    /// What was handed to the store without hearing that it arrived.
    sent: Vec<(RealmName, Arc<Refusal>)>,
    /// How many were not kept, by minute and realm.
    dropped: BTreeMap<(i64, RealmName), Dropped>,
    has_new_counts: bool,
    /// How many counts were begun.
    begun: u64,
}

/// A count of a minute so far; what is written replaces what this count wrote before.
struct Dropped {
    count: u64,
    /// Tells it from a count of the same minute that was begun before.
    number: u64,
}

// === impl RefusalsTask ===

impl RefusalsTask {
    /// Begins to write, under a name that no other process has.
    pub(crate) fn start(app: App, refusals: Arc<Refusals>, random: &dyn Random) -> Self {
        let mut name = [0_u8; 8];
        if random.fill(&mut name).is_err() {
            tracing::warn!(
                "there is no randomness: counts of refused calls that were not kept may replace each other"
            );
        }
        let process: Arc<str> = format!("{:016x}", u64::from_be_bytes(name)).into();
        let (stop, stopped) = watch::channel(false);
        let task = supervise("refusals", stopped.clone(), move || {
            run(app.clone(), refusals.clone(), process.clone(), stopped.clone())
        });
        Self { task: tokio::spawn(task), stop }
    }

    /// Writes what is left, once, and ends.
    pub(crate) async fn finish(self) {
        self.stop.send_replace(true);
        match tokio::time::timeout(LAST_WRITE, self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a task panicked"),
            Err(_) => tracing::warn!("the store is away: the calls refused last were not written down"),
        }
    }
}

/// Writes until it is told to stop, and once more then.
async fn run(app: App, refusals: Arc<Refusals>, process: Arc<str>, mut shutdown: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut pending = Pending::default();
    let mut ticks = 0_u32;
    loop {
        let stop = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => true,
            _ = tick.tick() => false,
        };
        if let Err(error) = pending.write(&app, &refusals, &process).await {
            tracing::warn!(%error, "refused calls could not be written down; they are kept in memory");
        }
        if stop {
            return;
        }
        if ticks.is_multiple_of(FORGET_EVERY)
            && let Err(error) = app.refused_calls().forget_old().await
        {
            tracing::warn!(%error, "old refused calls could not be deleted");
        }
        ticks = ticks.wrapping_add(1);
    }
}

// === impl Pending ===

impl Pending {
    /// Writes until nothing is left or the store fails.
    async fn write(&mut self, app: &App, refusals: &Refusals, process: &str) -> Result<(), Error> {
        loop {
            let is_again = !self.sent.is_empty();
            if !is_again {
                self.take(refusals.take(BATCH));
            }
            if self.has_new_counts {
                app.refused_calls().keep_dropped(&self.counts(process)).await?;
                self.has_new_counts = false;
                // Only the last minutes are likely to grow; another count of an earlier one has another number.
                let last = self.dropped.last_key_value().map(|((minute, _), _)| *minute);
                self.dropped.retain(|(minute, _), _| last.is_some_and(|last| *minute + 1 >= last));
            }
            if self.sent.is_empty() {
                return Ok(());
            }
            app.refused_calls().keep(&self.sent).await?;
            self.sent.clear();
        }
    }

    fn counts(&self, process: &str) -> Vec<DroppedCount> {
        let counts = self.dropped.iter().map(|((minute, realm), dropped)| DroppedCount {
            realm: realm.clone(),
            minute: *minute,
            count: dropped.count,
            writer: format!("{process}-{}", dropped.number),
        });
        counts.collect()
    }

    fn take(&mut self, taken: TakenRefusals) {
        self.sent = taken.refusals;
        for (realm, minutes) in taken.dropped {
            for (minute, count) in minutes {
                let number = self.begun;
                let entry = self.dropped.entry((minute, realm.clone()));
                let dropped = entry.or_insert_with(|| {
                    self.begun += 1;
                    Dropped { count: 0, number }
                });
                dropped.count += count;
                self.has_new_counts = true;
            }
        }
        while self.dropped.len() > MAX_MINUTES {
            self.dropped.pop_first();
        }
    }
}
