//! Deployments: one pipeline version running in one environment.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::environments::Exposure;
use crate::ids::{AttestationId, DeploymentId};
use crate::names::{EnvironmentName, PipelineName};
use crate::versions::Version;

/// One pipeline version running in one environment. There is one per pipeline, major and environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deployment {
    /// Names this deployment; a redeploy keeps it.
    pub id: DeploymentId,
    /// What runs.
    pub pipeline: PipelineName,
    /// Which version of it.
    pub version: Version,
    /// Where.
    pub environment: EnvironmentName,
    /// The version of the policies that admitted it.
    pub policy_version: Version,
    /// When.
    pub deployed_at: Timestamp,
    /// By whom.
    pub deployed_by: String,
    /// How it came to be deployed.
    pub action: DeployAction,
    /// What was attested of it; `None` when it was deployed before there were attestations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attested: Option<Attested>,
}

/// The attestation of a deployment, and the digest that it states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attested {
    /// The attestation.
    pub attestation: AttestationId,
    /// SHA-256 of the canonical form of the version, in hexadecimal digits.
    pub sha256: String,
}

/// How a version came to be deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeployAction {
    /// Somebody deployed it.
    Deploy,
    /// It was promoted from another environment.
    Promote,
    /// It was rolled back to.
    Rollback,
}

/// A path on a listener that a deployment holds, so that no other can take it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteClaim {
    /// Where.
    pub environment: EnvironmentName,
    /// On which listener.
    pub exposure: Exposure,
    /// The path with parameter names taken out: `/pipeline/default/v1/products/:`.
    pub shape: String,
    /// Which pipeline holds it.
    pub pipeline: PipelineName,
    /// In which major.
    pub major: u32,
}
