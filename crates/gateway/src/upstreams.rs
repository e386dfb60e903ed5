//! Calls of upstreams: by pooled connections to addresses that may be called, tried again where that is safe, and not at all
//! where it is known to be in vain. Redirects are answers, and not followed; no proxy from the environment.

mod addresses;
mod client;
mod clients;
mod connector;
mod idle;
mod traced;

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout, timeout_at};
use tollgate_flow::{
    Entered, Heard, Tried, Upstream, UpstreamCall, UpstreamError, UpstreamRequest, UpstreamResponse,
};
use tollgate_model::environments::RealmSettings;

use crate::payload::Payload;
use crate::proxying::UploadState;
use crate::upstreams::client::{Answered, Client, RequestError};
use crate::upstreams::clients::Clients;
use crate::upstreams::traced::Attempt;
pub(crate) use crate::upstreams::traced::Traced;

/// Largest head of an upstream's answer on HTTP/2, in bytes; on HTTP/1.1 it is bounded by hyper's defaults, to 100 fields.
const MAX_HEAD_BYTES: u32 = 64 * 1024;

/// How often it is asked on HTTP/2 whether the upstream is still there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The upstreams of all flows.
#[derive(Debug)]
pub(crate) struct Upstreams {
    clients: Clients,
    started: Instant,
}

/// A request that can be made more than once.
pub(crate) trait Outgoing {
    /// Returns the method.
    fn method(&self) -> &Method;

    /// Makes the request to a target, whose URI is a path with its query; `is_last` when it is not made again.
    fn request(&mut self, target: &Uri, is_last: bool) -> Request<Payload>;

    /// Tells whether none of the body was taken yet, so that all of it can be sent again.
    fn is_untouched(&self) -> bool;

    /// Returns what tells how the body goes on, while the answer does not begin.
    fn upload(&self) -> Option<Arc<UploadState>>;
}

/// An answer that has begun.
pub(crate) struct Begun {
    pub(crate) response: Response<Incoming>,
    /// When the request was made.
    pub(crate) since: Instant,
    /// Held until the answer has ended.
    pub(crate) watch: Watch,
}

/// When a call ends whether it was answered or not. Whoever calls upstreams is dropped then, as when its caller hangs up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    /// How long there is until then, from the beginning of the call.
    whole: Duration,
}

/// An attempt that is waited for. When the call ends meanwhile, its upstream has failed, unless others took the time.
#[derive(Debug)]
struct Awaited<'a> {
    upstream: &'a Upstream,
    target: usize,
    started: Instant,
    since: Instant,
    upload: Option<&'a UploadState>,
    /// What has failed then.
    fails_as: Heard,
    /// `None` when it is over, or when only the caller can end it.
    deadline: Option<Deadline>,
}

/// Holds the place of a call among those of its upstream, and tells how it went on.
#[derive(Debug)]
pub(crate) struct Watch {
    upstream: Arc<Upstream>,
    target: usize,
    started: Instant,
    /// The answer does not say that the upstream does not work.
    is_well: bool,
    _entered: Entered,
    /// The span of the attempt that is answered.
    attempt: Option<Attempt>,
}

/// A request of an `http` step.
struct Whole {
    request: UpstreamRequest,
}

// === impl Upstreams ===

impl Upstreams {
    /// Calls an upstream and reads the whole answer. Dropping the future ends the call.
    pub(crate) async fn call(
        &self,
        request: UpstreamRequest,
        settings: &Arc<RealmSettings>,
        deadline: Option<Deadline>,
        traced: Option<Traced<'_>>,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let (call, patience, limit) =
            (request.call.clone(), request.read_timeout, request.max_response_bytes);
        let mut outgoing = Whole { request };
        let Begun { response, since, mut watch } =
            self.send(&call, settings, &mut outgoing, Some(patience), deadline, traced).await?;
        let (parts, mut body) = response.into_parts();
        let too_large = |len: u64| len > limit;
        if http_body::Body::size_hint(&body).lower() > limit {
            return Err(UpstreamError::TooLarge);
        }
        let mut bytes = BytesMut::new();
        let mut awaited = Awaited {
            upstream: &call.upstream,
            target: watch.target,
            started: self.started,
            since,
            upload: None,
            fails_as: Heard::CutOff,
            deadline,
        };
        loop {
            match timeout_at(since + patience, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if u64::try_from(bytes.len() + data.len()).is_ok_and(too_large) {
                        awaited.is_over();
                        return Err(UpstreamError::TooLarge);
                    }
                    bytes.extend_from_slice(&data);
                }
                Ok(Some(Err(_))) => {
                    awaited.is_over();
                    watch.failed();
                    return Err(UpstreamError::Unreachable);
                }
                Err(_) => {
                    awaited.is_over();
                    watch.failed();
                    return Err(UpstreamError::Timeout);
                }
            }
        }
        awaited.is_over();
        watch.ended();
        Ok(UpstreamResponse { status: parts.status.as_u16(), headers: parts.headers, body: bytes.freeze() })
    }

    /// Calls an upstream until its answer begins, again and elsewhere where that is safe. Each attempt has so much patience;
    /// without, the caller must bound them all. `deadline` says when the caller drops the future by itself.
    pub(crate) async fn send(
        &self,
        call: &UpstreamCall,
        settings: &Arc<RealmSettings>,
        outgoing: &mut impl Outgoing,
        patience: Option<Duration>,
        deadline: Option<Deadline>,
        mut traced: Option<Traced<'_>>,
    ) -> Result<Begun, UpstreamError> {
        let entered = call.upstream.enter().ok_or(UpstreamError::Overloaded)?;
        let client = self.clients.of(call, settings)?;
        let (mut tried, mut left, mut last) =
            (Tried::default(), call.upstream.retries(), UpstreamError::Unhealthy);
        loop {
            let chosen = call.upstream.choose(self.now_ms(), &mut tried);
            let Some((index, target)) = chosen.and_then(|index| Some((index, call.urls.get(index)?))) else {
                return Err(last);
            };
            let since = Instant::now();
            let mut request = outgoing.request(target, left == 0);
            let mut span = traced.as_mut().map(|traced| traced.begin(target, &mut request));
            let upload = outgoing.upload();
            let mut awaited = Awaited {
                upstream: &call.upstream,
                target: index,
                started: self.started,
                since,
                upload: upload.as_deref(),
                fails_as: Heard::Failed,
                deadline,
            };
            let outcome = attempt(&client, target, request, upload.as_deref(), patience).await;
            awaited.is_over();
            let is_well = match &outcome {
                Ok(response) => !is_ill(response.status()),
                // What is our own fault, or the caller's, says nothing of the upstream.
                Err(failure) => failure.is_ours(),
            };
            if !matches!(&outcome, Err(failure) if failure.is_ours()) {
                let heard = if is_well { Heard::Begun } else { Heard::Failed };
                call.upstream.note(index, heard, self.now_ms());
            }
            let is_safe = match &outcome {
                Err(Failure::Connect(error)) => *error != UpstreamError::Forbidden && outgoing.is_untouched(),
                _ => is_idempotent(outgoing.method()) && outgoing.is_untouched(),
            };
            let again = !is_well && is_safe && left > 0 && call.upstream.may_retry();
            if let Some(span) = &mut span {
                match &outcome {
                    Ok(response) => span.began(response.status().as_u16()),
                    Err(failure) => span.failed(failure.name()),
                }
                // Nobody reads what an answer says that is not taken.
                if again && outcome.is_ok() {
                    span.ended();
                }
            }
            match outcome {
                _ if again => left -= 1,
                Ok(response) => {
                    let (upstream, started) = (call.upstream.clone(), self.started);
                    let watch =
                        Watch { upstream, target: index, started, is_well, _entered: entered, attempt: span };
                    return Ok(Begun { response, since, watch });
                }
                Err(failure) => return Err(failure.into()),
            }
            last = UpstreamError::Unreachable;
        }
    }

    fn now_ms(&self) -> u64 {
        millis(self.started)
    }
}

impl Default for Upstreams {
    fn default() -> Self {
        Self { clients: Clients::default(), started: Instant::now() }
    }
}

/// Milliseconds since the start, and one, so that there is no zero.
fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

/// Why one attempt failed.
#[derive(Debug)]
enum Failure {
    /// There was no connection: nothing was sent.
    Connect(UpstreamError),
    /// It broke on the way.
    Broken,
    Timeout,
    /// The request's body failed.
    Request,
    /// The answer has two readings: its connection is closed, and it reaches nobody.
    Malformed(&'static str),
}

impl Failure {
    /// Returns what a span says of it.
    fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "no connection",
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::Request => "the request's body failed",
            Self::Malformed(_) => "malformed",
        }
    }

    fn is_ours(&self) -> bool {
        matches!(self, Self::Request | Self::Connect(UpstreamError::Forbidden | UpstreamError::Certificates))
    }
}

impl From<Failure> for UpstreamError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Connect(error) => error,
            Failure::Broken | Failure::Request => Self::Unreachable,
            Failure::Timeout => Self::Timeout,
            Failure::Malformed(why) => Self::Malformed(why),
        }
    }
}

async fn attempt(
    client: &Client,
    target: &Uri,
    request: Request<Payload>,
    upload: Option<&UploadState>,
    patience: Option<Duration>,
) -> Result<Response<Incoming>, Failure> {
    let mut answer = pin!(client.request(target, request));
    let outcome = match patience {
        None => answer.await,
        Some(patience) => {
            let mut wait = patience;
            loop {
                match timeout(wait, answer.as_mut()).await {
                    Ok(outcome) => break outcome,
                    Err(_) => {
                        let left = upload.and_then(|upload| upload.patience_left(patience));
                        wait = left.ok_or(Failure::Timeout)?;
                    }
                }
            }
        }
    };
    let Answered { response, held } = outcome.map_err(|error| {
        tracing::debug!(error = &error as &dyn Error, "an upstream was not reached");
        // What breaks on HTTP/2 because the caller's body does is told as the stream's end.
        let is_callers = upload.is_some_and(|upload| upload.ended().is_some());
        match error {
            RequestError::Connect(error) => Failure::Connect(error),
            RequestError::Broken(error) if is_callers || error.is_user() => Failure::Request,
            RequestError::Broken(_) => Failure::Broken,
        }
    })?;
    match ambiguity(&response) {
        Some(why) => Err(Failure::Malformed(why)),
        None => {
            held.go_on();
            Ok(response)
        }
    }
}

/// What of an upstream's head has two readings.
///
/// hyper takes the chunks where there are a length and chunks, and all until the end where there is another coding. A
/// caller, or a cache in front, could take the other.
fn ambiguity(answer: &Response<Incoming>) -> Option<&'static str> {
    let single = |name: &HeaderName| {
        let mut values = answer.headers().get_all(name).iter();
        (values.next(), values.next().is_some())
    };
    let (length, more_lengths) = single(&CONTENT_LENGTH);
    let (coding, more_codings) = single(&TRANSFER_ENCODING);
    if more_lengths || more_codings {
        return Some("it has two lengths");
    }
    if length.is_some() && coding.is_some() {
        return Some("it has a length and a transfer coding");
    }
    if length.is_some_and(|it| it.is_empty() || !it.as_bytes().iter().all(u8::is_ascii_digit)) {
        return Some("its length is no number");
    }
    if coding.is_some_and(|it| !it.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Some("it has a transfer coding other than `chunked`");
    }
    if answer.status().is_informational() {
        return Some("it goes on in another protocol");
    }
    None
}

/// Tells whether an upstream says that it, or what is behind it, does not work.
fn is_ill(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// Methods of which twice is as good as once (RFC 9110 section 9.2.2).
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS)
}

// === impl Deadline ===

impl Deadline {
    /// Returns the end of a call that begins now.
    pub(crate) fn after(whole: Duration) -> Self {
        Self { at: Instant::now() + whole, whole }
    }
}

// === impl Awaited ===

impl Awaited<'_> {
    fn is_over(&mut self) {
        self.deadline = None;
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let Some(Deadline { at, whole }) = self.deadline else { return };
        let now = Instant::now();
        let idle = match self.upload {
            Some(upload) => upload.idle().min(now - self.since),
            None => now - self.since,
        };
        // Before the end it was the caller who hung up. Whoever had less than half of the time is not the one who took it.
        if now >= at && idle >= whole / 2 {
            self.upstream.note(self.target, self.fails_as, millis(self.started));
        }
    }
}

// === impl Watch ===

impl Watch {
    /// Notes that the answer did not end as it should.
    pub(crate) fn failed(&mut self) {
        self.upstream.note(self.target, Heard::CutOff, millis(self.started));
        if let Some(attempt) = &mut self.attempt {
            attempt.failed("the answer broke off");
        }
    }

    /// Notes that all of the answer came.
    pub(crate) fn ended(&mut self) {
        if self.is_well {
            self.upstream.note(self.target, Heard::Whole, millis(self.started));
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.ended();
        }
    }
}

// === impl Whole ===

impl Outgoing for Whole {
    fn method(&self) -> &Method {
        &self.request.method
    }

    fn request(&mut self, target: &Uri, is_last: bool) -> Request<Payload> {
        let mut request = Request::new(Payload::from(self.request.body.clone()));
        *request.method_mut() = self.request.method.clone();
        *request.uri_mut() = target.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        *request.headers_mut() = match is_last {
            true => std::mem::take(&mut self.request.headers),
            false => self.request.headers.clone(),
        };
        request
    }

    fn is_untouched(&self) -> bool {
        true
    }

    fn upload(&self) -> Option<Arc<UploadState>> {
        None
    }
}

#[cfg(test)]
mod tests;
