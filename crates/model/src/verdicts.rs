//! Verdicts: whether a pipeline conforms, and what to change when it does not.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::EnvironmentName;
use crate::policies::PolicyName;
use crate::versions::Version;

/// What the policies say of one pipeline in one environment. Only the `policy` crate makes verdicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The environment judged for.
    pub environment: EnvironmentName,
    /// The version of the policies that judged.
    pub policy_version: Version,
    /// Whether the flow is a login flow.
    pub login_flow: bool,
    /// Why the pipeline does not conform; empty when it does.
    pub violations: Vec<Violation>,
    /// What is allowed but advised against, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<String>,
}

/// One reason why a pipeline does not conform, with the setting to change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// The policy broken.
    pub policy: PolicyName,
    /// Where.
    pub environment: EnvironmentName,
    /// What is missing.
    pub missing: Missing,
    /// What is missing in words: `Missing external API Key`.
    pub message: String,
    /// JSON pointer (RFC 6901) of the setting in the pipeline.
    pub pointer: String,
    /// The value to put there.
    pub fix: serde_json::Value,
}

/// What a pipeline's trigger does not demand though it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// `apiKey` is off.
    ApiKey,
    /// `jwt` is off.
    Jwt,
}

// === impl Verdict ===

impl Verdict {
    /// Tells whether the pipeline conforms.
    pub fn conforms(&self) -> bool {
        self.violations.is_empty()
    }
}

// === impl Violation ===

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, environment, message, pointer, fix, .. } = self;
        write!(f, "{message} (policy {policy}, environment {environment}): set {pointer} to {fix}")
    }
}
