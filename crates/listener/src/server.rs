//! Accepts connections within bounds, and drains on shutdown.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::connection;
use crate::places::Places;
use crate::settings::{Entrance, ListenerSettings};
use crate::turning_away::{HANDSHAKE_PAUSE, turn_away};

/// How long a failed `accept` is waited out: the process may have run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long the next connection is waited for at a shutdown: what the system has taken is there at once.
const BACKLOG_PAUSE: Duration = Duration::from_millis(10);

/// Most connections that are taken from the backlog at a shutdown.
const MAX_BACKLOG: usize = 1_024;

/// What the connections of a listener share.
pub(crate) struct Shared<H> {
    pub(crate) entrance: Entrance,
    pub(crate) settings: ListenerSettings,
    pub(crate) places: Arc<Places>,
    /// The shutdown has begun: each answer on HTTP/1.1 is the last on its connection.
    pub(crate) closing: Arc<AtomicBool>,
    pub(crate) handler: H,
}

/// Serves connections until `shutdown` turns true or its sender is gone; then lets calls in flight end.
///
/// `handler` gets the address that a call comes from, as trusted proxies tell it, with port 0 when it is not that of the
/// connection. Dropping the future aborts every connection.
pub async fn serve<H, F, B>(
    listener: TcpListener,
    entrance: Entrance,
    settings: ListenerSettings,
    shutdown: watch::Receiver<bool>,
    handler: H,
) where
    H: Fn(SocketAddr, Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let free = Arc::new(Semaphore::new(settings.max_connections));
    let places = Places::new(settings.max_connections_per_address);
    let closing = Arc::new(AtomicBool::new(false));
    let shared = Arc::new(Shared { entrance, settings, places, closing, handler });
    let mut connections = JoinSet::new();
    let mut stopping = std::pin::pin!(stopped(shutdown.clone()));
    loop {
        let accepted = tokio::select! {
            () = &mut stopping => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &free) => accepted,
        };
        let Some((permit, stream, remote)) = accepted else { break };
        connections.spawn(run(permit, shared.clone(), stream, remote, shutdown.clone()));
    }
    shared.closing.store(true, Ordering::Relaxed);
    let mut pause = BACKLOG_PAUSE;
    if shared.entrance.shares_address {
        match turn_away(&listener) {
            Ok(()) => pause = HANDSHAKE_PAUSE,
            Err(error) => tracing::warn!(
                %error,
                "new connections cannot be left to other processes: those that come while this one stops may be lost"
            ),
        }
    }
    let backlog = async {
        for _ in 0..MAX_BACKLOG {
            let next = tokio::time::timeout(pause, accept(&listener, &free)).await;
            let Ok(Some((permit, stream, remote))) = next else { break };
            connections.spawn(run(permit, shared.clone(), stream, remote, shutdown.clone()));
        }
    };
    let _ = tokio::time::timeout(settings.drain_grace, backlog).await;
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(settings.drain_timeout, drained).await.is_err() {
        tracing::warn!(connections = connections.len(), "calls were cut off: they did not end in time");
    }
}

async fn run<H, F, B>(
    permit: OwnedSemaphorePermit,
    shared: Arc<Shared<H>>,
    stream: TcpStream,
    remote: SocketAddr,
    shutdown: watch::Receiver<bool>,
) where
    H: Fn(SocketAddr, Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let _held = (permit, shared.entrance.opened.tell());
    if let Err(error) = connection::serve(&shared, stream, remote, shutdown).await {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> Option<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let permit = free.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
                return Some((permit, stream, remote));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Completes when the shutdown begins.
pub(crate) async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // An error means that the sender is gone: nobody is left who could ask for more.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
