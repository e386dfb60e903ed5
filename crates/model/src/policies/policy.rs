//! One policy with its value in every environment, as written in files.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    AccessPolicy, AccessRequirement, Enforcement, LoginFlowRules, ParsePolicyError, Rule, RuleMode,
    SensitiveFields,
};
use crate::names::{EnvironmentName, RuleName};

/// Names a policy. Those that every realm has sort first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyName {
    /// `external-api-access` or `internal-api-access`.
    Access(AccessPolicy),
    /// `login-flows`.
    LoginFlows,
    /// `sensitive-fields`.
    SensitiveFields,
    /// `enforcement`.
    Enforcement,
    /// A custom rule.
    Rule(RuleName),
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Policy {
    /// What exposed pipelines must demand of their callers.
    Access(AccessPolicyFile),
    /// What pipelines that issue tokens must keep to.
    LoginFlows(LoginFlowsFile),
    /// Which fields are never shown.
    SensitiveFields(SensitiveFieldsFile),
    /// When policies are enforced.
    Enforcement(EnforcementFile),
    /// A custom rule.
    Rule(Rule),
}

/// An access policy as written in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessPolicyFile {
    /// Which policy.
    pub name: AccessPolicy,
    /// Its value in every environment.
    pub environments: BTreeMap<EnvironmentName, AccessRequirement>,
}

macro_rules! built_in {
    ($(#[$doc:meta])* $file:ident, $value:ty, $tag:ident = $name:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $file {
            name: $tag,
            /// Its value in every environment.
            pub environments: BTreeMap<EnvironmentName, $value>,
        }

        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        enum $tag {
            #[serde(rename = $name)]
            Name,
        }

        impl $file {
            /// Puts the values together.
            pub fn new(environments: BTreeMap<EnvironmentName, $value>) -> Self {
                Self { name: $tag::Name, environments }
            }
        }
    };
}

built_in!(
    /// The policy `login-flows` as written in a file.
    LoginFlowsFile, LoginFlowRules, LoginFlowsTag = "login-flows"
);
built_in!(
    /// The policy `sensitive-fields` as written in a file.
    SensitiveFieldsFile, SensitiveFields, SensitiveFieldsTag = "sensitive-fields"
);
built_in!(
    /// The policy `enforcement` as written in a file.
    EnforcementFile, Enforcement, EnforcementTag = "enforcement"
);

// === impl PolicyName ===

impl PolicyName {
    /// The policies that every realm has.
    pub const BUILT_IN: [Self; 5] = [
        Self::Access(AccessPolicy::ExternalApiAccess),
        Self::Access(AccessPolicy::InternalApiAccess),
        Self::LoginFlows,
        Self::SensitiveFields,
        Self::Enforcement,
    ];

    /// Returns the name as written in files and commands.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Access(policy) => policy.as_str(),
            Self::LoginFlows => "login-flows",
            Self::SensitiveFields => "sensitive-fields",
            Self::Enforcement => "enforcement",
            Self::Rule(name) => name.as_str(),
        }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for PolicyName {
    type Err = ParsePolicyError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        if let Some(name) = Self::BUILT_IN.into_iter().find(|name| name.as_str() == input) {
            return Ok(name);
        }
        RuleName::parse(input)
            .map(Self::Rule)
            .map_err(|error| ParsePolicyError::Name(input.chars().take(80).collect(), error))
    }
}

impl Serialize for PolicyName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for PolicyName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for PolicyName {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PolicyName".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        RuleName::json_schema(generator)
    }
}

// === impl Policy ===

impl Policy {
    /// Returns the name.
    pub fn name(&self) -> PolicyName {
        match self {
            Self::Access(policy) => PolicyName::Access(policy.name),
            Self::LoginFlows(_) => PolicyName::LoginFlows,
            Self::SensitiveFields(_) => PolicyName::SensitiveFields,
            Self::Enforcement(_) => PolicyName::Enforcement,
            Self::Rule(rule) => PolicyName::Rule(rule.name.clone()),
        }
    }

    /// Returns the environments that it has a value for.
    pub fn environments(&self) -> Box<dyn Iterator<Item = &EnvironmentName> + '_> {
        match self {
            Self::Access(policy) => Box::new(policy.environments.keys()),
            Self::LoginFlows(policy) => Box::new(policy.environments.keys()),
            Self::SensitiveFields(policy) => Box::new(policy.environments.keys()),
            Self::Enforcement(policy) => Box::new(policy.environments.keys()),
            Self::Rule(rule) => Box::new(rule.environments.keys()),
        }
    }

    /// Returns its value in an environment as JSON.
    pub fn value(&self, environment: &EnvironmentName) -> Option<serde_json::Value> {
        fn json<T: Serialize>(
            values: &BTreeMap<EnvironmentName, T>,
            environment: &EnvironmentName,
        ) -> Option<serde_json::Value> {
            serde_json::to_value(values.get(environment)?).ok()
        }
        match self {
            Self::Access(policy) => json(&policy.environments, environment),
            Self::LoginFlows(policy) => json(&policy.environments, environment),
            Self::SensitiveFields(policy) => json(&policy.environments, environment),
            Self::Enforcement(policy) => json(&policy.environments, environment),
            Self::Rule(rule) => json(&rule.environments, environment),
        }
    }

    /// Says what a value of this policy can be.
    pub(super) fn choices(&self) -> &'static str {
        match self {
            Self::Access(_) => "one of `api-key`, `jwt-with-api-key`, `any`",
            Self::LoginFlows(_) => "rules such as `{ maxTokenLifetimeMs: 86400000 }`",
            Self::SensitiveFields(_) => "a list of field names, `[]` for none",
            Self::Enforcement(_) => "`atDeploy` or `{ atGateway: DATE }`",
            Self::Rule(_) => "one of `off`, `advised`, `required`",
        }
    }

    /// Takes the values of environments that it does not name from another value of the same policy.
    pub(super) fn over(mut self, other: &Self) -> Self {
        fn fill<T: Clone>(values: &mut BTreeMap<EnvironmentName, T>, other: &BTreeMap<EnvironmentName, T>) {
            for (name, value) in other {
                values.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        match (&mut self, other) {
            (Self::Access(this), Self::Access(other)) => fill(&mut this.environments, &other.environments),
            (Self::LoginFlows(this), Self::LoginFlows(other)) => {
                fill(&mut this.environments, &other.environments);
            }
            (Self::SensitiveFields(this), Self::SensitiveFields(other)) => {
                fill(&mut this.environments, &other.environments);
            }
            (Self::Enforcement(this), Self::Enforcement(other)) => {
                fill(&mut this.environments, &other.environments);
            }
            (Self::Rule(this), Self::Rule(other)) => fill(&mut this.environments, &other.environments),
            _ => {}
        }
        self
    }

    /// Leaves out every environment but these. A custom rule is off where it has no value; the other policies keep
    /// theirs, which exist for every environment that ever was.
    pub(super) fn within(mut self, environments: &[EnvironmentName]) -> Self {
        match &mut self {
            Self::Access(policy) => policy.environments.retain(|name, _| environments.contains(name)),
            Self::LoginFlows(policy) => policy.environments.retain(|name, _| environments.contains(name)),
            Self::SensitiveFields(policy) => {
                policy.environments.retain(|name, _| environments.contains(name));
            }
            Self::Enforcement(policy) => policy.environments.retain(|name, _| environments.contains(name)),
            Self::Rule(rule) => {
                rule.environments.retain(|name, _| environments.contains(name));
                for name in environments {
                    rule.environments.entry(name.clone()).or_insert(RuleMode::Off);
                }
            }
        }
        self
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let name = value
            .get("name")
            .and_then(serde_json::Value::as_str)
            .ok_or_else(|| D::Error::custom("the policy has no `name`"))?
            .parse::<PolicyName>()
            .map_err(D::Error::custom)?;
        let policy = match name {
            PolicyName::Access(_) => serde_json::from_value(value).map(Self::Access),
            PolicyName::LoginFlows => serde_json::from_value(value).map(Self::LoginFlows),
            PolicyName::SensitiveFields => serde_json::from_value(value).map(Self::SensitiveFields),
            PolicyName::Enforcement => serde_json::from_value(value).map(Self::Enforcement),
            PolicyName::Rule(_) => serde_json::from_value(value).map(Self::Rule),
        };
        policy.map_err(D::Error::custom)
    }
}
