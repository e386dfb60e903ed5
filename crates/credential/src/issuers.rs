//! Tokens of issuers outside: their keys, and what is demanded of each token (RFC 7517, 7519, 8725, 9068).
//!
//! A token is verified by a key that the issuer published where it was said beforehand, with an algorithm that is on the
//! list and fits the key. Nothing in a token leads anywhere: `jku`, `x5u`, `jwk` and `x5c` are not read, `crit` is refused.
//! Symmetric keys in a key set are left out, so that no public key can become the secret of an HMAC.

use std::collections::BTreeSet;
use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    EcdsaVerificationAlgorithm, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents,
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tollgate_model::issuers::{IssuerAlgorithm, IssuerSettings, TokenConsumer};
use tollgate_model::keysets::Jti;

use crate::keysets::{VerifyTokenError, read_header};
use crate::tokens::{self, All, Claims, Header, Parts, Scopes};
use crate::verified_tokens::{KeyFingerprint, VerifiedTokens};

/// Most keys of a set that are looked at.
const MAX_KEYS: usize = 100;
/// Sizes of the modulus of an RSA key, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The keys that an issuer publishes, as far as they can verify tokens.
pub struct IssuerKeys(Vec<IssuerKey>);

/// A key with the one algorithm that it is used with.
pub(crate) struct IssuerKey {
    kid: Option<String>,
    algorithm: IssuerAlgorithm,
    /// Whether the set or the kind of the key says so. Else it is an RSA key that is here once for each algorithm of RSA, and
    /// the settings say which of them counts.
    algorithm_is_said: bool,
    public: ParsedPublicKey,
    fingerprint: KeyFingerprint,
}

/// What verifies the signatures of an algorithm.
enum Verifies {
    /// ECDSA, signatures being `r` and `s` of a fixed length (RFC 7518 section 3.4), with the bytes of a coordinate.
    Ecdsa(&'static EcdsaVerificationAlgorithm, usize),
    /// Ed25519.
    EdDsa,
    /// RSA; a salt is as long as the hash (RFC 7518 section 3.5).
    Rsa(&'static RsaParameters),
}

/// Why what an issuer publishes is no set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseIssuerKeysError {
    /// Not a JWK Set.
    #[error("this is no JWK Set")]
    NoSet,
    /// More keys than are looked at.
    #[error("the set has more than {MAX_KEYS} keys")]
    TooMany,
    /// No key that could verify a token.
    #[error("no key of the set can verify tokens: each is of another kind, too short, or for another use")]
    NoneUsable,
}

/// A token that was taken apart and whose header may be taken; nothing in it is verified.
pub struct OpenedToken<'a> {
    token: &'a str,
    parts: Parts<'a>,
    header: Header,
    claims: Map<String, Value>,
}

/// What a token must be, besides what its issuer's settings say.
#[derive(Debug, Clone, Copy)]
pub struct TokenDemands<'a> {
    /// The issuer's settings.
    pub settings: &'a IssuerSettings,
    /// The longest life of a token, in milliseconds.
    pub max_lifetime_ms: u64,
    /// When it is.
    pub now: Timestamp,
}

/// A key of a set, as far as this module reads it.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

// === impl IssuerKeys ===

impl IssuerKeys {
    /// Reads a JWK Set (RFC 7517 section 5). Keys that this side has no use for are left out, as the RFC says.
    ///
    /// # Errors
    ///
    /// [`ParseIssuerKeysError`], by variant.
    pub fn parse(text: &[u8]) -> Result<Self, ParseIssuerKeysError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let Set { keys } = serde_json::from_slice(text).map_err(|_| ParseIssuerKeysError::NoSet)?;
        if keys.len() > MAX_KEYS {
            return Err(ParseIssuerKeysError::TooMany);
        }
        let mut usable: Vec<IssuerKey> = Vec::new();
        for key in keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok()) {
            for key in key.usable() {
                // Of two keys of one name the first counts: which one signed is never guessed.
                if !usable
                    .iter()
                    .any(|it| it.kid == key.kid && it.kid.is_some() && it.algorithm == key.algorithm)
                {
                    usable.push(key);
                }
            }
        }
        if usable.is_empty() { Err(ParseIssuerKeysError::NoneUsable) } else { Ok(Self(usable)) }
    }

    /// Returns the id and the algorithm of each key, for people: of a key whose algorithm is not said, with each that is listed.
    pub fn names(
        &self,
        listed: &BTreeSet<IssuerAlgorithm>,
    ) -> impl Iterator<Item = (Option<&str>, IssuerAlgorithm)> {
        let told = self.0.iter().filter(|key| key.algorithm_is_said || listed.contains(&key.algorithm));
        told.map(|key| (key.kid.as_deref(), key.algorithm))
    }

    /// Returns the key that verifies a token of this header: one of the algorithm that the header names, which must be listed.
    ///
    /// # Errors
    ///
    /// [`VerifyTokenError::Algorithm`] and [`VerifyTokenError::UnknownKey`].
    pub(crate) fn key_of(
        &self,
        header: &Header,
        listed: &BTreeSet<IssuerAlgorithm>,
    ) -> Result<&IssuerKey, VerifyTokenError> {
        let algorithm = listed.iter().find(|it| it.as_str() == header.alg);
        let algorithm = *algorithm.ok_or(VerifyTokenError::Algorithm)?;
        self.find(header, algorithm).ok_or(VerifyTokenError::UnknownKey)
    }

    /// Finds the key that a header names. Without a name there must be one key only that it could be.
    fn find(&self, header: &Header, algorithm: IssuerAlgorithm) -> Option<&IssuerKey> {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.algorithm == algorithm && (header.kid.is_none() || key.kid == header.kid));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Some(key),
            _ => None,
        }
    }
}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names(&BTreeSet::from(IssuerAlgorithm::ALL))).finish()
    }
}

// === impl IssuerKey ===

impl IssuerKey {
    /// Verifies the signature of a token.
    ///
    /// # Errors
    ///
    /// [`VerifyTokenError::Malformed`] and [`VerifyTokenError::Signature`].
    pub(crate) fn check_signature(&self, parts: &Parts<'_>) -> Result<(), VerifyTokenError> {
        let signature = tokens::decode(parts.signature).ok_or(VerifyTokenError::Malformed)?;
        let verified = self.public.verify_sig(parts.signed.as_bytes(), &signature);
        verified.map_err(|_| VerifyTokenError::Signature)
    }
}

// === impl Verifies ===

impl Verifies {
    fn of(algorithm: IssuerAlgorithm) -> Self {
        match algorithm {
            IssuerAlgorithm::Es256 => Self::Ecdsa(&ECDSA_P256_SHA256_FIXED, 32),
            IssuerAlgorithm::Es384 => Self::Ecdsa(&ECDSA_P384_SHA384_FIXED, 48),
            IssuerAlgorithm::Es512 => Self::Ecdsa(&ECDSA_P521_SHA512_FIXED, 66),
            IssuerAlgorithm::EdDsa => Self::EdDsa,
            IssuerAlgorithm::Ps256 => Self::Rsa(&RSA_PSS_2048_8192_SHA256),
            IssuerAlgorithm::Ps384 => Self::Rsa(&RSA_PSS_2048_8192_SHA384),
            IssuerAlgorithm::Ps512 => Self::Rsa(&RSA_PSS_2048_8192_SHA512),
            IssuerAlgorithm::Rs256 => Self::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            IssuerAlgorithm::Rs384 => Self::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            IssuerAlgorithm::Rs512 => Self::Rsa(&RSA_PKCS1_2048_8192_SHA512),
        }
    }
}

// === impl Jwk ===

impl Jwk {
    /// Returns the key once for each algorithm that it may be used with: the one that it names, if that fits its kind; without
    /// one, those of its kind.
    fn usable(&self) -> Vec<IssuerKey> {
        use IssuerAlgorithm as A;
        let for_signatures = self.r#use.as_deref().is_none_or(|it| it == "sig")
            && self.key_ops.as_ref().is_none_or(|it| it.iter().any(|operation| operation == "verify"));
        if !for_signatures {
            return Vec::new();
        }
        let of_its_kind: &[A] = match (self.kty.as_str(), self.crv.as_deref()) {
            ("EC", Some("P-256")) => &[A::Es256],
            ("EC", Some("P-384")) => &[A::Es384],
            ("EC", Some("P-521")) => &[A::Es512],
            ("OKP", Some("Ed25519")) => &[A::EdDsa],
            ("RSA", None) => &[A::Ps256, A::Ps384, A::Ps512, A::Rs256, A::Rs384, A::Rs512],
            _ => &[],
        };
        let algorithm_is_said = self.alg.is_some() || of_its_kind.len() == 1;
        let named = |algorithm: &&A| self.alg.as_deref().is_none_or(|it| it == algorithm.as_str());
        let key = |algorithm: &A| {
            let (public, members) = self.public(*algorithm)?;
            let fingerprint = KeyFingerprint::of(algorithm.as_str(), &members);
            let kid = self.kid.clone();
            Some(IssuerKey { kid, algorithm: *algorithm, algorithm_is_said, public, fingerprint })
        };
        of_its_kind.iter().filter(named).filter_map(key).collect()
    }

    /// Returns what verifies with an algorithm, and the members that make it; `None` when it is no good.
    fn public(&self, algorithm: IssuerAlgorithm) -> Option<(ParsedPublicKey, Value)> {
        let decode = |part: &Option<String>| part.as_deref().and_then(tokens::decode);
        match Verifies::of(algorithm) {
            Verifies::Ecdsa(verifies, size) => {
                let (x, y) = (decode(&self.x)?, decode(&self.y)?);
                if x.len() != size || y.len() != size {
                    return None;
                }
                let point = [&[4][..], &x, &y].concat();
                let members = json!({ "crv": self.crv, "kty": "EC", "x": self.x, "y": self.y });
                Some((ParsedPublicKey::new(verifies, point).ok()?, members))
            }
            Verifies::EdDsa => {
                let x = decode(&self.x).filter(|x| x.len() == 32)?;
                let members = json!({ "crv": "Ed25519", "kty": "OKP", "x": self.x });
                Some((ParsedPublicKey::new(&ED25519, x).ok()?, members))
            }
            Verifies::Rsa(parameters) => {
                let (n, e) = (decode(&self.n)?, decode(&self.e)?);
                let bits = (n.len() * 8).checked_sub(usize::try_from(n.first()?.leading_zeros()).ok()?)?;
                // An exponent of one would make every text a signature of itself.
                if !RSA_BITS.contains(&bits) || matches!(e.as_slice(), [] | [0..=2]) {
                    return None;
                }
                let members = json!({ "e": self.e, "kty": "RSA", "n": self.n });
                Some((RsaPublicKeyComponents { n, e }.to_parsed_public_key(parameters).ok()?, members))
            }
        }
    }
}

// === impl OpenedToken ===

impl<'a> OpenedToken<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    ///
    /// [`VerifyTokenError::Malformed`], and [`VerifyTokenError::Header`] for critical extensions.
    pub fn open(token: &'a str) -> Result<Self, VerifyTokenError> {
        let parts = tokens::split(token).ok_or(VerifyTokenError::Malformed)?;
        let header = read_header(parts.header)?;
        if header.crit {
            return Err(VerifyTokenError::Header);
        }
        let claims = tokens::members(parts.payload).ok_or(VerifyTokenError::Malformed)?;
        Ok(Self { token, parts, header, claims })
    }

    /// Returns who it says issued it.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// Verifies it: type, algorithm, key, signature, issuer, audience, times and life. No signature that is remembered is
    /// verified again.
    ///
    /// Whose it is, what it allows and whether it was revoked is for the caller to check.
    ///
    /// # Errors
    ///
    /// [`VerifyTokenError`], by variant.
    pub fn verify(
        &self,
        demands: TokenDemands<'_>,
        keys: &IssuerKeys,
        memory: &VerifiedTokens,
    ) -> Result<Claims, VerifyTokenError> {
        let settings = demands.settings;
        let typ = self.header.typ.as_deref().unwrap_or_default().to_ascii_lowercase();
        if settings.access_tokens_only && !matches!(typ.as_str(), "at+jwt" | "application/at+jwt") {
            return Err(VerifyTokenError::Header);
        }
        let key = keys.key_of(&self.header, &settings.algorithms)?;
        let fact = memory.fact(&key.fingerprint, self.token);
        if !fact.as_ref().is_some_and(|fact| memory.knows(fact)) {
            key.check_signature(&self.parts)?;
            fact.iter().for_each(|fact| memory.learn(fact));
        }
        self.check(demands)
    }

    fn check(&self, demands: TokenDemands<'_>) -> Result<Claims, VerifyTokenError> {
        let TokenDemands { settings, max_lifetime_ms, now } = demands;
        let text = |name: &str| self.claims.get(name).and_then(Value::as_str);
        let seconds =
            |name: &str| self.claims.get(name).and_then(Value::as_i64).ok_or(VerifyTokenError::Malformed);
        if self.issuer() != Some(settings.issuer.as_str()) {
            return Err(VerifyTokenError::Issuer);
        }
        let is_for_us = match self.claims.get("aud") {
            Some(Value::String(audience)) => *audience == settings.audience,
            Some(Value::Array(audiences)) => {
                audiences.iter().any(|it| it.as_str() == Some(&settings.audience))
            }
            _ => false,
        };
        if !is_for_us {
            return Err(VerifyTokenError::Audience);
        }
        let (expires_at, issued_at) = (seconds("exp")?, seconds("iat")?);
        let (now, leeway) = (now.as_second(), i64::from(settings.leeway_seconds));
        if now >= expires_at.saturating_add(leeway) {
            return Err(VerifyTokenError::Expired);
        }
        let begins = if self.claims.contains_key("nbf") { seconds("nbf")?.max(issued_at) } else { issued_at };
        if now.saturating_add(leeway) < begins {
            return Err(VerifyTokenError::NotYetValid);
        }
        let life_ms = expires_at.saturating_sub(issued_at).saturating_mul(1000);
        if u64::try_from(life_ms).is_ok_and(|life_ms| life_ms > max_lifetime_ms) {
            return Err(VerifyTokenError::Lifetime);
        }
        let (subject, jti) = (text("sub"), text("jti"));
        // A token that could not be revoked by itself is none for us.
        let has_id = jti.is_some_and(|jti| Jti::parse(jti).is_ok());
        if settings.access_tokens_only && (subject.is_none() || !has_id) {
            return Err(VerifyTokenError::Malformed);
        }
        Ok(Claims {
            subject: subject.unwrap_or_default().to_owned(),
            jti: jti.unwrap_or_default().to_owned(),
            issued_at,
            expires_at,
            scopes: Scopes::of(self.claims.get(settings.scopes_claim.as_str())),
            all: All::Members(self.claims.clone()),
        })
    }
}

/// Returns the name of the consumer whose a token of an issuer outside is; `None` when it names none that counts.
pub fn consumer_of<'a>(consumer: &'a TokenConsumer, claims: &'a Claims) -> Option<&'a str> {
    match consumer {
        TokenConsumer::Fixed(name) => Some(name.as_str()),
        TokenConsumer::Claim { claim, values } => {
            let All::Members(all) = &claims.all else { return None };
            let value = all.get(claim)?.as_str()?;
            if values.is_empty() { Some(value) } else { values.get(value).map(|name| name.as_str()) }
        }
    }
}

#[cfg(test)]
mod tests;
