//! Ends keys that were rotated and that nobody uses any more, and warns of keys that run out.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tollgate_app::App;
use tollgate_model::ids::KeyId;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::sources::Clock;
use tollgate_snapshot::{SharedSnapshot, Snapshot};

/// How often is looked.
const EVERY: Duration = Duration::from_secs(15);
/// How long before a key runs out is warned.
pub(crate) const WARN_BEFORE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Looks until `shutdown` turns true.
pub(crate) async fn run(
    app: App,
    shared: Arc<SharedSnapshot>,
    clock: Arc<dyn Clock>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut warned = HashSet::new();
    loop {
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => return,
            _ = tick.tick() => {}
        }
        let Some(snapshot) = shared.load() else { continue };
        let now = clock.now();
        // A million keys take a while to go through: no serving thread does it.
        let look = tokio::task::spawn_blocking(move || {
            warn(&snapshot, now, &mut warned);
            (warned, retiring(&snapshot, now))
        });
        let Ok((told, ending)) = look.await else { return };
        warned = told;
        for (realm, environment, key) in ending {
            let Ok(mut op) = app.system_op() else { continue };
            op.realm = realm;
            match app.keys().retire_if_unused(&op, &environment, key).await {
                Ok(true) => {
                    tracing::info!(realm = %op.realm, %environment, %key, "a key that nobody uses any more has ended")
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, %environment, %key, "a key that is to end when unused was not looked at")
                }
            }
        }
    }
}

/// Returns the keys that end when nobody uses them.
fn retiring(snapshot: &Snapshot, now: Timestamp) -> Vec<(RealmName, EnvironmentName, KeyId)> {
    let scopes = snapshot.scopes();
    let keys = scopes.flat_map(|scope| scope.keys.retiring().map(move |key| (scope, key)));
    keys.filter(|(_, key)| key.works(now))
        .map(|(scope, key)| (scope.realm.clone(), scope.environment.clone(), key.id))
        .collect()
}

/// Warns once of each key that runs out soon.
fn warn(snapshot: &Snapshot, now: Timestamp, warned: &mut HashSet<KeyId>) {
    for scope in snapshot.scopes() {
        let before = soon(now);
        for key in scope.keys.expiring().filter(|key| key.runs_out(now, before)) {
            if warned.insert(key.id) {
                let consumer =
                    scope.consumers.get(&key.consumer).map(|it| it.name.as_str()).unwrap_or_default();
                let (realm, environment) = (scope.realm.as_str(), scope.environment.as_str());
                let expires_at = key.expires_at.map(|at| at.to_string());
                tracing::warn!(realm, environment, consumer, key = %key.id, expires_at, "an API key runs out within 7 days");
            }
        }
    }
}

/// Returns the moment before which keys that run out are warned of.
pub(crate) fn soon(now: Timestamp) -> Timestamp {
    now.checked_add(WARN_BEFORE).unwrap_or(Timestamp::MAX)
}
