//! A TCP proxy that breaks connections on command.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards TCP connections to one address until told to misbehave; ends when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    /// How often all connections were cut; a connection lives as long as the number it was born under.
    cuts: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forward,
    Stall,
    Refuse,
}

// === impl FaultProxy ===

impl FaultProxy {
    /// Starts a proxy on a free loopback port.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (state, watched) = watch::channel(State { mode: Mode::Forward, cuts: 0 });
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = *watched.borrow();
                if state.mode != Mode::Refuse {
                    tokio::spawn(relay(client, upstream, watched.clone(), state.cuts));
                }
            }
        });
        Ok(Self { address, state, accepting })
    }

    /// Returns the address to connect to instead of the upstream's.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every open connection; new ones are forwarded.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Holds back every byte in both directions, with connections left open.
    pub fn stall(&self) {
        self.state.send_modify(|state| state.mode = Mode::Stall);
    }

    /// Closes every open connection, and new ones as soon as they are made.
    pub fn refuse(&self) {
        self.state.send_modify(|state| {
            state.mode = Mode::Refuse;
            state.cuts += 1;
        });
    }

    /// Forwards again, bytes that were held back included.
    pub fn heal(&self) {
        self.state.send_modify(|state| state.mode = Mode::Forward);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn relay(client: TcpStream, upstream: SocketAddr, state: watch::Receiver<State>, born: u64) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = state.clone();
    let both = async {
        tokio::join!(pump(from_client, to_server, state.clone()), pump(from_server, to_client, state.clone()))
    };
    tokio::select! {
        _ = both => {}
        // An error means that the proxy is gone: its connections end with it.
        _ = cut.wait_for(|state| state.cuts != born) => {}
    }
}

/// Copies bytes until the source ends or either side fails.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if state.wait_for(|state| state.mode == Mode::Forward).await.is_err() {
            return Ok(());
        }
        match buffer.get(..length) {
            Some(bytes) if !bytes.is_empty() => to.write_all(bytes).await?,
            _ => return to.shutdown().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream) -> io::Result<u8> {
        stream.write_all(b"x").await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn connections_are_forwarded_cut_refused_and_forwarded_again() {
        let proxy = FaultProxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), b'x');
        proxy.cut();
        assert!(ask(&mut stream).await.is_err());
        proxy.refuse();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(ask(&mut stream).await.is_err());
        proxy.heal();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn stalled_bytes_arrive_once_it_is_healed() {
        let proxy = FaultProxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), b'x');
        proxy.stall();
        let mut answer = Box::pin(ask(&mut stream));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(50), &mut answer).await.is_err());
        proxy.heal();
        assert_eq!(answer.await.unwrap(), b'x');
    }
}
