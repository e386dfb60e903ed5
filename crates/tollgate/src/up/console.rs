//! The console's listener: as the gateway's, its patience ends. A caller that sends half a request must not keep a
//! connection for ever, nor keep the process from stopping.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

/// How long a failed `accept` is waited out: the process may have run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bounds on what the console takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConsoleSettings {
    /// Most connections at once; further ones wait in the system's backlog.
    max_connections: usize,
    /// Longest wait for a whole head, and for the next request on an idle connection.
    header_timeout: Duration,
    /// How long requests in flight may go on after the stop began.
    drain_timeout: Duration,
}

// === impl ConsoleSettings ===

impl Default for ConsoleSettings {
    fn default() -> Self {
        Self {
            max_connections: 1_000,
            header_timeout: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// Serves until `shutdown` turns true or its sender is gone; then lets requests in flight end.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    settings: ConsoleSettings,
    shutdown: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(super::stopping(shutdown.clone()));
    loop {
        let stream = tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < settings.max_connections => accepted,
        };
        match stream {
            Ok((stream, remote)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                connections.spawn(serve_connection(stream, remote, router, settings, shutdown));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the console could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(settings.drain_timeout, drained).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "requests to the console were cut off: they did not end in time"
        );
    }
}

async fn serve_connection(
    stream: TcpStream,
    remote: std::net::SocketAddr,
    router: Router,
    settings: ConsoleSettings,
    shutdown: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(remote));
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = super::stopping(shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the console ended early");
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::Extension;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Longest wait for what must come.
    const SOON: Duration = Duration::from_secs(10);

    async fn start(settings: ConsoleSettings) -> (std::net::SocketAddr, watch::Sender<bool>, JoinSet<()>) {
        let router = Router::new()
            .route(
                "/",
                get(async |remote: Extension<ConnectInfo<std::net::SocketAddr>>| remote.0.0.ip().to_string()),
            )
            .route("/", post(async |body: String| body));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (stop, shutdown) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, router, settings, shutdown));
        (address, stop, tasks)
    }

    async fn send(address: std::net::SocketAddr, bytes: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("listening");
        stream.write_all(bytes.as_bytes()).await.expect("sends");
        stream
    }

    async fn read(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        let _ = tokio::time::timeout(SOON, read).await.expect("closed in time");
        answer
    }

    #[tokio::test]
    async fn half_a_request_neither_keeps_its_connection_nor_the_process() {
        let brief = Duration::from_millis(20);
        let settings = ConsoleSettings { max_connections: 2, header_timeout: brief, drain_timeout: brief };
        let (address, stop, mut tasks) = start(settings).await;
        // Each takes one of the two places until its time is over.
        let halves = [send(address, "GET / HTTP/1.1\r\nhost: lo").await, send(address, "").await];
        let whole = send(address, "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
        assert!(read(whole).await.ends_with("127.0.0.1"));
        for half in halves {
            read(half).await;
        }
        let _body =
            send(address, "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nhalf").await;
        stop.send_replace(true);
        tokio::time::timeout(SOON, tasks.join_next()).await.expect("stops in time");
    }
}
