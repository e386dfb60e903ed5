//! Switches that are true or false, or a map that says more.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Scope;

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

/// Whether a token is demanded: `true`, `false`, or `{ scopes: [...] }`.
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
}

/// The long form of [`JwtSwitch`].
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JwtOptions {
    /// Scopes that the token must all carry.
    #[serde(default)]
    scopes: Vec<Scope>,
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
        matches!(self, Self::On(_))
    }

    /// Returns the scopes that the token must carry; none when no token is demanded.
    pub fn scopes(&self) -> &[Scope] {
        match self {
            Self::Off => &[],
            Self::On(scopes) => scopes,
        }
    }
}

impl Serialize for JwtSwitch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::On(scopes) if scopes.is_empty() => serializer.serialize_bool(true),
            Self::On(scopes) => JwtOptions { scopes: scopes.clone() }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for JwtSwitch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match bool_or_map::<D, JwtOptions>(deserializer, "true, false or { scopes: [...] }")? {
            BoolOr::Bool(false) => Self::Off,
            BoolOr::Bool(true) => Self::On(Vec::new()),
            BoolOr::Map(JwtOptions { scopes }) => Self::On(scopes),
        })
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
