//! Listeners over real sockets: what callers and attackers send, byte by byte.

mod bounds;
mod floods;
mod framing;
mod http2;
mod mtls;
mod origins;
mod shutdown;
mod tls;
mod world;
