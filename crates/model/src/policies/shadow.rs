//! What shadow policies make of today's.

use crate::names::{EnvironmentName, RuleName};

use super::{Policies, Policy, PolicyError, PolicyName, ShadowPolicies};

// === impl ShadowPolicies ===

impl ShadowPolicies {
    /// Returns the policies as they would be: the next minor version of today's, with these in place. Environments that
    /// were made since have today's values, and those that are gone stay gone; a custom rule that has no value for an
    /// environment is off there.
    ///
    /// # Errors
    ///
    /// [`PolicyError::TooMany`] when today's policies have grown so that there is no room for these.
    pub fn onto(&self, today: &Policies) -> Result<Policies, PolicyError> {
        let environments: Vec<EnvironmentName> = today.environments().cloned().collect();
        let mut next = Policies { version: today.version.next_minor(), policies: today.policies.clone() };
        for rule in &self.removed_rules {
            next.policies.remove(&PolicyName::Rule(rule.clone()));
        }
        for policy in &self.changes {
            let policy = match today.policies.get(&policy.name()) {
                Some(value) => policy.clone().over(value),
                None => policy.clone(),
            };
            next.put(policy.within(&environments))?;
        }
        Ok(next)
    }

    /// Takes out what was proposed for an environment that goes: one that is made again under its name is another. Returns
    /// whether anything is left of the proposal.
    pub fn forget(&mut self, environment: &EnvironmentName) -> bool {
        let changes = std::mem::take(&mut self.changes).into_iter().filter_map(|policy| {
            let left: Vec<_> = policy.environments().filter(|name| *name != environment).cloned().collect();
            // A rule is proposed also where it has no value.
            let stays = !left.is_empty() || matches!(policy, Policy::Rule(_));
            stays.then(|| policy.within(&left))
        });
        self.changes = changes.collect();
        !self.changes.is_empty() || !self.removed_rules.is_empty()
    }

    /// Puts a policy in, in place of what was proposed for it before.
    pub fn propose(&mut self, policy: Policy) {
        let name = policy.name();
        self.changes.retain(|proposed| proposed.name() != name);
        self.removed_rules.retain(|rule| PolicyName::Rule(rule.clone()) != name);
        self.changes.push(policy);
        self.changes.sort_by_key(Policy::name);
    }

    /// Puts some environments' values of a policy in; the others keep what was proposed for them before, or follow
    /// today's.
    pub fn propose_some(&mut self, policy: Policy) {
        let before = self.changes.iter().find(|proposed| proposed.name() == policy.name());
        let policy = match before {
            Some(before) => policy.over(before),
            None => policy,
        };
        self.propose(policy);
    }

    /// Takes a custom rule away, in place of what was proposed for it before.
    pub fn propose_without(&mut self, rule: RuleName) {
        let name = PolicyName::Rule(rule.clone());
        self.changes.retain(|proposed| proposed.name() != name);
        if !self.removed_rules.contains(&rule) {
            self.removed_rules.push(rule);
            self.removed_rules.sort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::policies::{AccessPolicy, AccessRequirement};
    use crate::versions::Version;

    fn access(values: serde_json::Value) -> Policy {
        serde_json::from_value(json!({ "name": "external-api-access", "environments": values }))
            .expect("a policy")
    }

    fn rule(name: &str, values: serde_json::Value) -> Policy {
        serde_json::from_value(
            json!({ "name": name, "condition": "true", "message": "no", "environments": values }),
        )
        .expect("a rule")
    }

    fn shadow(changes: Vec<Policy>) -> ShadowPolicies {
        ShadowPolicies {
            changes,
            removed_rules: Vec::new(),
            created_at: Timestamp::UNIX_EPOCH,
            created_by: "admin".to_owned(),
            reason: String::new(),
        }
    }

    #[test]
    fn a_shadow_becomes_one_version_whatever_it_changes_and_follows_the_environments() {
        let (test, prod) = (EnvironmentName::test(), EnvironmentName::prod());
        let today = Policies::initial(&BTreeSet::from([test.clone(), prod.clone()]))
            .replace(rule("old", json!({ "test": "off", "prod": "required" })))
            .expect("fits");
        let mut shadow = shadow(vec![
            access(json!({ "test": "any", "prod": "jwt-with-api-key" })),
            rule("new", json!({ "test": "advised", "prod": "required" })),
        ]);
        shadow.propose_without(RuleName::parse("old").expect("a name"));
        let next = shadow.onto(&today).expect("fits");
        assert_eq!(next.version(), Version { major: 1, minor: 2 });
        assert_eq!(next.rules().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["new"]);

        // One environment was made and another removed since the shadow was set.
        let staging = EnvironmentName::parse("staging").expect("a name");
        let changed = today.with_environment(&staging, &BTreeMap::new()).expect("new");
        let next = shadow.onto(&changed.without_environment(&test).expect("another is left")).expect("fits");
        let external = |environment| next.requirement(AccessPolicy::ExternalApiAccess, environment);
        assert_eq!(external(&staging), Some(AccessRequirement::ApiKey));
        assert_eq!(external(&prod), Some(AccessRequirement::JwtWithApiKey));
        assert_eq!(external(&test), None);
        let policy = next.policy(&"new".parse().expect("a name")).expect("there");
        assert_eq!(policy.value(&staging), Some(json!("off")));
    }

    #[test]
    fn nothing_is_left_for_an_environment_that_went() {
        let (test, staging) = (EnvironmentName::test(), EnvironmentName::parse("staging").expect("a slug"));
        let mut both = shadow(vec![access(json!({ "test": "any", "staging": "any" }))]);
        assert!(both.forget(&staging));
        assert_eq!(both.changes, [access(json!({ "test": "any" }))]);
        let mut one = shadow(vec![access(json!({ "staging": "any" }))]);
        assert!(!one.forget(&staging), "nothing is proposed any more");
        let again = Policies::initial(&BTreeSet::from([test, staging.clone()]));
        let next = both.onto(&again).expect("fits");
        assert_eq!(
            next.requirement(AccessPolicy::ExternalApiAccess, &staging),
            Some(AccessRequirement::ApiKey)
        );
    }

    #[test]
    fn environments_without_a_proposal_follow_todays_values() {
        let (test, prod) = (EnvironmentName::test(), EnvironmentName::prod());
        let today = Policies::initial(&BTreeSet::from([test.clone(), prod.clone()]));
        let mut shadow = shadow(Vec::new());
        shadow.propose_some(access(json!({ "prod": "jwt-with-api-key" })));
        let stricter = today.change(access(json!({ "test": "jwt-with-api-key" }))).expect("fits");
        let next = shadow.onto(&stricter).expect("fits");
        let external = |next: &Policies, name| next.requirement(AccessPolicy::ExternalApiAccess, name);
        assert_eq!(external(&next, &test), Some(AccessRequirement::JwtWithApiKey), "nobody proposed less");
        shadow.propose_some(access(json!({ "test": "any" })));
        let next = shadow.onto(&stricter).expect("fits");
        assert_eq!(external(&next, &test), Some(AccessRequirement::Any));
        assert_eq!(external(&next, &prod), Some(AccessRequirement::JwtWithApiKey), "it was proposed before");
    }

    #[test]
    fn what_is_proposed_last_for_a_policy_counts() {
        let mut shadow = shadow(vec![access(json!({ "test": "any" }))]);
        shadow.propose(access(json!({ "test": "jwt-with-api-key" })));
        assert_eq!(shadow.changes, [access(json!({ "test": "jwt-with-api-key" }))]);
        let name = RuleName::parse("a-rule").expect("a name");
        shadow.propose(rule("a-rule", json!({ "test": "off" })));
        shadow.propose_without(name.clone());
        assert_eq!((shadow.changes.len(), shadow.removed_rules.clone()), (1, vec![name]));
        shadow.propose(rule("a-rule", json!({ "test": "off" })));
        assert_eq!((shadow.changes.len(), shadow.removed_rules.len()), (2, 0));
    }
}
