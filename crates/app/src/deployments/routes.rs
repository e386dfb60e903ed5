//! The claims that keep two deployments from one path.

use std::collections::BTreeMap;

use tollgate_model::deployments::RouteClaim;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::objects::Object;
use tollgate_model::pipelines::PipelineVersion;
use tollgate_snapshot::exposed_paths;

/// Returns the claims that a deployment of this version holds, each once.
pub(super) fn claims(
    realm: &RealmName,
    environment: &EnvironmentName,
    version: &PipelineVersion,
) -> Vec<RouteClaim> {
    let PipelineVersion { version, pipeline, .. } = version;
    let claims: BTreeMap<_, _> = exposed_paths(realm, pipeline, version.major)
        .into_iter()
        .map(|path| RouteClaim {
            environment: environment.clone(),
            exposure: path.exposure,
            shape: path.shape,
            pipeline: pipeline.name.clone(),
            major: version.major,
        })
        .map(|claim| (claim.key(), claim))
        .collect();
    claims.into_values().collect()
}
