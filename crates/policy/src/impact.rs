//! What a policy change would do to what runs.

use jiff::Timestamp;
use serde::Serialize;
use tollgate_model::deployments::Deployment;
use tollgate_model::names::EnvironmentName;
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::policies::{Enforcement, Policies};
use tollgate_model::verdicts::Verdict;

use crate::ConformanceItem;

/// What a policy change would do in one environment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Impact {
    /// Where.
    pub environment: EnvironmentName,
    /// Deployments that would stop conforming, with their new violations.
    pub falls_out: Vec<ConformanceItem>,
    /// Deployments that would start to, as they would stand then.
    pub comes_in: Vec<ConformanceItem>,
    /// Deployments that do not conform today and would not then, with their new violations.
    #[serde(skip)]
    pub stays_out: Vec<ConformanceItem>,
    /// How many deployments conform as before, or do not as before.
    pub unchanged: usize,
    /// How many deployments would not conform, those of before counted in.
    pub not_conformant: usize,
    /// From when on the gateway would refuse calls to what does not conform; `None` where it never does.
    pub enforced_from: Option<Timestamp>,
}

// === impl Impact ===

impl Impact {
    /// Makes the impact that proposed policies have in an environment on nothing.
    pub fn on_nothing(proposed: &Policies, environment: &EnvironmentName) -> Self {
        let enforced_from = proposed.enforcement(environment).and_then(Enforcement::at_gateway);
        Self {
            environment: environment.clone(),
            falls_out: Vec::new(),
            comes_in: Vec::new(),
            stays_out: Vec::new(),
            unchanged: 0,
            not_conformant: 0,
            enforced_from: enforced_from.map(|at| at.at_gateway),
        }
    }

    /// Counts a deployment in: whether it conforms today, and what the proposed policies say of it.
    pub fn add(&mut self, deployment: &Deployment, version: &PipelineVersion, before: bool, after: Verdict) {
        self.not_conformant += usize::from(!after.conforms());
        self.unchanged += usize::from(before == after.conforms());
        let list = match (before, after.conforms()) {
            (true, true) => return,
            (true, false) => &mut self.falls_out,
            (false, true) => &mut self.comes_in,
            (false, false) => &mut self.stays_out,
        };
        list.push(ConformanceItem::new(deployment, &version.pipeline, after));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use jiff::Timestamp;
    use serde_json::json;
    use tollgate_model::deployments::DeployAction;
    use tollgate_model::ids::{DeploymentId, WaiverId};
    use tollgate_model::pipelines::Pipeline;
    use tollgate_model::policies::{AccessPolicy, AccessPolicyFile, AccessRequirement, Policy, PolicyName};
    use tollgate_model::verdicts::ViolationCode;
    use tollgate_model::versions::Version;
    use tollgate_model::waivers::Waiver;

    use super::*;
    use crate::{Judge, Standing, conformance};

    fn impact<'a>(
        today: &Judge<'_>,
        proposed: &Judge<'_>,
        environment: &EnvironmentName,
        deployed: impl Iterator<Item = (&'a Deployment, &'a PipelineVersion)>,
    ) -> Impact {
        let mut impact = Impact::on_nothing(proposed.policies(), environment);
        for (deployment, version) in deployed {
            let [before, after] =
                [today, proposed].map(|judge| judge.verdict(&version.pipeline, environment).expect("known"));
            impact.add(deployment, version, before.conforms(), after);
        }
        impact
    }

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
            attested: None,
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
            running(
                "strict",
                json!({ "type": "rest", "externalApi": true, "apiKey": true, "jwt": { "scopes": ["a:b"] } }),
            ),
            running("hidden", json!({ "type": "rest" })),
        ];
        let deployed = || all.iter().map(|(deployment, version)| (deployment, version));
        let today = Policies::initial(&BTreeSet::from([test.clone()]));
        let stricter = today
            .change(Policy::Access(AccessPolicyFile {
                name: AccessPolicy::ExternalApiAccess,
                environments: BTreeMap::from([(test.clone(), AccessRequirement::JwtWithApiKey)]),
            }))
            .expect("known environment");
        let now = Timestamp::UNIX_EPOCH;
        let (before, after) = (Judge::new(&today, &[], now), Judge::new(&stricter, &[], now));

        let change = impact(&before, &after, &test, deployed());
        assert_eq!(change.falls_out.iter().map(|item| item.pipeline.as_str()).collect::<Vec<_>>(), ["keyed"]);
        assert_eq!((change.comes_in.len(), change.unchanged), (0, 2));
        assert_eq!((change.not_conformant, change.enforced_from), (1, None));

        // What stands is told where it is a date that changes: its calls would be refused.
        let dates = json!({ "name": "enforcement", "environments": { "test": { "atGateway": "2030-01-31T00:00:00Z" } } });
        let enforced =
            stricter.change(serde_json::from_value(dates).expect("a policy")).expect("known environment");
        let dated = impact(&after, &Judge::new(&enforced, &[], now), &test, deployed());
        assert_eq!((dated.falls_out.len(), dated.unchanged, dated.not_conformant), (0, 3, 1));
        assert_eq!(dated.stays_out[0].pipeline.as_str(), "keyed");
        assert_eq!(dated.enforced_from, "2030-01-31T00:00:00Z".parse().ok());

        let report = conformance(&after, &test, deployed()).expect("known");
        assert_eq!((report.deployments, report.conformant, report.not_conformant), (3, 2, 1));
        let gaps: Vec<_> =
            report.scope_gaps.iter().map(|gap| (gap.pipeline.as_str(), gap.scope.as_str())).collect();
        assert_eq!(gaps, [("strict", "a:b")], "no login flow offers it");
        let back = impact(&after, &before, &test, deployed());
        assert_eq!(back.comes_in.len(), 1);

        let until: Timestamp = "1970-01-02T00:00:00Z".parse().expect("a time");
        let waivers = [Waiver {
            id: WaiverId::new(now, [1; 10]),
            pipeline: all[0].0.pipeline.clone(),
            environment: test.clone(),
            policy: PolicyName::Access(AccessPolicy::ExternalApiAccess),
            code: ViolationCode::MissingJwt,
            until,
            reason: "until the shop can send tokens".to_owned(),
            created_at: now,
            created_by: "admin".to_owned(),
            approved_by: None,
        }];
        let waived = Judge::new(&stricter, &waivers, now);
        let report = conformance(&waived, &test, deployed()).expect("known");
        assert_eq!((report.conformant, report.waived, report.not_conformant), (2, 1, 0));
        assert_eq!(report.items[0].standing, Standing::Waived);
        assert!(impact(&before, &waived, &test, deployed()).falls_out.is_empty());
        let ended = Judge::new(&stricter, &waivers, until);
        assert_eq!(conformance(&ended, &test, deployed()).expect("known").not_conformant, 1);
    }
}
