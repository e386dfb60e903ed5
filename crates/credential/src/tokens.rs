//! Tokens: what they say and how they are taken apart (RFC 7519, 7515, 9068).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
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
    pub(crate) scopes: Scopes,
    pub(crate) all: All,
}

/// The scopes of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scopes {
    /// Separated by spaces; empty when there are none.
    Text(String),
    /// One each, whatever spaces it has.
    List(Vec<String>),
}

/// Every claim of a token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum All {
    /// Not taken apart: most calls need a few of them only.
    Json(String),
    Members(Map<String, Value>),
}

/// The claims that a token of a login flow is checked by, each `None` when it is not there or of another type.
#[derive(Debug, Default)]
pub(crate) struct OwnClaims<'a> {
    pub(crate) issuer: Option<Cow<'a, str>>,
    pub(crate) audience: Option<Cow<'a, str>>,
    pub(crate) subject: Option<Cow<'a, str>>,
    pub(crate) jti: Option<Cow<'a, str>>,
    pub(crate) scope: Option<Cow<'a, str>>,
    pub(crate) issued_at: Option<i64>,
    pub(crate) expires_at: Option<i64>,
    /// Whether it is there is one question, whether it is a number another.
    pub(crate) not_before: Option<Option<i64>>,
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

/// A value of which it is known whether it is a text or a whole number.
enum Claim<'a> {
    Text(Cow<'a, str>),
    Number(i64),
    Other,
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

/// Decodes a part that is JSON.
pub(crate) fn json(part: &str) -> Option<String> {
    String::from_utf8(decode(part)?).ok()
}

// === impl Claims ===

impl Claims {
    /// Tells whether the token carries a scope. In a list each element is one scope, whatever spaces it has.
    pub fn has_scope(&self, scope: &Scope) -> bool {
        match &self.scopes {
            Scopes::Text(scopes) => scopes.split(' ').any(|it| it == scope.as_str()),
            Scopes::List(scopes) => scopes.iter().any(|it| it == scope.as_str()),
        }
    }

    /// Returns the scopes as they stand in the token, for people.
    pub fn scopes_text(&self) -> String {
        match &self.scopes {
            Scopes::Text(scopes) => scopes.clone(),
            Scopes::List(scopes) => scopes.join(" "),
        }
    }

    /// Returns every claim; `None` when one of those that were not looked at cannot be read.
    pub fn into_all(self: Arc<Self>) -> Option<Map<String, Value>> {
        match Arc::unwrap_or_clone(self).all {
            All::Json(text) => serde_json::from_str::<UniqueMembers>(&text).ok().map(|members| members.0),
            All::Members(members) => Some(members),
        }
    }
}

// === impl Scopes ===

impl Scopes {
    /// Reads a claim that holds scopes.
    pub(crate) fn of(claim: Option<&Value>) -> Self {
        match claim {
            Some(Value::String(scopes)) => Self::Text(scopes.clone()),
            Some(Value::Array(scopes)) => {
                Self::List(scopes.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            _ => Self::Text(String::new()),
        }
    }
}

// === impl OwnClaims ===

impl<'de> Deserialize<'de> for OwnClaims<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = OwnClaims<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OwnClaims<'de>, A::Error> {
                let mut claims = OwnClaims::default();
                let mut names: Vec<Cow<'de, str>> = Vec::with_capacity(16);
                while let Some(Claim::Text(name)) = map.next_key()? {
                    match &*name {
                        "iss" => claims.issuer = map.next_value::<Claim<'_>>()?.text(),
                        "aud" => claims.audience = map.next_value::<Claim<'_>>()?.text(),
                        "sub" => claims.subject = map.next_value::<Claim<'_>>()?.text(),
                        "jti" => claims.jti = map.next_value::<Claim<'_>>()?.text(),
                        "scope" => claims.scope = map.next_value::<Claim<'_>>()?.text(),
                        "iat" => claims.issued_at = map.next_value::<Claim<'_>>()?.number(),
                        "exp" => claims.expires_at = map.next_value::<Claim<'_>>()?.number(),
                        "nbf" => claims.not_before = Some(map.next_value::<Claim<'_>>()?.number()),
                        // Read, too: a claim that nobody can read makes the whole token one that only some take.
                        _ => drop(map.next_value::<Claim<'_>>()?),
                    }
                    names.push(name);
                }
                names.sort_unstable();
                if names.array_windows().any(|[one, next]| one == next) {
                    return Err(A::Error::custom("a member stands twice"));
                }
                Ok(claims)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

// === impl Claim ===

impl<'a> Claim<'a> {
    fn text(self) -> Option<Cow<'a, str>> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn number(self) -> Option<i64> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }
}

impl<'de> Deserialize<'de> for Claim<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Claim<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Claim<'de>, E> {
                Ok(Claim::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Claim<'de>, E> {
                Ok(Claim::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Claim<'de>, E> {
                Ok(Claim::Number(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Claim<'de>, E> {
                Ok(i64::try_from(number).map_or(Claim::Other, Claim::Number))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Claim<'de>, E> {
                Ok(Claim::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Claim<'de>, E> {
                Ok(Claim::Other)
            }

            fn visit_unit<E>(self) -> Result<Claim<'de>, E> {
                Ok(Claim::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Claim<'de>, A::Error> {
                while seq.next_element::<Claim<'_>>()?.is_some() {}
                Ok(Claim::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claim<'de>, A::Error> {
                while map.next_entry::<Claim<'_>, Claim<'_>>()?.is_some() {}
                Ok(Claim::Other)
            }
        }
        deserializer.deserialize_any(Any)
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
