//! What two versions of a realm's policies differ in: every value, and what the difference means.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tollgate_model::names::EnvironmentName;
use tollgate_model::policies::{Policies, Policy, PolicyName, Rule};
use tollgate_model::versions::Version;

use crate::{Judge, Meaning, UnknownEnvironment, meaning};

/// What two versions differ in.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyDiff {
    /// The version compared from.
    pub from: Version,
    /// The version compared to.
    pub to: Version,
    /// Environments that only `to` has values for.
    pub environments_added: Vec<EnvironmentName>,
    /// Environments that only `from` has values for.
    pub environments_removed: Vec<EnvironmentName>,
    /// The policies that are not the same, custom rules among them.
    pub policies: Vec<PolicyChange>,
    /// What the difference means, in every environment that both have values for.
    pub meaning: Meaning,
}

/// A policy that is not the same in two versions.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyChange {
    /// Which policy.
    pub policy: PolicyName,
    /// Whether it came, went or became another.
    pub change: Change,
    /// Its value in each environment where that is not the same.
    pub environments: Vec<ValueChange<EnvironmentName>>,
    /// The other settings of a custom rule that are not the same: `condition`, `message`, `fix`.
    pub settings: Vec<ValueChange<&'static str>>,
}

/// How something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// Only the later one has it.
    Added,
    /// Only the earlier one has it.
    Removed,
    /// Both have it, and not the same.
    Changed,
}

/// A value before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueChange<N> {
    /// Of what.
    pub name: N,
    /// What it was; null when there was none.
    pub before: Value,
    /// What it is; null when there is none.
    pub after: Value,
}

/// Compares two versions of a realm's policies; their environments may differ.
///
/// Waivers are left out: they belong to no version.
///
/// # Errors
///
/// As [`meaning`].
pub fn diff(from: &Policies, to: &Policies) -> Result<PolicyDiff, UnknownEnvironment> {
    let (before, after): (BTreeSet<_>, BTreeSet<_>) =
        (from.environments().collect(), to.environments().collect());
    let environments: BTreeSet<&EnvironmentName> = before.union(&after).copied().collect();
    let names: BTreeSet<PolicyName> = from.policies().chain(to.policies()).map(Policy::name).collect();
    let policies = names.into_iter().filter_map(|name| {
        let (before, after) = (from.policy(&name), to.policy(&name));
        if before == after {
            return None;
        }
        let change = match (before, after) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            _ => Change::Changed,
        };
        let in_environments = environments.iter().filter_map(|environment| {
            let value = |policy: Option<&Policy>| policy.and_then(|it| it.value(environment));
            ValueChange::new((*environment).clone(), value(before), value(after))
        });
        Some(PolicyChange {
            environments: in_environments.collect(),
            settings: rule_settings(before, after),
            policy: name,
            change,
        })
    });
    let now = Timestamp::UNIX_EPOCH;
    Ok(PolicyDiff {
        from: from.version(),
        to: to.version(),
        environments_added: after.difference(&before).copied().cloned().collect(),
        environments_removed: before.difference(&after).copied().cloned().collect(),
        policies: policies.collect(),
        meaning: meaning(&Judge::new(from, &[], now), &Judge::new(to, &[], now))?,
    })
}

fn rule_settings(before: Option<&Policy>, after: Option<&Policy>) -> Vec<ValueChange<&'static str>> {
    type Setting = (&'static str, fn(&Rule) -> Option<Value>);
    const SETTINGS: [Setting; 3] = [
        ("condition", |rule| Some(json!(rule.condition))),
        ("message", |rule| Some(json!(rule.message))),
        ("fix", |rule| rule.fix.as_ref().map(|fix| json!(fix))),
    ];
    let rule = |policy: Option<&Policy>| match policy {
        Some(Policy::Rule(rule)) => Some(rule.clone()),
        _ => None,
    };
    let (before, after) = (rule(before), rule(after));
    SETTINGS
        .into_iter()
        .filter_map(|(name, value)| {
            ValueChange::new(name, before.as_ref().and_then(value), after.as_ref().and_then(value))
        })
        .collect()
}

// === impl ValueChange ===

impl<N> ValueChange<N> {
    /// Returns the change; `None` when there is none.
    fn new(name: N, before: Option<Value>, after: Option<Value>) -> Option<Self> {
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        (before != after).then_some(Self { name, before, after })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Effect;

    fn policy(document: Value) -> Policy {
        serde_json::from_value(document).expect("a policy")
    }

    fn realm() -> Policies {
        Policies::initial(&BTreeSet::from([EnvironmentName::test(), EnvironmentName::prod()]))
    }

    #[test]
    fn a_version_differs_from_itself_in_nothing() {
        let same = diff(&realm(), &realm()).expect("known");
        assert_eq!((same.policies.len(), same.meaning.effect), (0, Effect::None));
    }

    #[test]
    fn every_value_that_differs_is_told_before_and_after() {
        let rule = |condition: &str, prod: &str| {
            policy(json!({ "name": "no-basic", "condition": condition, "message": "no",
                "environments": { "test": "off", "prod": prod } }))
        };
        let external = policy(json!({ "name": "external-api-access",
            "environments": { "test": "api-key", "prod": "jwt-with-api-key" } }));
        let first = realm().replace(rule("!trigger.basicAuth", "off")).expect("valid");
        let second = first
            .replace(rule("!trigger.basicAuth || trigger.apiKey", "required"))
            .and_then(|it| it.replace(external))
            .expect("valid");
        let told = diff(&first, &second).expect("known");
        assert_eq!((told.from, told.to), (first.version(), second.version()));
        let names: Vec<_> = told.policies.iter().map(|it| (it.policy.as_str(), it.change)).collect();
        assert_eq!(names, [("external-api-access", Change::Changed), ("no-basic", Change::Changed)]);
        let prod = EnvironmentName::prod();
        let value = |before: &str, after: &str| ValueChange {
            name: prod.clone(),
            before: before.into(),
            after: after.into(),
        };
        assert_eq!(told.policies[0].environments, [value("api-key", "jwt-with-api-key")]);
        assert_eq!(told.policies[1].environments, [value("off", "required")]);
        let settings: Vec<_> = told.policies[1].settings.iter().map(|it| it.name).collect();
        assert_eq!(settings, ["condition"]);
        assert_eq!(told.meaning.effect, Effect::Tightens);

        let back = diff(&second, &realm()).expect("known");
        assert_eq!(back.policies[1].change, Change::Removed);
        assert_eq!(back.policies[1].settings.len(), 2, "condition and message went with it");
        assert_eq!(back.meaning.effect, Effect::Weakens);
    }

    #[test]
    fn versions_of_other_environments_can_be_compared() {
        let staging = EnvironmentName::parse("staging").expect("a slug");
        let external = policy(json!({ "name": "external-api-access",
            "environments": { "prod": "any", "staging": "api-key" } }));
        let later = realm()
            .with_environment(&staging, &BTreeMap::new())
            .and_then(|it| it.without_environment(&EnvironmentName::test()))
            .and_then(|it| it.replace(external))
            .expect("valid");
        let told = diff(&realm(), &later).expect("comparable");
        assert_eq!(told.environments_added, std::slice::from_ref(&staging));
        assert_eq!(told.environments_removed, [EnvironmentName::test()]);
        let meant: Vec<_> = told.meaning.environments.iter().map(|it| it.environment.as_str()).collect();
        assert_eq!((meant, told.meaning.effect), (vec!["prod"], Effect::Weakens));
        let access = &told.policies[0].environments;
        let values: Vec<_> = access.iter().map(|it| (it.name.as_str(), &it.before, &it.after)).collect();
        assert_eq!(
            values,
            [
                ("prod", &json!("api-key"), &json!("any")),
                ("staging", &Value::Null, &json!("api-key")),
                ("test", &json!("api-key"), &Value::Null)
            ]
        );
        assert!(diff(&later, &realm()).is_ok());
    }
}
