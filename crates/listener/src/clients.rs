//! Client certificates: whom a listener believes about its callers.
//!
//! A listener that asks for client certificates takes no connection without a good one. But a handshake is a moment, and a
//! connection may last for days. So what was shown in it goes with each request as a [`ClientCertificate`], a type that no
//! header can be made into, and [`ClientCertificate::check`] says whether it is good now, by the CAs and the revocation
//! lists of now. What was found counts for a second at most: a call costs two loads, a second one verification.
//!
//! Nothing is resumed on such a listener: each connection shows its certificate anew (decision 0035).

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::aws_lc_rs::digest::{SHA256, digest};
use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

/// SHA-256 of a certificate in DER.
type Digest = [u8; 32];

/// The CAs whose client certificates a listener takes, and the certificates that they took back.
#[derive(Debug)]
pub struct ClientTrust {
    /// One for each CA, so that it can be told which of them issued a certificate. Never empty.
    authorities: Vec<Authority>,
    hints: Vec<DistinguishedName>,
    /// When the first of the revocation lists ends, in seconds since 1970; `None` when there is none.
    lists_end: Option<i64>,
}

#[derive(Debug)]
struct Authority {
    fingerprint: Digest,
    /// In seconds since 1970.
    not_after: i64,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Why CAs or revocation lists cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientTrustError {
    /// The bundle cannot be read.
    #[error("the CA file is no PEM with certificates: {0}")]
    Bundle(String),
    /// There is no CA.
    #[error("the CA file has no certificate")]
    NoCa,
    /// A certificate of the bundle could not have issued another.
    #[error("certificate {0} of the CA file is not that of a CA: whoever holds it would let itself in")]
    NotCa(usize),
    /// The revocation lists cannot be read.
    #[error("the CRL file is no PEM with certificate revocation lists: {0}")]
    Lists(String),
    /// There is no revocation list.
    #[error("the CRL file has no certificate revocation list: leave it out if there is none")]
    NoList,
}

/// What the next handshake and the next check believe.
#[derive(Debug)]
pub(crate) struct CurrentTrust(ArcSwap<ClientTrust>);

/// The client certificate of a connection. Listeners put it into the extensions of each request.
#[derive(Clone)]
pub struct ClientCertificate(Arc<Shown>);

struct Shown {
    /// The certificate, then those that came with it.
    chain: Vec<CertificateDer<'static>>,
    fingerprint: Digest,
    names: Vec<String>,
    trust: Arc<CurrentTrust>,
    checked: ArcSwapOption<Checked>,
}

struct Checked {
    trust: Arc<ClientTrust>,
    second: u64,
    outcome: Result<Issuers, ClientCertificateError>,
}

/// The CAs that a certificate leads to: SHA-256 of each one's certificate in DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuers(Arc<[Digest]>);

/// Why a client certificate is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientCertificateError {
    /// No CA of the listener issued it, or what it says it is signed by did not sign it.
    #[error("no CA of this listener issued it")]
    Issuer,
    /// Its time has passed.
    #[error("it has expired")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet")]
    NotYetValid,
    /// A revocation list names it, or a certificate above it.
    #[error("it is on a revocation list")]
    Revoked,
    /// It is for something else.
    #[error("it is not for clients: its extended key usage does not say clientAuth")]
    Purpose,
    /// It is that of a CA, or malformed.
    #[error("it is no certificate of a client, or malformed")]
    Form,
    /// Whether it was taken back cannot be said.
    #[error("the revocation list of its CA is missing or older than its next update")]
    ListsMissing,
}

// === impl ClientTrust ===

impl ClientTrust {
    /// Reads CAs and, when there are any, revocation lists, both PEM. With revocation lists there must be one for each CA
    /// that issued a certificate of the chain, below the CA of the bundle, too.
    ///
    /// # Errors
    ///
    /// When one of them cannot be used.
    pub fn parse(bundle: &[u8], lists: Option<&[u8]>) -> Result<Self, ClientTrustError> {
        let bundle = CertificateDer::pem_slice_iter(bundle)
            .collect::<Result<Vec<_>, pem::Error>>()
            .map_err(|error| ClientTrustError::Bundle(error.to_string()))?;
        let (lists, lists_end) = match lists {
            Some(lists) => read_lists(lists).map(|(lists, end)| (lists, Some(end)))?,
            None => (Vec::new(), None),
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (mut authorities, mut hints) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        for (index, ca) in bundle.iter().enumerate() {
            let fingerprint = sha256(ca);
            if !seen.insert(fingerprint) {
                continue;
            }
            let bad = |error: &dyn fmt::Display| ClientTrustError::Bundle(error.to_string());
            let (_, parsed) = X509Certificate::from_der(ca).map_err(|error| bad(&error))?;
            if !parsed.is_ca() {
                return Err(ClientTrustError::NotCa(index + 1));
            }
            let mut roots = RootCertStore::empty();
            roots.add(ca.clone()).map_err(|error| bad(&error))?;
            hints.extend(roots.subjects());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
                .with_crls(lists.iter().cloned())
                .enforce_revocation_expiration()
                .build()
                .map_err(|error| ClientTrustError::Lists(error.to_string()))?;
            let not_after = parsed.validity().not_after.timestamp();
            authorities.push(Authority { fingerprint, not_after, verifier });
        }
        if authorities.is_empty() {
            return Err(ClientTrustError::NoCa);
        }
        Ok(Self { authorities, hints, lists_end })
    }

    /// Returns how many CAs there are.
    pub fn authorities(&self) -> usize {
        self.authorities.len()
    }

    /// Returns when the first of the revocation lists ends, in seconds since 1970: from then on no certificate is taken
    /// for which it is needed.
    pub fn lists_end(&self) -> Option<i64> {
        self.lists_end
    }

    /// Finds the CAs that a certificate leads to.
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Issuers, rustls::Error> {
        let mut failed = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let mut issuers = Vec::new();
        let second = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        // webpki takes a CA of the bundle as given and does not look when it ends.
        for authority in self.authorities.iter().filter(|authority| second <= authority.not_after) {
            match authority.verifier.verify_client_cert(leaf, others, now) {
                Ok(_) => issuers.push(authority.fingerprint),
                // What another CA says of it tells more than that this one does not know it.
                Err(error) if reason(&error) != ClientCertificateError::Issuer => failed = error,
                Err(_) => {}
            }
        }
        if issuers.is_empty() { Err(failed) } else { Ok(Issuers(issuers.into())) }
    }

    fn any(&self) -> Result<&Arc<dyn ClientCertVerifier>, rustls::Error> {
        let first = self.authorities.first().map(|authority| &authority.verifier);
        first.ok_or_else(|| rustls::Error::General("there is no CA".to_owned()))
    }
}

fn read_lists(lists: &[u8]) -> Result<(Vec<CertificateRevocationListDer<'static>>, i64), ClientTrustError> {
    let lists = CertificateRevocationListDer::pem_slice_iter(lists)
        .collect::<Result<Vec<_>, pem::Error>>()
        .map_err(|error| ClientTrustError::Lists(error.to_string()))?;
    let mut end = i64::MAX;
    for list in &lists {
        let (_, list) = CertificateRevocationList::from_der(list)
            .map_err(|error| ClientTrustError::Lists(error.to_string()))?;
        let next = list.next_update().ok_or_else(|| {
            ClientTrustError::Lists("one of them does not say when the next one comes".to_owned())
        })?;
        end = end.min(next.timestamp());
    }
    if lists.is_empty() { Err(ClientTrustError::NoList) } else { Ok((lists, end)) }
}

impl ClientCertVerifier for ClientTrust {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(leaf, others, now).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any()?.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any()?.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any().map(|it| it.supported_verify_schemes()).unwrap_or_default()
    }
}

fn reason(error: &rustls::Error) -> ClientCertificateError {
    use CertificateError as E;

    let rustls::Error::InvalidCertificate(error) = error else { return ClientCertificateError::Form };
    match error {
        E::UnknownIssuer | E::BadSignature => ClientCertificateError::Issuer,
        E::Expired | E::ExpiredContext { .. } => ClientCertificateError::Expired,
        E::NotValidYet | E::NotValidYetContext { .. } => ClientCertificateError::NotYetValid,
        E::Revoked => ClientCertificateError::Revoked,
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => ClientCertificateError::Purpose,
        E::UnknownRevocationStatus | E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => {
            ClientCertificateError::ListsMissing
        }
        _ => ClientCertificateError::Form,
    }
}

fn sha256(certificate: &CertificateDer<'_>) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, certificate).as_ref());
    out
}

// === impl CurrentTrust ===

impl CurrentTrust {
    pub(crate) fn new(trust: Arc<ClientTrust>) -> Self {
        Self(ArcSwap::new(trust))
    }

    pub(crate) fn replace(&self, trust: Arc<ClientTrust>) {
        self.0.store(trust);
    }
}

// === impl ClientCertificate ===

impl ClientCertificate {
    /// Takes what was shown in a handshake, or what somebody asks about.
    ///
    /// # Errors
    ///
    /// [`ClientCertificateError::Form`] when it cannot be read.
    pub(crate) fn new(
        chain: Vec<CertificateDer<'static>>,
        trust: Arc<CurrentTrust>,
    ) -> Result<Self, ClientCertificateError> {
        let leaf = chain.first().ok_or(ClientCertificateError::Form)?;
        let (fingerprint, names) = (sha256(leaf), names(leaf)?);
        Ok(Self(Arc::new(Shown { chain, fingerprint, names, trust, checked: ArcSwapOption::empty() })))
    }

    /// Returns the SHA-256 of the certificate in DER.
    pub fn fingerprint(&self) -> &Digest {
        &self.0.fingerprint
    }

    /// Returns its subject alternative names, with their kind before them: `dns:` (in small letters), `uri:` (as it stands
    /// there), `email:` (small letters behind the `@`). What it is called elsewhere counts for nothing.
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// Tells whether the certificate is good, in a second since 1970, by what the listener believes now.
    ///
    /// # Errors
    ///
    /// [`ClientCertificateError`], by variant.
    pub fn check(&self, second: u64) -> Result<Issuers, ClientCertificateError> {
        let trust = self.0.trust.0.load();
        if let Some(checked) = &*self.0.checked.load()
            && checked.second == second
            && Arc::ptr_eq(&checked.trust, &trust)
        {
            return checked.outcome.clone();
        }
        let outcome = self.verify(&trust, second);
        let checked = Checked { trust: Arc::clone(&trust), second, outcome: outcome.clone() };
        self.0.checked.store(Some(Arc::new(checked)));
        outcome
    }

    fn verify(&self, trust: &ClientTrust, second: u64) -> Result<Issuers, ClientCertificateError> {
        let (leaf, others) = self.0.chain.split_first().ok_or(ClientCertificateError::Form)?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(second));
        trust.verify(leaf, others, now).map_err(|error| reason(&error))
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate(")?;
        self.0.fingerprint.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…)")
    }
}

/// Reads the names of a certificate. webpki, which verifies it, offers no e-mail addresses.
fn names(leaf: &CertificateDer<'_>) -> Result<Vec<String>, ClientCertificateError> {
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| ClientCertificateError::Form)?;
    let names = leaf.subject_alternative_name().map_err(|_| ClientCertificateError::Form)?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(format!("dns:{}", name.to_ascii_lowercase())),
        GeneralName::URI(name) => Some(format!("uri:{name}")),
        GeneralName::RFC822Name(name) => {
            let (local, host) = name.split_once('@')?;
            Some(format!("email:{local}@{}", host.to_ascii_lowercase()))
        }
        _ => None,
    };
    Ok(names.iter().filter_map(name).collect())
}

// === impl Issuers ===

impl Issuers {
    /// Tells whether a CA is among them.
    pub fn contains(&self, fingerprint: &Digest) -> bool {
        self.0.contains(fingerprint)
    }
}

// === impl ClientCertificateError ===

impl ClientCertificateError {
    /// Tells whether nobody can say that the certificate is bad: a check that cannot be made.
    pub fn is_unavailable(self) -> bool {
        self == Self::ListsMissing
    }
}

#[cfg(test)]
mod tests;
