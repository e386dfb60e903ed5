//! Reads a request body: counted, with patience that ends, and within the memory that all bodies share.
//!
//! A trigger bounds one body, at up to 100 MiB, and a listener takes 10,000 connections: both bounds together are more
//! than any machine has. So what bodies have beyond their first 64 KiB comes out of one budget, and a body that does not
//! fit is told to come again. Small bodies need none of it, so that nobody keeps them out by sending large ones slowly.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tollgate_model::explanations::Check;

use crate::problem::{Code, Problem};

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyTimeouts {
    /// Longest pause between two pieces.
    pub(crate) idle: Duration,
    /// Longest time for the whole.
    pub(crate) total: Duration,
}

/// What a body may have without a share of the common memory, in bytes.
const FREE_BYTES: usize = 64 * 1024;

/// What one permit stands for, in bytes.
const UNIT_BYTES: usize = 1024;

/// The memory that large bodies share.
#[derive(Debug)]
pub(crate) struct BodyMemory {
    units: Arc<Semaphore>,
    total_units: usize,
}

/// A body's share of the memory; given back when it is dropped, so keep it as long as what the body became: the message
/// of the flow, then its answer, which may be the body again.
#[derive(Debug, Default)]
pub(crate) struct Share(Option<OwnedSemaphorePermit>);

// === impl BodyMemory ===

impl BodyMemory {
    pub(crate) fn new(bytes: usize) -> Self {
        let total_units = (bytes / UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(total_units)), total_units }
    }

    /// Returns how many bytes are taken, and how many there are.
    pub(crate) fn load(&self) -> (usize, usize) {
        let taken = self.total_units.saturating_sub(self.units.available_permits());
        (taken * UNIT_BYTES, self.total_units * UNIT_BYTES)
    }
}

// === impl Share ===

impl Share {
    /// Grows to what a body of `len` bytes needs.
    fn grow(&mut self, memory: &BodyMemory, len: usize) -> Result<(), Problem> {
        let needed = len.saturating_sub(FREE_BYTES).div_ceil(UNIT_BYTES);
        let more = needed.saturating_sub(self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        if more == 0 {
            return Ok(());
        }
        let permit = u32::try_from(more)
            .ok()
            .and_then(|more| memory.units.clone().try_acquire_many_owned(more).ok())
            .ok_or_else(|| Problem::new(Code::Overloaded).at(Check::Body).retry_after(1).close())?;
        match &mut self.0 {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }

    /// Ties the share to an answer: it is given back when the answer is written, or given up.
    pub(crate) fn keep_with(self, answer: Bytes) -> Bytes {
        struct Kept(Bytes, #[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit);
        impl AsRef<[u8]> for Kept {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        match self.0 {
            Some(permit) => Bytes::from_owner(Kept(answer, permit)),
            None => answer,
        }
    }
}

/// Reads a whole body of at most `limit` bytes; trailers are dropped.
pub(crate) async fn read<B>(
    body: B,
    limit: u64,
    timeouts: BodyTimeouts,
    memory: &BodyMemory,
) -> Result<(Bytes, Share), Problem>
where
    B: Body<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut share = Share::default();
    let deadline = Instant::now() + timeouts.total;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let patience = deadline.min(Instant::now() + timeouts.idle);
        let frame = match timeout_at(patience, body.frame()).await {
            Err(_) => return Err(Problem::new(Code::RequestTimeout).close()),
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                return Err(Problem::malformed("the body is cut off or malformed").at(Check::Body));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        let len = first.len() + rest.len() + data.len();
        if u64::try_from(len).is_ok_and(|len| len > limit) {
            return Err(Problem::new(Code::RequestTooLarge).at(Check::Body).close());
        }
        share.grow(memory, len)?;
        // Most bodies come in one piece, which is kept without a copy.
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok((first, share));
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok((whole.freeze(), share))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body::Frame;

    use super::*;

    const TIMEOUTS: BodyTimeouts =
        BodyTimeouts { idle: Duration::from_secs(10), total: Duration::from_secs(60) };

    /// One byte every so often, for ever; `None` sends nothing at all.
    struct Trickle(Option<Pin<Box<tokio::time::Sleep>>>, Duration);

    impl Body for Trickle {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let pause = self.1;
            let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            std::task::ready!(sleep.as_mut().poll(context));
            self.0 = None;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    async fn outcome<B: Body<Data = Bytes>>(body: B, limit: u64) -> Result<Bytes, String> {
        let memory = BodyMemory::new(0);
        let read = read(body, limit, TIMEOUTS, &memory).await;
        read.map(|(bytes, _)| bytes).map_err(|problem| problem.code().to_owned())
    }

    #[tokio::test]
    async fn a_body_is_counted_whatever_its_declared_length() {
        let body = || http_body_util::Full::new(Bytes::from_static(b"12345"));
        assert_eq!(outcome(body(), 5).await, Ok(Bytes::from_static(b"12345")));
        assert_eq!(outcome(body(), 4).await, Err("request-too-large".to_owned()));
        let second = Trickle(None, Duration::ZERO);
        assert_eq!(outcome(second, 3).await, Err("request-too-large".to_owned()));
    }

    #[tokio::test]
    async fn large_bodies_share_one_memory_and_small_ones_need_none() {
        let memory = BodyMemory::new(100 * 1024);
        let send = |kib: usize| {
            let body = http_body_util::Full::new(Bytes::from(vec![0; kib * 1024]));
            read(body, u64::MAX, TIMEOUTS, &memory)
        };
        let (_, first) = send(64 + 60).await.expect("fits");
        let refused = send(64 + 41).await.expect_err("does not fit beside it");
        assert_eq!(refused.code(), "overloaded");
        let (_, small) = send(64).await.expect("needs nothing of it");
        let (_, second) = send(64 + 40).await.expect("fits beside it");
        assert_eq!(memory.units.available_permits(), 0);
        let answer = second.keep_with(Bytes::from_static(b"answer"));
        assert_eq!(answer, "answer");
        drop((first, small));
        assert_eq!(memory.units.available_permits(), 60, "the answer is not written");
        drop(answer);
        assert_eq!(memory.units.available_permits(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_pauses_or_trickles_is_cut_off() {
        let silent = Trickle(None, Duration::from_secs(3_600));
        let started = Instant::now();
        assert_eq!(outcome(silent, 1_000).await, Err("request-timeout".to_owned()));
        assert_eq!(started.elapsed().as_secs(), 10);
        let trickle = Trickle(None, Duration::from_secs(9));
        let started = Instant::now();
        assert_eq!(outcome(trickle, 1_000).await, Err("request-timeout".to_owned()));
        assert_eq!(started.elapsed().as_secs(), 60);
    }
}
