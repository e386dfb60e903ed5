//! Trying a custom rule on what runs, while somebody writes it; and who changed each policy last.

use std::collections::{BTreeMap, BTreeSet};

use tollgate_model::names::EnvironmentName;
use tollgate_model::objects::keys;
use tollgate_model::policies::{Policies, Policy, PolicyName, PolicyVersion, Rule, RuleMode};
use tollgate_model::versions::Version;
use tollgate_policy::{ConformanceItem, Judge};

use super::PolicyUseCases;
use super::edits::checked;
use crate::access::{Op, Permission};
use crate::errors::Error;
use crate::judging;

/// Most deployments of an environment that a trial names.
const MAX_NAMED: usize = 20;

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
    /// How many deployments it was tried on.
    pub deployments: usize,
    /// How many of them break it, or cannot be told.
    pub broken: usize,
    /// The first of these by name, with what it says of each.
    pub items: Vec<ConformanceItem>,
}

// === impl PolicyUseCases ===

impl PolicyUseCases {
    /// Tells which deployments break a custom rule, as if it were required in every environment. Nothing is saved.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Invalid`] when the rule could not be saved, with the reason.
    pub async fn try_rule(&self, op: &Op, rule: &Rule) -> Result<RuleTrial, Error> {
        op.demand_anywhere(Permission::PolicyRead)?;
        checked(rule)?;
        let standings = self.0.standings(op).await?;
        let names: BTreeSet<EnvironmentName> = standings.policies().value.environments().cloned().collect();
        let environments = names.iter().map(|name| (name.clone(), RuleMode::Required)).collect();
        let alone = Policies::initial(&names).replace(Policy::Rule(Rule { environments, ..rule.clone() }))?;
        let names: Vec<EnvironmentName> =
            names.into_iter().filter(|name| op.may_somewhere_in(Permission::PolicyRead, name)).collect();
        let (op, policy) = (op.clone(), PolicyName::Rule(rule.name.clone()));
        judging::away(move || {
            let judge = Judge::new(&alone, &[], op.now);
            let environments = judging::in_each(&names, |environment| {
                let mut trial = RuleTrialIn {
                    environment: environment.clone(),
                    deployments: 0,
                    broken: 0,
                    items: Vec::new(),
                };
                for (_, judged) in standings.of(&op, &[Permission::PolicyRead], environment) {
                    let (deployment, version) = judged.deployed();
                    let mut verdict = judge.verdict(&version.pipeline, environment)?;
                    verdict.violations.retain(|violation| violation.policy == policy);
                    trial.deployments += 1;
                    if verdict.violations.is_empty() {
                        continue;
                    }
                    trial.broken += 1;
                    if trial.items.len() < MAX_NAMED {
                        trial.items.push(ConformanceItem::new(deployment, &version.pipeline, verdict));
                    }
                }
                Ok(trial)
            })?;
            Ok(RuleTrial { environments })
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
