//! Leaving an address that is shared: how new connections are left to others before a socket is closed.
//!
//! Processes that listen on one address with a socket each (`SO_REUSEPORT`) have a queue each, too. The system chooses a queue by
//! the addresses of a connection when its first packet comes, and resets all that is still in a queue when its socket is closed:
//! what came between the last look into the queue, and what had begun and not finished its handshake.
//!
//! So the socket is made deaf first: a filter drops packets that would begin a connection, and lets through all others. Who sent
//! such a packet hears nothing, and its system sends it again a second later, when the socket is gone and another one is chosen.
//! What had begun ends in the queue and is taken from there. Then nothing is lost by closing.
//!
//! The socket must be this process's alone: one that outlives the process would stay deaf.

use std::io;
use std::time::Duration;

use tokio::net::TcpListener;

/// How long it is waited for connections that had begun: some time of a packet around the world.
pub(crate) const HANDSHAKE_PAUSE: Duration = Duration::from_millis(300);

/// Drops what would begin a connection, from now on.
///
/// # Errors
///
/// When the system has no such filter. Nothing has changed then.
#[cfg(target_os = "linux")]
pub(crate) fn turn_away(listener: &TcpListener) -> io::Result<()> {
    use socket2::{SockFilter, SockRef};

    /// Where a header of TCP has its flags, and those that tell a packet that begins a connection: SYN without ACK (RFC 9293
    /// section 3.1).
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;

    // Classic BPF: the byte of the flags; those two of them; whether it is the one alone; nothing, or all of the packet.
    let program = [
        SockFilter::new(0x30, 0, 0, FLAGS),
        SockFilter::new(0x54, 0, 0, SYN | ACK),
        SockFilter::new(0x15, 0, 1, SYN),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    SockRef::from(listener).attach_filter(&program)
}

/// Drops what would begin a connection, from now on.
///
/// # Errors
///
/// Always: only Linux is known to do that.
#[cfg(not(target_os = "linux"))]
pub(crate) fn turn_away(_: &TcpListener) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
