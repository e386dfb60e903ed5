//! What goes on on one connection of HTTP/2, and what is no longer patience.
//!
//! On HTTP/1.1 an answer that nobody takes stops the connection, and the connection is what is waited for. On HTTP/2 each
//! request has a window of its own: a caller can leave a hundred answers untaken on a connection that looks alive, and
//! can take back requests as fast as it makes them. So each request is watched here, and a caller who abuses them loses
//! the connection.

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

/// The requests of one connection.
#[derive(Debug)]
pub(crate) struct Exchanges {
    state: Mutex<State>,
    abused: Notify,
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

// === impl Exchanges ===

impl Exchanges {
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            open: 0,
            last_used: Instant::now(),
            waiting: BTreeMap::new(),
            next_id: 0,
            done: 0,
            cancelled: 0,
        };
        Arc::new(Self { state: Mutex::new(state), abused: Notify::new() })
    }

    /// Begins to watch a request.
    pub(crate) fn begin(self: &Arc<Self>) -> Exchange {
        let mut state = self.lock();
        state.open += 1;
        state.next_id += 1;
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

    /// Completes when the caller takes back more requests than it lets be answered.
    pub(crate) async fn abused(&self) {
        self.abused.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.exchange.waits(true);
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
            async move { tokio::time::timeout(Duration::ZERO, exchanges.abused()).await.is_ok() }
        };
        assert!(!abused(&exchanges).await);
        for _ in 0..151 {
            drop(take(exchanges.begin().answer(full("answer")), 5).await);
        }
        assert!(abused(&exchanges).await);
    }
}
