//! Writes down when credentials were last used, how many calls there were, what became of them, and refused attempts that wait,
//! away from the calls.
//!
//! It stops after the listeners, so that calls that were in flight are in what it writes last.

mod calls;
mod refusals;
mod traffic;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tollgate_app::App;
use tollgate_gateway::Usage;
use tollgate_model::ids::CredentialId;

use super::supervise::supervise;
use calls::PendingCalls;
use traffic::PendingTraffic;

/// How often calls are written down.
const EVERY: Duration = Duration::from_secs(5);

/// When a credential was used last is known after so long at most.
const _: () = assert!(EVERY.as_secs() * 2 <= 10);

/// Every how many times old counts are deleted: about hourly.
const FORGET_EVERY: u32 = 720;

/// Longest time for what is written at the end.
const LAST_WRITE: Duration = Duration::from_secs(10);

/// The task that writes, and what stops it.
pub(crate) struct UsageTask {
    task: JoinHandle<()>,
    refusals: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

/// What is not written down yet: one entry for each credential, so that it does not grow while the store is away.
#[derive(Default)]
struct Pending(HashMap<CredentialId, Timestamp>);

// === impl UsageTask ===

impl UsageTask {
    /// Begins to write.
    pub(crate) fn start(app: App, usage: Arc<Usage>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (refused, told) = (app.clone(), stopped.clone());
        let refusals =
            supervise("refusals", told.clone(), move || refusals::run(refused.clone(), told.clone()));
        let task =
            supervise("usage", stopped.clone(), move || run(app.clone(), usage.clone(), stopped.clone()));
        Self { task: tokio::spawn(task), refusals: tokio::spawn(refusals), stop }
    }

    /// Writes what is left, once, and ends.
    pub(crate) async fn finish(self) {
        self.stop.send_replace(true);
        match tokio::time::timeout(LAST_WRITE, self.refusals).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a task panicked"),
            Err(_) => tracing::error!("the store is away: refused attempts that waited are lost"),
        }
        match tokio::time::timeout(LAST_WRITE, self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a task panicked"),
            Err(_) => tracing::warn!("the store is away: what calls left last was not written down"),
        }
    }
}

/// Writes until it is told to stop, and once more then.
async fn run(app: App, usage: Arc<Usage>, mut shutdown: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut pending, mut calls) = (Pending::default(), PendingCalls::default());
    let mut traffic = PendingTraffic::default();
    let mut ticks = 0_u32;
    loop {
        let stop = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => true,
            _ = tick.tick() => false,
        };
        calls.add(usage.drain_calls());
        calls.write(&app).await;
        traffic.add(usage.drain_traffic());
        traffic.write(&app).await;
        pending.add(usage.drain());
        pending.write(&app).await;
        if stop {
            calls.give_up();
            traffic.give_up();
            return;
        }
        if ticks.is_multiple_of(FORGET_EVERY)
            && let Err(error) = app.calls().forget_old().await
        {
            tracing::warn!(%error, "old counts of calls could not be deleted");
        }
        if ticks.is_multiple_of(FORGET_EVERY)
            && let Err(error) = app.traffic().forget_old().await
        {
            tracing::warn!(%error, "old traffic could not be put together or deleted; it is tried again in an hour");
        }
        ticks = ticks.wrapping_add(1);
    }
}

// === impl Pending ===

impl Pending {
    fn add(&mut self, uses: Vec<(CredentialId, Timestamp)>) {
        for (credential, at) in uses {
            self.0.entry(credential).and_modify(|last| *last = (*last).max(at)).or_insert(at);
        }
    }

    async fn write(&mut self, app: &App) {
        if self.0.is_empty() {
            return;
        }
        let uses: Vec<_> = self.0.iter().map(|(credential, at)| (*credential, *at)).collect();
        match app.usage().flush(&uses).await {
            Ok(()) => self.0.clear(),
            Err(error) => tracing::warn!(%error, "the last uses of credentials could not be written down"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_model::ids::{BasicAuthId, KeyId};

    use super::*;

    #[test]
    fn what_waits_for_the_store_has_one_entry_for_each_credential() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let one = CredentialId::from(KeyId::new(at(1), [1; 10]));
        let two = CredentialId::from(BasicAuthId::new(at(1), [1; 10]));
        let mut pending = Pending::default();
        for second in 0..1_000 {
            pending.add(vec![(one, at(second)), (two, at(5))]);
        }
        pending.add(vec![(one, at(7))]);
        assert_eq!(pending.0, HashMap::from([(one, at(999)), (two, at(5))]));
    }
}
