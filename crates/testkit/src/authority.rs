//! A CA that issues client certificates and takes them back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use tollgate_model::hex::hex;

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    next_serial: AtomicU64,
    /// Those between this one and the root.
    above: String,
}

/// A certificate with its key.
pub struct Leaf {
    /// The certificate, then those of the CAs between it and the root; PEM.
    pub chain: String,
    /// Its key, PEM.
    pub key: String,
    /// SHA-256 of the certificate in DER, in hexadecimal digits.
    pub fingerprint: String,
    serial: u64,
}

// === impl Authority ===

impl Authority {
    /// Makes a root.
    ///
    /// # Panics
    ///
    /// When there is no cryptography.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params_of_ca(name), key).expect("a CA");
        Self { issuer, next_serial: AtomicU64::new(2), above: String::new() }
    }

    /// Makes a root that ends at a time.
    ///
    /// # Panics
    ///
    /// As [`Authority::new`].
    pub fn ending(name: &str, at: Timestamp) -> Self {
        let mut params = params_of_ca(name);
        params.not_after = date_time_ymd(1970, 1, 1) + since_1970(at);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a CA");
        Self { issuer, next_serial: AtomicU64::new(2), above: String::new() }
    }

    /// Makes a CA below this one.
    ///
    /// # Panics
    ///
    /// As [`Authority::new`].
    pub fn intermediate(&self, name: &str) -> Self {
        let mut params = params_of_ca(name);
        params.serial_number = Some(serial(self.next_serial.fetch_add(1, Ordering::Relaxed)));
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::signed_by(params, key, &self.issuer).expect("a CA");
        let above = format!("{}{}", issuer.pem(), self.above);
        Self { issuer, next_serial: AtomicU64::new(2), above }
    }

    /// Returns its certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Returns the SHA-256 of its certificate in DER, in hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.issuer.der())
    }

    /// Issues a client certificate with names, each like `dns:shop.example`, `uri:…` or `email:…`.
    ///
    /// # Panics
    ///
    /// When a name is none that a certificate can bear.
    pub fn issue(&self, names: &[&str]) -> Leaf {
        self.issue_with(names, |_| {})
    }

    /// Issues a client certificate that is valid between two times.
    ///
    /// # Panics
    ///
    /// As [`Authority::issue`].
    pub fn issue_between(&self, names: &[&str], from: Timestamp, to: Timestamp) -> Leaf {
        self.issue_with(names, |params| {
            params.not_before = date_time_ymd(1970, 1, 1) + since_1970(from);
            params.not_after = date_time_ymd(1970, 1, 1) + since_1970(to);
        })
    }

    /// Issues a certificate of a server with names, each like `dns:login.example`.
    ///
    /// # Panics
    ///
    /// As [`Authority::issue`].
    pub fn issue_for_server(&self, names: &[&str]) -> Leaf {
        self.issue_with(names, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    /// Issues a certificate of a server that has ended.
    ///
    /// # Panics
    ///
    /// As [`Authority::issue`].
    pub fn issue_ended_for_server(&self, names: &[&str]) -> Leaf {
        self.issue_with(names, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        })
    }

    /// Issues a certificate that is changed before it is signed.
    ///
    /// # Panics
    ///
    /// As [`Authority::issue`].
    pub fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let number = self.next_serial.fetch_add(1, Ordering::Relaxed);
        let mut params = params_of_leaf(names);
        params.serial_number = Some(serial(number));
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Leaf {
            chain: format!("{}{}", certificate.pem(), self.above),
            key: key.serialize_pem(),
            fingerprint: fingerprint(certificate.der()),
            serial: number,
        }
    }

    /// Writes a revocation list, PEM, that the next one follows at a time.
    ///
    /// # Panics
    ///
    /// When it cannot be signed.
    pub fn revoke(&self, leaves: &[&Leaf], next_update: Timestamp) -> String {
        let revoked = leaves.iter().map(|leaf| RevokedCertParams {
            serial_number: serial(leaf.serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(1970, 1, 1) + since_1970(next_update),
            crl_number: serial(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("signed").pem().expect("PEM")
    }
}

fn params_of_ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params_of_leaf(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "a client");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = names
        .iter()
        .map(|name| {
            let (kind, name) = name.split_once(':').expect("a kind");
            let name = name.try_into().expect("ASCII");
            match kind {
                "dns" => SanType::DnsName(name),
                "uri" => SanType::URI(name),
                "email" => SanType::Rfc822Name(name),
                _ => panic!("no kind of name: {kind}"),
            }
        })
        .collect();
    params
}

fn serial(number: u64) -> SerialNumber {
    SerialNumber::from(number)
}

fn since_1970(at: Timestamp) -> Duration {
    Duration::from_secs(at.as_second().try_into().expect("after 1970"))
}

fn fingerprint(der: &[u8]) -> String {
    hex(digest(&SHA256, der).as_ref())
}
