//! Policies: what an exposed pipeline must demand of its callers, per environment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::environments::Exposure;
use crate::names::EnvironmentName;
use crate::versions::Version;

/// The named rule sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyName {
    /// What pipelines on the external listener must demand.
    ExternalApiAccess,
    /// What pipelines on the internal listener must demand.
    InternalApiAccess,
}

/// What a pipeline must demand of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AccessRequirement {
    /// Any type of authentication allowed, including none.
    Any,
    /// API Key required.
    ApiKey,
    /// JWT with API Key required.
    JwtWithApiKey,
}

/// The realm's policies: one value per policy and environment, under one version.
///
/// Invariant: every policy has a value for the same set of environments, and that set is not empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policies {
    version: Version,
    values: BTreeMap<PolicyName, BTreeMap<EnvironmentName, AccessRequirement>>,
}

/// One saved version of the realm's policies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyVersion {
    /// The policies as of this version, version included.
    pub policies: Policies,
    /// When it was saved.
    pub created_at: Timestamp,
    /// Who saved it.
    pub created_by: String,
    /// Why, in the words of whoever saved it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A policy as written in a file: names every environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyFile {
    /// Which policy.
    pub name: PolicyName,
    /// Its value in every environment.
    pub environments: BTreeMap<EnvironmentName, AccessRequirement>,
}

/// Why policies were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Environments without a value.
    #[error(
        "policy `{policy}` has no value for {}: give every environment one of {}",
        list(missing),
        AccessRequirement::CHOICES
    )]
    MissingEnvironment {
        /// Which policy.
        policy: PolicyName,
        /// The environments that it leaves out.
        missing: Vec<EnvironmentName>,
    },
    /// Environments that the realm does not have.
    #[error(
        "policy `{policy}` names {}, which this realm does not have: it has {}",
        list(unknown),
        list(known)
    )]
    UnknownEnvironment {
        /// Which policy.
        policy: PolicyName,
        /// The environments that do not exist.
        unknown: Vec<EnvironmentName>,
        /// Those that do.
        known: Vec<EnvironmentName>,
    },
}

fn list(names: &[EnvironmentName]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A text that names no policy, or no value of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePolicyError {
    /// Not the name of a policy.
    #[error("`{0}` is not a policy: there are `external-api-access` and `internal-api-access`")]
    Name(String),
    /// Not a value.
    #[error("`{0}` is not a value of this policy: use one of {choices}", choices = AccessRequirement::CHOICES)]
    Requirement(String),
}

// === impl PolicyName ===

impl PolicyName {
    /// Every policy.
    pub const ALL: [Self; 2] = [Self::ExternalApiAccess, Self::InternalApiAccess];

    /// Returns the name as written in files and commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExternalApiAccess => "external-api-access",
            Self::InternalApiAccess => "internal-api-access",
        }
    }

    /// Returns the listener that this policy rules.
    pub fn exposure(self) -> Exposure {
        match self {
            Self::ExternalApiAccess => Exposure::External,
            Self::InternalApiAccess => Exposure::Internal,
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
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == input)
            .ok_or_else(|| ParsePolicyError::Name(input.chars().take(80).collect()))
    }
}

// === impl AccessRequirement ===

impl AccessRequirement {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Any, Self::ApiKey, Self::JwtWithApiKey];
    const CHOICES: &'static str = "`api-key`, `jwt-with-api-key`, `any`";

    /// Returns the value as written in files and commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ApiKey => "api-key",
            Self::JwtWithApiKey => "jwt-with-api-key",
        }
    }

    /// Returns the value as shown to people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Any => "Any type of authentication allowed",
            Self::ApiKey => "API Key required",
            Self::JwtWithApiKey => "JWT with API Key required",
        }
    }
}

impl fmt::Display for AccessRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for AccessRequirement {
    type Err = ParsePolicyError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|value| value.as_str() == input)
            .ok_or_else(|| ParsePolicyError::Requirement(input.chars().take(80).collect()))
    }
}

// === impl Policies ===

impl Policies {
    /// Returns the policies of a new realm: `api-key` everywhere, version 1.0.
    pub fn initial(environments: &BTreeSet<EnvironmentName>) -> Self {
        let everywhere: BTreeMap<_, _> =
            environments.iter().map(|name| (name.clone(), AccessRequirement::ApiKey)).collect();
        Self {
            version: Version::FIRST,
            values: PolicyName::ALL.into_iter().map(|policy| (policy, everywhere.clone())).collect(),
        }
    }

    /// Returns the version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the value of a policy in an environment; `None` when the realm has no such environment.
    pub fn requirement(
        &self,
        policy: PolicyName,
        environment: &EnvironmentName,
    ) -> Option<AccessRequirement> {
        self.values.get(&policy)?.get(environment).copied()
    }

    /// Returns the value of a policy in every environment.
    pub fn values(&self, policy: PolicyName) -> impl Iterator<Item = (&EnvironmentName, AccessRequirement)> {
        self.values.get(&policy).into_iter().flatten().map(|(name, value)| (name, *value))
    }

    /// Returns the environments that have values.
    pub fn environments(&self) -> impl Iterator<Item = &EnvironmentName> {
        self.values.values().next().into_iter().flat_map(BTreeMap::keys)
    }

    /// Returns the next minor version, with one policy replaced as a whole.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] when `values` leaves out an environment of this realm or names one that it does not have.
    pub fn replace(
        &self,
        policy: PolicyName,
        values: BTreeMap<EnvironmentName, AccessRequirement>,
    ) -> Result<Self, PolicyError> {
        let known: Vec<_> = self.environments().cloned().collect();
        let unknown: Vec<_> = values.keys().filter(|name| !known.contains(name)).cloned().collect();
        if !unknown.is_empty() {
            return Err(PolicyError::UnknownEnvironment { policy, unknown, known });
        }
        let missing: Vec<_> = known.into_iter().filter(|name| !values.contains_key(name)).collect();
        if !missing.is_empty() {
            return Err(PolicyError::MissingEnvironment { policy, missing });
        }
        let mut next = Self { version: self.version.next_minor(), values: self.values.clone() };
        next.values.insert(policy, values);
        Ok(next)
    }

    /// Returns the next minor version, with some environments' values of one policy changed.
    ///
    /// # Errors
    ///
    /// [`PolicyError::UnknownEnvironment`] when a change names an environment that this realm does not have.
    pub fn change(
        &self,
        policy: PolicyName,
        changes: &BTreeMap<EnvironmentName, AccessRequirement>,
    ) -> Result<Self, PolicyError> {
        let mut values: BTreeMap<_, _> =
            self.values(policy).map(|(name, value)| (name.clone(), value)).collect();
        values.extend(changes.iter().map(|(name, value)| (name.clone(), *value)));
        self.replace(policy, values)
    }
}

impl<'de> Deserialize<'de> for Policies {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Written {
            version: Version,
            values: BTreeMap<PolicyName, BTreeMap<EnvironmentName, AccessRequirement>>,
        }
        let Written { version, values } = Written::deserialize(deserializer)?;
        let environments: BTreeSet<_> = values.values().flat_map(BTreeMap::keys).cloned().collect();
        let mut policies = Self { version, ..Self::initial(&environments) };
        for policy in PolicyName::ALL {
            let Some(given) = values.get(&policy) else {
                return Err(serde::de::Error::custom(format!("policy `{policy}` is missing")));
            };
            policies = policies.replace(policy, given.clone()).map_err(serde::de::Error::custom)?;
        }
        policies.version = version;
        Ok(policies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realm() -> Policies {
        Policies::initial(&BTreeSet::from([EnvironmentName::test(), EnvironmentName::prod()]))
    }

    #[test]
    fn a_new_realm_demands_api_keys_everywhere() {
        for policy in PolicyName::ALL {
            for environment in [EnvironmentName::test(), EnvironmentName::prod()] {
                assert_eq!(realm().requirement(policy, &environment), Some(AccessRequirement::ApiKey));
            }
        }
    }

    #[test]
    fn no_environment_can_be_left_out_or_invented() {
        let only_test = BTreeMap::from([(EnvironmentName::test(), AccessRequirement::Any)]);
        let error =
            realm().replace(PolicyName::ExternalApiAccess, only_test.clone()).expect_err("prod is left out");
        assert_eq!(
            error.to_string(),
            "policy `external-api-access` has no value for `prod`: give every environment one of `api-key`, \
             `jwt-with-api-key`, `any`"
        );
        let changed = realm().change(PolicyName::ExternalApiAccess, &only_test).expect("keeps prod");
        assert_eq!(changed.version().to_string(), "1.1");
        let moon =
            BTreeMap::from([(EnvironmentName::parse("moon").expect("a slug"), AccessRequirement::Any)]);
        assert!(realm().change(PolicyName::ExternalApiAccess, &moon).is_err());
    }

    #[test]
    fn stored_policies_that_leave_out_an_environment_do_not_parse() {
        let stored = serde_json::json!({ "version": "1.3", "values": {
            "external-api-access": { "test": "any", "prod": "api-key" }, "internal-api-access": { "test": "any" } } });
        assert!(serde_json::from_value::<Policies>(stored).is_err());
        let policies: Policies =
            serde_json::from_value(serde_json::to_value(realm()).expect("json")).expect("reads");
        assert_eq!(policies, realm());
    }
}
