//! TLS 1.2 and 1.3 by rustls, with certificates that can be replaced while connections go on.
//!
//! rustls offers no suite without forward secrecy and authenticated encryption, no renegotiation, no compression and,
//! unless asked, no early data, which could be replayed. There is nothing to be weakened here, so there are no options.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::clients::{ClientCertificate, ClientCertificateError, ClientTrust, CurrentTrust};

/// What a TLS handshake says we speak, the preferred first.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];

/// HTTP/2 in a TLS handshake.
pub(crate) const HTTP2: &[u8] = b"h2";

/// Certificates with their keys, by the host names that they are for. No `Debug`: it holds private keys.
#[derive(Clone)]
pub struct Certificates {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

/// TLS of one listener.
#[derive(Debug)]
pub struct Tls {
    config: ArcSwap<ServerConfig>,
    current: Arc<Current>,
    /// Where client certificates are demanded.
    clients: Option<Arc<CurrentTrust>>,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// There is none.
    #[error("there is no certificate")]
    None,
    /// The chain cannot be read.
    #[error("the certificate file is no PEM with a certificate chain: {0}")]
    Chain(String),
    /// The key cannot be read. What is in the file is not said.
    #[error("the key file is no PEM with one private key (PKCS #8, PKCS #1 or SEC 1, without a password)")]
    Key,
    /// The two do not belong together, or their kind is not known.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(rustls::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// What the next handshake uses.
struct Current(ArcSwap<Certificates>);

// === impl Certificates ===

impl Certificates {
    /// Reads certificate chains and their keys, both PEM.
    ///
    /// A caller gets the certificate for the host that it asks for, by its name or by a wildcard for one label; else the
    /// first of all. Of two certificates for one name the first counts.
    ///
    /// # Errors
    ///
    /// When one of them cannot be used.
    pub fn parse<'a>(
        pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<Self, CertificatesError> {
        let provider = aws_lc_rs::default_provider();
        let (mut by_name, mut first) = (HashMap::new(), None);
        for (chain, key) in pairs {
            let chain = CertificateDer::pem_slice_iter(chain)
                .collect::<Result<Vec<_>, pem::Error>>()
                .map_err(|error| CertificatesError::Chain(error.to_string()))?;
            let leaf = chain.first().ok_or_else(|| CertificatesError::Chain("there is none".to_owned()))?;
            let names = names(leaf)?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificatesError::Key)?;
            let pair = CertifiedKey::from_der(chain, key, &provider)
                .map(Arc::new)
                .map_err(CertificatesError::Pair)?;
            for name in names {
                by_name.entry(name).or_insert_with(|| pair.clone());
            }
            first.get_or_insert(pair);
        }
        Ok(Self { by_name, first: first.ok_or(CertificatesError::None)? })
    }

    /// Returns the host names that the certificates are for, in the order of the alphabet.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.by_name.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    fn find(&self, host: Option<&str>) -> &Arc<CertifiedKey> {
        let by_name = |host: &str| {
            let wildcard = || host.split_once('.').map(|(_, rest)| format!("*.{rest}"));
            self.by_name.get(host).or_else(|| self.by_name.get(&wildcard()?))
        };
        host.and_then(|host| by_name(&host.to_ascii_lowercase())).unwrap_or(&self.first)
    }
}

fn names(leaf: &CertificateDer<'_>) -> Result<Vec<String>, CertificatesError> {
    let certificate =
        webpki::EndEntityCert::try_from(leaf).map_err(|error| CertificatesError::Chain(error.to_string()))?;
    Ok(certificate.valid_dns_names().map(str::to_ascii_lowercase).collect())
}

// === impl Tls ===

impl Tls {
    /// Returns TLS with these certificates.
    ///
    /// # Errors
    ///
    /// When the cryptography is not there.
    pub fn new(certificates: Certificates) -> Result<Arc<Self>, CertificatesError> {
        let current = Arc::new(Current(ArcSwap::from_pointee(certificates)));
        let config = ArcSwap::from_pointee(configure(&current, None)?);
        Ok(Arc::new(Self { config, current, clients: None }))
    }

    /// Returns TLS with these certificates that takes nobody without a client certificate.
    ///
    /// # Errors
    ///
    /// When the cryptography is not there.
    pub fn demanding(certificates: Certificates, trust: ClientTrust) -> Result<Arc<Self>, CertificatesError> {
        let current = Arc::new(Current(ArcSwap::from_pointee(certificates)));
        let trust = Arc::new(trust);
        let config = ArcSwap::from_pointee(configure(&current, Some(trust.clone()))?);
        Ok(Arc::new(Self { config, current, clients: Some(Arc::new(CurrentTrust::new(trust))) }))
    }

    /// Believes other CAs and revocation lists, from the next handshake and the next check of a connection's certificate
    /// on. Where no client certificates are demanded, none are from then on either.
    ///
    /// # Errors
    ///
    /// When the cryptography is not there; nothing changes then.
    pub fn replace_clients(&self, trust: ClientTrust) -> Result<(), CertificatesError> {
        let Some(clients) = &self.clients else { return Ok(()) };
        let trust = Arc::new(trust);
        self.config.store(Arc::new(configure(&self.current, Some(trust.clone()))?));
        clients.replace(trust);
        Ok(())
    }

    /// Tells whether client certificates are demanded.
    pub fn demands_clients(&self) -> bool {
        self.clients.is_some()
    }

    /// Returns a client certificate as if it had been shown here, PEM with the certificate first; `None` when none are
    /// asked for.
    ///
    /// # Errors
    ///
    /// [`ClientCertificateError::Form`] when it cannot be read.
    pub fn imagine_client(&self, pem: &[u8]) -> Result<Option<ClientCertificate>, ClientCertificateError> {
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, pem::Error>>();
        self.client(&chain.map_err(|_| ClientCertificateError::Form)?)
    }

    /// Returns the client certificate of a connection; `None` when none are asked for.
    pub(crate) fn client(
        &self,
        chain: &[CertificateDer<'static>],
    ) -> Result<Option<ClientCertificate>, ClientCertificateError> {
        let Some(clients) = &self.clients else { return Ok(None) };
        ClientCertificate::new(chain.to_vec(), clients.clone()).map(Some)
    }

    /// Puts other certificates in the place of those there are. Connections go on; handshakes from now on use them.
    pub fn replace(&self, certificates: Certificates) {
        self.current.0.store(Arc::new(certificates));
    }

    pub(crate) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.config.load_full().into()
    }
}

fn configure(
    current: &Arc<Current>,
    trust: Option<Arc<ClientTrust>>,
) -> Result<ServerConfig, CertificatesError> {
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(CertificatesError::Setup)?;
    let demanding = trust.is_some();
    let builder = match trust {
        Some(trust) => builder.with_client_cert_verifier(trust),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(current.clone());
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    if demanding {
        // What is resumed skips the verification of the certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(CertificatesError::Setup)?;
    }
    Ok(config)
}

// === impl Current ===

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Current").field(&self.0.load().names()).finish()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().find(hello.server_name()).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{certificate, pem};

    fn found<'a>(certificates: &'a Certificates, host: Option<&str>) -> &'a [u8] {
        certificates.find(host).cert.first().expect("a certificate")
    }

    #[test]
    fn the_certificate_is_the_one_for_the_host() {
        let (shop, wild) = (certificate(&["shop.example"]), certificate(&["*.api.example", "API.example"]));
        let all = Certificates::parse([pem(&shop), pem(&wild)]).expect("good");
        assert_eq!(all.names(), ["*.api.example", "api.example", "shop.example"]);
        let (shop, wild) = (found(&all, Some("shop.example")), found(&all, Some("x.api.example")));
        assert_ne!(shop, wild);
        for (host, expected) in [
            (Some("Shop.Example"), shop),
            (Some("api.example"), wild),
            (Some("y.API.example"), wild),
            (Some("x.y.api.example"), shop),
            (Some("other.example"), shop),
            (None, shop),
        ] {
            assert!(found(&all, host) == expected, "{host:?}");
        }
    }

    #[test]
    fn there_is_nothing_weak_to_choose() {
        let good = certificate(&["gateway.example"]);
        let tls = Tls::new(Certificates::parse([pem(&good)]).expect("good")).expect("set up");
        for suite in &tls.config.load().crypto_provider().cipher_suites {
            let name = format!("{:?}", suite.suite());
            let is_aead = name.contains("_GCM_") || name.contains("_CHACHA20_POLY1305_");
            let is_fresh = name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_");
            assert!(is_aead && is_fresh, "{name}");
        }
        assert_eq!(tls.config.load().max_early_data_size, 0, "early data can be replayed");
    }

    #[test]
    fn what_cannot_be_used_is_refused_and_no_key_is_shown() {
        let (one, other) = (certificate(&["one.example"]), certificate(&["other.example"]));
        let (chain, key) = pem(&one);
        let error = |pairs: &[(&[u8], &[u8])]| {
            Certificates::parse(pairs.iter().copied()).map(|_| ()).expect_err("refused").to_string()
        };
        for (pairs, word) in [
            (&[][..], "no certificate"),
            (&[(&b""[..], key)][..], "certificate file"),
            (&[(key, key)], "certificate file"),
            (&[(&chain[..60], key)], "certificate file"),
            (&[(chain, &b"secret"[..])], "key file"),
            (&[(chain, chain)], "key file"),
            (&[(chain, pem(&other).1)], "together"),
        ] {
            let error = error(pairs);
            assert!(error.contains(word) && !error.contains("secret"), "{error}");
        }
    }
}
