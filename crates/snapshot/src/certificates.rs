//! Client certificates of one environment's consumers, found by what a certificate is known by.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use tollgate_model::certificates::{Certificate, Fingerprint, KnownBy};
use tollgate_model::ids::{CertificateId, ConsumerId};

/// Bindings of client certificates to consumers; expired and revoked ones are among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificates {
    by_fingerprint: HashMap<Fingerprint, Vec<Arc<CertificateEntry>>>,
    by_san: HashMap<Box<str>, Vec<Arc<CertificateEntry>>>,
}

/// A binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateEntry {
    /// Names the binding.
    pub id: CertificateId,
    /// Whose it is.
    pub consumer: ConsumerId,
    /// The CA that must have issued the certificate; `None` where the certificate itself is bound.
    pub issuer: Option<Fingerprint>,
    /// When it stops working by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

// === impl Certificates ===

impl Certificates {
    /// Returns the bindings that a certificate may be meant by: by its fingerprint first, then by its names. Whether it
    /// leads to the CA that a binding names is for the caller to say.
    pub fn of<'a>(
        &'a self,
        fingerprint: Fingerprint,
        names: &'a [String],
    ) -> impl Iterator<Item = &'a Arc<CertificateEntry>> {
        let by_name = names.iter().filter_map(|name| self.by_san.get(name.as_str()));
        self.by_fingerprint.get(&fingerprint).into_iter().chain(by_name).flatten()
    }
}

impl FromIterator<Certificate> for Certificates {
    fn from_iter<I: IntoIterator<Item = Certificate>>(all: I) -> Self {
        let mut index = Self::default();
        for Certificate { id, consumer, known_by, expires_at, revoked_at, .. } in all {
            let entry = |issuer| Arc::new(CertificateEntry { id, consumer, issuer, expires_at, revoked_at });
            match known_by {
                KnownBy::Fingerprint(of) => index.by_fingerprint.entry(of).or_default().push(entry(None)),
                KnownBy::San { san, issuer } => {
                    index.by_san.entry(san.as_str().into()).or_default().push(entry(Some(issuer)));
                }
            }
        }
        index
    }
}

// === impl CertificateEntry ===

impl CertificateEntry {
    /// Tells whether the binding works. A revoked one never does, even if our clock is behind that of whoever revoked it.
    pub fn works(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| now < at)
    }
}
