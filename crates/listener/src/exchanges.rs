//! What goes on on one connection of HTTP/2, and what is no longer patience.
//!
//! On HTTP/1.1 an answer that nobody takes stops the connection, and the connection is what is waited for. On HTTP/2 each
//! request has a window of its own: a caller can leave a hundred answers untaken on a connection that looks alive, can
//! take back requests as fast as it makes them, and can send frames that carry nothing. So each request is watched here, and
//! a caller who abuses them loses the connection.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

/// So many requests may be taken back before it matters how many are not.
const FREE_CANCELS: u32 = 100;

/// So many frames that carry nothing may come at once, and so many come back each second: keeping a connection alive, and
/// measuring it, needs a few.
const FREE_FRAMES: u32 = 10_000;
const FREE_FRAMES_A_SECOND: u32 = 100;

/// What a request may need of them: its priority, the end of its body, taking it back.
const FRAMES_OF_A_REQUEST: u32 = 10;

/// What a piece of an answer may need of them, and each so many bytes of it: two windows that are opened again, and a PING.
const FRAMES_OF_A_PIECE: u32 = 4;
const BYTES_OF_A_FRAME: usize = 4 * 1024;

/// The requests of one connection.
#[derive(Debug)]
pub(crate) struct Exchanges {
    state: Mutex<State>,
    abused: Notify,
}

/// How a caller abuses a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abuse {
    /// It takes back more requests than it lets be answered.
    TakesBack,
    /// It sends more frames that carry nothing than requests and answers can need.
    Frames,
}

#[derive(Debug)]
struct State {
    open: usize,
    last_used: Instant,
    /// Answers whose next piece waits for the caller, and since when.
    waiting: BTreeMap<u64, Instant>,
    next_id: u64,
    done: u32,
    cancelled: u32,
    abuse: Option<Abuse>,
    /// Frames that carry nothing and may still come, at `counted_at`.
    frames_left: u32,
    counted_at: Instant,
}

/// A request, until its whole answer is sent or given up.
#[derive(Debug)]
pub(crate) struct Exchange {
    exchanges: Arc<Exchanges>,
    id: u64,
    /// All of the answer is handed over.
    ended: AtomicBool,
    /// A piece of it was not sent.
    cut: AtomicBool,
}

/// The body of an answer, watched until its last byte is sent.
#[derive(Debug)]
pub(crate) struct Watched<B> {
    body: B,
    exchange: Arc<Exchange>,
}

/// A piece of an answer.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: Bytes,
    exchange: Arc<Exchange>,
}

// === impl Abuse ===

impl Abuse {
    /// Says it in words, for the log.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::TakesBack => "it takes back most of its requests",
            Self::Frames => "it floods with frames that carry nothing",
        }
    }
}

// === impl Exchanges ===

impl Exchanges {
    pub(crate) fn new() -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            open: 0,
            last_used: now,
            waiting: BTreeMap::new(),
            next_id: 0,
            done: 0,
            cancelled: 0,
            abuse: None,
            frames_left: FREE_FRAMES,
            counted_at: now,
        };
        Arc::new(Self { state: Mutex::new(state), abused: Notify::new() })
    }

    /// Begins to watch a request.
    pub(crate) fn begin(self: &Arc<Self>) -> Exchange {
        let mut state = self.lock();
        state.open += 1;
        state.next_id += 1;
        state.allow(FRAMES_OF_A_REQUEST);
        let (ended, cut) = (AtomicBool::new(false), AtomicBool::new(false));
        Exchange { exchanges: self.clone(), id: state.next_id, ended, cut }
    }

    /// Tells how long there has been no request.
    pub(crate) fn idle(&self) -> Option<Duration> {
        let state = self.lock();
        (state.open == 0).then(|| state.last_used.elapsed())
    }

    /// Tells whether an answer has waited for its caller that long.
    pub(crate) fn waits_for(&self, patience: Duration) -> bool {
        self.lock().waiting.values().any(|since| since.elapsed() >= patience)
    }

    /// Counts frames that carry nothing; tells whether the caller may send as many.
    pub(crate) fn spend(&self, frames: u32) -> bool {
        let mut state = self.lock();
        let now = Instant::now();
        let seconds = u32::try_from((now - state.counted_at).as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            state.counted_at += Duration::from_secs(seconds.into());
            state.allow(seconds.saturating_mul(FREE_FRAMES_A_SECOND));
        }
        let left = state.frames_left.checked_sub(frames);
        state.frames_left = left.unwrap_or_default();
        if left.is_none() {
            state.abuse.get_or_insert(Abuse::Frames);
            self.abused.notify_one();
        }
        left.is_some()
    }

    /// Completes when the caller abuses the connection.
    pub(crate) async fn abused(&self) -> Abuse {
        loop {
            if let Some(abuse) = self.lock().abuse {
                return abuse;
            }
            self.abused.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn allow(&mut self, frames: u32) {
        self.frames_left = self.frames_left.saturating_add(frames).min(FREE_FRAMES);
    }
}

// === impl Exchange ===

impl Exchange {
    /// Watches the answer.
    pub(crate) fn answer<B: Body>(self, body: B) -> Watched<B> {
        self.ended.store(body.is_end_stream(), Ordering::Relaxed);
        self.waits(true);
        Watched { body, exchange: Arc::new(self) }
    }

    /// Notes whether the answer waits for its caller, from now on.
    fn waits(&self, waits: bool) {
        let mut state = self.exchanges.lock();
        if waits {
            state.waiting.insert(self.id, Instant::now());
        } else {
            state.waiting.remove(&self.id);
        }
    }

    /// Notes that the caller takes a piece of the answer.
    fn took(&self, bytes: usize) {
        let mut state = self.exchanges.lock();
        state.waiting.insert(self.id, Instant::now());
        let of_bytes = u32::try_from(bytes / BYTES_OF_A_FRAME).unwrap_or(u32::MAX);
        state.allow(of_bytes.saturating_add(FRAMES_OF_A_PIECE));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let is_done = self.ended.load(Ordering::Relaxed) && !self.cut.load(Ordering::Relaxed);
        let mut state = self.exchanges.lock();
        state.open = state.open.saturating_sub(1);
        state.last_used = Instant::now();
        state.waiting.remove(&self.id);
        let count = if is_done { &mut state.done } else { &mut state.cancelled };
        *count = count.saturating_add(1);
        if state.cancelled > FREE_CANCELS && state.cancelled > state.done {
            state.abuse.get_or_insert(Abuse::TakesBack);
            self.exchanges.abused.notify_one();
        }
    }
}

// === impl Watched ===

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Piece;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, B::Error>>> {
        let this = &mut *self;
        let poll = Pin::new(&mut this.body).poll_frame(context);
        // What is not there yet is nothing that the caller could take.
        this.exchange.waits(poll.is_ready());
        if matches!(poll, Poll::Ready(None)) || this.body.is_end_stream() {
            this.exchange.ended.store(true, Ordering::Relaxed);
        }
        let exchange = &this.exchange;
        poll.map_ok(|frame| frame.map_data(|bytes| Piece { bytes, exchange: exchange.clone() }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl Piece ===

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.exchange.took(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.bytes.has_remaining() {
            self.exchange.cut.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn full(text: &'static str) -> Full<Bytes> {
        Full::new(Bytes::from_static(text.as_bytes()))
    }

    async fn take(mut body: Watched<Full<Bytes>>, bytes: usize) -> Option<Piece> {
        let frame = body.frame().await?.expect("never fails");
        let mut piece = frame.into_data().expect("data");
        piece.advance(bytes);
        Some(piece)
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_waits_until_its_last_byte_is_taken() {
        let exchanges = Exchanges::new();
        let body = exchanges.begin().answer(full("answer"));
        tokio::time::advance(PATIENCE / 2).await;
        assert!(!exchanges.waits_for(PATIENCE));
        tokio::time::advance(PATIENCE / 2).await;
        assert!(exchanges.waits_for(PATIENCE), "nothing was taken");
        let piece = take(body, 3).await;
        assert!(!exchanges.waits_for(PATIENCE), "something was taken");
        tokio::time::advance(PATIENCE).await;
        assert!(exchanges.waits_for(PATIENCE) && exchanges.idle().is_none());
        drop(piece);
        assert!(!exchanges.waits_for(PATIENCE) && exchanges.idle().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_not_answered_yet_waits_for_nobody() {
        let exchanges = Exchanges::new();
        let exchange = exchanges.begin();
        tokio::time::advance(PATIENCE * 2).await;
        assert!(!exchanges.waits_for(PATIENCE) && exchanges.idle().is_none());
        drop(exchange);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(exchanges.idle(), Some(PATIENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_carry_nothing_come_with_time_requests_and_answers() {
        let exchanges = Exchanges::new();
        let left = || exchanges.lock().frames_left;
        assert!(exchanges.spend(FREE_FRAMES) && exchanges.lock().abuse.is_none());
        assert!(!exchanges.spend(1));
        assert_eq!(exchanges.abused().await, Abuse::Frames);
        tokio::time::advance(Duration::from_millis(2_500)).await;
        assert!(exchanges.spend(1));
        assert_eq!(left(), 2 * FREE_FRAMES_A_SECOND - 1);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(exchanges.spend(3 * FREE_FRAMES_A_SECOND - 1) && !exchanges.spend(1), "halves add up");
        let body = exchanges.begin().answer(Full::new(Bytes::from(vec![0; 3 * BYTES_OF_A_FRAME])));
        let piece = take(body, 2 * BYTES_OF_A_FRAME).await;
        assert_eq!(left(), FRAMES_OF_A_REQUEST + FRAMES_OF_A_PIECE + 2);
        drop(piece);
        assert!(!exchanges.spend(100) && left() == 0, "what is too much takes all");
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert!(exchanges.spend(1));
        assert_eq!(left(), FREE_FRAMES - 1, "not more than at the beginning");
    }

    #[tokio::test]
    async fn taking_back_more_requests_than_are_answered_is_abuse() {
        let exchanges = Exchanges::new();
        for _ in 0..150 {
            drop(take(exchanges.begin().answer(full("answer")), 6).await);
            drop(exchanges.begin().answer(full("")));
            drop(exchanges.begin());
        }
        let counts = |state: &State| (state.done, state.cancelled);
        assert_eq!(counts(&exchanges.lock()), (300, 150));
        let abused = |exchanges: &Arc<Exchanges>| {
            let exchanges = exchanges.clone();
            async move { tokio::time::timeout(Duration::ZERO, exchanges.abused()).await.ok() }
        };
        assert_eq!(abused(&exchanges).await, None);
        for _ in 0..151 {
            drop(take(exchanges.begin().answer(full("answer")), 5).await);
        }
        assert_eq!(abused(&exchanges).await, Some(Abuse::TakesBack));
    }
}
