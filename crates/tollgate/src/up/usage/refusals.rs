//! Writes refused attempts that wait in memory to the journal.

use std::time::Duration;

use tokio::sync::watch;
use tollgate_app::App;

/// How often.
const EVERY: Duration = Duration::from_secs(5);

/// Writes until it is told to stop, and once more then; says what is lost if that fails.
pub(super) async fn run(app: App, mut shutdown: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let stop = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => true,
            _ = tick.tick() => false,
        };
        let waiting = app.refusals().flush().await;
        if stop {
            if waiting > 0 {
                tracing::error!(
                    attempts = waiting,
                    "the store is away: refused attempts are lost with this process"
                );
            }
            return;
        }
    }
}
