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
        tokio::time::timeout(self.timeout, self.link(uri)).await.unwrap_or(Err(UpstreamError::Timeout))
    }

    async fn link(&self, uri: &Uri) -> Result<Link, UpstreamError> {
        let is_tls = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = self.reach(host, port).await?;
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
    async fn reach(&self, host: &str, port: u16) -> Result<TcpStream, UpstreamError> {
        let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => {
                let found = tokio::net::lookup_host((host, port)).await;
                found.map_err(|_| UpstreamError::Unreachable)?.collect()
            }
        };
        let mut outcome = UpstreamError::Unreachable;
        for address in addresses {
            if !is_allowed(address.ip(), &self.settings.allow_upstreams) {
                tracing::warn!(host, address = %address.ip(), "an upstream was not called: the realm does not allow its network");
                outcome = UpstreamError::Forbidden;
                continue;
            }
            match TcpStream::connect(SocketAddr::new(address.ip().to_canonical(), port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    tracing::debug!(%error, host, "an address of an upstream was not reached");
                    outcome = UpstreamError::Unreachable;
                }
            }
        }
        Err(outcome)
    }
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
