//! Reads a request body: counted, and with patience that ends.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use crate::problem::{Code, Problem};

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyTimeouts {
    /// Longest pause between two pieces.
    pub(crate) idle: Duration,
    /// Longest time for the whole.
    pub(crate) total: Duration,
}

/// Reads a whole body of at most `limit` bytes; trailers are dropped.
pub(crate) async fn read<B>(body: B, limit: u64, timeouts: BodyTimeouts) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
{
    let mut body = pin!(body);
    let deadline = Instant::now() + timeouts.total;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let patience = deadline.min(Instant::now() + timeouts.idle);
        let frame = match timeout_at(patience, body.frame()).await {
            Err(_) => return Err(Problem::new(Code::RequestTimeout).close()),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(Problem::malformed("the body is cut off or malformed")),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        let len = first.len() + rest.len() + data.len();
        if u64::try_from(len).is_ok_and(|len| len > limit) {
            return Err(Problem::new(Code::RequestTooLarge).close());
        }
        // Most bodies come in one piece, which is kept without a copy.
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
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
        read(body, limit, TIMEOUTS).await.map_err(|problem| problem.code().to_owned())
    }

    #[tokio::test]
    async fn a_body_is_counted_whatever_its_declared_length() {
        let body = || http_body_util::Full::new(Bytes::from_static(b"12345"));
        assert_eq!(outcome(body(), 5).await, Ok(Bytes::from_static(b"12345")));
        assert_eq!(outcome(body(), 4).await, Err("request-too-large".to_owned()));
        let second = Trickle(None, Duration::ZERO);
        assert_eq!(outcome(second, 3).await, Err("request-too-large".to_owned()));
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
