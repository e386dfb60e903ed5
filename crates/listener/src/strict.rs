//! A connection of HTTP/1.1 on which only requests with one reading get through.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::framing::Framing;
use crate::head_timeout::Exchange;

/// What hyper can read nowhere in a head: it answers 400 and closes the connection.
const POISON: &[u8] = b"\0";

/// Lets through what [`Framing`] can read, and no byte after that.
///
/// Of an ambiguous head hyper gets a byte that no head may have, in the place of the line that makes it ambiguous, so that
/// it gives the answers that are due before this one, then 400. In a body it gets an error, so that whoever reads the
/// body answers.
#[derive(Debug)]
pub(crate) struct Strict<S> {
    stream: S,
    framing: Framing,
    refused: Option<Refused>,
    exchange: Exchange,
}

#[derive(Debug, Clone, Copy)]
enum Refused {
    Head,
    Body,
}

// === impl Strict ===

impl<S> Strict<S> {
    /// Reads a stream strictly; `exchange` is told of what is written to it.
    pub(crate) fn new(stream: S, exchange: Exchange) -> Self {
        Self { stream, framing: Framing::default(), refused: None, exchange }
    }

    fn told<T>(&self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() {
            self.exchange.wrote();
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.refused {
            // The end of what came in would be taken for a caller that has hung up, and end the calls before.
            Some(Refused::Head) => return Poll::Pending,
            Some(Refused::Body) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            None => {}
        }
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let came = buffer.filled().get(before..).unwrap_or_default();
        let Err(refusal) = self.framing.read(came) else { return Poll::Ready(Ok(())) };
        tracing::debug!(reason = refusal.reason, "a request was refused: it can be read in two ways");
        buffer.set_filled(before + refusal.good_bytes);
        if refusal.in_body {
            self.refused = Some(Refused::Body);
            if refusal.good_bytes == 0 {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        } else {
            self.refused = Some(Refused::Head);
            buffer.put_slice(POISON);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.told(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.told(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
