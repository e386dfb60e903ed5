//! The paths that a deployment answers on.

use std::collections::BTreeMap;

use tollgate_model::deployments::RouteClaim;
use tollgate_model::environments::Exposure;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::triggers::HttpTrigger;

/// Returns the listeners that a trigger is open on.
pub(super) fn exposures(trigger: &HttpTrigger) -> impl Iterator<Item = Exposure> {
    let (external, internal) = (trigger.external_api, trigger.internal_api);
    Exposure::ALL.into_iter().filter(move |exposure| match exposure {
        Exposure::External => external,
        Exposure::Internal => internal,
    })
}

/// Returns the paths with their shapes: the pipeline's own first, then its additional routes.
pub(super) fn paths(
    realm: &RealmName,
    version: &PipelineVersion,
    trigger: &HttpTrigger,
) -> Vec<(String, String)> {
    let prefix = format!("/pipeline/{realm}/v{}", version.version.major);
    let own = format!("{prefix}/{}", version.pipeline.name);
    let before = if trigger.remove_prefix { "" } else { prefix.as_str() };
    let additional = trigger
        .routes
        .iter()
        .map(|route| (format!("{before}{}", route.path), format!("{before}{}", route.path.shape())));
    std::iter::once((own.clone(), own)).chain(additional).collect()
}

/// Returns the claims that a deployment of this version holds, each once.
pub(super) fn claims(
    realm: &RealmName,
    environment: &EnvironmentName,
    version: &PipelineVersion,
) -> Vec<RouteClaim> {
    let Some(trigger) = version.pipeline.trigger.http() else { return Vec::new() };
    let mut claims = BTreeMap::new();
    for exposure in exposures(trigger) {
        for (_, shape) in paths(realm, version, trigger) {
            let claim = RouteClaim {
                environment: environment.clone(),
                exposure,
                shape: shape.clone(),
                pipeline: version.pipeline.name.clone(),
                major: version.version.major,
            };
            claims.insert((exposure, shape), claim);
        }
    }
    claims.into_values().collect()
}
