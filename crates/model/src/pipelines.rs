//! Pipelines: trigger + flow.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{PipelineName, ProjectName};
use crate::steps::{Step, StepKind};
use crate::triggers::Trigger;
use crate::versions::Version;

/// A pipeline as its author writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pipeline {
    /// Its name; part of its URL.
    pub name: PipelineName,
    /// The project that it belongs to.
    pub project: ProjectName,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// How it starts.
    pub trigger: Trigger,
    /// Names of fields that are written as `***` wherever messages are logged or shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sensitive_fields: Vec<String>,
    /// The flow.
    #[schemars(length(min = 1))]
    pub steps: Vec<Step>,
}

/// One saved version of a pipeline; never changed after it was saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelineVersion {
    /// Which version.
    pub version: Version,
    /// The pipeline as saved.
    pub pipeline: Pipeline,
    /// Whether the flow is a login flow (computed when it was saved).
    pub login_flow: bool,
    /// When it was saved.
    pub created_at: Timestamp,
    /// Who saved it.
    pub created_by: String,
}

/// What is known of a pipeline across its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelineHead {
    /// The pipeline.
    pub name: PipelineName,
    /// Its project, by the latest version.
    pub project: ProjectName,
    /// The latest version.
    pub latest: Version,
    /// Every version saved, oldest first.
    pub versions: Vec<Version>,
}

// === impl Pipeline ===

impl Pipeline {
    /// Most nested steps that a flow may have.
    pub const MAX_STEPS: usize = 500;
    /// Deepest nesting of `choice` and `block`.
    pub const MAX_DEPTH: usize = 16;

    /// Checks the number and the nesting of steps.
    ///
    /// # Errors
    ///
    /// A sentence that names the limit.
    pub fn check_size(&self) -> Result<(), String> {
        fn count(steps: &[Step], depth: usize) -> Result<usize, String> {
            if depth > Pipeline::MAX_DEPTH {
                return Err(format!("steps are nested more than {} deep", Pipeline::MAX_DEPTH));
            }
            steps.iter().try_fold(steps.len(), |sum, step| {
                let inside = match &step.kind {
                    StepKind::Choice(choice) => choice
                        .when
                        .iter()
                        .map(|branch| branch.steps.as_slice())
                        .chain(choice.otherwise.as_deref())
                        .map(|steps| count(steps, depth + 1))
                        .sum::<Result<usize, _>>()?,
                    StepKind::Block(block) => std::iter::once(block.steps.as_slice())
                        .chain(block.on_error.as_deref())
                        .map(|steps| count(steps, depth + 1))
                        .sum::<Result<usize, _>>()?,
                    _ => 0,
                };
                Ok(sum + inside)
            })
        }
        if count(&self.steps, 0)? > Self::MAX_STEPS {
            return Err(format!("a pipeline has at most {} steps", Self::MAX_STEPS));
        }
        Ok(())
    }
}
