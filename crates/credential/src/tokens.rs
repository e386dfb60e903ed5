//! Tokens: what they say and how they are taken apart (RFC 7519, 7515, 9068).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::triggers::Scope;

/// Longest token looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Most that a flow may put into a token, in bytes of JSON.
pub const MAX_CUSTOM_CLAIMS_BYTES: usize = 4 * 1024;

/// Claims that only Tollgate sets; a flow can never set or change them.
pub const RESERVED_CLAIMS: [&str; 9] =
    ["iss", "aud", "sub", "scope", "iat", "nbf", "exp", "jti", "client_id"];

/// What a verified token says.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// `sub`: the id of the consumer that it was issued to.
    pub subject: String,
    /// `jti`: the token's own id.
    pub jti: String,
    /// `iat`, in seconds since 1970.
    pub issued_at: i64,
    /// `exp`, in seconds since 1970.
    pub expires_at: i64,
    /// The claim that holds the scopes, where it may be another than `scope`.
    pub scopes_claim: Option<Box<str>>,
    /// Every claim.
    pub all: Map<String, Value>,
}

/// What a token says, not verified: for a person to look at, never to decide by.
#[derive(Debug, Clone, PartialEq)]
pub struct Unverified {
    /// The header.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
}

/// A token in its three parts.
pub(crate) struct Parts<'a> {
    pub(crate) header: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) signature: &'a str,
    /// `header.payload`: what the signature covers.
    pub(crate) signed: &'a str,
}

/// The header of a token, as far as a verifier must know it.
#[derive(Deserialize)]
pub(crate) struct Header {
    pub(crate) alg: String,
    pub(crate) kid: Option<String>,
    pub(crate) typ: Option<String>,
    /// Whether it is there, with whatever value.
    #[serde(default, deserialize_with = "present")]
    pub(crate) crit: bool,
}

/// A JSON object none of whose members stands twice (RFC 7519 section 4 lets a parser choose; choosing differently than
/// the next reader is how a claim is smuggled).
struct UniqueMembers(Map<String, Value>);

/// Returns the issuer of an environment's tokens.
pub fn issuer(realm: &RealmName, environment: &EnvironmentName) -> String {
    format!("urn:tollgate:{realm}:{environment}")
}

/// Returns the audience of an environment's tokens.
pub fn audience(realm: &RealmName, environment: &EnvironmentName) -> String {
    format!("urn:tollgate:{realm}:{environment}:pipelines")
}

/// Takes a token apart without verifying anything.
pub fn decode_unverified(token: &str) -> Option<Unverified> {
    let parts = split(token)?;
    Some(Unverified { header: members(parts.header)?, claims: members(parts.payload)? })
}

pub(crate) fn split(token: &str) -> Option<Parts<'_>> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    (!payload.contains('.')).then_some(Parts { header, payload, signature, signed })
}

/// Decodes canonical base64url without padding (RFC 7515 section 2): one text for each value.
pub(crate) fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

pub(crate) fn members(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice::<UniqueMembers>(&decode(part)?).ok().map(|members| members.0)
}

// === impl Claims ===

impl Claims {
    /// Tells whether the token carries a scope. In a list each element is one scope, whatever spaces it has.
    pub fn has_scope(&self, scope: &Scope) -> bool {
        match self.scopes() {
            Some(Value::String(scopes)) => scopes.split(' ').any(|it| it == scope.as_str()),
            Some(Value::Array(scopes)) => scopes.iter().any(|it| it.as_str() == Some(scope.as_str())),
            _ => false,
        }
    }

    /// Returns the scopes as they stand in the token, for people.
    pub fn scopes_text(&self) -> String {
        match self.scopes() {
            Some(Value::String(scopes)) => scopes.clone(),
            Some(Value::Array(scopes)) => {
                scopes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
            }
            _ => String::new(),
        }
    }

    fn scopes(&self) -> Option<&Value> {
        self.all.get(self.scopes_claim.as_deref().unwrap_or("scope"))
    }
}

// === impl UniqueMembers ===

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = UniqueMembers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMembers, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member stands twice"));
                    }
                }
                Ok(UniqueMembers(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
