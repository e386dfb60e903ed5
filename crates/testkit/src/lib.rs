//! What tests stand on: a fixed clock, seeded randomness, a throw-away PostgreSQL, a proxy that breaks
//! connections, a scripted upstream, an issuer of tokens, an authenticator app, a CA. Hermetic: loopback and temporary
//! directories only.

mod authority;
mod collector;
mod issuer;
mod issuer_keys;
mod postgres;
mod proxy;
mod sources;
mod streams;
mod totp;
mod upstream;
mod waiting;

pub use authority::{Authority, Leaf};
pub use collector::{Collector, SentLine, SentSpan};
pub use issuer::{FakeIssuer, IssuerMood};
pub use issuer_keys::IssuerKeyPair;
pub use postgres::Postgres;
pub use proxy::FaultProxy;
pub use sources::{FixedClock, SeededRandom};
pub use streams::Acceptor;
pub use totp::totp_code;
pub use upstream::{Answer, Recorded, Upstream};
pub use waiting::{free_port, wait_until};
