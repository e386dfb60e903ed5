//! Verdicts: whether a pipeline conforms, and what to change when it does not.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::WaiverId;
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
    /// Violations that do not count, because somebody waived them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waived: Vec<Waived>,
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
    /// How it is broken, for programs.
    pub code: ViolationCode,
    /// How it is broken, in words: `Missing external API Key`.
    pub message: String,
    /// JSON pointer (RFC 6901) of the setting in the pipeline; empty for the pipeline as a whole.
    pub pointer: String,
    /// The value to put there; null when it is for the developer to choose.
    pub fix: serde_json::Value,
    /// What to do where no value mends it; else what would mend it, too.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// A violation that does not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waived {
    /// The violation.
    pub violation: Violation,
    /// The waiver.
    pub waiver: WaiverId,
    /// When it counts again.
    pub until: Timestamp,
    /// Why it was waived.
    pub reason: String,
}

/// How a policy is broken.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ViolationCode {
    /// `apiKey` is off.
    MissingApiKey,
    /// `jwt` is off.
    MissingJwt,
    /// A token lives longer than it may.
    TokenLifetime,
    /// Tokens are issued without an API key.
    LoginApiKey,
    /// A whole message becomes the claims of a token.
    UnnamedClaims,
    /// A password is compared with a plain global.
    PlainPassword,
    /// A custom rule does not hold.
    Rule,
    /// A custom rule can't be evaluated, so that nobody knows whether it holds.
    BrokenRule,
}

// === impl Verdict ===

impl Verdict {
    /// Tells whether the pipeline conforms, waivers counted in.
    pub fn conforms(&self) -> bool {
        self.violations.is_empty()
    }

    /// Returns from when on the pipeline does not conform; `None` when it does for good.
    ///
    /// [`Timestamp::MIN`] when it does not conform now; else when the first waiver ends.
    pub fn breaks_from(&self) -> Option<Timestamp> {
        if !self.violations.is_empty() {
            return Some(Timestamp::MIN);
        }
        self.waived.iter().map(|waived| waived.until).min()
    }
}

// === impl Violation ===

impl Violation {
    /// Says what to do about it: `set /trigger/apiKey to true`.
    pub fn advice(&self) -> String {
        let Self { pointer, fix, remedy, .. } = self;
        match (fix.is_null(), remedy.is_empty()) {
            (false, true) => format!("set {pointer} to {fix}"),
            (false, false) => format!("set {pointer} to {fix}, or {remedy}"),
            (true, false) => remedy.clone(),
            (true, true) if pointer.is_empty() => "change the pipeline".to_owned(),
            (true, true) => format!("change {pointer}"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, environment, message, .. } = self;
        write!(f, "{message} (policy {policy}, environment {environment}): {}", self.advice())
    }
}

// === impl ViolationCode ===

impl ViolationCode {
    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingApiKey => "missing-api-key",
            Self::MissingJwt => "missing-jwt",
            Self::TokenLifetime => "token-lifetime",
            Self::LoginApiKey => "login-api-key",
            Self::UnnamedClaims => "unnamed-claims",
            Self::PlainPassword => "plain-password",
            Self::Rule => "rule",
            Self::BrokenRule => "broken-rule",
        }
    }
}

impl fmt::Display for ViolationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
