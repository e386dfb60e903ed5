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

#[cfg(test)]
mod tests {
    use tollgate_app::consumers::NewConsumer;
    use tollgate_app::follower::Follower;
    use tollgate_app::keys::{NewKey, UntilUnused};
    use tollgate_credential::seal::MasterKey;
    use tollgate_model::consumers::CredentialState;
    use tollgate_model::names::{ConsumerName, CredentialName};
    use tollgate_store::Store;
    use tollgate_testkit::{FixedClock, SeededRandom, wait_until};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const DAY: u32 = 86_400;

    #[tokio::test(flavor = "multi_thread")]
    async fn of_keys_that_were_rotated_those_end_that_nobody_uses_and_those_that_run_out_are_warned_of_once()
    {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", directory.path().join("t.db").display());
        let store = Store::open(&url).await.expect("opens");
        let (clock, random) = (FixedClock::default(), Arc::new(SeededRandom::new(1)));
        let master = Arc::new(MasterKey::generate(&*random).expect("random"));
        let app = App::new(store.clone(), master.clone(), Arc::new(clock.clone()), random);
        let op = || app.system_op().expect("random");
        app.realms().initialise(&op()).await.expect("a realm");
        let test = EnvironmentName::test();
        let shop = ConsumerName::parse("shop").expect("a name");
        let consumer = NewConsumer {
            name: shop.clone(),
            environments: [test.clone()].into(),
            pipelines: Default::default(),
            description: String::new(),
            first_key: None,
        };
        app.consumers().create(&op(), consumer).await.expect("made");
        let mut made = Vec::new();
        for name in ["unused", "used", "kept", "short"] {
            let name = CredentialName::parse(name).expect("a name");
            let in_time =
                (name.as_str() == "short").then(|| clock.now() + SignedDuration::from_hours(13 * 24));
            let key = NewKey { name, expires_at: in_time };
            made.push(app.keys().create(&op(), &test, &shop, key).await.expect("made").key.id);
        }
        let [unused, used, kept, short] = made[..] else { panic!("four keys") };
        let until = UntilUnused { unused_seconds: 7 * DAY, at_latest_seconds: 300 * DAY };
        for id in [unused, used] {
            app.keys().rotate_until_unused(&op(), &test, id, until, None).await.expect("rotated");
        }
        clock.advance(Duration::from_secs(u64::from(7 * DAY) + 10));
        app.usage().flush(&[(used.into(), clock.now())]).await.expect("written");

        let shared = Arc::new(SharedSnapshot::empty());
        let follower = Follower::new(store, master, shared.clone(), None);
        let (stop, stopped) = watch::channel(false);
        let follows = stopped.clone();
        tokio::spawn(async move { follower.run(follows).await });
        wait_until("a snapshot", PATIENCE, async || shared.load().is_some()).await;
        let snapshot = shared.load().expect("a snapshot");
        let mut warned = HashSet::new();
        for _ in 0..2 {
            warn(&snapshot, clock.now(), &mut warned);
            assert_eq!(warned, HashSet::from([short]), "not of one that has a successor, or much time");
        }

        let looks = tokio::spawn(run(app.clone(), shared.clone(), Arc::new(clock.clone()), stopped));
        let states = async || {
            let keys = app.keys().list(&op(), &test, &shop).await.expect("keys");
            let state = |id| keys.iter().find(|it| it.key.id == id).expect("a key").key.state(clock.now());
            [unused, used, kept, short].map(state)
        };
        wait_until("the end of one", PATIENCE, async || states().await[0] == CredentialState::Expired).await;
        // It ends when it has looked at all of them.
        stop.send_replace(true);
        looks.await.expect("it ends");
        let [_, others @ ..] = states().await;
        assert_eq!(others, [CredentialState::Active; 3]);
    }
}
