//! Listeners of environments: opened where the snapshot says, closed when their environment is gone.
//!
//! What the process was started with (`--listen`, the defaults of `test` and `prod`) stays as it is; an address that is
//! stored for one of these listeners is not opened. Realms share the listeners of an environment: where two realms give
//! one environment two addresses, both are opened, and each offers the pipelines of both.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tollgate_gateway::Gateway;
use tollgate_snapshot::SharedSnapshot;

use super::entrances::Entrances;
use super::listeners::{self, Name, Place};

/// How often the snapshot is looked at: a deleted environment stops listening within this.
const TICK: Duration = Duration::from_millis(100);
/// Longest wait between two attempts to listen on an address.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The listeners that are open, and those that could not be opened.
pub(crate) struct Environments {
    gateway: Arc<Gateway>,
    entrances: Arc<Entrances>,
    reuse_port: bool,
    open: BTreeMap<SocketAddr, Open>,
    failed: BTreeMap<SocketAddr, Failed>,
    serving: JoinSet<()>,
}

struct Open {
    place: Place,
    /// Closes the listener when it turns true or is dropped.
    stop: watch::Sender<bool>,
}

struct Failed {
    pause: Duration,
    again_at: Instant,
}

/// Opens and closes listeners until `shutdown` turns true, then lets the calls in flight end.
pub(crate) async fn run(
    mut environments: Environments,
    shared: Arc<SharedSnapshot>,
    given: Arc<BTreeSet<Place>>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = shutdown.wait_for(|stop| *stop) => break,
        }
        if let Some(snapshot) = shared.load() {
            let places = snapshot.addresses().iter().map(|(address, (environment, exposure))| {
                (*address, Place::of(environment.clone(), *exposure))
            });
            let wanted = places.filter(|(_, place)| !given.contains(place)).collect();
            environments.reconcile(&wanted);
        }
        while environments.serving.try_join_next().is_some() {}
    }
    environments.reconcile(&BTreeMap::new());
    while environments.serving.join_next().await.is_some() {}
}

// === impl Environments ===

impl Environments {
    /// Returns none yet; with `reuse_port` other processes of this user may listen on the same addresses.
    pub(crate) fn new(gateway: Arc<Gateway>, entrances: Arc<Entrances>, reuse_port: bool) -> Self {
        let (open, failed, serving) = (BTreeMap::new(), BTreeMap::new(), JoinSet::new());
        Self { gateway, entrances, reuse_port, open, failed, serving }
    }

    /// Closes what is not wanted any more, then opens what is not open yet.
    fn reconcile(&mut self, wanted: &BTreeMap<SocketAddr, Place>) {
        self.open.retain(|address, open| {
            let stays = wanted.get(address) == Some(&open.place);
            if !stays {
                tracing::info!(listener = %open.place, %address, "no longer listening");
                open.stop.send_replace(true);
            }
            stays
        });
        self.failed.retain(|address, _| wanted.contains_key(address));
        for (address, place) in wanted {
            let waits = self.failed.get(address).is_some_and(|failed| Instant::now() < failed.again_at);
            if !waits && !self.open.contains_key(address) {
                self.open(*address, place);
            }
        }
    }

    fn open(&mut self, address: SocketAddr, place: &Place) {
        let listener = match listeners::bind(address, self.reuse_port) {
            Ok(listener) => listener,
            Err(error) => {
                let before = self.failed.get(&address).map(|failed| failed.pause);
                let pause = before.map_or(TICK, |pause| (pause * 2).min(LONGEST_PAUSE));
                self.failed.insert(address, Failed { pause, again_at: Instant::now() + pause });
                tracing::error!(
                    listener = %place, %address, %error,
                    "cannot listen: nobody can call this environment here until the address is free"
                );
                return;
            }
        };
        self.failed.remove(&address);
        tracing::info!(listener = %place, %address, "listening");
        let (stop, stopped) = watch::channel(false);
        let (gateway, served) = (self.gateway.clone(), place.clone());
        let entrance = self.entrances.of(&Name::Environment(place.clone()));
        self.serving.spawn(async move {
            gateway.serve(listener, entrance, served.environment, served.exposure, stopped).await;
        });
        self.open.insert(address, Open { place: place.clone(), stop });
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};
    use tollgate_gateway::{GatewaySettings, Usage};
    use tollgate_model::environments::Exposure;
    use tollgate_model::names::EnvironmentName;
    use tollgate_testkit::{FixedClock, SeededRandom, free_port, wait_until};

    use super::*;

    fn environments() -> Environments {
        let gateway = Gateway::new(
            Arc::new(SharedSnapshot::empty()),
            Arc::new(FixedClock::default()),
            Arc::new(SeededRandom::new(1)),
            GatewaySettings::default(),
            Arc::new(Usage::new()),
        );
        Environments::new(gateway, Arc::default(), false)
    }

    fn staging(address: SocketAddr) -> BTreeMap<SocketAddr, Place> {
        let environment = EnvironmentName::parse("staging").expect("a slug");
        [(address, Place::of(environment, Exposure::External))].into()
    }

    #[tokio::test]
    async fn a_listener_opens_with_its_environment_and_closes_with_it() {
        let mut it = environments();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        it.reconcile(&staging(address));
        it.reconcile(&staging(address));
        assert!(TcpStream::connect(address).await.is_ok());
        it.reconcile(&BTreeMap::new());
        wait_until("the listener to close", Duration::from_secs(5), async || {
            TcpStream::connect(address).await.is_err()
        })
        .await;
    }

    #[tokio::test]
    async fn an_address_in_use_is_tried_again_until_it_is_free() {
        let mut it = environments();
        let holder = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = holder.local_addr().expect("an address");
        it.reconcile(&staging(address));
        assert!(it.open.is_empty() && it.failed.contains_key(&address));
        drop(holder);
        wait_until("the next attempt", Duration::from_secs(5), async || {
            it.reconcile(&staging(address));
            it.open.contains_key(&address)
        })
        .await;
        assert!(it.failed.is_empty());
    }
}
