//! Connections of test servers: plain, or behind TLS.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::Leaf;

/// A connection, of either kind.
pub(crate) type Connection = Box<dyn Connected>;

/// What a connection is read from and written to.
pub(crate) trait Connected: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connected for T {}

/// Takes connections, plain or behind TLS.
#[derive(Clone, Default)]
pub struct Acceptor(Option<TlsAcceptor>);

// === impl Acceptor ===

impl Acceptor {
    /// Shows a certificate, and speaks HTTP/1.1.
    ///
    /// # Panics
    ///
    /// When the certificate cannot be used.
    pub fn tls(leaf: &Leaf) -> Self {
        let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes()).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(chain.expect("certificates"), key)
            .expect("a pair");
        Self(Some(TlsAcceptor::from(Arc::new(config))))
    }

    /// Tells whether it speaks TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Connection> {
        Ok(match &self.0 {
            Some(tls) => Box::new(tls.accept(stream).await?),
            None => Box::new(stream),
        })
    }
}
