//! Calls over connections that are kept.
//!
//! A connection on HTTP/1.1 has one call at a time, and whoever makes the call drives it: there is no other task that would
//! have to be woken for the request, and wake the call for the answer. Where an answer has more to come than was there with its
//! head, or a request, the connection gets a task of its own until both have ended (decision 0068). One on HTTP/2 is shared
//! and has such a task from the start.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::task::unconstrained;
use tollgate_flow::UpstreamError;

use super::connector::{Connector, Link};
use super::idle::{Host, Idle, Kept};
use super::{MAX_HEAD_BYTES, PING_INTERVAL, PING_TIMEOUT};
use crate::payload::Payload;

/// Makes calls over connections of one kind, to any upstream.
pub(crate) struct Client {
    connector: Connector,
    /// Every connection speaks HTTP/2, without TLS, too.
    http2: bool,
    idle: Arc<Idle>,
}

/// An answer that has begun.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) held: Held,
}

/// The connection that an answer came over: closed when this is dropped, so that whoever finds an answer ambiguous need not
/// think of what the next one would be.
#[derive(Default)]
pub(crate) struct Held(Option<(Box<Line>, Host, Arc<Idle>)>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// There was no connection: nothing was sent.
    #[error(transparent)]
    Connect(UpstreamError),
    /// It broke on the way.
    #[error(transparent)]
    Broken(hyper::Error),
}

/// A connection on HTTP/1.1, and what drives it.
pub(super) struct Line {
    sender: http1::SendRequest<Payload>,
    /// `None` once it has ended.
    connection: Option<http1::Connection<TokioIo<Link>, Payload>>,
}

/// A connection on HTTP/2: calls beside each other.
pub(super) type Shared = http2::SendRequest<Payload>;

type Refused = TrySendError<Request<Payload>>;

// === impl Client ===

impl Client {
    pub(crate) fn new(connector: Connector, http2: bool) -> Self {
        Self { connector, http2, idle: Arc::default() }
    }

    /// Calls an upstream until its answer begins. The request has the path and the query of its URI alone, and no `Host`.
    ///
    /// A kept connection may have been closed a moment ago by whoever is at its other end. A request of which nothing was
    /// sent goes over another one then. Dropping the future closes a connection on HTTP/1.1, and ends the stream on HTTP/2.
    pub(crate) async fn request(
        &self,
        target: &Uri,
        mut request: Request<Payload>,
    ) -> Result<Answered, RequestError> {
        let Some(host) = Host::of(target) else {
            return Err(RequestError::Connect(UpstreamError::Unreachable));
        };
        loop {
            let (kept, is_new) = match self.idle.take(&host) {
                Some(kept) => (kept, false),
                // Most calls make none, and need not carry what making one takes.
                None => {
                    let dialled = Box::pin(self.dial(target, &host)).await;
                    (dialled.map_err(RequestError::Connect)?, true)
                }
            };
            let outcome = match kept {
                Kept::Line(mut line) => {
                    request.headers_mut().entry(HOST).or_insert_with(|| host_field(&host));
                    line.call(request).await.map(|response| {
                        let held = Held(Some((line, host.clone(), self.idle.clone())));
                        Answered { response, held }
                    })
                }
                Kept::Shared(mut shared) => {
                    request.headers_mut().remove(HOST);
                    make_absolute(&mut request, target);
                    let sent = shared.try_send_request(request).await;
                    sent.map(|response| Answered { response, held: Held::default() })
                }
            };
            request = match outcome {
                Ok(answered) => return Ok(answered),
                Err(mut refused) => match refused.take_message().filter(|_| !is_new) {
                    Some(unsent) => unsent,
                    None => return Err(RequestError::Broken(refused.into_error())),
                },
            };
        }
    }

    /// Makes a connection, or waits for the one to be shared that somebody else makes.
    async fn dial(&self, target: &Uri, host: &Host) -> Result<Kept, UpstreamError> {
        if !self.http2 {
            return self.connect(target, host).await;
        }
        let dialling = self.idle.dialling(host);
        let _turn = dialling.lock().await;
        match self.idle.take(host) {
            Some(kept) => Ok(kept),
            None => self.connect(target, host).await,
        }
    }

    async fn connect(&self, target: &Uri, host: &Host) -> Result<Kept, UpstreamError> {
        let link = self.connector.connect(target).await?;
        let io = |link| TokioIo::new(link);
        let failed = |error: hyper::Error| {
            tracing::debug!(%error, "an upstream was not reached");
            UpstreamError::Unreachable
        };
        if !(self.http2 || link.is_http2()) {
            let (sender, connection) = http1::handshake(io(link)).await.map_err(failed)?;
            return Ok(Kept::Line(Box::new(Line { sender, connection: Some(connection) })));
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEAD_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .adaptive_window(true)
            .handshake(io(link))
            .await
            .map_err(failed)?;
        tokio::spawn(connection);
        Ok(Kept::Shared(self.idle.share(host, sender)))
    }
}

/// Returns the `Host` field of an upstream, without the port that its scheme stands for (RFC 9110 section 7.2).
fn host_field(host: &Host) -> HeaderValue {
    let authority = &host.authority;
    let is_default = authority.port_u16() == Some(if host.is_tls { 443 } else { 80 });
    let text = if is_default { authority.host() } else { authority.as_str() };
    // What an authority may consist of may stand in a field.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Puts scheme and authority of the target before the path.
fn make_absolute(request: &mut Request<Payload>, target: &Uri) {
    let mut parts = target.clone().into_parts();
    let path = request.uri().path_and_query();
    parts.path_and_query = Some(path.cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

// === impl Held ===

impl Held {
    /// Lets the connection go on: to the next call, when this one is over.
    pub(crate) fn go_on(self) {
        let Some((mut line, host, idle)) = self.0 else { return };
        if line.is_ready() {
            idle.keep(host, line);
        } else if !line.is_closed() {
            tokio::spawn(async move {
                line.finish().await;
                if line.is_ready() {
                    idle.keep(host, line);
                }
            });
        }
    }
}

// === impl Line ===

impl Line {
    /// Makes a call, and drives the connection until the answer begins.
    async fn call(&mut self, request: Request<Payload>) -> Result<Response<Incoming>, Refused> {
        // Only the connection, driven below, tells the answer: nobody need be woken for it, or be made to wait by what the
        // task did before.
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        poll_fn(|context| {
            self.drive(context);
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// Drives the connection until it can be used again, if it can.
    async fn finish(&mut self) {
        poll_fn(|context| {
            self.drive(context);
            if self.is_closed() { Poll::Ready(()) } else { self.sender.poll_ready(context).map(drop) }
        })
        .await;
    }

    /// Reads and writes what can be. A connection that has ended is dropped, with what it has not begun to send: that is told
    /// to whoever waits for an answer.
    fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(context).is_ready()
        {
            self.connection = None;
        }
    }

    /// Tells whether the next call can be made: the last one has ended, on both ways.
    fn is_ready(&self) -> bool {
        !self.is_closed() && self.sender.is_ready()
    }

    fn is_closed(&self) -> bool {
        self.connection.is_none()
    }

    /// Looks, while no call needs the connection, whether the other end has closed it.
    pub(super) fn is_there(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.is_ready()
    }

    /// Closes the connection as its protocols want it, which can take a moment.
    pub(super) fn close(self) {
        drop(self.sender);
        if let Some(connection) = self.connection {
            tokio::spawn(connection);
        }
    }
}

#[cfg(test)]
mod tests;
