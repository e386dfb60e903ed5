//! What exposed pipelines must demand of their callers.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ParsePolicyError;
use crate::environments::Exposure;

/// A policy about the callers of one kind of listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AccessPolicy {
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

// === impl AccessPolicy ===

impl AccessPolicy {
    /// Both, the external one first.
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

// === impl AccessRequirement ===

impl AccessRequirement {
    /// Every value, the weakest first.
    pub const ALL: [Self; 3] = [Self::Any, Self::ApiKey, Self::JwtWithApiKey];
    pub(super) const CHOICES: &'static str = "`api-key`, `jwt-with-api-key`, `any`";

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
