//! Connections of test servers: plain, or behind TLS.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::Leaf;

/// A connection, of either kind.
type Connection = Box<dyn Connected>;

/// What a connection is read from and written to.
trait Connected: AsyncRead + AsyncWrite + Send + Unpin {}

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

    /// Returns the URL of a server at an address, without a path; behind TLS it is called `localhost`.
    pub(crate) fn base(&self, address: SocketAddr) -> String {
        match &self.0 {
            Some(_) => format!("https://localhost:{}", address.port()),
            None => format!("http://{address}"),
        }
    }

    /// Answers requests on each connection that comes, until it is aborted.
    pub(crate) fn serve<H, F>(self, listener: TcpListener, handler: H) -> JoinHandle<()>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'static,
    {
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, handler) = (self.clone(), handler.clone());
                tokio::spawn(async move {
                    // Whoever does not take the certificate ends here.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let serving = hyper::server::conn::http1::Builder::new();
                    let _ = serving.serve_connection(TokioIo::new(stream), service_fn(handler)).await;
                });
            }
        })
    }

    async fn accept(&self, stream: TcpStream) -> io::Result<Connection> {
        Ok(match &self.0 {
            Some(tls) => Box::new(tls.accept(stream).await?),
            None => Box::new(stream),
        })
    }
}
