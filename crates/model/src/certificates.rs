//! Client certificates of consumers: what a certificate must be to count as one's.
//!
//! Nothing here is secret, and nothing is a certificate: a binding says by what one is known. Whether a certificate is good
//! (who issued it, when it is valid, whether it was taken back) is for the listener that asks for it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::consumers::CredentialState;
use crate::ids::{CertificateId, ConsumerId};
use crate::names::{CredentialName, EnvironmentName};

/// A client certificate, or all that bear a name, bound to a consumer: they count as its API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    /// Names the binding.
    pub id: CertificateId,
    /// Whose it is.
    pub consumer: ConsumerId,
    /// Where it works.
    pub environment: EnvironmentName,
    /// For its owner to tell certificates apart.
    pub name: CredentialName,
    /// Which certificates.
    pub known_by: KnownBy,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working by itself, whatever the certificate says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// By what certificates are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum KnownBy {
    /// One certificate.
    Fingerprint(Fingerprint),
    /// Every certificate with a name that a CA gave.
    San {
        /// The name.
        san: SubjectAltName,
        /// The CA certificate of the listener's bundle that such a certificate must lead to: another CA may give the same
        /// name to somebody else.
        issuer: Fingerprint,
    },
}

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// A subject alternative name (RFC 5280 section 4.2.1.6) that tells callers apart, in the one form in which it is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectAltName(Box<str>);

/// Why a text is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is the SHA-256 of a certificate: 64 hexadecimal digits, with or without colons")]
pub struct ParseFingerprintError;

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseSanError {
    /// It does not say what it is.
    #[error("write `dns:HOST`, `uri:URI` or `email:ADDRESS`")]
    Kind,
    /// No host name.
    #[error("this is no host name: letters, digits, `-` and dots, and no wildcard, which would be anybody's")]
    Dns,
    /// No URI.
    #[error("this is no URI: a scheme, a colon and visible ASCII characters, 2000 at most")]
    Uri,
    /// No e-mail address.
    #[error("this is no e-mail address: visible ASCII characters around one `@`, 254 at most")]
    Email,
}

// === impl Certificate ===

impl Certificate {
    /// Returns what the binding is good for at `now`.
    pub fn state(&self, now: Timestamp) -> CredentialState {
        CredentialState::at(now, self.revoked_at, self.expires_at)
    }
}

// === impl KnownBy ===

impl KnownBy {
    /// Tells whether some certificate could be known by both.
    pub fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fingerprint(one), Self::Fingerprint(other)) => one == other,
            // Whoever gave it: a name is one consumer's, so that no CA decides whose it is.
            (Self::San { san: one, .. }, Self::San { san: other, .. }) => one == other,
            _ => false,
        }
    }
}

impl fmt::Display for KnownBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fingerprint(fingerprint) => write!(f, "fingerprint {fingerprint}"),
            Self::San { san, .. } => write!(f, "name `{san}`"),
        }
    }
}

// === impl Fingerprint ===

impl Fingerprint {
    /// Parses hexadecimal digits, also as `openssl x509 -fingerprint` writes them.
    ///
    /// # Errors
    ///
    /// [`ParseFingerprintError`] unless there are 64 digits.
    pub fn parse(input: &str) -> Result<Self, ParseFingerprintError> {
        let mut digits = input.chars().filter(|c| *c != ':');
        let mut bytes = [0; 32];
        for byte in &mut bytes {
            let mut digit =
                || digits.next().and_then(|c| c.to_digit(16)).and_then(|digit| u8::try_from(digit).ok());
            let (Some(high), Some(low)) = (digit(), digit()) else { return Err(ParseFingerprintError) };
            *byte = high << 4 | low;
        }
        if digits.next().is_some() { Err(ParseFingerprintError) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        Self::parse(input)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

// === impl SubjectAltName ===

impl SubjectAltName {
    /// Parses `dns:HOST`, `uri:URI` or `email:ADDRESS`. Host names lose their capitals, which do not tell them apart; of an
    /// address only what is behind the `@` does (RFC 5321 section 2.3.11).
    ///
    /// # Errors
    ///
    /// [`ParseSanError`], by variant.
    pub fn parse(input: &str) -> Result<Self, ParseSanError> {
        let (kind, name) = input.split_once(':').ok_or(ParseSanError::Kind)?;
        let is_visible = name.bytes().all(|byte| byte.is_ascii_graphic());
        let name = match kind {
            "dns" if is_host(name) => name.to_ascii_lowercase(),
            "dns" => return Err(ParseSanError::Dns),
            "uri" if is_visible && name.len() <= 2000 && is_uri(name) => name.to_owned(),
            "uri" => return Err(ParseSanError::Uri),
            "email" => {
                let (local, host) = name.split_once('@').ok_or(ParseSanError::Email)?;
                if !is_visible || name.len() > 254 || local.is_empty() || !is_host(host) {
                    return Err(ParseSanError::Email);
                }
                format!("{local}@{}", host.to_ascii_lowercase())
            }
            _ => return Err(ParseSanError::Kind),
        };
        Ok(Self(format!("{kind}:{name}").into()))
    }

    /// Returns the name with its kind before it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// RFC 1123 section 2.1, without the dot at the end.
fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// RFC 3986 section 3.1, as far as the scheme.
fn is_uri(name: &str) -> bool {
    name.split_once(':').is_some_and(|(scheme, rest)| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        !rest.is_empty() && scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(inner)
    })
}

impl fmt::Display for SubjectAltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for SubjectAltName {
    type Err = ParseSanError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        Self::parse(input)
    }
}

impl Serialize for SubjectAltName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SubjectAltName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_form() {
        for (input, form) in [
            ("dns:Shop.Example", "dns:shop.example"),
            ("uri:spiffe://Shop.example/Orders", "uri:spiffe://Shop.example/Orders"),
            ("email:Ada.L@Shop.Example", "email:Ada.L@shop.example"),
        ] {
            assert_eq!(SubjectAltName::parse(input).map(|name| name.to_string()), Ok(form.to_owned()));
        }
        let wrong = ["", "shop.example", "ip:192.0.2.1", "DNS:shop.example", "dn:cn=shop"];
        for input in wrong {
            assert_eq!(SubjectAltName::parse(input), Err(ParseSanError::Kind), "{input}");
        }
        for host in
            ["", "*.shop.example", "shop..example", "shop.example.", "shop example", "a\0b", "ä.example"]
        {
            assert_eq!(SubjectAltName::parse(&format!("dns:{host}")), Err(ParseSanError::Dns), "{host}");
            let address = format!("email:ada@{host}");
            assert_eq!(SubjectAltName::parse(&address), Err(ParseSanError::Email), "{host}");
        }
        for uri in ["", "shop", "spiffe:", "9p:x", "a:\u{1f}"] {
            assert_eq!(SubjectAltName::parse(&format!("uri:{uri}")), Err(ParseSanError::Uri), "{uri}");
        }
        assert_eq!(SubjectAltName::parse("email:@shop.example"), Err(ParseSanError::Email));
    }

    #[test]
    fn a_fingerprint_is_read_as_openssl_writes_it() {
        let digits = "0123456789abcdef".repeat(4);
        let pairs: Vec<_> = digits.as_bytes().chunks(2).map(String::from_utf8_lossy).collect();
        let shown = pairs.join(":").to_uppercase();
        for input in [&digits, &shown] {
            assert_eq!(Fingerprint::parse(input).map(|it| it.to_string()), Ok(digits.clone()));
        }
        for input in
            ["", &digits[1..], &format!("{digits}0"), &digits.replace('0', "g"), &digits.replace('0', "é")]
        {
            assert_eq!(Fingerprint::parse(input), Err(ParseFingerprintError), "{input}");
        }
    }

    #[test]
    fn a_binding_is_stored_as_it_reads() {
        let san = serde_json::json!({ "san": { "san": "dns:shop.example", "issuer": "00".repeat(32) } });
        let known_by: KnownBy = serde_json::from_value(san.clone()).expect("a name");
        assert_eq!(serde_json::to_value(&known_by).expect("JSON"), san);
        let one = serde_json::json!({ "fingerprint": "11".repeat(32) });
        assert!(serde_json::from_value::<KnownBy>(one).is_ok_and(|it| !it.meets(&known_by)));
    }
}
