//! What runs, judged by today's policies or by tomorrow's.

use serde::Serialize;
use tollgate_model::deployments::Deployment;
use tollgate_model::names::{EnvironmentName, PipelineName, ProjectName};
use tollgate_model::pipelines::{Pipeline, PipelineVersion};
use tollgate_model::policies::Policies;
use tollgate_model::verdicts::Violation;
use tollgate_model::versions::Version;

use crate::{UnknownEnvironment, judge};

/// How the running deployments of one environment stand to the policies.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Conformance {
    /// Where.
    pub environment: EnvironmentName,
    /// How many run.
    pub deployments: usize,
    /// How many of them today's policies would admit.
    pub conformant: usize,
    /// How many they would not.
    pub not_conformant: usize,
    /// Each of them.
    pub items: Vec<ConformanceItem>,
}

/// How one running deployment stands to the policies.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConformanceItem {
    /// What runs.
    pub pipeline: PipelineName,
    /// The project that it belongs to.
    pub project: ProjectName,
    /// Which version runs.
    pub version: Version,
    /// The policy version that admitted it.
    pub admitted_by: Version,
    /// Whether it is a login flow.
    pub login_flow: bool,
    /// Whether it would be admitted.
    pub conforms: bool,
    /// Why it would not.
    pub violations: Vec<Violation>,
}

/// What a policy change would do in one environment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Impact {
    /// Where.
    pub environment: EnvironmentName,
    /// Deployments that would stop conforming, with their new violations.
    pub falls_out: Vec<ConformanceItem>,
    /// Deployments that would start to.
    pub comes_in: Vec<ConformanceItem>,
    /// How many deployments conform as before, or do not as before.
    pub unchanged: usize,
}

/// Judges what runs in an environment by today's policies.
///
/// # Errors
///
/// [`UnknownEnvironment`] when the policies have no value for it.
pub fn conformance<'a>(
    policies: &Policies,
    environment: &EnvironmentName,
    deployed: impl IntoIterator<Item = (&'a Deployment, &'a PipelineVersion)>,
) -> Result<Conformance, UnknownEnvironment> {
    let items = deployed
        .into_iter()
        .map(|(deployment, version)| item(policies, deployment, &version.pipeline))
        .collect::<Result<Vec<_>, _>>()?;
    let conformant = items.iter().filter(|item| item.conforms).count();
    Ok(Conformance {
        environment: environment.clone(),
        deployments: items.len(),
        conformant,
        not_conformant: items.len() - conformant,
        items,
    })
}

/// Compares what two sets of policies say of what runs in an environment.
///
/// # Errors
///
/// [`UnknownEnvironment`] when one of them has no value for it.
pub fn impact<'a>(
    today: &Policies,
    proposed: &Policies,
    environment: &EnvironmentName,
    deployed: impl IntoIterator<Item = (&'a Deployment, &'a PipelineVersion)>,
) -> Result<Impact, UnknownEnvironment> {
    let mut impact = Impact {
        environment: environment.clone(),
        falls_out: Vec::new(),
        comes_in: Vec::new(),
        unchanged: 0,
    };
    for (deployment, version) in deployed {
        let before = judge(today, &version.pipeline, &deployment.environment)?.conforms();
        let after = item(proposed, deployment, &version.pipeline)?;
        match (before, after.conforms) {
            (true, false) => impact.falls_out.push(after),
            (false, true) => impact.comes_in.push(after),
            _ => impact.unchanged += 1,
        }
    }
    Ok(impact)
}

fn item(
    policies: &Policies,
    deployment: &Deployment,
    pipeline: &Pipeline,
) -> Result<ConformanceItem, UnknownEnvironment> {
    let verdict = judge(policies, pipeline, &deployment.environment)?;
    Ok(ConformanceItem {
        pipeline: deployment.pipeline.clone(),
        project: pipeline.project.clone(),
        version: deployment.version,
        admitted_by: deployment.policy_version,
        login_flow: verdict.login_flow,
        conforms: verdict.conforms(),
        violations: verdict.violations,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use jiff::Timestamp;
    use serde_json::json;
    use tollgate_model::deployments::DeployAction;
    use tollgate_model::ids::DeploymentId;
    use tollgate_model::policies::{AccessRequirement, PolicyName};

    use super::*;

    fn running(name: &str, trigger: serde_json::Value) -> (Deployment, PipelineVersion) {
        let pipeline: Pipeline = serde_json::from_value(
            json!({ "name": name, "project": "store", "trigger": trigger, "steps": [{ "json": 1 }] }),
        )
        .expect("a pipeline");
        let deployment = Deployment {
            id: DeploymentId::new(Timestamp::UNIX_EPOCH, [0; 10]),
            pipeline: pipeline.name.clone(),
            version: Version::FIRST,
            environment: EnvironmentName::test(),
            policy_version: Version::FIRST,
            deployed_at: Timestamp::UNIX_EPOCH,
            deployed_by: "admin".to_owned(),
            action: DeployAction::Deploy,
        };
        let version = PipelineVersion {
            version: Version::FIRST,
            pipeline,
            login_flow: false,
            created_at: Timestamp::UNIX_EPOCH,
            created_by: "admin".to_owned(),
        };
        (deployment, version)
    }

    #[test]
    fn a_stricter_policy_shows_who_falls_out_before_and_after_it_is_saved() {
        let test = EnvironmentName::test();
        let all = [
            running("keyed", json!({ "type": "rest", "externalApi": true, "apiKey": true })),
            running("strict", json!({ "type": "rest", "externalApi": true, "apiKey": true, "jwt": true })),
            running("hidden", json!({ "type": "rest" })),
        ];
        let deployed = || all.iter().map(|(deployment, version)| (deployment, version));
        let today = Policies::initial(&BTreeSet::from([test.clone()]));
        let stricter = today
            .change(
                PolicyName::ExternalApiAccess,
                &BTreeMap::from([(test.clone(), AccessRequirement::JwtWithApiKey)]),
            )
            .expect("known environment");

        let impact = impact(&today, &stricter, &test, deployed()).expect("known");
        assert_eq!(impact.falls_out.iter().map(|item| item.pipeline.as_str()).collect::<Vec<_>>(), ["keyed"]);
        assert_eq!((impact.comes_in.len(), impact.unchanged), (0, 2));

        let report = conformance(&stricter, &test, deployed()).expect("known");
        assert_eq!((report.deployments, report.conformant, report.not_conformant), (3, 2, 1));
        let back = super::impact(&stricter, &today, &test, deployed()).expect("known");
        assert_eq!(back.comes_in.len(), 1);
    }
}
