//! Frames of HTTP/2 that carry nothing, and how many of them a caller may send.
//!
//! PING and SETTINGS must be answered, and a window, a priority, an empty piece of a body must be looked at: each costs the
//! caller a few bytes and nothing else. h2 queues nothing of it (it reads no further while an answer to such a frame cannot be
//! written), so what floods of them take is time. So every frame that comes in is counted here, by its head alone, before h2
//! sees it, and whoever sends more of them than requests and answers can need loses the connection ([`Exchanges::spend`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::exchanges::Exchanges;

/// What a connection begins with, before its first frame (RFC 9113 section 3.4).
const PREFACE_BYTES: usize = 24;

/// Length of a frame's head (RFC 9113 section 4.1).
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 8;

/// A connection whose frames are counted as they come in.
#[derive(Debug)]
pub(crate) struct Frames<S> {
    stream: S,
    reader: Reader,
    exchanges: Arc<Exchanges>,
}

/// Follows frames, of which one may come in many pieces.
#[derive(Debug)]
struct Reader {
    head: [u8; HEAD_BYTES],
    /// How much of `head` has come.
    len: usize,
    /// What of the payload is to come, or of the preface.
    left: usize,
    /// The next byte says how much of the payload is padding.
    is_padded: bool,
}

// === impl Reader ===

impl Reader {
    fn new() -> Self {
        Self { head: [0; HEAD_BYTES], len: 0, left: PREFACE_BYTES, is_padded: false }
    }

    /// Reads what came in; returns how many frames in it carry nothing.
    fn read(&mut self, mut bytes: &[u8]) -> u32 {
        let mut idle = 0;
        while let Some(first) = bytes.first() {
            if self.left > 0 {
                if self.is_padded {
                    self.is_padded = false;
                    idle += u32::from(usize::from(*first) + 1 >= self.left);
                }
                let taken = self.left.min(bytes.len());
                self.left -= taken;
                bytes = bytes.get(taken..).unwrap_or_default();
                continue;
            }
            let taken = (HEAD_BYTES - self.len).min(bytes.len());
            let (head, rest) = bytes.split_at(taken);
            if let Some(free) = self.head.get_mut(self.len..self.len + taken) {
                free.copy_from_slice(head);
            }
            self.len += taken;
            bytes = rest;
            if self.len == HEAD_BYTES {
                idle += u32::from(self.begin());
            }
        }
        idle
    }

    /// Begins the payload; tells whether the head says that the frame carries nothing.
    fn begin(&mut self) -> bool {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.len = 0;
        self.left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.is_padded = kind == DATA && flags & PADDED != 0 && self.left > 0;
        match kind {
            DATA => self.left == 0,
            HEADERS | CONTINUATION => false,
            _ => true,
        }
    }
}

// === impl Frames ===

impl<S> Frames<S> {
    /// Counts the frames of a connection with these requests.
    pub(crate) fn new(stream: S, exchanges: Arc<Exchanges>) -> Self {
        Self { stream, reader: Reader::new(), exchanges }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let idle = this.reader.read(buffer.filled().get(before..).unwrap_or_default());
        if idle > 0 && !this.exchanges.spend(idle) {
            // The connection is closed now. Nothing more of it is looked at.
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
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
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("short");
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn frames_that_carry_nothing_are_counted_however_they_are_cut() {
        let frames = [
            // Request, end of a head, and pieces of a body: one of them padded, one with padding around nothing.
            (frame(HEADERS, 0, b"abc"), 0),
            (frame(CONTINUATION, 4, b""), 0),
            (frame(DATA, 0, b"x"), 0),
            (frame(DATA, PADDED, b"\x02x\0\0"), 0),
            (frame(DATA, PADDED, b"\x03\0\0\0"), 1),
            (frame(DATA, PADDED, b"\0"), 1),
            (frame(DATA, 1, b""), 1),
            // PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, and one that nobody knows.
            (frame(2, 0, b"12345"), 1),
            (frame(3, 0, b"1234"), 1),
            (frame(4, 0, b""), 1),
            (frame(6, 0, b"12345678"), 1),
            (frame(8, 0, b"1234"), 1),
            (frame(99, PADDED, b"\x01"), 1),
            (frame(HEADERS, 0, b""), 0),
        ];
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let all: Vec<u8> = preface.iter().chain(frames.iter().flat_map(|it| &it.0)).copied().collect();
        let expected: u32 = frames.iter().map(|it| it.1).sum();
        for piece in 1..=all.len() {
            let mut reader = Reader::new();
            let found: u32 = all.chunks(piece).map(|piece| reader.read(piece)).sum();
            assert_eq!(found, expected, "in pieces of {piece}");
        }
        let mut reader = Reader::new();
        reader.read(&preface);
        for (frame, expected) in &frames {
            assert_eq!(reader.read(frame), *expected, "{frame:?}");
        }
    }
}
