//! A listener: accepts connections, reads requests with limits and patience that end, and drains on shutdown.
//!
//! hyper itself answers a head that it cannot parse, with an empty 400 (414 and 431 when the line or the head is too
//! large), and closes the connection: such a request has no method, path or id that a problem document could be about.
//! Of a request with both `Transfer-Encoding` and `Content-Length` hyper drops the length and closes the connection
//! after the answer (RFC 9112 section 6.3): what another reader takes for a second request is never read as one.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::metrics::ListenerMetrics;
use crate::problem::Answer;
use crate::stalls::WriteTimeout;

/// How long a failed `accept` is waited out: the process may have run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bounds on what a listener takes.
#[derive(Debug, Clone, Copy)]
pub struct ListenerSettings {
    /// Most connections at once; further ones wait in the system's backlog.
    pub max_connections: usize,
    /// Longest wait for a whole head, and for the next request on an idle connection.
    pub header_timeout: Duration,
    /// Longest wait for the caller to take the next piece of its answer.
    pub write_timeout: Duration,
    /// Largest head, in bytes. It can also have no more than 100 fields, hyper's default.
    pub max_head_bytes: usize,
    /// How long calls in flight may go on after the shutdown began.
    pub drain_timeout: Duration,
}

// === impl ListenerSettings ===

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            header_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(30),
            max_head_bytes: 64 * 1024,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// Serves connections until `shutdown` turns true or its sender is gone; then lets calls in flight end.
///
/// Dropping the future aborts every connection.
pub(crate) async fn serve<H, F>(
    listener: TcpListener,
    settings: ListenerSettings,
    shutdown: watch::Receiver<bool>,
    metrics: Arc<ListenerMetrics>,
    handler: H,
) where
    H: Fn(SocketAddr, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send,
{
    let places = Arc::new(Semaphore::new(settings.max_connections));
    let mut connections = JoinSet::new();
    let mut stopping = std::pin::pin!(stopped(shutdown.clone()));
    loop {
        let accepted = tokio::select! {
            () = &mut stopping => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((place, stream, remote)) = accepted else { break };
        let (handler, shutdown) = (handler.clone(), shutdown.clone());
        let open = metrics.connected();
        connections.spawn(async move {
            let _held = (place, open);
            serve_connection(stream, remote, settings, shutdown, handler).await;
        });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(settings.drain_timeout, drained).await.is_err() {
        tracing::warn!(connections = connections.len(), "calls were cut off: they did not end in time");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(tokio::sync::OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let place = places.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => return Some((place, stream, remote)),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection<H, F>(
    stream: TcpStream,
    remote: SocketAddr,
    settings: ListenerSettings,
    shutdown: watch::Receiver<bool>,
    handler: H,
) where
    H: Fn(SocketAddr, Request<Incoming>) -> F,
    F: Future<Output = Answer>,
{
    // Answers are written whole; waiting for more to send with them only delays them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let answer = handler(remote, request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_header_size(settings.max_head_bytes)
        .serve_connection(TokioIo::new(WriteTimeout::new(stream, settings.write_timeout)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Completes when the shutdown begins.
async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // An error means that the sender is gone: nobody is left who could ask for more.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Response;
    use http_body_util::{BodyExt as _, Full};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    use super::*;

    struct Server {
        address: SocketAddr,
        stop: watch::Sender<bool>,
        task: JoinHandle<()>,
    }

    async fn start<F>(
        settings: ListenerSettings,
        handler: impl Fn(SocketAddr, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Server
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (stop, shutdown) = watch::channel(false);
        Server {
            address,
            stop,
            task: tokio::spawn(serve(listener, settings, shutdown, Arc::default(), handler)),
        }
    }

    fn ok() -> Answer {
        Response::new(Full::new(Bytes::from_static(b"done")))
    }

    /// Sends bytes and returns everything that comes back until the connection is closed.
    async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("listening");
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn a_head_that_is_no_http_or_too_large_is_answered_and_the_connection_closed() {
        let server = start(ListenerSettings::default(), |_, _| async { ok() }).await;
        let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(70_000));
        let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(200));
        for (bytes, status) in [
            ("GARBAGE\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nhost: a\r\n x: folded\r\n\r\n", "400"),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n123456", "400"),
            ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\n12345", "400"),
            ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", "400"),
            ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
            (&large, "431"),
            (&many, "431"),
        ] {
            let answer = exchange(server.address, bytes.as_bytes()).await;
            let shown: String = bytes.chars().take(80).collect();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?} got {answer:?}");
            assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{shown:?} was read as two requests");
        }
    }

    #[tokio::test]
    async fn a_smuggled_request_is_never_served() {
        let server = start(ListenerSettings::default(), |_, request| async move {
            let _ = request.into_body().collect().await;
            ok()
        })
        .await;
        let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        for lengths in [
            "content-length: 4\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked\r\ncontent-length: 4",
            "Transfer-Encoding: Chunked\r\ncontent-length: 4",
        ] {
            let request = format!("POST / HTTP/1.1\r\nhost: a\r\n{lengths}\r\n\r\n{smuggled}");
            let answer = exchange(server.address, request.as_bytes()).await;
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lengths}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_slow_head_is_cut_off() {
        let settings =
            ListenerSettings { header_timeout: Duration::from_millis(50), ..ListenerSettings::default() };
        let server = start(settings, |_, _| async { ok() }).await;
        // Returns at all only because the connection is closed.
        let answer = exchange(server.address, b"GET / HTTP/1.1\r\nhost: a\r\nx: ").await;
        assert!(!answer.contains("done"), "{answer}");
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_for_a_place() {
        let settings = ListenerSettings { max_connections: 1, ..ListenerSettings::default() };
        let server = start(settings, |_, _| async { ok() }).await;
        let first = TcpStream::connect(server.address).await.expect("listening");
        let second = tokio::spawn({
            let address = server.address;
            async move { exchange(address, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.expect("no panic").ends_with("done"));
    }

    #[tokio::test]
    async fn calls_in_flight_end_before_the_shutdown_does() {
        let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        // Long enough that only the shutdown itself can end a connection.
        let hour = Duration::from_secs(3_600);
        let settings =
            ListenerSettings { header_timeout: hour, drain_timeout: hour, ..ListenerSettings::default() };
        let server = start(settings, {
            let (entered, release) = (entered.clone(), release.clone());
            move |_, _| {
                let (entered, release) = (entered.clone(), release.clone());
                async move {
                    entered.notify_one();
                    release.notified().await;
                    ok()
                }
            }
        })
        .await;
        let _idle = TcpStream::connect(server.address).await.expect("listening");
        let call = tokio::spawn(exchange(server.address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
        entered.notified().await;
        server.stop.send(true).expect("serving");
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!server.task.is_finished());
        release.notify_one();
        assert!(call.await.expect("no panic").ends_with("done"));
        server.task.await.expect("ends");
    }

    #[tokio::test]
    async fn a_call_that_does_not_end_is_cut_off() {
        let entered = Arc::new(Notify::new());
        let settings =
            ListenerSettings { drain_timeout: Duration::from_millis(50), ..ListenerSettings::default() };
        let server = start(settings, {
            let entered = entered.clone();
            move |_, _| {
                entered.notify_one();
                std::future::pending()
            }
        })
        .await;
        let call = tokio::spawn(exchange(server.address, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
        entered.notified().await;
        server.stop.send(true).expect("serving");
        server.task.await.expect("ends");
        assert_eq!(call.await.expect("no panic"), "");
    }
}
