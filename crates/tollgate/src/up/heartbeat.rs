//! Writes down by which journal entry this process answers calls, so that others can wait for it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tollgate_app::App;
use tollgate_app::gateways::GatewayBeat;
use tollgate_model::hex::hex;
use tollgate_model::sources::{Clock, Random, RandomError};
use tollgate_snapshot::SharedSnapshot;

/// How often is looked for news.
const TICK: Duration = Duration::from_millis(100);
/// How often is written without news.
const EVERY: Duration = Duration::from_secs(5);
/// How soon is written again after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// A process that says how far it is.
pub(crate) struct Heartbeat {
    app: App,
    shared: Arc<SharedSnapshot>,
    clock: Arc<dyn Clock>,
    id: String,
    name: String,
}

// === impl Heartbeat ===

impl Heartbeat {
    pub(crate) fn new(
        app: App,
        shared: Arc<SharedSnapshot>,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<Self, RandomError> {
        let mut bytes = [0; 8];
        random.fill(&mut bytes)?;
        let id = hex(&bytes);
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "unknown" } else { host.trim() };
        let name = format!("{host}, process {}", std::process::id());
        Ok(Self { app, shared, clock, id, name })
    }

    /// Says so until `shutdown` turns true, and then that it ends.
    pub(crate) async fn run(self: Arc<Self>, mut shutdown: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut said, mut due) = (None, Instant::now());
        let mut failed = false;
        loop {
            let stop = tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => true,
                _ = tick.tick() => false,
            };
            let Some(entry) = self.shared.load().map(|snapshot| snapshot.seq) else {
                if stop {
                    return;
                }
                continue;
            };
            let has_news = said != Some(entry) && !failed;
            if !(stop || has_news || Instant::now() >= due) {
                continue;
            }
            match self.app.gateways().beat(&self.beat(entry, self.clock.now(), stop)).await {
                Ok(()) => {
                    (said, due, failed) = (Some(entry), Instant::now() + EVERY, false);
                }
                Err(error) => {
                    if !failed {
                        tracing::warn!(%error, "nobody can be told by which journal entry calls are answered here");
                    }
                    (due, failed) = (Instant::now() + AGAIN, true);
                }
            }
            if stop {
                return;
            }
        }
    }

    fn beat(&self, entry: u64, seen_at: Timestamp, stopped: bool) -> GatewayBeat {
        GatewayBeat { id: self.id.clone(), name: self.name.clone(), entry, seen_at, stopped }
    }
}
