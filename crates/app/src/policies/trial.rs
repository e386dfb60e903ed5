//! Trying a custom rule on what runs, while somebody writes it; and who changed each policy last.
//!
//! A rule that was never tried is worked out on every version that runs. That takes as long as the rule makes it, so a
//! trial does a bounded part of it and says how far it came: whoever asks again gets the next part, since what was worked
//! out is remembered with the versions.

use std::collections::BTreeMap;

use tollgate_model::names::EnvironmentName;
use tollgate_model::objects::keys;
use tollgate_model::policies::{PolicyName, PolicyVersion, Rule};
use tollgate_model::verdicts::Verdict;
use tollgate_model::versions::Version;
use tollgate_policy::{ConformanceItem, KnownVersion, TriedRule};

use super::PolicyUseCases;
use super::edits::unfit;
use crate::access::{Op, Permission};
use crate::errors::Error;
use crate::judging;

/// Most deployments of an environment that a trial names.
const MAX_NAMED: usize = 20;

/// Work that one trial does on each core, in nodes of an expression: some hundredths of a second.
const WORK: u64 = 2_000_000;

/// How many versions are looked at for who changed a policy last.
const MAX_VERSIONS: u32 = 100;

/// What a custom rule says of what runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleTrial {
    /// Each environment in which the actor may see how deployments stand.
    pub environments: Vec<RuleTrialIn>,
}

/// What a custom rule says of what runs in one environment.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleTrialIn {
    /// Where.
    pub environment: EnvironmentName,
    /// How many deployments run.
    pub deployments: usize,
    /// How many of them it was tried on so far.
    pub tried: usize,
    /// How many of them break it, or cannot be told.
    pub broken: usize,
    /// The first of these by name, with what it says of each.
    pub items: Vec<ConformanceItem>,
}

// === impl RuleTrial ===

impl RuleTrial {
    /// Tells whether the rule was tried on everything; else the same question goes on with the rest.
    pub fn is_done(&self) -> bool {
        self.environments.iter().all(|it| it.tried == it.deployments)
    }
}

// === impl PolicyUseCases ===

impl PolicyUseCases {
    /// Tells which deployments break a custom rule, as if it were required in every environment. Nothing is saved.
    ///
    /// Tries a bounded part of those that it was not tried on yet; [`RuleTrial::is_done`] tells whether that was all.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Invalid`] when the rule could not be saved, with the reason.
    pub async fn try_rule(&self, op: &Op, rule: &Rule) -> Result<RuleTrial, Error> {
        op.demand_anywhere(Permission::PolicyRead)?;
        let tried = TriedRule::new(rule).map_err(|error| unfit(&error))?;
        let standings = self.0.standings(op).await?;
        let names = standings.policies().value.environments();
        let names: Vec<EnvironmentName> =
            names.filter(|name| op.may_somewhere_in(Permission::PolicyRead, name)).cloned().collect();
        let (op, version) = (op.clone(), standings.policies().value.version());
        judging::away(move || {
            let here = |name| standings.of(&op, &[Permission::PolicyRead], name).map(|(_, it)| it);
            let known = names.iter().flat_map(|name| here(name).map(|it| &*it.version));
            let new: Vec<&KnownVersion> = known.filter(|it| !tried.is_tried_on(it)).collect();
            judging::in_shares(&new, |share| {
                let mut left = WORK;
                for version in share {
                    left = left.saturating_sub(tried.try_on(version));
                    if left == 0 {
                        break;
                    }
                }
            })?;
            let environments = names.iter().map(|environment| {
                let mut trial = RuleTrialIn {
                    environment: environment.clone(),
                    deployments: 0,
                    tried: 0,
                    broken: 0,
                    items: Vec::new(),
                };
                for judged in here(environment) {
                    trial.deployments += 1;
                    if !tried.is_tried_on(&judged.version) {
                        continue;
                    }
                    trial.tried += 1;
                    let Some(violation) = tried.violation(&judged.version, environment) else { continue };
                    trial.broken += 1;
                    if trial.items.len() < MAX_NAMED {
                        let verdict = Verdict {
                            environment: environment.clone(),
                            policy_version: version,
                            login_flow: judged.is_login_flow(),
                            violations: vec![violation],
                            waived: Vec::new(),
                            advice: Vec::new(),
                        };
                        let (deployment, version) = judged.deployed();
                        trial.items.push(ConformanceItem::new(deployment, &version.pipeline, verdict));
                    }
                }
                trial
            });
            Ok(RuleTrial { environments: environments.collect() })
        })
        .await
    }

    /// Returns the version that changed each policy last, of the newest hundred; a policy that none of them changed is
    /// left out.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Forbidden`], [`crate::errors::ErrorKind::Unavailable`].
    pub async fn last_changes(&self, op: &Op) -> Result<BTreeMap<PolicyName, PolicyVersion>, Error> {
        op.demand_anywhere(Permission::PolicyRead)?;
        let today = self.0.current_policies(&op.realm).await?.value;
        let Version { major, minor } = today.version();
        let numbers = minor.saturating_sub(MAX_VERSIONS)..=minor;
        let wanted: Vec<String> =
            numbers.map(|minor| keys::policy_version(Version { major, minor })).collect();
        let versions = self.0.store().get_many::<PolicyVersion>(&op.realm, &wanted).await?;
        let mut versions: Vec<PolicyVersion> = versions.into_iter().map(|stored| stored.value).collect();
        versions.sort_by_key(|version| std::cmp::Reverse(version.policies.version()));
        let mut last = BTreeMap::new();
        for (index, version) in versions.iter().enumerate() {
            let before = versions.get(index + 1).map(|version| &version.policies);
            if before.is_none() && version.policies.version() != Version::FIRST {
                break;
            }
            for policy in today.policies() {
                let name = policy.name();
                let changed =
                    before.and_then(|before| before.policy(&name)) != version.policies.policy(&name);
                if changed && !last.contains_key(&name) {
                    last.insert(name, version.clone());
                }
            }
        }
        Ok(last)
    }
}
