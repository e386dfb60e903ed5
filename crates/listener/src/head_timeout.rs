//! The time within which the head of a request must have come, counted anew for each request.
//!
//! hyper has such a time, and a price for it on every call: it allocates a timer, reads the clock twice, and goes a second
//! time through all that a connection does, so that the wait for the next head begins at once. Here the connection says
//! whether a request is being answered, and one timer is looked at when it has nothing else to do. That timer is moved when
//! it fires, and not when it is set: the deadlines of a connection only get later.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// A request is being answered: nobody waits for a head.
const ANSWERING: u8 = 0;
/// An answer has ended, or more of it was taken: the wait for the next head begins now.
const BEGINS: u8 = 1;
/// The wait has begun.
const WAITING: u8 = 2;

/// What a connection is doing; clones are of the same connection. All of it happens in the task of the connection.
#[derive(Debug, Clone)]
pub(crate) struct Exchange(Arc<AtomicU8>);

/// The body of an answer, whose end begins the wait for the next head.
#[derive(Debug)]
pub(crate) struct Answer<B> {
    body: B,
    exchange: Exchange,
}

/// Completes when a head has not come in time.
#[derive(Debug)]
pub(crate) struct HeadTimeout {
    exchange: Exchange,
    limit: Duration,
    /// Invariant: not later than anybody waits for.
    sleep: Pin<Box<Sleep>>,
    deadline: Instant,
    /// Who is woken by `sleep`.
    waker: Waker,
}

// === impl Exchange ===

impl Exchange {
    /// Returns a connection that waits for its first head.
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(BEGINS)))
    }

    /// Says that a head is there.
    pub(crate) fn begin(&self) {
        self.0.store(ANSWERING, Ordering::Relaxed);
    }

    /// Has the answer say when it has ended.
    pub(crate) fn answer<B>(&self, body: B) -> Answer<B> {
        Answer { body, exchange: self.clone() }
    }

    /// Says that something was written. What is written behind the end of an answer is the rest of it, which its caller takes
    /// slowly.
    pub(crate) fn wrote(&self) {
        if self.0.load(Ordering::Relaxed) == WAITING {
            self.0.store(BEGINS, Ordering::Relaxed);
        }
    }
}

// === impl Answer ===

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.exchange.0.store(BEGINS, Ordering::Relaxed);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl HeadTimeout ===

impl HeadTimeout {
    pub(crate) fn new(exchange: Exchange, limit: Duration) -> Self {
        let deadline = Instant::now() + limit;
        let sleep = Box::pin(sleep_until(deadline));
        Self { exchange, limit, sleep, deadline, waker: Waker::noop().clone() }
    }

    /// Is asked whenever the connection has nothing to do.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.exchange.0.load(Ordering::Relaxed) {
            // Whoever ends the answer asks again.
            ANSWERING => return Poll::Pending,
            BEGINS => {
                self.deadline = Instant::now() + self.limit;
                self.exchange.0.store(WAITING, Ordering::Relaxed);
            }
            _ => {}
        }
        // It fires in time, and wakes whoever asks now.
        if !self.sleep.is_elapsed() && self.waker.will_wake(context.waker()) {
            return Poll::Pending;
        }
        if self.sleep.is_elapsed() {
            if Instant::now() >= self.deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.deadline);
        }
        self.waker.clone_from(context.waker());
        match self.sleep.as_mut().poll(context) {
            // Just now: asked again, it is moved or is over.
            Poll::Ready(()) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body_util::Empty;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// Waits until the head is late, as a connection does.
    async fn late(timeout: &mut HeadTimeout) {
        poll_fn(|context| timeout.poll(context)).await;
    }

    /// Lets a connection look at its timeout, and time go by.
    async fn after(timeout: &mut HeadTimeout, seconds: u64) {
        let is_late = tokio::time::timeout(Duration::from_secs(seconds), late(timeout)).await.is_ok();
        assert!(!is_late, "within {seconds} seconds");
    }

    fn end(exchange: &Exchange) {
        drop(exchange.answer(Empty::<Bytes>::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_head_has_so_long() {
        let started = Instant::now();
        late(&mut HeadTimeout::new(Exchange::new(), LIMIT)).await;
        assert_eq!(started.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn each_further_head_has_so_long_from_the_end_of_the_answer_before_it() {
        let (exchange, started) = (Exchange::new(), Instant::now());
        let mut timeout = HeadTimeout::new(exchange.clone(), LIMIT);
        for _ in 0..3 {
            after(&mut timeout, 20).await;
            exchange.begin();
            end(&exchange);
        }
        late(&mut timeout).await;
        assert_eq!(started.elapsed(), Duration::from_secs(60) + LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_request_is_answered_no_head_is_waited_for() {
        let (exchange, started) = (Exchange::new(), Instant::now());
        let mut timeout = HeadTimeout::new(exchange.clone(), LIMIT);
        after(&mut timeout, 1).await;
        exchange.begin();
        after(&mut timeout, 3_600).await;
        end(&exchange);
        late(&mut timeout).await;
        assert_eq!(started.elapsed(), Duration::from_secs(3_601) + LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_still_being_taken_is_no_late_head() {
        let (exchange, started) = (Exchange::new(), Instant::now());
        let mut timeout = HeadTimeout::new(exchange.clone(), LIMIT);
        exchange.begin();
        end(&exchange);
        for _ in 0..5 {
            after(&mut timeout, 20).await;
            exchange.wrote();
        }
        late(&mut timeout).await;
        assert_eq!(started.elapsed(), Duration::from_secs(100) + LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_moves_to_another_task_is_woken_there() {
        let started = Instant::now();
        let mut timeout = HeadTimeout::new(Exchange::new(), LIMIT);
        after(&mut timeout, 10).await;
        tokio::spawn(async move { late(&mut timeout).await }).await.expect("no panic");
        assert_eq!(started.elapsed(), LIMIT);
    }
}
