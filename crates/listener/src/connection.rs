//! One connection, from its first byte on.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, Sleep, sleep, timeout};

use crate::at_once::AtOnce;
use crate::clients::ClientCertificate;
use crate::exchanges::Exchanges;
use crate::frames::Frames;
use crate::head_timeout::{Exchange, HeadTimeout};
use crate::linger::Linger;
use crate::places::Place;
use crate::proxy_protocol;
use crate::server::{Shared, stopped};
use crate::settings::HandshakeFailure;
use crate::stalls::WriteTimeout;
use crate::stream::Stream;
use crate::strict::Strict;
use crate::tls::HTTP2;

/// What requests on HTTP/2 may have sent without being read, in bytes: of each, and of all of a connection. It is memory
/// that callers take before they have shown who they are.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// Requests that were taken back before they were looked at (CVE-2023-44487), and those that we had to refuse
/// (CVE-2025-8671): further ones end the connection.
const MAX_PENDING_RESETS: usize = 20;
const MAX_OWN_RESETS: usize = 64;

/// How often it is asked on HTTP/2 whether the caller is still there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How often it is looked whether patience is over on HTTP/2.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// A connection on which HTTP can begin.
struct Opened {
    stream: Stream,
    remote: SocketAddr,
    is_http2: bool,
    /// What the caller showed in the handshake, where it was asked.
    client: Option<ClientCertificate>,
    /// Held until the connection ends.
    _place: Option<Place>,
}

/// Serves a connection.
///
/// # Errors
///
/// When it ended in another way than a connection should.
pub(crate) async fn serve<H, F, B>(
    shared: &Arc<Shared<H>>,
    stream: TcpStream,
    remote: SocketAddr,
    shutdown: watch::Receiver<bool>,
) -> Result<(), Box<dyn Error + Send + Sync>>
where
    H: Fn(SocketAddr, Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // Answers are written whole; waiting for more to send with them only delays them.
    let _ = stream.set_nodelay(true);
    let grace = shared.settings.drain_grace;
    let opened = tokio::select! {
        opened = open(shared, stream, remote) => opened?,
        () = Stopping::new(shutdown.clone(), grace) => return Ok(()),
    };
    if opened.is_http2 {
        serve_http2(shared, opened, shutdown).await?;
    } else {
        serve_http1(shared, opened, shutdown).await?;
    }
    Ok(())
}

/// Reads what comes before HTTP.
async fn open<H>(shared: &Shared<H>, mut stream: TcpStream, mut remote: SocketAddr) -> io::Result<Opened> {
    let Shared { entrance, settings, places, .. } = shared;
    // A proxy has the connections of all its callers; those are counted where it tells who they are.
    let mut counts = !entrance.proxies.contains(remote.ip());
    if entrance.proxy_protocol {
        if counts {
            tracing::debug!(%remote, "a connection was refused: it does not come from a trusted proxy");
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let told = timeout(settings.handshake_timeout, proxy_protocol::read(&mut stream)).await??;
        counts = told.is_some_and(|told| !entrance.proxies.contains(told.ip()));
        remote = told.unwrap_or(remote);
    }
    let place =
        if counts { Some(places.take(remote.ip()).ok_or(io::ErrorKind::QuotaExceeded)?) } else { None };
    let (stream, is_http2, client) = if let Some(tls) = &entrance.tls {
        let accepted = timeout(settings.handshake_timeout, tls.acceptor().accept(stream)).await;
        let stream = accepted.map_err(io::Error::from).flatten().inspect_err(|error| {
            entrance.failed.tell(HandshakeFailure::of(error));
        })?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
        // Without one the handshake has failed where one is demanded; that it is there is looked at all the same.
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let client =
            tls.client(chain).map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))?;
        (Stream::tls(stream), is_http2, client)
    } else {
        let mut stream = Stream::plain(stream);
        let is_http2 =
            entrance.cleartext_http2 && timeout(settings.header_timeout, stream.begins_http2()).await??;
        (stream, is_http2, None)
    };
    Ok(Opened { stream, remote, is_http2, client, _place: place })
}

async fn serve_http1<H, F, B>(
    shared: &Arc<Shared<H>>,
    opened: Opened,
    shutdown: watch::Receiver<bool>,
) -> hyper::Result<()>
where
    H: Fn(SocketAddr, Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Shared { settings, .. } = **shared;
    // Whether an answer says that nothing more is read.
    let refused = Arc::new(AtomicBool::new(false));
    let exchange = Exchange::new();
    let calls = AtOnce::new();
    let service = service_fn(|mut request: Request<Incoming>| {
        exchange.begin();
        hand_over(opened.client.as_ref(), &mut request);
        let remote = caller(shared, opened.remote, request.headers());
        let begun = calls.begin((shared.handler)(remote, request));
        let (refused, exchange) = (&refused, &exchange);
        async move {
            let mut answer = begun.await;
            if answer.headers().contains_key(CONNECTION) {
                refused.store(true, Ordering::Relaxed);
            } else if shared.closing.load(Ordering::Relaxed) {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer.map(|body| exchange.answer(body)))
        }
    });
    let stream = WriteTimeout::new(opened.stream, settings.write_timeout);
    let stream = Linger::new(stream, shared.closing.clone(), refused.clone());
    let stream = Strict::new(stream, exchange.clone());
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(usize::try_from(settings.max_head_bytes).unwrap_or(usize::MAX))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut head = HeadTimeout::new(exchange.clone(), settings.header_timeout);
    let mut stopping = pin!(Stopping::new(shutdown, settings.drain_grace));
    let mut is_stopping = false;
    poll_fn(|context| {
        calls.polled_by(context);
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ended);
            }
            if head.poll(context).is_ready() {
                tracing::debug!("a connection was closed: no head came in time");
                return Poll::Ready(Ok(()));
            }
            if is_stopping || stopping.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            is_stopping = true;
            connection.as_mut().graceful_shutdown();
        }
    })
    .await
}

async fn serve_http2<H, F, B>(
    shared: &Arc<Shared<H>>,
    opened: Opened,
    shutdown: watch::Receiver<bool>,
) -> hyper::Result<()>
where
    H: Fn(SocketAddr, Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Shared { settings, .. } = **shared;
    let exchanges = Exchanges::new();
    let service = service_fn({
        let (shared, exchanges, remote) = (shared.clone(), exchanges.clone(), opened.remote);
        let client = opened.client.clone();
        move |mut request: Request<Incoming>| {
            let exchange = exchanges.begin();
            name_host(&mut request);
            hand_over(client.as_ref(), &mut request);
            let answer = (shared.handler)(caller(&shared, remote, request.headers()), request);
            async move {
                let (mut parts, body) = answer.await.into_parts();
                // What ends a connection of HTTP/1.1 ends one request here, in which nobody else's can hide.
                parts.headers.remove(CONNECTION);
                Ok::<_, Infallible>(Response::from_parts(parts, exchange.answer(body)))
            }
        }
    });
    let stream = WriteTimeout::new(opened.stream, settings.write_timeout);
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_header_list_size(settings.max_head_bytes)
        .max_concurrent_streams(settings.max_streams)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_OWN_RESETS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(Frames::new(stream, exchanges.clone())), service);
    let mut connection = pin!(connection);
    let mut stopping = pin!(stopped(shutdown));
    let mut watching =
        tokio::time::interval(WATCH_INTERVAL.min(settings.header_timeout).min(settings.write_timeout));
    watching.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut is_stopping, mut is_idle) = (false, false);
    loop {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = &mut stopping, if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            abuse = exchanges.abused() => {
                tracing::warn!(remote = %opened.remote.ip(), "a connection was closed: {}", abuse.words());
                return Ok(());
            }
            _ = watching.tick() => {
                if exchanges.waits_for(settings.write_timeout) {
                    tracing::debug!("a connection was closed: an answer was not taken");
                    return Ok(());
                }
                let idle = exchanges.idle().unwrap_or_default();
                if idle >= settings.header_timeout + settings.handshake_timeout {
                    return Ok(());
                }
                if idle >= settings.header_timeout && !is_idle {
                    is_idle = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Puts what the caller showed in the handshake beside a request.
fn hand_over(client: Option<&ClientCertificate>, request: &mut Request<Incoming>) {
    if let Some(client) = client {
        request.extensions_mut().insert(client.clone());
    }
}

/// Gives a request of HTTP/2 the `Host` that it has as `:authority` (RFC 9113 section 8.3.1), so that all that reads it
/// reads the same. Where there is one, it may contradict the authority: that is for the handler to judge, as with the
/// absolute form of HTTP/1.1.
fn name_host(request: &mut Request<Incoming>) {
    if request.headers().contains_key(HOST) {
        return;
    }
    let host = request.uri().authority().and_then(|it| HeaderValue::from_str(it.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
}

/// Returns where a request comes from.
fn caller<H>(shared: &Shared<H>, remote: SocketAddr, headers: &HeaderMap) -> SocketAddr {
    let proxies = &shared.entrance.proxies;
    if proxies.is_empty() {
        return remote;
    }
    match proxies.caller(remote.ip(), headers) {
        address if address == remote.ip() => remote,
        address => SocketAddr::new(address, 0),
    }
}

/// Completes when so much time has gone by since the shutdown began.
///
/// Waiting for a shutdown takes a lock whenever it is polled, which here is whenever a connection has something to do. So it
/// is polled anew only when there is news, or another task asks.
struct Stopping {
    shutdown: watch::Receiver<bool>,
    grace: Duration,
    /// Until the shutdown has begun.
    waiting: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Who is woken when it begins.
    waker: Option<Waker>,
    /// Since it has begun.
    pausing: Option<Pin<Box<Sleep>>>,
}

// === impl Stopping ===

impl Stopping {
    fn new(shutdown: watch::Receiver<bool>, grace: Duration) -> Self {
        let waiting = Box::pin(stopped(shutdown.clone()));
        Self { shutdown, grace, waiting, waker: None, pausing: None }
    }
}

impl Future for Stopping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.pausing.is_none() {
            let is_watched = this.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
            if is_watched && matches!(this.shutdown.has_changed(), Ok(false)) {
                return Poll::Pending;
            }
            if this.waiting.as_mut().poll(context).is_pending() {
                this.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        this.pausing.get_or_insert_with(|| Box::pin(sleep(this.grace))).as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_told_of_a_shutdown_whenever_it_begins() {
        let grace = Duration::from_secs(3);
        for news in [&[true][..], &[false, false, true]] {
            let (stop, shutdown) = watch::channel(false);
            let stopping = tokio::spawn(Stopping::new(shutdown, grace));
            for value in news {
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert!(!stopping.is_finished());
                stop.send_replace(*value);
            }
            let began = Instant::now();
            stopping.await.expect("no panic");
            assert_eq!(began.elapsed(), grace);
        }
        let (stop, shutdown) = watch::channel(true);
        let began = Instant::now();
        Stopping::new(shutdown, grace).await;
        assert_eq!(began.elapsed(), grace, "it has begun already");
        drop(stop);
        let (stop, shutdown) = watch::channel(false);
        let stopping = tokio::spawn(Stopping::new(shutdown, grace));
        tokio::task::yield_now().await;
        drop(stop);
        stopping.await.expect("no panic");
    }
}
