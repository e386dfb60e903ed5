//! Listeners: sockets, TLS, the framing of HTTP/1.1 and HTTP/2, and where a call comes from.
//!
//! The gateway and the management API stand behind the same door. A connection goes through these modules:
//!
//! 1. [`server`]: accepts, within bounds on all connections and on those of one address ([`places`]), and drains; leaves an
//!    address that is shared without losing a connection ([`turning_away`]);
//! 2. [`connection`]: the header of the PROXY protocol ([`proxy_protocol`]), then [`tls`], then HTTP/1.1 or HTTP/2;
//! 3. HTTP/1.1: [`strict`] lets through only what [`framing`] reads in one way ([`plain_heads`] in one look); [`stalls`] ends patience with callers who
//!    do not take their answer, [`head_timeout`] with those who do not finish a head, [`linger`] lets them read why they
//!    are refused; [`at_once`] begins each call where it can end at once;
//! 4. HTTP/2: [`exchanges`] watches each request, since the connection as a whole tells nothing of them; [`frames`] counts what
//!    carries none;
//! 5. [`clients`]: the certificate of the caller, where the listener asks for one, as a typed extension of each request;
//! 6. [`proxies`]: the address that the call comes from, as trusted proxies tell it.

mod at_once;
mod clients;
mod connection;
mod exchanges;
mod frames;
mod framing;
mod head_timeout;
mod joined;
mod linger;
mod places;
mod plain_heads;
mod proxies;
mod proxy_protocol;
mod server;
mod settings;
mod stalls;
mod stream;
mod strict;
#[cfg(test)]
mod testing;
mod tls;
mod turning_away;

pub use clients::{ClientCertificate, ClientCertificateError, ClientTrust, ClientTrustError, Issuers};
pub use ipnet::IpNet;
pub use joined::poll_write_joined;
pub use proxies::{ForwardedHeader, TrustedProxies};
pub use server::serve;
pub use settings::{Entrance, FailedHandshakes, HandshakeFailure, ListenerSettings, Opened};
pub use tls::{Certificates, CertificatesError, Tls};
