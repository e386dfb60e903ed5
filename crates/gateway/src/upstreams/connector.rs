//! Connections to upstreams: to an address that was checked, and no other.
//!
//! A name is looked up once, what it stands for is checked, and the connection goes to one of the addresses that passed: a
//! name that stands for something else a moment later (DNS rebinding) changes nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tollgate_flow::UpstreamError;
use tollgate_listener::poll_write_joined;
use tollgate_model::environments::RealmSettings;

use super::addresses::is_allowed;

/// Connects to upstreams of one realm.
pub(crate) struct Connector {
    settings: Arc<RealmSettings>,
    tls: Arc<rustls::ClientConfig>,
    timeout: Duration,
}

/// A connection to an upstream.
pub(crate) enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

// === impl Connector ===

impl Connector {
    pub(crate) fn new(
        settings: Arc<RealmSettings>,
        tls: Arc<rustls::ClientConfig>,
        timeout: Duration,
    ) -> Self {
        Self { settings, tls, timeout }
    }

    /// Connects to where a URL leads.
    pub(crate) async fn connect(&self, uri: &Uri) -> Result<Link, UpstreamError> {
        let deadline = Instant::now() + self.timeout;
        timeout_at(deadline, self.link(uri, deadline)).await.unwrap_or(Err(UpstreamError::Timeout))
    }

    async fn link(&self, uri: &Uri, deadline: Instant) -> Result<Link, UpstreamError> {
        let is_tls = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = self.reach(host, port, deadline).await?;
        // What is written is written whole.
        let _ = stream.set_nodelay(true);
        if !is_tls {
            return Ok(Link::Plain(stream));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| UpstreamError::Unreachable)?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(|error| {
            tracing::debug!(%error, host, "an upstream was not reached: no TLS");
            UpstreamError::Unreachable
        })?;
        Ok(Link::Tls(Box::new(stream)))
    }

    /// Connects to the first address of a host that may be called and answers.
    async fn reach(&self, host: &str, port: u16, deadline: Instant) -> Result<TcpStream, UpstreamError> {
        let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => {
                let found = tokio::net::lookup_host((host, port)).await;
                found.map_err(|_| UpstreamError::Unreachable)?.collect()
            }
        };
        let is_allowed = |address: &SocketAddr| {
            let is_allowed = is_allowed(address.ip(), &self.settings.allow_upstreams);
            if !is_allowed {
                tracing::warn!(host, address = %address.ip(), "an upstream was not called: the realm does not allow its network");
            }
            is_allowed
        };
        let was_found = !addresses.is_empty();
        let allowed: Vec<_> = addresses.into_iter().filter(is_allowed).collect();
        if was_found && allowed.is_empty() {
            return Err(UpstreamError::Forbidden);
        }
        connect_to_any(&allowed, deadline).await
    }
}

/// Connects to the first of several addresses that answers. Each has an equal part of the time that is left, so that one
/// that is silent leaves some for the others.
async fn connect_to_any(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, UpstreamError> {
    let mut outcome = UpstreamError::Unreachable;
    for (count, address) in (1..=addresses.len()).rev().zip(addresses) {
        let left = deadline.saturating_duration_since(Instant::now());
        let part = u32::try_from(count).map_or(left, |count| left / count);
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        match timeout(part, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => tracing::debug!(%error, %address, "an address of an upstream was not reached"),
            Err(_) => {
                tracing::debug!(%address, "an address of an upstream did not answer in time");
                outcome = UpstreamError::Timeout;
            }
        }
    }
    Err(outcome)
}

// === impl Link ===

impl Link {
    /// Tells whether the other end has agreed to HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2"))
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => poll_write_joined(Pin::new(stream), context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::upstreams::tests::silent;

    #[tokio::test]
    async fn an_address_that_is_silent_leaves_time_for_the_next() {
        let (silent, _queued) = silent().await;
        let gone = {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            listener.local_addr().expect("bound")
        };
        let good = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = good.local_addr().expect("bound");
        let soon = || Instant::now() + Duration::from_secs(3);
        let stream = connect_to_any(&[silent, gone, address], soon()).await.expect("the last answers");
        assert_eq!(stream.peer_addr().ok(), Some(address));
        for (addresses, expected) in
            [(&[gone][..], UpstreamError::Unreachable), (&[], UpstreamError::Unreachable)]
        {
            assert_eq!(connect_to_any(addresses, soon()).await.expect_err("nobody"), expected);
        }
    }
}
