//! The clients that call upstreams, each with its connections.
//!
//! Connections are shared by whoever may make them: a realm that allows more has connections of its own, and so have
//! upstreams with certificates of their own.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tollgate_flow::{UpstreamCall, UpstreamError};
use tollgate_model::environments::RealmSettings;
use tollgate_model::networks::Network;

use super::client::Client;
use super::connector::Connector;

/// Most clients kept; whatever needs one more begins anew with all of them.
const MAX_CLIENTS: usize = 64;

/// What a client's connections depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    networks: Vec<Network>,
    connect_timeout: Duration,
    http2: bool,
    certificates: Option<Arc<str>>,
}

/// Every client, by what its connections depend on. There are few, and mostly one: a call goes through them, without a lock
/// and without making a key.
#[derive(Default)]
pub(crate) struct Clients {
    clients: ArcSwap<Vec<(Key, Arc<Client>)>>,
    system: OnceLock<Arc<rustls::ClientConfig>>,
}

// === impl Clients ===

impl Clients {
    /// Returns the client for a call of a realm.
    pub(crate) fn of(
        &self,
        call: &UpstreamCall,
        settings: &Arc<RealmSettings>,
    ) -> Result<Arc<Client>, UpstreamError> {
        if let Some(client) = find(&self.clients.load(), call, settings) {
            return Ok(client.clone());
        }
        let connector = Connector::new(settings.clone(), self.tls(call, call.http2)?, call.connect_timeout);
        let client = Client::new(connector, call.http2);
        let client = Arc::new(client);
        self.clients.rcu(|clients| {
            let mut next = if clients.len() < MAX_CLIENTS { Vec::clone(clients) } else { Vec::new() };
            if find(&next, call, settings).is_none() {
                next.push((Key::of(call, settings), client.clone()));
            }
            next
        });
        Ok(client)
    }

    fn tls(&self, call: &UpstreamCall, http2: bool) -> Result<Arc<rustls::ClientConfig>, UpstreamError> {
        let Some(certificates) = &call.ca_certificates else {
            if let Some(config) = self.system.get().filter(|_| !http2) {
                return Ok(config.clone());
            }
            let builder = builder()?.with_platform_verifier().map_err(|error| {
                tracing::error!(%error, "the system's certificates cannot be used to call upstreams");
                UpstreamError::Certificates
            })?;
            let config = Arc::new(negotiating(builder.with_no_client_auth(), http2));
            if !http2 {
                return Ok(self.system.get_or_init(|| config).clone());
            }
            return Ok(config);
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(certificates.as_bytes()) {
            let certificate = certificate.map_err(|_| UpstreamError::Certificates)?;
            roots.add(certificate).map_err(|_| UpstreamError::Certificates)?;
        }
        if roots.is_empty() {
            return Err(UpstreamError::Certificates);
        }
        let config = builder()?.with_root_certificates(roots).with_no_client_auth();
        Ok(Arc::new(negotiating(config, http2)))
    }
}

/// Finds the client for a call of a realm.
fn find<'a>(
    clients: &'a [(Key, Arc<Client>)],
    call: &UpstreamCall,
    settings: &RealmSettings,
) -> Option<&'a Arc<Client>> {
    clients.iter().find(|(key, _)| key.is_of(call, settings)).map(|(_, client)| client)
}

// === impl Key ===

impl Key {
    fn of(call: &UpstreamCall, settings: &RealmSettings) -> Self {
        Self {
            networks: settings.allow_upstreams.clone(),
            connect_timeout: call.connect_timeout,
            http2: call.http2,
            certificates: call.ca_certificates.clone(),
        }
    }

    fn is_of(&self, call: &UpstreamCall, settings: &RealmSettings) -> bool {
        let Self { networks, connect_timeout, http2, certificates } = self;
        *connect_timeout == call.connect_timeout
            && *http2 == call.http2
            && *certificates == call.ca_certificates
            && *networks == settings.allow_upstreams
    }
}

fn builder() -> Result<rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>, UpstreamError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| UpstreamError::Certificates)
}

fn negotiating(mut config: rustls::ClientConfig, http2: bool) -> rustls::ClientConfig {
    config.alpn_protocols =
        if http2 { vec![b"h2".to_vec()] } else { vec![b"h2".to_vec(), b"http/1.1".to_vec()] };
    config
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clients({})", self.clients.load().len())
    }
}
