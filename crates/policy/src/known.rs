//! What custom rules said of a version of a pipeline, remembered.
//!
//! What a rule says of a pipeline is decided by its condition and by the pipeline; the environment, the waivers, the time
//! and the other rules have no part in it. A version never changes, so no condition is worked out twice on one. After a
//! change of the policies, only what is new in them is.
//!
//! Judging a version that is known cannot differ from judging its pipeline: both go through [`crate::Judge`], and differ in
//! where the outcomes of conditions come from.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tollgate_model::names::EnvironmentName;
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::policies::Rule;
use tollgate_model::verdicts::Violation;

use crate::judge::broken_rule;
use crate::rules::{CheckRuleError, CompiledRule, Condition, RuleOutcome, checked};

/// Most conditions whose outcomes are remembered of a version, each in 56 bytes; a realm has 100 rules at most. Beyond
/// them, those of rules that were only tried are in the way, and all are forgotten.
const MOST: usize = 160;

/// A version of a pipeline, with what custom rules said of it.
#[derive(Debug)]
pub struct KnownVersion {
    version: PipelineVersion,
    /// In the order of the conditions.
    said: Mutex<Vec<(Condition, RuleOutcome)>>,
}

/// A custom rule that is tried, one version after the other.
pub struct TriedRule(CompiledRule);

// === impl KnownVersion ===

impl KnownVersion {
    /// Makes one of which nothing was said yet.
    pub fn new(version: PipelineVersion) -> Self {
        Self { version, said: Mutex::default() }
    }

    /// Returns the version.
    pub fn version(&self) -> &PipelineVersion {
        &self.version
    }

    /// Returns what a rule says of it.
    pub(crate) fn outcome(&self, rule: &CompiledRule) -> RuleOutcome {
        self.remembered(rule).unwrap_or_else(|| self.evaluate(rule).0)
    }

    fn remembered(&self, rule: &CompiledRule) -> Option<RuleOutcome> {
        let said = self.said();
        let at = said.binary_search_by(|(condition, _)| condition.cmp(&rule.condition)).ok()?;
        said.get(at).map(|(_, outcome)| outcome.clone())
    }

    /// Works out what a rule says of it, and returns that and how much work it was.
    fn evaluate(&self, rule: &CompiledRule) -> (RuleOutcome, u64) {
        let (outcome, work) = rule.evaluate(&self.version.pipeline);
        if rule.is_sure() {
            let mut said = self.said();
            if said.len() >= MOST {
                said.clear();
            }
            if let Err(at) = said.binary_search_by(|(condition, _)| condition.cmp(&rule.condition)) {
                said.insert(at, (rule.condition, outcome.clone()));
            }
        }
        (outcome, work)
    }

    fn said(&self) -> MutexGuard<'_, Vec<(Condition, RuleOutcome)>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl TriedRule ===

impl TriedRule {
    /// Checks a rule as [`crate::check_rule`] does, and prepares to try it.
    ///
    /// # Errors
    ///
    /// [`CheckRuleError`], by variant.
    pub fn new(rule: &Rule) -> Result<Self, CheckRuleError> {
        checked(rule).map(Self)
    }

    /// Tells whether it is known whether the rule holds for a version.
    pub fn is_tried_on(&self, known: &KnownVersion) -> bool {
        known.remembered(&self.0).is_some()
    }

    /// Finds out whether the rule holds for a version, and returns about how much work that was, in nodes of an expression;
    /// 0 when it was known.
    pub fn try_on(&self, known: &KnownVersion) -> u64 {
        if self.is_tried_on(known) { 0 } else { known.evaluate(&self.0).1 }
    }

    /// Returns the violation that the rule finds in a version if it is required in an environment.
    pub fn violation(&self, known: &KnownVersion, environment: &EnvironmentName) -> Option<Violation> {
        broken_rule(&self.0.rule, environment, known.outcome(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tollgate_model::policies::{Policies, Policy, RuleMode};

    use super::*;
    use crate::Judge;

    const CONDITIONS: [&str; 6] = [
        "!trigger.externalApi || has(trigger.rateLimit)",
        "trigger['apiKey'] && name != 'b'",
        "steps.all(s, s.type != 'http' || s.host == 'a.example')",
        "steps.all(s, !has(s.body) || s.body.x == 1)",
        "trigger.responseHeaders['cache-control'] == 'no-store'",
        "description == '' || size(trigger.routes) < 2",
    ];

    fn version(trigger: &Value, steps: &Value, name: &str) -> KnownVersion {
        let version = json!({ "version": "1.0", "loginFlow": false, "createdAt": "2026-01-01T00:00:00Z",
            "createdBy": "ada", "pipeline": { "name": name, "project": "store", "trigger": trigger, "steps": steps } });
        KnownVersion::new(serde_json::from_value(version).expect("a version"))
    }

    fn rule(number: usize, condition: &str, mode: RuleMode) -> Rule {
        let environments = [(EnvironmentName::test(), mode), (EnvironmentName::prod(), RuleMode::Required)];
        let value = json!({ "name": format!("rule-{number}"), "condition": condition,
            "message": format!("no {number}"), "environments": {} });
        let rule: Rule = serde_json::from_value(value).expect("a rule");
        Rule { environments: environments.into(), ..rule }
    }

    fn versions() -> Vec<KnownVersion> {
        let triggers = [
            json!({ "type": "rest", "externalApi": true, "apiKey": true, "responseHeaders": { "cache-control": "no-store" } }),
            json!({ "type": "rest", "externalApi": true, "rateLimit": { "limits": [{ "interval": "minute", "limit": 6 }] },
                "routes": ["/a", "/b"] }),
            json!({ "type": "scheduler", "cron": "0 6 * * *" }),
        ];
        let steps = [
            json!([{ "json": { "x": 1 } }]),
            json!([{ "http": { "url": "https://b.example/", "body": { "y": 1 } } }]),
        ];
        let mut versions = Vec::new();
        for trigger in &triggers {
            versions
                .extend(steps.iter().flat_map(|steps| ["a", "b"].map(|name| version(trigger, steps, name))));
        }
        versions
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_remembered_says_what_judging_from_the_start_says(
            changes in prop::collection::vec(prop::collection::vec(
                (0..CONDITIONS.len(), prop::sample::select(vec![RuleMode::Off, RuleMode::Advised, RuleMode::Required])),
                0..4,
            ), 1..6),
        ) {
            let names = [EnvironmentName::test(), EnvironmentName::prod()];
            let versions = versions();
            // The same rule has another condition after each change, and the same condition stands in other rules.
            for rules in changes {
                let mut policies = Policies::initial(&BTreeSet::from(names.clone()));
                for (number, (condition, mode)) in rules.into_iter().enumerate() {
                    let rule = rule(number, CONDITIONS.get(condition).expect("one of them"), mode);
                    policies = policies.replace(Policy::Rule(rule)).expect("fits");
                }
                let judge = Judge::new(&policies, &[], Timestamp::UNIX_EPOCH);
                for known in &versions {
                    for environment in &names {
                        let afresh = judge.verdict(&known.version().pipeline, environment);
                        prop_assert_eq!(judge.verdict_on(known, environment), afresh);
                    }
                }
            }
        }
    }

    #[test]
    fn a_condition_is_worked_out_once_on_a_version_and_memory_is_bounded() {
        let [known, other] =
            ["a", "b"].map(|name| version(&json!({ "type": "rest" }), &json!([{ "json": 1 }]), name));
        let tried =
            |number, condition: &str| TriedRule::new(&rule(number, condition, RuleMode::Off)).expect("fits");
        let first = tried(0, "name == 'a'");
        assert!(!first.is_tried_on(&known));
        assert!(first.try_on(&known) > 0);
        let renamed = tried(1, "name == 'a'");
        assert_eq!((renamed.try_on(&known), renamed.is_tried_on(&other)), (0, false));
        assert_eq!(renamed.violation(&known, &EnvironmentName::test()), None);
        let found = renamed.violation(&other, &EnvironmentName::test()).expect("its name is b");
        assert_eq!((found.policy.to_string(), found.message.as_str()), ("rule-1".to_owned(), "no 1"));
        for number in 0..2 * MOST {
            tried(0, &format!("name != 'x{number}'")).try_on(&known);
            assert!(known.said().len() <= MOST);
        }
    }
}
