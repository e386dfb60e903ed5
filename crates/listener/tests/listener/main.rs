//! Listeners over real sockets: what callers and attackers send, byte by byte.

mod bounds;
mod framing;
mod http2;
mod origins;
mod shutdown;
mod tls;
mod world;
