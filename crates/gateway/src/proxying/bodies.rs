//! Bodies on their way through, each piece taken when the one before was given on.
//!
//! What is in memory of a body is what lies in the buffers of its two connections, however long it is. So nothing bounds
//! how long it may take, but each pause has an end: who is waited for at the time is who is given up.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};
use tollgate_model::ids::RequestId;

use super::heads::TrailerRules;
use crate::payload::{BoxError, Stream};
use crate::upstreams::Watch;

/// A caller's body, which goes to an upstream.
pub(super) struct Upload {
    body: Stream,
    left: u64,
    pause: Pause,
    trailers: TrailerRules,
    state: Arc<UploadState>,
}

/// What is known of an upload while it goes on elsewhere.
#[derive(Debug)]
pub(crate) struct UploadState {
    started: Instant,
    /// When the last piece was taken, in milliseconds since the start.
    last_piece: AtomicU64,
    /// Whether the caller is waited for.
    waits_for_caller: AtomicBool,
    end: AtomicU8,
}

/// Why an upload ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum UploadEnd {
    TooLarge = 1,
    TooSlow = 2,
    CutOff = 3,
}

/// A body that can be handed out again as long as nobody has begun to read it.
#[derive(Clone)]
pub(super) struct Lender(Arc<Mutex<Option<Upload>>>);

/// A body that was handed out: taken when it is first read.
pub(super) struct Lent {
    lender: Lender,
    taken: Option<Upload>,
    size: SizeHint,
}

/// An upstream's body, which goes to a caller.
pub(super) struct Download {
    body: Incoming,
    /// What was taken of it before.
    first: Option<Taken>,
    pause: Pause,
    trailers: TrailerRules,
    watch: Watch,
    request_id: RequestId,
}

type Taken = Result<Frame<Bytes>, hyper::Error>;

/// What is there of an upstream's body when its answer begins.
pub(super) enum Beginning {
    /// All of it, as of most answers that are short and say how long.
    Whole(Bytes),
    /// A piece, or nothing yet.
    Part(Option<Taken>),
}

/// How long the next piece may be waited for.
struct Pause {
    timeout: Duration,
    since: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Ended(&'static str);

// === impl Pause ===

impl Pause {
    fn new(timeout: Duration) -> Self {
        Self { timeout, since: None }
    }

    /// Goes on with the pause, or begins one; ready when it has been too long.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.since.get_or_insert_with(|| Box::pin(sleep(self.timeout))).as_mut().poll(context)
    }

    /// The piece is there.
    fn end(&mut self) {
        self.since = None;
    }
}

/// Takes away what belongs into no trailer, when it is one.
fn cleaned(frame: Frame<Bytes>, rules: &TrailerRules) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            rules.clean(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

// === impl Upload ===

impl Upload {
    /// Returns a body of at most `limit` bytes, between whose pieces the caller may pause for `timeout`.
    pub(super) fn new(body: Stream, limit: u64, timeout: Duration, trailers: TrailerRules) -> Self {
        let state = UploadState {
            started: Instant::now(),
            last_piece: AtomicU64::new(0),
            waits_for_caller: AtomicBool::new(false),
            end: AtomicU8::new(0),
        };
        Self { body, left: limit, pause: Pause::new(timeout), trailers, state: Arc::new(state) }
    }

    pub(super) fn state(&self) -> Arc<UploadState> {
        self.state.clone()
    }

    fn end(&self, end: UploadEnd, why: &'static str) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.state.end.store(end as u8, Relaxed);
        Poll::Ready(Some(Err(Box::new(Ended(why)))))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = this.body.as_mut().poll_frame(context) else {
            this.state.waits_for_caller.store(true, Relaxed);
            ready!(this.pause.poll(context));
            return this.end(UploadEnd::TooSlow, "the caller's body did not come in time");
        };
        this.pause.end();
        this.state.waits_for_caller.store(false, Relaxed);
        this.state.last_piece.store(this.state.now(), Relaxed);
        match frame {
            None => Poll::Ready(None),
            Some(Err(_)) => this.end(UploadEnd::CutOff, "the caller's body was cut off"),
            Some(Ok(frame)) => {
                let len = frame.data_ref().map_or(0, Bytes::len);
                match this.left.checked_sub(u64::try_from(len).unwrap_or(u64::MAX)) {
                    Some(left) => this.left = left,
                    None => return this.end(UploadEnd::TooLarge, "the caller's body is too large"),
                }
                Poll::Ready(Some(Ok(cleaned(frame, &this.trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl UploadState ===

impl UploadState {
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns why it ended before its end, if it did.
    pub(crate) fn ended(&self) -> Option<UploadEnd> {
        match self.end.load(Relaxed) {
            1 => Some(UploadEnd::TooLarge),
            2 => Some(UploadEnd::TooSlow),
            3 => Some(UploadEnd::CutOff),
            _ => None,
        }
    }

    /// Tells how long an upstream may still take no piece, of the patience that there is with it.
    pub(crate) fn patience_left(&self, patience: Duration) -> Option<Duration> {
        patience.checked_sub(self.idle()).filter(|left| !left.is_zero())
    }

    /// Returns how long the upstream has taken no piece; nothing while the caller is waited for.
    pub(crate) fn idle(&self) -> Duration {
        if self.waits_for_caller.load(Relaxed) {
            return Duration::ZERO;
        }
        Duration::from_millis(self.now().saturating_sub(self.last_piece.load(Relaxed)))
    }
}

// === impl Lender ===

impl Lender {
    pub(super) fn new(upload: Upload) -> Self {
        Self(Arc::new(Mutex::new(Some(upload))))
    }

    /// Hands the body out.
    pub(super) fn lend(&self) -> Lent {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let size = held.as_ref().map(Body::size_hint).unwrap_or_default();
        drop(held);
        Lent { lender: self.clone(), taken: None, size }
    }

    /// Tells whether nobody has begun to read it.
    pub(super) fn is_untouched(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn take(&self) -> Option<Upload> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.taken.is_none() {
            this.taken = this.lender.take();
        }
        match &mut this.taken {
            Some(upload) => Pin::new(upload).poll_frame(context),
            // Somebody else reads it.
            None => Poll::Ready(Some(Err(Box::new(Ended("the body is gone"))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.taken.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.taken.as_ref().map_or(self.size, Body::size_hint)
    }
}

// === impl Beginning ===

impl Beginning {
    /// Takes what is there, without waiting.
    pub(super) fn of(body: &mut Incoming) -> Self {
        // Whoever asks again says whom to wake.
        let Poll::Ready(first) = Pin::new(&mut *body).poll_frame(&mut Context::from_waker(Waker::noop()))
        else {
            return Self::Part(None);
        };
        match first {
            None => Self::Whole(Bytes::new()),
            Some(Ok(frame)) if body.is_end_stream() => match frame.into_data() {
                Ok(data) => Self::Whole(data),
                Err(frame) => Self::Part(Some(Ok(frame))),
            },
            Some(first) => Self::Part(Some(first)),
        }
    }
}

// === impl Download ===

impl Download {
    /// Returns what passes on a body of which something may have been taken before.
    pub(super) fn new(
        body: Incoming,
        first: Option<Taken>,
        trailers: TrailerRules,
        watch: Watch,
        request_id: RequestId,
    ) -> Self {
        let pause = Pause::new(trailers.settings().idle_timeout);
        Self { body, first, pause, trailers, watch, request_id }
    }

    /// The caller's answer breaks off: what was sent of it must not look like all of it.
    fn broken(&mut self, why: &'static str) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.watch.failed();
        tracing::warn!(
            target: "tollgate::flow", request_id = %self.request_id, step = self.trailers.settings().label, reason = why,
            "an upstream broke off its answer"
        );
        Poll::Ready(Some(Err(Box::new(Ended(why)))))
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let polled = match this.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut this.body).poll_frame(context),
        };
        let Poll::Ready(frame) = polled else {
            ready!(this.pause.poll(context));
            return this.broken("the next piece did not come in time");
        };
        this.pause.end();
        Poll::Ready(match frame {
            None => {
                this.watch.ended();
                None
            }
            Some(Err(_)) => return this.broken("it was cut off or is malformed"),
            Some(Ok(frame)) => {
                // Whoever sends it on need not ask whether there is more.
                if this.body.is_end_stream() {
                    this.watch.ended();
                }
                Some(Ok(cleaned(frame, &this.trailers)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let first = self.first.as_ref().and_then(|first| first.as_ref().ok()?.data_ref());
        let taken = first.map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(taken));
        }
        hint.set_lower(hint.lower().saturating_add(taken));
        hint
    }
}
