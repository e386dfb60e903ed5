//! Writes down when keys were last used, away from the calls.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tollgate_app::App;
use tollgate_gateway::Usage;

/// How often it is written down.
const EVERY: Duration = Duration::from_secs(15);

/// Writes until it is told to stop, and once more then.
pub(crate) async fn run(app: App, usage: Arc<Usage>, mut shutdown: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut pending = Vec::new();
    loop {
        let stop = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => true,
            _ = tick.tick() => false,
        };
        pending.extend(usage.drain());
        if !pending.is_empty() {
            match app.usage().flush(&pending).await {
                Ok(()) => pending.clear(),
                Err(error) => tracing::warn!(%error, "the last uses of keys could not be written down"),
            }
        }
        if stop {
            return;
        }
    }
}
