//! A connection, plain or under TLS, of which some bytes may have been read already.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// What every connection of HTTP/2 begins with (RFC 9113 section 3.4); no request of HTTP/1.1 can.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Writes of several pieces that are not longer together are written as one: the system takes one piece for less than two,
/// and by more than it costs to put so few bytes together.
const JOINED_BYTES: usize = 1_024;

/// A connection. Plain and TLS are one type, so that HTTP is compiled once.
#[derive(Debug)]
pub(crate) struct Stream {
    transport: Transport,
    early: [u8; PREFACE.len()],
    /// What of `early` is to be read first.
    from: usize,
    to: usize,
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

// === impl Stream ===

impl Stream {
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self::new(Transport::Plain(stream))
    }

    pub(crate) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self::new(Transport::Tls(Box::new(stream)))
    }

    fn new(transport: Transport) -> Self {
        Self { transport, early: [0; PREFACE.len()], from: 0, to: 0 }
    }

    /// Tells whether the caller begins with HTTP/2; what was read for that is read again.
    pub(crate) async fn begins_http2(&mut self) -> io::Result<bool> {
        while self.to < PREFACE.len() {
            let free = self.early.get_mut(self.to..).unwrap_or_default();
            let read = match &mut self.transport {
                Transport::Plain(stream) => stream.read(free).await?,
                Transport::Tls(stream) => stream.read(free).await?,
            };
            self.to += read;
            if read == 0 || self.early.get(..self.to) != PREFACE.get(..self.to) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.from < this.to {
            let to = this.to.min(this.from + buffer.remaining());
            buffer.put_slice(this.early.get(this.from..to).unwrap_or_default());
            this.from = to;
            return Poll::Ready(Ok(()));
        }
        match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => {
                let mut room = [0; JOINED_BYTES];
                match join(slices, &mut room) {
                    Some(joined) => Pin::new(stream).poll_write(context, joined),
                    None => Pin::new(stream).poll_write_vectored(context, slices),
                }
            }
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Puts pieces one after the other; `None` when there is no room for them.
fn join<'a>(slices: &[io::IoSlice<'_>], room: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut len = 0;
    for slice in slices {
        let end = len + slice.len();
        room.get_mut(len..end)?.copy_from_slice(slice);
        len = end;
    }
    room.get(..len)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn pieces_arrive_in_their_order_whether_few_or_many_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        for sizes in [
            vec![],
            vec![1],
            vec![100, 200],
            vec![1, 0, JOINED_BYTES - 1],
            vec![1, JOINED_BYTES],
            vec![3_000, 3_000],
        ] {
            let ours = TcpStream::connect(address).await.expect("connects");
            let (mut theirs, _) = listener.accept().await.expect("a connection");
            let pieces: Vec<Vec<u8>> = (1..).zip(&sizes).map(|(n, size)| vec![n; *size]).collect();
            let slices: Vec<io::IoSlice<'_>> = pieces.iter().map(|piece| io::IoSlice::new(piece)).collect();
            let mut stream = Stream::plain(ours);
            let written = stream.write_vectored(&slices).await.expect("there is room");
            assert_eq!(written, sizes.iter().sum::<usize>());
            drop(stream);
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).await.expect("reads");
            assert_eq!(read, pieces.concat());
        }
    }
}
