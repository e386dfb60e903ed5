//! The values that the policies about login flows, sensitive fields and enforcement have in an environment.

use std::collections::BTreeSet;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::names::FieldName;
use crate::steps::ExpiresInMs;

/// What a pipeline that issues tokens must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoginFlowRules {
    /// Longest life of a token, in milliseconds.
    pub max_token_lifetime_ms: ExpiresInMs,
    /// Whether the login endpoint itself demands an API key.
    #[serde(default = "yes")]
    pub api_key: bool,
    /// Whether a `json` step with named fields must say what goes into a token, so that no whole message does.
    #[serde(default = "yes")]
    pub named_claims: bool,
    /// Whether comparing a password with a plain global is refused.
    #[serde(default = "yes")]
    pub hashed_passwords: bool,
}

/// How [`Enforcement::AtDeploy`] is written.
const AT_DEPLOY: &str = "atDeploy";

fn yes() -> bool {
    true
}

/// Names of fields that are never shown: at most 200.
pub type SensitiveFields = BTreeSet<FieldName>;

/// When the policies of an environment are enforced.
///
/// Written `atDeploy` or `{ atGateway: DATE }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Enforcement {
    /// When something is deployed; what runs goes on running.
    #[default]
    AtDeploy,
    /// From a date on, calls to deployments that do not conform are refused, too.
    AtGateway(AtGateway),
}

/// Refusing calls from a date on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AtGateway {
    /// From when.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at_gateway: Timestamp,
    /// Since when this is known; set when the policy is saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub announced_at: Option<Timestamp>,
}

// === impl LoginFlowRules ===

impl LoginFlowRules {
    /// Returns the rules of a new environment: tokens live 24 hours at most.
    pub fn strict() -> Self {
        Self {
            max_token_lifetime_ms: ExpiresInMs::DAY,
            api_key: true,
            named_claims: true,
            hashed_passwords: true,
        }
    }

    /// Returns the rules that let every token live as long as it can.
    pub fn long_lived() -> Self {
        Self { max_token_lifetime_ms: ExpiresInMs::MAX, ..Self::strict() }
    }
}

// === impl Enforcement ===

impl Enforcement {
    /// Returns since when calls are refused; `None` when they are not.
    pub fn at_gateway(self) -> Option<AtGateway> {
        match self {
            Self::AtDeploy => None,
            Self::AtGateway(at) => Some(at),
        }
    }
}

impl Serialize for Enforcement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::AtDeploy => serializer.serialize_str(AT_DEPLOY),
            Self::AtGateway(at) => at.serialize(serializer),
        }
    }
}

impl JsonSchema for Enforcement {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Enforcement".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let at_gateway = generator.subschema_for::<AtGateway>();
        schemars::json_schema!({ "oneOf": [{ "const": AT_DEPLOY }, at_gateway] })
    }
}

impl<'de> Deserialize<'de> for Enforcement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Enforcement;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`atDeploy`, or `{ atGateway: DATE }` with a date such as 2030-01-31T00:00:00Z")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Enforcement, E> {
                match text {
                    AT_DEPLOY => Ok(Enforcement::AtDeploy),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Enforcement, A::Error> {
                AtGateway::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    .map(Enforcement::AtGateway)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
