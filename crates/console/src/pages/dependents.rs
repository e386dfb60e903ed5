//! What runs and breaks when something goes, as it is shown before somebody deletes it.

use tollgate_app::dependents::Dependents;

/// Most deployments that are named.
const NAMED: usize = 20;

/// The deployments that depend on something. Its template is `parts/dependents.html`, which takes it as `dependents`.
pub(super) struct DependentsView {
    /// How many there are, whether somebody may see them or not.
    pub(super) count: usize,
    pub(super) named: Vec<Named>,
    /// How many more there are than are named.
    pub(super) more: usize,
    pub(super) hidden: usize,
}

pub(super) struct Named {
    pub(super) pipeline: String,
    pub(super) version: String,
    pub(super) project: String,
    pub(super) maybe: bool,
}

// === impl DependentsView ===

impl DependentsView {
    pub(super) fn new(found: &Dependents) -> Self {
        let named = found.deployments.iter().take(NAMED).map(|it| Named {
            pipeline: it.pipeline.to_string(),
            version: it.version.to_string(),
            project: it.project.to_string(),
            maybe: it.maybe,
        });
        Self {
            count: found.deployments.len() + found.hidden,
            named: named.collect(),
            more: found.deployments.len().saturating_sub(NAMED),
            hidden: found.hidden,
        }
    }
}
