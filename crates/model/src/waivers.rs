//! Waivers: violations that do not count until a date.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::WaiverId;
use crate::names::{EnvironmentName, PipelineName};
use crate::policies::PolicyName;
use crate::verdicts::{Violation, ViolationCode};

/// Lets one violation of one pipeline in one environment pass until a date.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Waiver {
    /// Names it.
    pub id: WaiverId,
    /// Whose violation.
    pub pipeline: PipelineName,
    /// Where.
    pub environment: EnvironmentName,
    /// Of which policy.
    pub policy: PolicyName,
    /// Which violation of it.
    pub code: ViolationCode,
    /// When the violation counts again.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// Who approved it, where the realm wants four eyes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
}

// === impl Waiver ===

impl Waiver {
    /// Tells whether it lets a violation of a pipeline pass at a moment.
    pub fn covers(&self, pipeline: &PipelineName, violation: &Violation, now: Timestamp) -> bool {
        now < self.until
            && self.pipeline == *pipeline
            && self.environment == violation.environment
            && self.policy == violation.policy
            && self.code == violation.code
    }
}
