//! Writes of a few bytes in several pieces.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

/// Pieces that are not longer together are written as one: the system takes one piece for less than two, and by more than it
/// costs to put so few bytes together.
const JOINED_BYTES: usize = 1_024;

/// Writes pieces, as one where they are short, to what takes several at once.
///
/// # Errors
///
/// Those of the stream.
pub fn poll_write_joined<S: AsyncWrite>(
    stream: Pin<&mut S>,
    context: &mut Context<'_>,
    slices: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut room = [0; JOINED_BYTES];
    match join(slices, &mut room) {
        Some(joined) => stream.poll_write(context, joined),
        None => stream.poll_write_vectored(context, slices),
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
    use std::future::poll_fn;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

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
            let mut ours = TcpStream::connect(address).await.expect("connects");
            let (mut theirs, _) = listener.accept().await.expect("a connection");
            let pieces: Vec<Vec<u8>> = (1..).zip(&sizes).map(|(n, size)| vec![n; *size]).collect();
            let slices: Vec<io::IoSlice<'_>> = pieces.iter().map(|piece| io::IoSlice::new(piece)).collect();
            let written = poll_fn(|context| poll_write_joined(Pin::new(&mut ours), context, &slices));
            let written = written.await.expect("there is room");
            assert_eq!(written, sizes.iter().sum::<usize>());
            drop(ours);
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).await.expect("reads");
            assert_eq!(read, pieces.concat());
        }
    }
}
