//! The keys that sign evidence, and how they are published: a JWK set (RFC 7517) whose keys also say `notBefore` and,
//! once they sign no more, `retiredAt`.

use std::fmt;

use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tollgate_model::evidence::EvidenceKey;
use tollgate_model::keysets::Algorithm;
use tollgate_model::sources::Random;

use super::strict_json;
use crate::private_keys::{MakeKeyError, PrivateKey};

/// How far apart the clocks of several servers may be: a statement may lie so much outside the time of its key.
pub const LEEWAY: SignedDuration = SignedDuration::from_mins(5);

/// Longest file of keys that is read, in bytes.
pub const MAX_KEYS_BYTES: u64 = 1 << 20;

/// A key that signs.
pub struct EvidenceSigner {
    kid: String,
    public: [u8; 32],
    key: PrivateKey,
}

/// The published keys, to verify with.
#[derive(Debug, Default)]
pub struct EvidenceKeys(Vec<PublicKey>);

/// A published key.
pub struct PublicKey {
    kid: String,
    bytes: [u8; 32],
    parsed: ParsedPublicKey,
    not_before: Timestamp,
    retired_at: Option<Timestamp>,
}

/// Why a set of keys was refused.
#[derive(Debug, thiserror::Error)]
pub enum ParseKeysError {
    /// It is no JSON, or has a member twice.
    #[error("the keys are no JSON")]
    Json(#[source] serde_json::Error),
    /// It is no JWK set.
    #[error("this is no JWK set: there is no `keys`")]
    NotASet,
    /// A key of the right type is malformed.
    #[error("key {position} of the set {what}")]
    Key {
        /// Which one, counted from 1.
        position: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Nothing can be verified with it.
    #[error("the set holds no Ed25519 key")]
    Empty,
}

/// A statement that says to be from a time in which its key did not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it says to be of {at}, and key {kid} signed from {not_before} {}", until_text(*.retired_at))]
pub struct OutOfTime {
    kid: String,
    at: Timestamp,
    not_before: Timestamp,
    retired_at: Option<Timestamp>,
}

// === impl EvidenceSigner ===

impl EvidenceSigner {
    /// Makes a key.
    ///
    /// # Errors
    ///
    /// [`MakeKeyError::Random`] when the system gives no randomness.
    pub fn generate(random: &dyn Random) -> Result<Self, MakeKeyError> {
        Self::new(PrivateKey::generate(Algorithm::EdDsa, random)?)
    }

    /// Reads what [`EvidenceSigner::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// [`MakeKeyError::Invalid`] when the bytes are no such key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MakeKeyError> {
        Self::new(PrivateKey::from_bytes(Algorithm::EdDsa, bytes)?)
    }

    fn new(key: PrivateKey) -> Result<Self, MakeKeyError> {
        let (public, kid) = key.ed25519_public().ok_or(MakeKeyError::Invalid)?;
        Ok(Self { kid, public, key })
    }

    /// Returns the private key to be sealed.
    ///
    /// # Errors
    ///
    /// [`MakeKeyError::Invalid`] when the library can't write the key.
    pub fn to_bytes(&self) -> Result<zeroize::Zeroizing<Vec<u8>>, MakeKeyError> {
        self.key.to_bytes()
    }

    /// Returns the key's id: its JWK thumbprint (RFC 7638).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the public JWK; `None` never happens for a key of this type.
    pub fn public_jwk(&self) -> Option<Value> {
        self.key.public_jwk(&self.kid)
    }

    pub(super) fn public(&self) -> &[u8; 32] {
        &self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, MakeKeyError> {
        self.key.sign(message)
    }
}

impl fmt::Debug for EvidenceSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EvidenceSigner({}, …)", self.kid)
    }
}

// === impl EvidenceKeys ===

impl EvidenceKeys {
    /// Returns the set as it is published.
    pub fn published(keys: &[EvidenceKey]) -> Value {
        let jwks = keys.iter().map(|key| {
            let mut jwk = key.public_jwk.clone();
            if let Some(fields) = jwk.as_object_mut() {
                fields.insert("notBefore".to_owned(), key.created_at.to_string().into());
                fields.extend(key.retired_at.map(|at| ("retiredAt".to_owned(), at.to_string().into())));
            }
            jwk
        });
        json!({ "keys": jwks.collect::<Vec<_>>() })
    }

    /// Takes stored keys.
    ///
    /// # Errors
    ///
    /// [`ParseKeysError`] as of a published set.
    pub fn stored(keys: &[EvidenceKey]) -> Result<Self, ParseKeysError> {
        Self::read(&Self::published(keys))
    }

    /// Parses a published set. Keys of other types than Ed25519 are left out: no statement is verified with them.
    ///
    /// # Errors
    ///
    /// [`ParseKeysError`] when an Ed25519 key is malformed, has a `kid` that is not its thumbprint, or there is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseKeysError> {
        Self::read(&strict_json::parse(bytes).map_err(ParseKeysError::Json)?)
    }

    fn read(set: &Value) -> Result<Self, ParseKeysError> {
        let keys = set.get("keys").and_then(Value::as_array).ok_or(ParseKeysError::NotASet)?;
        let mut read: Vec<PublicKey> = Vec::new();
        for (jwk, position) in keys.iter().zip(1..) {
            let text = |name: &str| jwk.get(name).and_then(Value::as_str);
            if (text("kty"), text("crv")) != (Some("OKP"), Some("Ed25519")) {
                continue;
            }
            let key = PublicKey::read(jwk).map_err(|what| ParseKeysError::Key { position, what })?;
            if read.iter().any(|other| other.kid == key.kid) {
                return Err(ParseKeysError::Key { position, what: "stands in it twice" });
            }
            read.push(key);
        }
        if read.is_empty() { Err(ParseKeysError::Empty) } else { Ok(Self(read)) }
    }

    /// Returns a key by its id.
    pub fn get(&self, kid: &str) -> Option<&PublicKey> {
        self.0.iter().find(|key| key.kid == kid)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter()
    }
}

// === impl PublicKey ===

impl PublicKey {
    fn read(jwk: &Value) -> Result<Self, &'static str> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let time = |name: &str, what: &'static str| match jwk.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                value.as_str().and_then(|text| text.parse::<Timestamp>().ok()).map(Some).ok_or(what)
            }
        };
        if jwk.get("d").is_some() {
            return Err("holds a private key: it must never leave the server");
        }
        if text("alg").is_some_and(|alg| alg != "EdDSA" && alg != "Ed25519") {
            return Err("is not for EdDSA");
        }
        if text("use").is_some_and(|usage| usage != "sig") {
            return Err("is not for signatures");
        }
        let bytes: [u8; 32] = text("x")
            .and_then(|x| URL_SAFE_NO_PAD.decode(x).ok())
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or("has no `x` of 32 bytes in base64url")?;
        let kid = PrivateKey::ed25519_thumbprint(&bytes);
        if text("kid") != Some(&kid) {
            return Err("has a `kid` that is not its thumbprint (RFC 7638)");
        }
        let parsed =
            ParsedPublicKey::new(&ED25519, bytes.as_slice()).map_err(|_| "is no point of the curve")?;
        Ok(Self {
            kid,
            bytes,
            parsed,
            not_before: time("notBefore", "has a `notBefore` that is no time")?
                .ok_or("has no `notBefore`")?,
            retired_at: time("retiredAt", "has a `retiredAt` that is no time")?,
        })
    }

    /// Returns the key's id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns since when it signs.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Returns since when it signs no more.
    pub fn retired_at(&self) -> Option<Timestamp> {
        self.retired_at
    }

    /// Tells whether a statement of this time can be of this key, give or take [`LEEWAY`].
    ///
    /// # Errors
    ///
    /// [`OutOfTime`] with the time in which it signed.
    pub fn check_time(&self, at: Timestamp) -> Result<(), OutOfTime> {
        let early = at.saturating_add(LEEWAY).is_ok_and(|late| late < self.not_before);
        let late = self
            .retired_at
            .is_some_and(|retired| at.saturating_sub(LEEWAY).is_ok_and(|early| retired < early));
        if !early && !late {
            return Ok(());
        }
        let Self { kid, not_before, retired_at, .. } = self;
        Err(OutOfTime { kid: kid.clone(), at, not_before: *not_before, retired_at: *retired_at })
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        signature.len() == 64 && self.parsed.verify_sig(message, signature).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.kid)
    }
}

fn until_text(retired_at: Option<Timestamp>) -> String {
    retired_at.map_or_else(|| "on".to_owned(), |at| format!("until {at}"))
}
