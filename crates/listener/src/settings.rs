//! What a listener takes, and how long it waits.

use std::sync::Arc;
use std::time::Duration;

use crate::proxies::TrustedProxies;
use crate::tls::Tls;

/// Bounds on what a listener takes.
#[derive(Debug, Clone, Copy)]
pub struct ListenerSettings {
    /// Most connections at once; further ones wait in the system's backlog.
    pub max_connections: usize,
    /// Most connections of one address at once, trusted proxies apart; further ones are closed.
    pub max_connections_per_address: usize,
    /// Longest wait for the header of the PROXY protocol, and for the TLS handshake.
    pub handshake_timeout: Duration,
    /// Longest wait for a whole head, and for the next request on an idle connection.
    pub header_timeout: Duration,
    /// Longest wait for the caller to take the next piece of its answer.
    pub write_timeout: Duration,
    /// Largest head, in bytes. On HTTP/1.1 it can also have no more than 100 fields, hyper's default.
    pub max_head_bytes: u32,
    /// Most requests at once on one connection of HTTP/2.
    pub max_streams: u32,
    /// How long idle connections may still bring a request after the shutdown began. Its answer says that it is the last.
    pub drain_grace: Duration,
    /// How long calls in flight may go on after the shutdown began.
    pub drain_timeout: Duration,
}

/// How callers come in.
#[derive(Debug, Clone, Default)]
pub struct Entrance {
    /// TLS, or none.
    pub tls: Option<Arc<Tls>>,
    /// Whether connections without TLS may begin with HTTP/2. Under TLS it is negotiated.
    pub cleartext_http2: bool,
    /// Whether each connection begins with the PROXY protocol, version 2, and comes from a trusted proxy.
    pub proxy_protocol: bool,
    /// Whose word counts about where a call comes from.
    pub proxies: Arc<TrustedProxies>,
    /// Whether this process listens with a socket of its own on an address that others listen on, too (`SO_REUSEPORT`): at a
    /// shutdown, new connections are left to them. A socket that outlives the process would not listen any more.
    pub shares_address: bool,
    /// Who counts the connections.
    pub opened: Opened,
    /// Who counts the TLS handshakes that fail.
    pub failed: FailedHandshakes,
}

/// Told of each connection that is accepted; what it returns is dropped when the connection ends.
#[derive(Clone, Default)]
pub struct Opened(Option<Arc<dyn Fn() -> Box<dyn Send> + Send + Sync>>);

/// Told of each TLS handshake that a caller does not get through.
#[derive(Clone, Default)]
pub struct FailedHandshakes(Option<Arc<dyn Fn(HandshakeFailure) + Send + Sync>>);

/// Why a TLS handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The caller showed no client certificate that is taken, or none.
    ClientCertificate,
    /// Something else: another protocol, no version in common, silence, an end before it was done.
    Other,
}

// === impl Opened ===

impl Opened {
    /// Tells `count` of each connection.
    pub fn new<T: Send + 'static>(count: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(move || Box::new(count()))))
    }

    pub(crate) fn tell(&self) -> Option<Box<dyn Send>> {
        self.0.as_ref().map(|count| count())
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Opened").field(&self.0.is_some()).finish()
    }
}

// === impl FailedHandshakes ===

impl FailedHandshakes {
    /// Tells `count` of each.
    pub fn new(count: impl Fn(HandshakeFailure) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(count)))
    }

    pub(crate) fn tell(&self, failure: HandshakeFailure) {
        if let Some(count) = &self.0 {
            count(failure);
        }
    }
}

impl std::fmt::Debug for FailedHandshakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FailedHandshakes").field(&self.0.is_some()).finish()
    }
}

// === impl HandshakeFailure ===

impl HandshakeFailure {
    /// Tells why from what the handshake ended with.
    pub(crate) fn of(error: &std::io::Error) -> Self {
        use rustls::Error::{InvalidCertificate, NoCertificatesPresented};
        match error.get_ref().and_then(|it| it.downcast_ref()) {
            // Only of a server that asks for certificates: it looks at none of its own.
            Some(InvalidCertificate(_) | NoCertificatesPresented) => Self::ClientCertificate,
            _ => Self::Other,
        }
    }
}

// === impl ListenerSettings ===

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_address: 1_000,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(30),
            max_head_bytes: 64 * 1024,
            max_streams: 100,
            drain_grace: Duration::from_millis(500),
            drain_timeout: Duration::from_secs(30),
        }
    }
}
