//! What the tests of several modules need.

use rcgen::{CertifiedKey, KeyPair};

/// A certificate that signs itself, and its key, both PEM.
pub(crate) struct Pem {
    pub(crate) chain: String,
    pub(crate) key: String,
}

pub(crate) fn certificate(names: &[&str]) -> Pem {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let CertifiedKey::<KeyPair> { cert, signing_key } =
        rcgen::generate_simple_self_signed(names).expect("a certificate");
    Pem { chain: cert.pem(), key: signing_key.serialize_pem() }
}

pub(crate) fn pem(it: &Pem) -> (&[u8], &[u8]) {
    (it.chain.as_bytes(), it.key.as_bytes())
}
