//! A connection whose caller may be in the middle of a request when it gets the answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a caller may take to read why it is refused.
const PATIENCE: Duration = Duration::from_secs(2);

/// Most bytes that are read meanwhile.
const MAX_BYTES: usize = 1 << 20;

/// Reads on for a while, and forgets what it reads, after the connection was shut down for writing.
///
/// A connection that is closed with bytes unread is reset, and the reset may overtake the answer: a caller who sends too
/// much would never learn that it did.
#[derive(Debug)]
pub(crate) struct Linger<S> {
    stream: S,
    /// Whether nobody is waited for who was not refused, since the listener closes.
    closing: Arc<AtomicBool>,
    refused: Arc<AtomicBool>,
    /// The caller has closed its side.
    at_end: bool,
    is_shut: bool,
    read_bytes: usize,
    patience: Option<Pin<Box<Sleep>>>,
}

// === impl Linger ===

impl<S> Linger<S> {
    pub(crate) fn new(stream: S, closing: Arc<AtomicBool>, refused: Arc<AtomicBool>) -> Self {
        Self { stream, closing, refused, at_end: false, is_shut: false, read_bytes: 0, patience: None }
    }

    fn is_over(&self) -> bool {
        let nobody_waits = self.closing.load(Ordering::Relaxed) && !self.refused.load(Ordering::Relaxed);
        self.at_end || nobody_waits || self.read_bytes > MAX_BYTES
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        if matches!(poll, Poll::Ready(Err(_))) || poll.is_ready() && read == 0 && buffer.remaining() > 0 {
            self.at_end = true;
        }
        poll
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.is_shut {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            this.is_shut = true;
        }
        let mut bytes = [0; 4 * 1024];
        while !this.is_over() {
            let patience = this.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
            if patience.as_mut().poll(context).is_ready() {
                break;
            }
            let mut buffer = ReadBuf::new(&mut bytes);
            // An error is an end like any other.
            let _ = ready!(Pin::new(&mut *this).poll_read(context, &mut buffer));
            this.read_bytes += buffer.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_caller_is_read_to_its_end_but_not_for_ever() {
        let flags =
            |closing, refused| (Arc::new(AtomicBool::new(closing)), Arc::new(AtomicBool::new(refused)));
        for (closing, refused, closes, seconds) in [
            (false, false, true, 0),
            (false, false, false, 2),
            (false, true, false, 2),
            (true, true, false, 2),
            (true, false, false, 0),
        ] {
            let (ours, mut theirs) = duplex(8);
            let (closing, refused) = flags(closing, refused);
            let mut ours = Linger::new(ours, closing, refused);
            let sending = tokio::spawn(async move {
                let _ = theirs.write_all(&[0; 1_000]).await;
                let _ = theirs.read_to_end(&mut Vec::new()).await;
                if !closes {
                    std::future::pending::<()>().await;
                }
            });
            let started = Instant::now();
            ours.shutdown().await.expect("closes");
            assert_eq!(started.elapsed().as_secs(), seconds);
            sending.abort();
        }
    }

    #[tokio::test]
    async fn a_caller_that_never_ends_is_given_up() {
        let (ours, mut theirs) = duplex(1 << 16);
        let mut ours = Linger::new(ours, Arc::default(), Arc::default());
        let sending = tokio::spawn(async move { while theirs.write_all(&[0; 1 << 16]).await.is_ok() {} });
        ours.shutdown().await.expect("closes");
        assert!(ours.read_bytes > MAX_BYTES);
        drop(ours);
        sending.await.expect("no panic");
    }
}
