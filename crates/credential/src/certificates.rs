//! Certificates as people hand them over: PEM, of which a fingerprint is kept and nothing else.
//!
//! Whether a certificate is good is for the listener that asks for it. What is read here serves people: it tells the
//! certificate of a caller from that of a CA, and one that has ended.

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tollgate_model::certificates::Fingerprint;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// What is read of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PastedCertificate {
    /// SHA-256 of it in DER.
    pub fingerprint: Fingerprint,
    /// Whether it says that it may issue others.
    pub is_authority: bool,
    /// Until when it is valid; `None` beyond the year 9999.
    pub ends_at: Option<Timestamp>,
}

/// Tells whether a text holds a private key, in whatever form of PEM.
pub fn holds_private_key(text: &str) -> bool {
    text.contains("PRIVATE KEY-----")
}

// === impl PastedCertificate ===

impl PastedCertificate {
    /// Reads the first certificate in a text; `None` when there is none that can be read.
    pub fn parse_pem(text: &str) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, &der).as_ref());
        Some(Self {
            fingerprint: Fingerprint(bytes),
            is_authority: certificate.is_ca(),
            ends_at: Timestamp::from_second(certificate.validity().not_after.timestamp()).ok(),
        })
    }
}
