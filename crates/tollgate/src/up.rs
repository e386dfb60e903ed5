//! `tollgate up`: the whole product in one process.
//!
//! Order matters. Addresses are bound first, so that a port in use is told before anything is written. A snapshot on
//! disk is published before the store is opened, so that calls are answered while the store is away. The banner comes
//! last, when everything that it names works.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tollgate_app::App;
use tollgate_app::follower::Follower;
use tollgate_credential::seal::MasterKey;
use tollgate_gateway::{Gateway, GatewaySettings, Refusals, Spans, Usage};
use tollgate_model::sources::{Clock, Random};
use tollgate_snapshot::{Builder, Restored, SharedSnapshot};
use tollgate_store::{OpenStoreError, Store};

use crate::failure::Failure;
use crate::output::print_out;
use crate::system::{SystemClock, SystemRandom};
use supervise::supervise;

mod applied;
mod checkpoints;
mod console;
mod data_dir;
mod demo;
mod demo_calls;
mod descriptors;
mod entrances;
mod environments;
mod explainer;
mod first_start;
mod four_eyes;
mod heartbeat;
mod inherited;
mod issuers;
mod keys;
mod limits;
mod listeners;
mod logging;
mod master_key;
mod metrics;
mod refusals;
mod scheduler;
mod supervise;
mod telemetry;
mod usage;

pub(crate) use data_dir::sqlite_path;
pub(crate) use four_eyes::{FourEyesOffArguments, run as end_four_eyes};

use applied::Applied;
use checkpoints::CheckpointTask;
use data_dir::DataDir;
use entrances::{EntranceArguments, Entrances};
use environments::Environments;
use explainer::ThisProcess;
use heartbeat::Heartbeat;
use issuers::IssuerTask;
use limits::LimitArguments;
use listeners::{Listen, Listeners, Name, Opening, Place};
use logging::Log;
use metrics::{Source, StoreWatch};
use refusals::RefusalsTask;
use telemetry::Telemetry;
use usage::UsageTask;

/// Longest wait between two attempts to reach the store.
const STORE_RETRY: Duration = Duration::from_secs(2);
/// Longest first reading of the store.
const LONGEST_LOAD: Duration = Duration::from_secs(120);

/// Arguments of `tollgate up`.
#[derive(Args)]
pub(crate) struct UpArguments {
    /// Loads the store and login pipelines with a consumer in each environment, and prints the calls to try.
    #[arg(long, conflicts_with = "tls")]
    demo: bool,
    /// Directory for everything that is kept.
    #[arg(long, value_name = "DIR", default_value = "./tollgate-data", env = "TOLLGATE_DATA")]
    data: PathBuf,
    /// `postgres://…` instead of the embedded database; prefer the environment variable when it holds a password.
    #[arg(long, value_name = "URL", env = "TOLLGATE_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Address of a listener; repeatable. NAME is console, an environment (test), its internal listener
    /// (test.internal), or metrics, which is off unless it is named. Port 0 takes a free one. Defaults: console 127.0.0.1:7000, test 7001, prod 7002,
    /// test.internal 7011, prod.internal 7012.
    #[arg(long, value_name = "NAME=ADDR", env = "TOLLGATE_LISTEN", value_delimiter = ',')]
    listen: Vec<Listen>,
    /// Name under which browsers and clients reach the console, besides localhost and IP addresses; repeatable.
    #[arg(long, value_name = "HOST", env = "TOLLGATE_CONSOLE_HOST", value_delimiter = ',')]
    console_host: Vec<String>,
    #[command(flatten)]
    entrances: EntranceArguments,
    /// Lets other processes of this user listen on the same addresses, so that the next one can start before this one
    /// stops (SO_REUSEPORT). Sockets that are passed by systemd (LISTEN_FDS, named as for --listen) need no such thing.
    #[arg(long, env = "TOLLGATE_REUSE_PORT")]
    reuse_port: bool,
    #[command(flatten)]
    limits: LimitArguments,
    /// Lets the console listen beyond loopback without TLS, for example behind a proxy that adds it; and metrics, which
    /// everybody who gets there may read.
    #[arg(long)]
    insecure_http: bool,
    /// What to log, for example `info` or `warn,tollgate::access=off`.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "TOLLGATE_LOG")]
    log: String,
    #[command(flatten)]
    master_key: master_key::MasterKeyArguments,
}

/// What the parts of the process share.
struct Parts {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    master: Arc<MasterKey>,
    shared: Arc<SharedSnapshot>,
    usage: Arc<Usage>,
    refusals: Arc<Refusals>,
    gateway: Arc<Gateway>,
    issuers: Arc<IssuerTask>,
    entrances: Arc<Entrances>,
    /// Turns true when calls are to be taken.
    takes_calls: Arc<watch::Sender<bool>>,
    shutdown: watch::Receiver<bool>,
}

/// What was started before the store was opened.
struct Started {
    console: TcpListener,
    bound: Vec<(Name, std::net::SocketAddr)>,
    banner: String,
    store_watch: Arc<StoreWatch>,
}

/// What ends after all other tasks.
struct LastTasks {
    /// Writes down what calls left.
    usage: UsageTask,
    /// Writes down which calls were refused.
    refusals: RefusalsTask,
    /// Makes a checkpoint of all that was written.
    checkpoints: CheckpointTask,
}

/// Runs until it is told to stop.
pub(crate) async fn run(arguments: UpArguments) -> Result<(), Failure> {
    serve(arguments).await.map_err(Failure::from)
}

async fn serve(arguments: UpArguments) -> anyhow::Result<()> {
    let telemetry = Telemetry::start()?;
    let mut log = logging::start(&arguments.log, telemetry.logs())?;
    let served = serve_with(arguments, &mut log, telemetry.spans()).await;
    telemetry.finish().await;
    served
}

async fn serve_with(
    arguments: UpArguments,
    log: &mut Log,
    spans: Option<Arc<dyn Spans>>,
) -> anyhow::Result<()> {
    let descriptors = descriptors::raise();
    let inherited = inherited::take()?;
    let entrances = Entrances::load(&arguments.entrances)?;
    let entrances = Arc::new(entrances.sharing(arguments.reuse_port, inherited.keys()));
    entrances.check(arguments.listen.iter().map(|listen| &listen.name))?;
    let console_may_leave = arguments.insecure_http || entrances.has_tls(&Name::Console);
    let opening = Opening {
        console_may_leave,
        insecure_http: arguments.insecure_http,
        reuse_port: arguments.reuse_port,
    };
    // Where another process may serve the same addresses, no call is taken before all is known that it knows.
    let takes_calls = Arc::new(watch::Sender::new(inherited.is_empty() && !arguments.reuse_port));
    let listeners = Listeners::open(&arguments.listen, inherited, opening)?;
    let data = DataDir::open(&arguments.data)?;
    let master = Arc::new(master_key::find(&arguments.master_key, &data)?);
    let (stop, shutdown) = watch::channel(false);
    let signals = watch_signals(stop)?;

    let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let shared = Arc::new(SharedSnapshot::empty());
    let usage = Arc::new(Usage::new());
    let refusals = Arc::new(Refusals::new());
    let mut settings = GatewaySettings::default();
    arguments.limits.apply(&mut settings);
    settings.listener.max_connections = descriptors::connections(
        descriptors,
        listeners.environments.len(),
        settings.listener.max_connections,
    );
    // However few connections there may be, one address never gets all of them.
    settings.listener.max_connections_per_address =
        arguments.entrances.connections_per_address.get().min(settings.listener.max_connections.div_ceil(2));
    let gateway = Gateway::keeping(
        shared.clone(),
        clock.clone(),
        random.clone(),
        settings,
        usage.clone(),
        refusals.clone(),
    );
    if let Some(spans) = spans {
        gateway.tell_spans(spans);
    }
    let ring = gateway.issuer_keys().clone();
    let issuers = IssuerTask::new(ring, shared.clone(), clock.clone(), data.issuer_keys_path());
    let parts = Parts {
        clock,
        random,
        master,
        shared,
        usage,
        refusals,
        gateway,
        issuers,
        entrances,
        takes_calls,
        shutdown,
    };

    let restored = restore(&data, &parts).await;
    parts.issuers.restore().await;
    let mut tasks = JoinSet::new();
    let Listeners { console, metrics, environments } = listeners;
    let mut bound = Vec::new();
    let mut banner = format!("tollgate {}\n", env!("CARGO_PKG_VERSION"));
    let scheme = parts.entrances.scheme(&Name::Console);
    banner.push_str(&format!("  console        {scheme}://{}\n", console.local_addr()?));
    tracing::info!(listener = "console", address = %console.local_addr()?, "listening");
    let store_watch = Arc::new(StoreWatch::default());
    if let Some(listener) = metrics {
        let address = listener.local_addr()?;
        tracing::info!(listener = "metrics", %address, "listening");
        let scheme = parts.entrances.scheme(&Name::Metrics);
        banner.push_str(&format!("  metrics        {scheme}://{address}/metrics\n"));
        let source = Source {
            gateway: parts.gateway.clone(),
            shared: parts.shared.clone(),
            store: store_watch.clone(),
            clock: parts.clock.clone(),
            started_at: parts.clock.now(),
        };
        let router = metrics::router(Arc::new(source), arguments.console_host.clone());
        let entrance = parts.entrances.of(&Name::Metrics);
        let shutdown = parts.shutdown.clone();
        tasks.spawn(console::serve(listener, entrance, router, console::settings(), shutdown));
    }
    let given: Arc<BTreeSet<Place>> = Arc::new(environments.iter().map(|(place, _)| place.clone()).collect());
    for (place, listener) in environments {
        tracing::info!(listener = %place, address = %listener.local_addr()?, "listening");
        let name = Name::Environment(place.clone());
        let scheme = parts.entrances.scheme(&name);
        banner.push_str(&format!("  {place:<14} {scheme}://{}\n", listener.local_addr()?));
        bound.push((name, listener.local_addr()?));
        spawn_environment(&mut tasks, &parts, place, listener);
    }

    parts.entrances.tell_unknown(bound.iter().map(|(name, _)| name).chain([&Name::Console]));
    let (entrances, shutdown) = (parts.entrances.clone(), parts.shutdown.clone());
    tasks.spawn(supervise("certificates", shutdown.clone(), move || {
        entrances.clone().watch(shutdown.clone())
    }));
    let (gateway, shared, shutdown) = (parts.gateway.clone(), parts.shared.clone(), parts.shutdown.clone());
    let (entrances, reuse_port) = (parts.entrances.clone(), arguments.reuse_port);
    let takes_calls = parts.takes_calls.clone();
    tasks.spawn(supervise("listeners", shutdown.clone(), move || {
        let environments = Environments::new(gateway.clone(), entrances.clone(), reuse_port);
        let (shared, given) = (shared.clone(), given.clone());
        let (takes_calls, shutdown) = (takes_calls.clone(), shutdown.clone());
        async move {
            if begins(&takes_calls, &shutdown).await {
                environments::run(environments, shared, given, shutdown).await;
            }
        }
    }));

    let (issuers, shutdown) = (parts.issuers.clone(), parts.shutdown.clone());
    tasks.spawn(supervise("issuers", shutdown.clone(), move || issuers.clone().run(shutdown.clone())));

    let url = arguments.database.clone().unwrap_or_else(|| data.sqlite_url());
    let stopped = parts.shutdown.clone();
    let store = tokio::select! {
        store = open_store(&url, restored.is_some(), &parts.takes_calls) => store?,
        () = stopping(stopped) => return drain(tasks, None, signals).await,
    };
    let started = Started { console, bound, banner, store_watch };
    let last = control(&arguments, &data, &parts, store, restored, started, &mut tasks).await?;
    log.begin();
    stopping(parts.shutdown.clone()).await;
    tracing::info!("stopping: calls in flight may end");
    drain(tasks, Some(last), signals).await
}

/// Starts what needs the store: use cases, management API, follower, scheduler; then says that all is ready.
/// Returns the tasks that end after all others.
async fn control(
    arguments: &UpArguments,
    data: &DataDir,
    parts: &Parts,
    store: Store,
    restored: Option<Restored>,
    started: Started,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<LastTasks> {
    let Started { console, bound, mut banner, store_watch } = started;
    let app = App::new(store.clone(), parts.master.clone(), parts.clock.clone(), parts.random.clone());
    let first = first_start::prepare(&app, data).await?;
    let checkpoints = CheckpointTask::start(app.clone(), store.watch(), data.checkpoints_path()).await;
    let path = Some(data.snapshot_path());
    let follower = Follower::new(store.clone(), parts.master.clone(), parts.shared.clone(), path);
    let follower = Arc::new(follower.beginning_with(restored));
    let followed = follower.followed();
    let applied = Applied { head: store.watch(), followed: followed.clone() };
    let shutdown = parts.shutdown.clone();
    tasks.spawn(supervise("follower", shutdown.clone(), move || {
        let (follower, shutdown) = (follower.clone(), shutdown.clone());
        async move { follower.run(shutdown).await }
    }));
    wait_for_snapshot(followed, &store).await?;
    if !*parts.takes_calls.borrow() {
        // The process that goes has the keys of issuers: none of its callers is to be answered 503 by this one.
        tokio::select! {
            () = parts.issuers.begun() => {}
            () = stopping(parts.shutdown.clone()) => {}
        }
        parts.takes_calls.send_replace(true);
    }
    store_watch.look(&store, &parts.shared, &*parts.clock).await;
    let (shared, clock, shutdown) = (parts.shared.clone(), parts.clock.clone(), parts.shutdown.clone());
    tasks.spawn(supervise("store watch", shutdown.clone(), move || {
        let (watch, store, shared) = (store_watch.clone(), store.clone(), shared.clone());
        let (clock, shutdown) = (clock.clone(), shutdown.clone());
        async move { watch.run(&store, &shared, &*clock, shutdown).await }
    }));
    let (clock, shutdown) = (parts.clock.clone(), parts.shutdown.clone());
    let (runs, gateway, shared) = (app.clone(), parts.gateway.clone(), parts.shared.clone());
    tasks.spawn(supervise("scheduler", shutdown.clone(), move || {
        scheduler::run(runs.clone(), gateway.clone(), shared.clone(), clock.clone(), shutdown.clone())
    }));
    let heartbeat =
        Arc::new(Heartbeat::new(app.clone(), parts.shared.clone(), parts.clock.clone(), &*parts.random)?);
    let shutdown = parts.shutdown.clone();
    tasks.spawn(supervise("heartbeat", shutdown.clone(), move || heartbeat.clone().run(shutdown.clone())));
    let (clock, shutdown) = (parts.clock.clone(), parts.shutdown.clone());
    let (looks, shared) = (app.clone(), parts.shared.clone());
    tasks.spawn(supervise("keys", shutdown.clone(), move || {
        keys::run(looks.clone(), shared.clone(), clock.clone(), shutdown.clone())
    }));
    let (judging, shutdown) = (app.clone(), parts.shutdown.clone());
    tasks.spawn(supervise("judging ahead", shutdown.clone(), move || {
        let (judging, shutdown) = (judging.clone(), shutdown.clone());
        async move { judging.judge_ahead(shutdown).await }
    }));
    let last = LastTasks {
        usage: UsageTask::start(app.clone(), parts.usage.clone()),
        refusals: RefusalsTask::start(app.clone(), parts.refusals.clone(), parts.random.as_ref()),
        checkpoints,
    };
    app.set_gateway(Arc::new(ThisProcess::new(parts, &bound)));

    tell_unknown_environments(&app, &bound).await?;
    let address = console.local_addr()?;
    let settings = tollgate_api::ApiSettings {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        allowed_hosts: arguments.console_host.clone(),
        secure_cookies: parts.entrances.has_tls(&Name::Console),
    };
    let pages = tollgate_console::router(
        app.clone(),
        tollgate_console::ConsoleSettings {
            version: settings.version.clone(),
            secure_cookies: settings.secure_cookies,
            gateways: demo_calls::gateways(&bound, &parts.entrances),
        },
    );
    let router = applied::once_applied(tollgate_api::router(app, settings, pages), applied);
    let shutdown = parts.shutdown.clone();
    let entrance = parts.entrances.of(&Name::Console);
    tasks.spawn(console::serve(console, entrance, router, console::settings(), shutdown));

    banner.push_str(&format!("  data           {}\n", data.path().display()));
    banner.push_str(&first);
    print_out(&banner);
    if arguments.demo {
        let addresses = demo_calls::Addresses::find(address, &bound);
        print_out(&demo::load(data, &addresses, parts.random.as_ref()).await?);
    }
    tracing::info!(console = %address, "ready");
    Ok(last)
}

/// Tells of listeners whose environment does not exist: `--listen tset=…` would open a port and leave `test` where it
/// was. They stay, since environments can be made later.
async fn tell_unknown_environments(app: &App, bound: &[(Name, std::net::SocketAddr)]) -> anyhow::Result<()> {
    let mut op = app.system_op()?;
    let mut known = BTreeSet::new();
    for realm in app.realms().list(&op).await? {
        op.realm = realm.name;
        known.extend(app.environments().list(&op).await?.into_iter().map(|it| it.environment.name));
    }
    for (name, address) in bound {
        if let Name::Environment(place) = name
            && !known.contains(&place.environment)
        {
            tracing::warn!(listener = %place, %address, "there is no such environment: nothing answers here");
        }
    }
    Ok(())
}

fn spawn_environment(tasks: &mut JoinSet<()>, parts: &Parts, place: Place, listener: TcpListener) {
    let (gateway, shutdown) = (parts.gateway.clone(), parts.shutdown.clone());
    let takes_calls = parts.takes_calls.clone();
    let entrance = parts.entrances.of(&Name::Environment(place.clone()));
    tasks.spawn(async move {
        if !begins(&takes_calls, &shutdown).await {
            return;
        }
        gateway.serve(listener, entrance, place.environment, place.exposure, shutdown).await;
    });
}

/// Waits until calls are to be taken; tells whether they are, or the process was told to stop before.
async fn begins(takes_calls: &watch::Sender<bool>, shutdown: &watch::Receiver<bool>) -> bool {
    let mut taken = takes_calls.subscribe();
    tokio::select! {
        begun = taken.wait_for(|takes| *takes) => begun.is_ok(),
        () = stopping(shutdown.clone()) => false,
    }
}

/// Publishes the snapshot on disk, when there is one.
async fn restore(data: &DataDir, parts: &Parts) -> Option<Restored> {
    let (path, master) = (data.snapshot_path(), parts.master.clone());
    if !path.exists() {
        return None;
    }
    match tokio::task::spawn_blocking(move || Builder::restore(&path, master)).await {
        Ok(Ok(restored)) => {
            parts.shared.publish(restored.builder.current());
            let (revision, cut) = (restored.builder.current().seq, restored.cut);
            tracing::info!(revision, "the snapshot on disk is read");
            if cut > 0 {
                tracing::warn!(bytes = cut, "the end of the snapshot's log is not whole and does not count");
            }
            Some(restored)
        }
        Ok(Err(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the snapshot on disk cannot be used");
            None
        }
        Err(_) => None,
    }
}

/// Opens the store; keeps trying while a snapshot from disk is served.
async fn open_store(url: &str, from_disk: bool, takes_calls: &watch::Sender<bool>) -> anyhow::Result<Store> {
    loop {
        match Store::open(url).await {
            Ok(store) => return Ok(store),
            Err(error @ (OpenStoreError::UnknownUrl | OpenStoreError::Url(_) | OpenStoreError::File(_))) => {
                return Err(error).context("cannot open the store");
            }
            Err(error) if !from_disk => return Err(error).context("cannot open the store"),
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the store is out of reach: serving the last snapshot"
                );
                takes_calls.send_replace(true);
            }
        }
        tokio::time::sleep(STORE_RETRY).await;
    }
}

/// Waits until the follower has published everything that is in the store.
async fn wait_for_snapshot(mut followed: watch::Receiver<Option<u64>>, store: &Store) -> anyhow::Result<()> {
    let head = store.head().await?;
    let is_all = followed.wait_for(|followed| followed.is_some_and(|seq| seq >= head));
    match tokio::time::timeout(LONGEST_LOAD, is_all).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => bail!("the store could not be read within {} seconds", LONGEST_LOAD.as_secs()),
    }
}

/// Ends when the process is told to stop.
async fn stopping(mut shutdown: watch::Receiver<bool>) {
    // A sender that is gone means stop, too.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Lets every task end, those that write down what is left last; a second signal ends the process at once.
async fn drain(
    mut tasks: JoinSet<()>,
    last: Option<LastTasks>,
    signals: tokio::task::JoinHandle<()>,
) -> anyhow::Result<()> {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task panicked");
        }
    }
    if let Some(LastTasks { usage, refusals, checkpoints }) = last {
        tokio::join!(usage.finish(), refusals.finish());
        // Last, so that a checkpoint covers all that was written.
        checkpoints.finish().await;
    }
    signals.abort();
    Ok(())
}

/// Turns the first SIGTERM or Ctrl-C into a stop, and the second into an exit.
fn watch_signals(stop: watch::Sender<bool>) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
    Ok(tokio::spawn(async move {
        let mut signals = 0;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            signals += 1;
            if signals == 2 {
                std::process::exit(130);
            }
            stop.send_replace(true);
        }
    }))
}
