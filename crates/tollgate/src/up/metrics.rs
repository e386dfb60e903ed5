//! `/metrics` for Prometheus, on a listener of its own: `--listen metrics=127.0.0.1:7009`.
//!
//! Whoever reaches it may read it, so it is off unless it is named, and stays on loopback unless told otherwise. It is
//! there before the store is: a gateway that serves from its snapshot is watched all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{StatusCode, header};
use jiff::Timestamp;
use tokio::sync::watch;
use tollgate_gateway::{Exposition, Gateway, Kind};
use tollgate_model::sources::Clock;
use tollgate_snapshot::SharedSnapshot;
use tollgate_store::Store;

use super::descriptors;
use super::keys::soon;

/// How often the store is asked for its head.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What metrics are made of.
pub(crate) struct Source {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) shared: Arc<SharedSnapshot>,
    pub(crate) store: Arc<StoreWatch>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started_at: Timestamp,
}

/// What is known of the store: whether it answers, and how far its journal goes.
#[derive(Default)]
pub(crate) struct StoreWatch {
    answers: AtomicBool,
    /// The last entry of the journal; 0 before it was ever read.
    head: AtomicU64,
}

// === impl StoreWatch ===

impl StoreWatch {
    /// Asks the store until `shutdown` turns true.
    pub(crate) async fn run(
        &self,
        store: &Store,
        shared: &SharedSnapshot,
        clock: &dyn Clock,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => return,
                _ = tick.tick() => {}
            }
            self.look(store, shared, clock).await;
        }
    }

    /// Asks the store once, and confirms the snapshot when there is nothing newer.
    pub(crate) async fn look(&self, store: &Store, shared: &SharedSnapshot, clock: &dyn Clock) {
        // Before the question: what is stored while it is asked is news.
        let asked_at = clock.now();
        let head = store.head().await;
        self.answers.store(head.is_ok(), Ordering::Relaxed);
        let Ok(head) = head else { return };
        self.head.store(head, Ordering::Relaxed);
        if shared.load().is_some_and(|snapshot| snapshot.seq >= head) {
            shared.confirm(asked_at);
        }
    }
}

// === impl Source ===

impl Source {
    fn text(&self) -> String {
        let mut out = Exposition::default();
        out.family("tollgate_build_info", Kind::Gauge, "The version of this program; always 1.");
        out.sample("tollgate_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        self.gateway.write_metrics(&mut out);
        self.write_snapshot(&mut out);
        self.write_credentials(&mut out);
        self.write_process(&mut out);
        out.into_text()
    }

    fn write_snapshot(&self, out: &mut Exposition) {
        let snapshot = self.shared.load();
        let (revision, problems) = snapshot.map_or((0, 0), |it| (it.seq, it.problems().len()));
        let head = self.store.head.load(Ordering::Relaxed);
        for (name, kind, help, value) in [
            (
                "tollgate_snapshot_revision",
                Kind::Gauge,
                "The journal entry up to which calls are answered.",
                revision,
            ),
            (
                "tollgate_snapshot_problems",
                Kind::Gauge,
                "Parts of the configuration that are broken; calls that need them are answered 503.",
                problems as u64,
            ),
            (
                "tollgate_store_up",
                Kind::Gauge,
                "Whether the store answered when it was last asked.",
                self.store.answers.load(Ordering::Relaxed).into(),
            ),
            (
                "tollgate_journal_entries_total",
                Kind::Counter,
                "Changes in the journal, of all processes, when the store last answered.",
                head,
            ),
            (
                "tollgate_follower_lag_entries",
                Kind::Gauge,
                "Changes in the journal that calls do not see yet.",
                head.saturating_sub(revision),
            ),
        ] {
            out.single(name, kind, help, value);
        }
        if let Some(at) = self.shared.confirmed_at() {
            let age = self.clock.now().duration_since(at).as_secs_f64().max(0.0);
            out.single(
                "tollgate_snapshot_age_seconds",
                Kind::Gauge,
                "How long ago the store was last heard to have nothing newer; absent before it was ever heard.",
                age,
            );
        }
    }

    /// Writes which credentials need somebody's attention.
    fn write_credentials(&self, out: &mut Exposition) {
        let Some(snapshot) = self.shared.load() else { return };
        let now = self.clock.now();
        let name = "tollgate_api_keys_expiring";
        out.family(name, Kind::Gauge, "API keys that run out within 7 days and were not rotated.");
        for scope in snapshot.scopes() {
            let expiring = scope.keys.expiring().filter(|key| key.runs_out(now, soon(now))).count();
            let place = [("realm", scope.realm.as_str()), ("environment", scope.environment.as_str())];
            out.sample(name, &place, expiring as u64);
        }
        let name = "tollgate_issuer_keys_age_seconds";
        out.family(
            name,
            Kind::Gauge,
            "How long ago the keys of an issuer were fetched; absent without keys.",
        );
        for entry in snapshot.issuers() {
            let keys = self.gateway.issuer_keys().slot(&entry.source).and_then(|slot| slot.keys());
            if let Some(keys) = keys {
                let place = [
                    ("realm", entry.realm.as_str()),
                    ("environment", entry.issuer.environment.as_str()),
                    ("issuer", entry.issuer.name.as_str()),
                ];
                let age = now.duration_since(keys.fetched_at).as_secs_f64().max(0.0);
                out.sample(name, &place, age);
            }
        }
    }

    /// Writes what every exporter tells of its process, under the names that dashboards know.
    fn write_process(&self, out: &mut Exposition) {
        let started =
            Duration::from_millis(u64::try_from(self.started_at.as_millisecond()).unwrap_or_default());
        out.single(
            "process_start_time_seconds",
            Kind::Gauge,
            "When the process started, in seconds since 1970.",
            started.as_secs_f64(),
        );
        if let Some((open, limit)) = descriptors::usage() {
            out.single("process_open_fds", Kind::Gauge, "Open files and connections.", open);
            out.single("process_max_fds", Kind::Gauge, "How many there may be.", limit);
        }
        if let Some(bytes) = resident_bytes() {
            out.single("process_resident_memory_bytes", Kind::Gauge, "Memory that the process holds.", bytes);
        }
    }
}

/// Returns how much memory the process holds; `None` where the system does not tell.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Makes the router of the listener. It answers under addresses, `localhost` and the allowed names only: a page in a
/// browser on this machine must not read it by a name of its own.
pub(crate) fn router(source: Arc<Source>, allowed_hosts: Vec<String>) -> Router {
    let allowed = Arc::new(allowed_hosts);
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(source)
        .layer(middleware::from_fn_with_state(allowed, only_ours))
}

async fn metrics(State(source): State<Arc<Source>>) -> Response {
    let headers = [(header::CONTENT_TYPE, Exposition::CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")];
    (headers, source.text()).into_response()
}

async fn only_ours(State(allowed): State<Arc<Vec<String>>>, request: Request, next: Next) -> Response {
    if tollgate_api::names_us(&allowed, request.headers(), request.uri()) {
        next.run(request).await
    } else {
        StatusCode::MISDIRECTED_REQUEST.into_response()
    }
}

#[cfg(test)]
mod tests {
    use tollgate_app::App;
    use tollgate_credential::seal::MasterKey;
    use tollgate_snapshot::Builder;
    use tollgate_testkit::{FixedClock, SeededRandom};

    use super::*;

    #[tokio::test]
    async fn a_snapshot_is_confirmed_only_while_the_store_has_nothing_newer() {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", directory.path().join("t.db").display());
        let store = Store::open(&url).await.expect("opens");
        let (clock, random) = (FixedClock::default(), Arc::new(SeededRandom::new(1)));
        let master = Arc::new(MasterKey::generate(&*random).expect("random"));
        let (watch, shared) = (StoreWatch::default(), SharedSnapshot::empty());
        let first = clock.now();
        watch.look(&store, &shared, &clock).await;
        assert_eq!(shared.confirmed_at(), None, "there is no snapshot");
        shared.publish(Builder::load(0, Vec::new(), master.clone()).current());
        watch.look(&store, &shared, &clock).await;
        assert_eq!(shared.confirmed_at(), Some(first));
        clock.advance(Duration::from_secs(60));
        let app = App::new(store.clone(), master, Arc::new(clock.clone()), random);
        app.realms().initialise(&app.system_op().expect("random")).await.expect("a realm");
        watch.look(&store, &shared, &clock).await;
        assert_eq!(shared.confirmed_at(), Some(first), "the store has something newer");
        assert_eq!(watch.head.load(Ordering::Relaxed), store.head().await.expect("reads"));
        assert!(watch.answers.load(Ordering::Relaxed));
    }
}
