//! Key sets: the keys of one environment that sign and verify its tokens.
//!
//! The key decides the algorithm; the token's header only has to agree (RFC 8725 section 3.1). A header never brings a
//! key of its own: `jwk`, `jku` and `x5u` are not read, `crit` is refused.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tollgate_model::keysets::{Algorithm, SigningKeyState};
use tollgate_model::sources::{Random, RandomError};
use tollgate_model::triggers::Scope;

use crate::private_keys::PrivateKey;
use crate::read_tokens::ReadToken;
use crate::tokens::{self, Claims, Header, MAX_CUSTOM_CLAIMS_BYTES, Parts, RESERVED_CLAIMS};
use crate::verified_tokens::VerifiedTokens;

/// How far the clocks of issuer and verifier may differ, in seconds.
pub const LEEWAY_SECONDS: i64 = 30;

/// The keys of one environment, with the issuer and audience of its tokens.
#[derive(Debug)]
pub struct KeySet {
    issuer: String,
    audience: String,
    keys: Vec<KeySetKey>,
}

/// One key of a set.
#[derive(Debug)]
pub struct KeySetKey {
    kid: String,
    key: PrivateKey,
    state: SigningKeyState,
    /// The header of every token that this key signs, as it stands in them.
    header: String,
}

/// What a new token is to say.
#[derive(Debug)]
pub struct TokenRequest<'a> {
    /// `sub` and `client_id`: the consumer's id.
    pub subject: &'a str,
    /// `scope`.
    pub scopes: &'a [Scope],
    /// How long it lives, in milliseconds.
    pub expires_in_ms: u64,
    /// The message of the flow; reserved names in it are dropped.
    pub claims: Map<String, Value>,
}

/// Why no token was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignTokenError {
    /// The message is too large for a token.
    #[error(
        "the claims are larger than {MAX_CUSTOM_CLAIMS_BYTES} bytes: put less into the message before jwtGenerate"
    )]
    TooLarge,
    /// The set has no key that signs.
    #[error("the environment has no active signing key")]
    NoActiveKey,
    /// The key does not sign, or there is no randomness.
    #[error("the signing key does not sign")]
    Unavailable,
}

/// Why a token was refused. For logs and tests; a caller learns none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyTokenError {
    /// Not three parts of canonical base64url, too long, or not JSON objects.
    #[error("the token is malformed")]
    Malformed,
    /// A header that we do not take: another type, or critical extensions.
    #[error("the token's header is not taken here")]
    Header,
    /// No key of this id that verifies now.
    #[error("the token names no key of this environment")]
    UnknownKey,
    /// The header names another algorithm than the key's.
    #[error("the token names another algorithm than its key's")]
    Algorithm,
    /// The signature is not the key's.
    #[error("the token's signature is wrong")]
    Signature,
    /// Another issuer.
    #[error("the token is of another issuer")]
    Issuer,
    /// Another audience.
    #[error("the token is for another audience")]
    Audience,
    /// Its time has passed.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It was issued for longer than tokens may live here.
    #[error("the token lives longer than tokens may live in this environment")]
    Lifetime,
}

// === impl KeySetKey ===

impl KeySetKey {
    /// Puts a key into the form in which a set holds it.
    pub fn new(kid: String, key: PrivateKey, state: SigningKeyState) -> Self {
        let header = json!({ "alg": key.algorithm().as_str(), "kid": kid, "typ": "at+jwt" });
        Self { header: URL_SAFE_NO_PAD.encode(header.to_string()), kid, key, state }
    }

    fn verifies_at(&self, now: Timestamp) -> bool {
        match self.state {
            SigningKeyState::Active => true,
            SigningKeyState::Retiring { until } => now < until,
            SigningKeyState::Revoked { .. } => false,
        }
    }
}

// === impl KeySet ===

impl KeySet {
    /// Puts keys together.
    pub fn new(issuer: String, audience: String, keys: Vec<KeySetKey>) -> Self {
        Self { issuer, audience, keys }
    }

    /// Returns the issuer of its tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the audience of its tokens.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Returns the state of one of its keys; `None` when it has no such key.
    pub fn state_of(&self, kid: &str) -> Option<SigningKeyState> {
        self.keys.iter().find(|key| key.kid == kid).map(|key| key.state)
    }

    /// Returns the algorithm of the key that signs.
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.active().map(|key| key.key.algorithm())
    }

    /// Returns the JWK Set (RFC 7517 section 5): the public halves of the keys that verify now.
    pub fn jwks(&self, now: Timestamp) -> Value {
        let keys = self.keys.iter().filter(|key| key.verifies_at(now));
        json!({ "keys": keys.filter_map(|key| key.key.public_jwk(&key.kid)).collect::<Vec<_>>() })
    }

    /// Issues a token.
    ///
    /// # Errors
    ///
    /// [`SignTokenError`], by variant.
    pub fn sign(
        &self,
        request: TokenRequest<'_>,
        now: Timestamp,
        random: &dyn Random,
    ) -> Result<String, SignTokenError> {
        let key = self.active().ok_or(SignTokenError::NoActiveKey)?;
        let mut claims = request.claims;
        claims.retain(|name, _| !RESERVED_CLAIMS.contains(&name.as_str()));
        let size = serde_json::to_vec(&claims).map_err(|_| SignTokenError::TooLarge)?.len();
        if size > MAX_CUSTOM_CLAIMS_BYTES {
            return Err(SignTokenError::TooLarge);
        }
        let issued_at = now.as_second();
        let life =
            i64::try_from(request.expires_in_ms.div_ceil(1000)).map_err(|_| SignTokenError::TooLarge)?;
        let scope: Vec<&str> = request.scopes.iter().map(Scope::as_str).collect();
        let reserved = json!({
            "iss": self.issuer, "aud": self.audience, "sub": request.subject, "client_id": request.subject,
            "scope": scope.join(" "), "iat": issued_at, "nbf": issued_at, "exp": issued_at.saturating_add(life),
            "jti": make_jti(random).map_err(|_| SignTokenError::Unavailable)?,
        });
        if let Value::Object(reserved) = reserved {
            claims.extend(reserved);
        }
        let mut token =
            format!("{}.{}", key.header, URL_SAFE_NO_PAD.encode(Value::Object(claims).to_string()));
        let signature = key.key.sign(token.as_bytes()).map_err(|_| SignTokenError::Unavailable)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Verifies a token: shape, key, algorithm, signature, issuer, audience and time.
    ///
    /// Whose it is, what it allows and whether it was revoked is for the caller to check.
    ///
    /// # Errors
    ///
    /// [`VerifyTokenError`], by variant.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Arc<Claims>, VerifyTokenError> {
        self.verify_remembering(token, now, &VerifiedTokens::none())
    }

    /// Like [`KeySet::verify`], but verifies no signature that is remembered, and reads no token again. Everything else is
    /// checked anew: that the key is in this set and verifies now, and all that the token says.
    ///
    /// # Errors
    ///
    /// [`VerifyTokenError`], by variant.
    pub fn verify_remembering(
        &self,
        token: &str,
        now: Timestamp,
        memory: &VerifiedTokens,
    ) -> Result<Arc<Claims>, VerifyTokenError> {
        let parts = tokens::split(token).ok_or(VerifyTokenError::Malformed)?;
        // A token of ours has, letter by letter, the header that its key writes.
        let key = match self.keys.iter().find(|key| key.header == parts.header) {
            Some(key) => key,
            None => self.key_of(parts.header)?,
        };
        if !key.verifies_at(now) {
            return Err(VerifyTokenError::UnknownKey);
        }
        let fact = key.key.fingerprint().and_then(|key| memory.fact(key, token));
        let mark = match fact {
            Some(fact) => {
                if !memory.knows(&fact) {
                    check_signature(&parts, &key.key)?;
                    memory.learn(&fact);
                }
                Some(fact.mark())
            }
            None => key.key.mark(&check_signature(&parts, &key.key)?),
        };
        let read = memory.read.read(parts.payload, mark).ok_or(VerifyTokenError::Malformed)?;
        self.check(&read, now)?;
        Ok(read.claims.clone())
    }

    fn active(&self) -> Option<&KeySetKey> {
        self.keys.iter().find(|key| key.state == SigningKeyState::Active)
    }

    /// Finds the key that a header names.
    fn key_of(&self, header: &str) -> Result<&KeySetKey, VerifyTokenError> {
        let header = read_header(header)?;
        let typ = header.typ.as_deref().unwrap_or_default().to_ascii_lowercase();
        if header.crit || !matches!(typ.as_str(), "at+jwt" | "application/at+jwt") {
            return Err(VerifyTokenError::Header);
        }
        let key = self
            .keys
            .iter()
            .find(|key| Some(&key.kid) == header.kid.as_ref())
            .ok_or(VerifyTokenError::UnknownKey)?;
        check_algorithm(&header, &key.key)?;
        Ok(key)
    }

    fn check(&self, token: &ReadToken, now: Timestamp) -> Result<(), VerifyTokenError> {
        let malformed = VerifyTokenError::Malformed;
        if token.issuer.as_deref() != Some(&self.issuer) {
            return Err(VerifyTokenError::Issuer);
        }
        if token.audience.as_deref() != Some(&self.audience) {
            return Err(VerifyTokenError::Audience);
        }
        let (expires_at, issued_at) = (token.expires_at.ok_or(malformed)?, token.issued_at.ok_or(malformed)?);
        let now = now.as_second();
        if now >= expires_at.saturating_add(LEEWAY_SECONDS) {
            return Err(VerifyTokenError::Expired);
        }
        let begins = match token.not_before {
            Some(not_before) => not_before.ok_or(malformed)?.max(issued_at),
            None => issued_at,
        };
        if now.saturating_add(LEEWAY_SECONDS) < begins {
            return Err(VerifyTokenError::NotYetValid);
        }
        if token.is_named { Ok(()) } else { Err(malformed) }
    }
}

pub(crate) fn read_header(part: &str) -> Result<Header, VerifyTokenError> {
    // No name may stand twice, whether it is read here or not (RFC 7515 section 4): the next reader may read it.
    if tokens::members(part).is_none() {
        return Err(VerifyTokenError::Malformed);
    }
    let bytes = tokens::decode(part).ok_or(VerifyTokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| VerifyTokenError::Malformed)
}

fn check_algorithm(header: &Header, key: &PrivateKey) -> Result<(), VerifyTokenError> {
    if header.alg == key.algorithm().as_str() { Ok(()) } else { Err(VerifyTokenError::Algorithm) }
}

/// Verifies the signature, and returns it.
fn check_signature(parts: &Parts<'_>, key: &PrivateKey) -> Result<Vec<u8>, VerifyTokenError> {
    let signature = tokens::decode(parts.signature).ok_or(VerifyTokenError::Malformed)?;
    let is_good = key.verifies(parts.signed.as_bytes(), &signature);
    if is_good { Ok(signature) } else { Err(VerifyTokenError::Signature) }
}

fn make_jti(random: &dyn Random) -> Result<String, RandomError> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod wycheproof;
