//! Key sets: the keys that sign an environment's tokens, and the revocations of single tokens.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::EnvironmentName;

/// An algorithm that an environment's own tokens are signed with (RFC 7518 section 3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// HMAC with SHA-256.
    #[serde(rename = "HS256")]
    Hs256,
}

/// A signing key as it is stored: its private part is sealed under the master key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigningKey {
    /// Names the key in token headers and in the JWKS.
    pub kid: String,
    /// The environment whose tokens it signs.
    pub environment: EnvironmentName,
    /// The only algorithm that it is used with.
    pub algorithm: Algorithm,
    /// The public JWK (RFC 7517); `None` for HS256, which has no public part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_jwk: Option<serde_json::Value>,
    /// The private key, sealed (base64 text of `tollgate-credential`'s sealed form).
    pub sealed_private: String,
    /// Whether it signs new tokens.
    pub state: SigningKeyState,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The life of a signing key. Exactly one key of an environment is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is", deny_unknown_fields)]
pub enum SigningKeyState {
    /// Signs and verifies.
    Active,
    /// Verifies tokens until this time; signs none.
    Retiring {
        /// When it stops verifying.
        until: Timestamp,
    },
    /// Does nothing any more.
    Revoked {
        /// Since when.
        at: Timestamp,
    },
}

/// A single token that no longer works though its time has not passed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRevocation {
    /// Where.
    pub environment: EnvironmentName,
    /// The token's `jti`.
    pub jti: String,
    /// When it was revoked.
    pub revoked_at: Timestamp,
    /// When no token can live any more that this revokes, so that the record can go: at least 366 days later.
    pub forget_after: Timestamp,
}

/// Names a token (RFC 7519 section 4.1.7): 1 to 256 visible ASCII characters.
///
/// What issuers outside take for it has colons, dots, slashes and equals signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jti<'a>(&'a str);

/// A text that names no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a `jti` has 1 to 256 visible ASCII characters")]
pub struct ParseJtiError;

/// A text that names no algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an algorithm for tokens: use one of ES256, EdDSA, RS256, HS256")]
pub struct ParseAlgorithmError(String);

// === impl Algorithm ===

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 4] = [Self::Es256, Self::EdDsa, Self::Rs256, Self::Hs256];

    /// Returns the name as registered with IANA.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Hs256 => "HS256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = ParseAlgorithmError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == input)
            .ok_or_else(|| ParseAlgorithmError(input.chars().take(40).collect()))
    }
}

// === impl Jti ===

impl<'a> Jti<'a> {
    /// Reads the id of a token.
    ///
    /// # Errors
    ///
    /// [`ParseJtiError`] when no token that is taken could have it.
    pub fn parse(input: &'a str) -> Result<Self, ParseJtiError> {
        let is_one = (1..=256).contains(&input.len()) && input.bytes().all(|byte| byte.is_ascii_graphic());
        if is_one { Ok(Self(input)) } else { Err(ParseJtiError) }
    }

    /// Returns the text.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_token_is_a_text_that_somebody_can_write_down() {
        let longest = "x".repeat(256);
        for good in ["j", "urn:uuid:0b6f41b1-3b6d-4f0e", "AT.1/2+3=", "a~b!c", &longest] {
            assert_eq!(Jti::parse(good).map(Jti::as_str), Ok(good));
        }
        let longer = "x".repeat(257);
        for bad in ["", " ", "a b", "a\nb", "a\u{0}", "\u{202e}a", "ä", &longer] {
            assert_eq!(Jti::parse(bad), Err(ParseJtiError), "{bad:?}");
        }
    }
}
