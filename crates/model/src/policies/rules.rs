//! Custom rules: what a platform team demands beyond the policies that every realm has.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{EnvironmentName, RuleName};

/// A rule of a realm's own: a condition over the pipeline that must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Its name, unlike that of any other policy.
    pub name: RuleName,
    /// An expression over `trigger`, `steps`, `project` and `name` that gives `true` for a pipeline that keeps the
    /// rule.
    pub condition: String,
    /// What to tell the developer whose pipeline breaks it.
    pub message: String,
    /// What mends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<RuleFix>,
    /// How it is taken in every environment.
    pub environments: BTreeMap<EnvironmentName, RuleMode>,
}

/// What mends a pipeline that breaks a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleFix {
    /// JSON pointer (RFC 6901) of the setting in the pipeline.
    pub pointer: String,
    /// The value to put there; absent when it is for the developer to choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<serde_json::Value>,
}

/// How a rule is taken in one environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RuleMode {
    /// Not at all.
    Off,
    /// A pipeline that breaks it is deployed, with the message as advice.
    Advised,
    /// A pipeline that breaks it is not deployed.
    Required,
}

// === impl RuleMode ===

impl RuleMode {
    /// Returns the value as written in files and commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Advised => "advised",
            Self::Required => "required",
        }
    }
}

impl fmt::Display for RuleMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
