//! Switches that are true or false, or a map that says more.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Scope;
use crate::names::IssuerName;

/// Whether an API key is demanded: `true`, `false`, or `{ query: true }` for callers that can only send it in
/// the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, JsonSchema)]
#[schemars(untagged)]
pub enum ApiKeySwitch {
    /// No key is demanded.
    #[default]
    #[schemars(with = "bool")]
    Off,
    /// A key is demanded in the `apikey` header.
    #[schemars(with = "bool")]
    On,
    /// A key is demanded, in the `apikey` header or the `apikey` query parameter.
    #[schemars(with = "ApiKeyOptions")]
    OnWithQuery,
}

/// The long form of [`ApiKeySwitch`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ApiKeyOptions {
    /// Takes the key from the query parameter `apikey` too.
    query: bool,
}

/// Whether a token is demanded: `true`, `false`, or `{ scopes: [...], issuers: [...] }`.
///
/// A token counts when a login flow of the environment issued it; or, where issuers are listed, when one of these did.
#[derive(Debug, Clone, PartialEq, Eq, Default, JsonSchema)]
#[schemars(untagged)]
pub enum JwtSwitch {
    /// No token is demanded.
    #[default]
    #[schemars(with = "bool")]
    Off,
    /// A token with these scopes is demanded.
    #[schemars(with = "JwtOptions")]
    On(Vec<Scope>),
    /// A token of one of these issuers, with these scopes, is demanded.
    #[schemars(with = "JwtOptions")]
    OnOf {
        /// Scopes that the token must all carry.
        scopes: Vec<Scope>,
        /// Whose tokens count; [`IssuerName::own`] for login flows. Never empty.
        issuers: Vec<IssuerName>,
    },
}

/// The long form of [`JwtSwitch`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JwtOptions {
    /// Scopes that the token must all carry.
    #[serde(default)]
    scopes: Vec<Scope>,
    /// Whose tokens count: issuers of the environment, and `tollgate` for its login flows. Without, those of login flows.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "issuers")]
    #[schemars(with = "Option<Vec<IssuerName>>", extend("minItems" = 1, "maxItems" = 8, "uniqueItems" = true))]
    issuers: Option<Vec<IssuerName>>,
}

/// Most issuers that a trigger lists.
const MAX_ISSUERS: usize = 8;

fn issuers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<IssuerName>>, D::Error> {
    let issuers = Vec::<IssuerName>::deserialize(deserializer)?;
    let mut seen = std::collections::BTreeSet::new();
    if let Some(twice) = issuers.iter().find(|issuer| !seen.insert(*issuer)) {
        return Err(D::Error::custom(format!("issuer `{twice}` stands twice")));
    }
    match issuers.len() {
        0 => Err(D::Error::custom(
            "no token would count: name an issuer, or leave `issuers` out for login flows",
        )),
        1..=MAX_ISSUERS => Ok(Some(issuers)),
        _ => Err(D::Error::custom(format!("at most {MAX_ISSUERS} issuers"))),
    }
}

// === impl ApiKeySwitch ===

impl ApiKeySwitch {
    /// Tells whether a key is demanded.
    pub fn is_on(self) -> bool {
        self != Self::Off
    }
}

impl Serialize for ApiKeySwitch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::On => serializer.serialize_bool(true),
            Self::OnWithQuery => ApiKeyOptions { query: true }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ApiKeySwitch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match bool_or_map::<D, ApiKeyOptions>(deserializer, "true, false or { query: true }")? {
            BoolOr::Bool(false) => Self::Off,
            BoolOr::Bool(true) | BoolOr::Map(ApiKeyOptions { query: false }) => Self::On,
            BoolOr::Map(ApiKeyOptions { query: true }) => Self::OnWithQuery,
        })
    }
}

// === impl JwtSwitch ===

impl JwtSwitch {
    /// Tells whether a token is demanded.
    pub fn is_on(&self) -> bool {
        *self != Self::Off
    }

    /// Returns the scopes that the token must carry; none when no token is demanded.
    pub fn scopes(&self) -> &[Scope] {
        match self {
            Self::Off => &[],
            Self::On(scopes) | Self::OnOf { scopes, .. } => scopes,
        }
    }

    /// Returns whose tokens count, when that is listed; login flows' only, when it is not.
    pub fn issuers(&self) -> Option<&[IssuerName]> {
        match self {
            Self::OnOf { issuers, .. } => Some(issuers),
            Self::Off | Self::On(_) => None,
        }
    }

    /// Returns the issuers outside whose tokens count.
    pub fn external_issuers(&self) -> impl Iterator<Item = &IssuerName> {
        let own = IssuerName::own();
        self.issuers().unwrap_or_default().iter().filter(move |issuer| **issuer != own)
    }
}

impl Serialize for JwtSwitch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::On(scopes) if scopes.is_empty() => serializer.serialize_bool(true),
            Self::On(scopes) => JwtOptions { scopes: scopes.clone(), issuers: None }.serialize(serializer),
            Self::OnOf { scopes, issuers } => {
                JwtOptions { scopes: scopes.clone(), issuers: Some(issuers.clone()) }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for JwtSwitch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(
            match bool_or_map::<D, JwtOptions>(
                deserializer,
                "true, false or { scopes: [...], issuers: [...] }",
            )? {
                BoolOr::Bool(false) => Self::Off,
                BoolOr::Bool(true) => Self::On(Vec::new()),
                BoolOr::Map(JwtOptions { scopes, issuers: None }) => Self::On(scopes),
                BoolOr::Map(JwtOptions { scopes, issuers: Some(issuers) }) => Self::OnOf { scopes, issuers },
            },
        )
    }
}

// === bool or map ===

enum BoolOr<T> {
    Bool(bool),
    Map(T),
}

/// Reads a switch that is either a boolean or a map of options; keeps the position of errors inside the map.
fn bool_or_map<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    expecting: &'static str,
) -> Result<BoolOr<T>, D::Error> {
    struct Visitor<T>(&'static str, std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
        type Value = BoolOr<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }

        fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
            Ok(BoolOr::Bool(value))
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            T::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(BoolOr::Map)
        }
    }
    deserializer.deserialize_any(Visitor(expecting, std::marker::PhantomData))
}
