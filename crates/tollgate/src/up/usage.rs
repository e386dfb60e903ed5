//! Writes down when keys were last used, away from the calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tollgate_app::App;
use tollgate_gateway::Usage;
use tollgate_model::ids::KeyId;

/// How often it is written down.
const EVERY: Duration = Duration::from_secs(15);

/// What is not written down yet: one entry for each key, so that it does not grow while the store is away.
#[derive(Default)]
struct Pending(HashMap<KeyId, Timestamp>);

/// Writes until it is told to stop, and once more then.
pub(crate) async fn run(app: App, usage: Arc<Usage>, mut shutdown: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut pending = Pending::default();
    loop {
        let stop = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => true,
            _ = tick.tick() => false,
        };
        pending.add(usage.drain());
        if !pending.0.is_empty() {
            let uses: Vec<_> = pending.0.iter().map(|(key, at)| (*key, *at)).collect();
            match app.usage().flush(&uses).await {
                Ok(()) => pending.0.clear(),
                Err(error) => tracing::warn!(%error, "the last uses of keys could not be written down"),
            }
        }
        if stop {
            return;
        }
    }
}

// === impl Pending ===

impl Pending {
    fn add(&mut self, uses: Vec<(KeyId, Timestamp)>) {
        for (key, at) in uses {
            self.0.entry(key).and_modify(|last| *last = (*last).max(at)).or_insert(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_the_store_has_one_entry_for_each_key() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let (one, two) = (KeyId::new(at(1), [1; 10]), KeyId::new(at(1), [2; 10]));
        let mut pending = Pending::default();
        for second in 0..1_000 {
            pending.add(vec![(one, at(second)), (two, at(5))]);
        }
        pending.add(vec![(one, at(7))]);
        assert_eq!(pending.0, HashMap::from([(one, at(999)), (two, at(5))]));
    }
}
