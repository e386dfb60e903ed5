//! What runs and breaks when a value or an issuer goes.

use schemars::JsonSchema;
use serde::Serialize;
use tollgate_app::dependents::{Dependent, Dependents};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DependentsView {
    /// The deployments that the caller may read, by name.
    items: Vec<DependentView>,
    /// How many more there are, which the caller may not read.
    hidden: usize,
}

/// A deployment that depends on it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DependentView {
    pipeline: String,
    project: String,
    /// The version that runs.
    version: String,
    /// Whether the flow only computes a name that may be this one.
    maybe: bool,
}

// === impl DependentsView ===

impl From<Dependents> for DependentsView {
    fn from(found: Dependents) -> Self {
        Self { items: found.deployments.into_iter().map(DependentView::from).collect(), hidden: found.hidden }
    }
}

impl From<Dependent> for DependentView {
    fn from(it: Dependent) -> Self {
        Self {
            pipeline: it.pipeline.to_string(),
            project: it.project.to_string(),
            version: it.version.to_string(),
            maybe: it.maybe,
        }
    }
}
