//! What a policy change means, exactly: not a sample of pipelines, but every combination of a trigger's switches.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};
use tollgate_model::names::EnvironmentName;
use tollgate_model::pipelines::Pipeline;
use tollgate_model::policies::{Enforcement, LoginFlowRules, Policy, PolicyName, Rule, RuleMode};

use crate::{Judge, UnknownEnvironment};

/// Which way a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// Nothing is judged otherwise.
    None,
    /// Something is admitted that was not.
    Weakens,
    /// Something is no longer admitted.
    Tightens,
    /// Both.
    Both,
}

/// What a policy change means.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Meaning {
    /// Which way it goes, in any environment.
    pub effect: Effect,
    /// Each environment.
    pub environments: Vec<EnvironmentMeaning>,
}

/// What a policy change means in one environment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentMeaning {
    /// Where.
    pub environment: EnvironmentName,
    /// Which way it goes there.
    pub effect: Effect,
    /// How many combinations of switches there are.
    pub combinations: usize,
    /// How many of them are judged otherwise.
    pub changed: usize,
    /// These combinations, put together where a switch makes no difference.
    pub switches: Vec<SwitchChange>,
    /// What else changes: custom rules, and the settings of other policies.
    pub settings: Vec<SettingChange>,
}

/// Combinations of switches that are judged otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SwitchChange {
    /// Which.
    pub switches: Switches,
    /// What was missing before.
    pub before: Vec<String>,
    /// What is missing after.
    pub after: Vec<String>,
    /// Which way it goes.
    pub effect: Effect,
}

/// The switches of a trigger, and whether the flow is a login flow; null where it makes no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Switches {
    /// `externalApi`.
    pub external_api: Option<bool>,
    /// `internalApi`.
    pub internal_api: Option<bool>,
    /// `apiKey`.
    pub api_key: Option<bool>,
    /// `mtls`.
    pub mtls: Option<bool>,
    /// `jwt`.
    pub jwt: Option<bool>,
    /// `basicAuth`.
    pub basic_auth: Option<bool>,
    /// Whether the flow is a login flow.
    pub login_flow: Option<bool>,
}

/// A setting of a policy that changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SettingChange {
    /// Of which policy.
    pub policy: PolicyName,
    /// What it was; null when there was none.
    pub before: Value,
    /// What it is; null when there is none.
    pub after: Value,
    /// Which way it goes.
    pub effect: Effect,
}

/// A combination of switches, as the pipeline that has it.
struct Combination {
    switches: Switches,
    pipeline: Pipeline,
}

/// Compares two judges' policies over every combination of a trigger's switches, in every environment that both know;
/// nothing can be said of one that only one of them knows.
///
/// # Errors
///
/// [`UnknownEnvironment`] when a policy has no value where its fellows have one, which [`Policies`] does not let be.
///
/// [`Policies`]: tollgate_model::policies::Policies
pub fn meaning(today: &Judge<'_>, proposed: &Judge<'_>) -> Result<Meaning, UnknownEnvironment> {
    let combinations = combinations();
    let environments = today
        .policies()
        .environments()
        .filter(|environment| proposed.policies().environments().any(|other| other == *environment))
        .map(|environment| in_environment(today, proposed, environment, &combinations))
        .collect::<Result<Vec<_>, _>>()?;
    let effect = environments.iter().fold(Effect::None, |effect, it| effect.and(it.effect));
    Ok(Meaning { effect, environments })
}

fn in_environment(
    today: &Judge<'_>,
    proposed: &Judge<'_>,
    environment: &EnvironmentName,
    combinations: &[Combination],
) -> Result<EnvironmentMeaning, UnknownEnvironment> {
    let mut rows = Vec::new();
    for Combination { switches, pipeline } in combinations {
        let missing = |judge: &Judge<'_>| -> Result<Vec<String>, UnknownEnvironment> {
            let verdict = judge.verdict(pipeline, environment)?;
            let access =
                verdict.violations.into_iter().filter(|it| matches!(it.policy, PolicyName::Access(_)));
            Ok(access.map(|violation| violation.message).collect())
        };
        let (before, after) = (missing(today)?, missing(proposed)?);
        if before != after {
            let effect = Effect::of_missing(&before, &after);
            rows.push(SwitchChange { switches: *switches, before, after, effect });
        }
    }
    let changed = rows.len();
    let switches = merge(rows);
    let settings = settings(today, proposed, environment);
    let effects = switches.iter().map(|row| row.effect).chain(settings.iter().map(|setting| setting.effect));
    Ok(EnvironmentMeaning {
        environment: environment.clone(),
        effect: effects.fold(Effect::None, Effect::and),
        combinations: combinations.len(),
        changed,
        switches,
        settings,
    })
}

/// Returns every combination that a trigger can have: `basicAuth` and `jwt` exclude each other.
fn combinations() -> Vec<Combination> {
    let bit = |n: u8, at: u8| n >> at & 1 == 1;
    (0..128_u8)
        .filter(|n| !(bit(*n, 3) && bit(*n, 4)))
        .filter_map(|n| {
            let (external, internal, key, jwt, basic, login, mtls) =
                (bit(n, 0), bit(n, 1), bit(n, 2), bit(n, 3), bit(n, 4), bit(n, 5), bit(n, 6));
            let steps = if login {
                json!([{ "json": { "user": "somebody" } }, { "jwtGenerate": { "expiresInMs": 1000 } }])
            } else {
                json!([{ "json": {} }])
            };
            let trigger = json!({ "type": "rest", "externalApi": external, "internalApi": internal, "apiKey": key,
                "mtls": mtls, "jwt": jwt, "basicAuth": basic });
            let pipeline = json!({ "name": "any", "project": "any", "trigger": trigger, "steps": steps });
            let switches = Switches {
                external_api: Some(external),
                internal_api: Some(internal),
                api_key: Some(key),
                mtls: Some(mtls),
                jwt: Some(jwt),
                basic_auth: Some(basic),
                login_flow: Some(login),
            };
            Some(Combination { switches, pipeline: serde_json::from_value(pipeline).ok()? })
        })
        .collect()
}

/// Puts rows together that differ in one switch and say the same, until no two do. `basicAuth` with `jwt` does not
/// exist, so it may be whatever makes rows shorter.
fn merge(mut rows: Vec<SwitchChange>) -> Vec<SwitchChange> {
    // `basicAuth` first: then it is whatever on both sides of `jwt`, and rows that differ in `jwt` alone are twins.
    for switch in [4, 0, 1, 2, 6, 3, 5] {
        let mut merged: Vec<SwitchChange> = Vec::new();
        while let Some(row) = rows.pop() {
            let twin = rows.iter().position(|other| row.is_twin(other, switch));
            let alone = switch == 4 && row.switches.jwt == Some(true);
            match twin {
                Some(index) => {
                    rows.remove(index);
                    merged.push(row.without(switch));
                }
                None if alone => merged.push(row.without(switch)),
                None => merged.push(row),
            }
        }
        merged.reverse();
        rows = merged;
    }
    rows
}

fn settings(today: &Judge<'_>, proposed: &Judge<'_>, environment: &EnvironmentName) -> Vec<SettingChange> {
    let (today, proposed) = (today.policies(), proposed.policies());
    let names: BTreeSet<PolicyName> = today.policies().chain(proposed.policies()).map(Policy::name).collect();
    names
        .into_iter()
        .filter_map(|policy| {
            let (before, after) = (today.policy(&policy), proposed.policy(&policy));
            let effect = setting_effect(before, after, environment);
            let value = |it: Option<&Policy>| match it {
                Some(Policy::Rule(rule)) => {
                    json!({ "condition": rule.condition, "message": rule.message,
                        "mode": rule.environments.get(environment) })
                }
                Some(policy) => policy.value(environment).unwrap_or_default(),
                None => Value::Null,
            };
            let (before, after) = (value(before), value(after));
            let is_table = matches!(policy, PolicyName::Access(_));
            (!is_table && before != after).then_some(SettingChange { policy, before, after, effect })
        })
        .collect()
}

fn setting_effect(before: Option<&Policy>, after: Option<&Policy>, environment: &EnvironmentName) -> Effect {
    match (before, after) {
        (Some(Policy::LoginFlows(before)), Some(Policy::LoginFlows(after))) => {
            match (before.environments.get(environment), after.environments.get(environment)) {
                (Some(before), Some(after)) => login_effect(before, after),
                _ => Effect::Both,
            }
        }
        (Some(Policy::SensitiveFields(before)), Some(Policy::SensitiveFields(after))) => {
            match (before.environments.get(environment), after.environments.get(environment)) {
                (Some(before), Some(after)) => {
                    Effect::when(!before.is_subset(after), !after.is_subset(before))
                }
                _ => Effect::Both,
            }
        }
        (Some(Policy::Enforcement(before)), Some(Policy::Enforcement(after))) => {
            let from = |it: Option<&Enforcement>| it.and_then(|it| it.at_gateway()).map(|at| at.at_gateway);
            match (from(before.environments.get(environment)), from(after.environments.get(environment))) {
                (None, Some(_)) => Effect::Tightens,
                (Some(_), None) => Effect::Weakens,
                (Some(before), Some(after)) => Effect::when(after > before, after < before),
                (None, None) => Effect::None,
            }
        }
        (before, after) => {
            let rule = |it: Option<&Policy>| match it {
                Some(Policy::Rule(rule)) => Some(rule.clone()),
                _ => None,
            };
            rule_effect(rule(before).as_ref(), rule(after).as_ref(), environment)
        }
    }
}

fn login_effect(before: &LoginFlowRules, after: &LoginFlowRules) -> Effect {
    let switches = [
        (before.api_key, after.api_key),
        (before.named_claims, after.named_claims),
        (before.hashed_passwords, after.hashed_passwords),
    ];
    let lifetime = (before.max_token_lifetime_ms, after.max_token_lifetime_ms);
    Effect::when(
        switches.iter().any(|(before, after)| *before && !after) || lifetime.1 > lifetime.0,
        switches.iter().any(|(before, after)| !before && *after) || lifetime.1 < lifetime.0,
    )
}

fn rule_effect(before: Option<&Rule>, after: Option<&Rule>, environment: &EnvironmentName) -> Effect {
    let required = |rule: Option<&Rule>| {
        rule.is_some_and(|rule| rule.environments.get(environment) == Some(&RuleMode::Required))
    };
    let condition = |rule: Option<&Rule>| rule.map(|rule| rule.condition.clone());
    match (required(before), required(after)) {
        (false, false) => Effect::None,
        (false, true) => Effect::Tightens,
        (true, false) => Effect::Weakens,
        (true, true) if condition(before) == condition(after) => Effect::None,
        // Nobody can say which pipelines another condition lets pass.
        (true, true) => Effect::Both,
    }
}

// === impl Effect ===

impl Effect {
    fn when(weakens: bool, tightens: bool) -> Self {
        match (weakens, tightens) {
            (false, false) => Self::None,
            (true, false) => Self::Weakens,
            (false, true) => Self::Tightens,
            (true, true) => Self::Both,
        }
    }

    /// Puts two effects together.
    fn and(self, other: Self) -> Self {
        let weakens = |it| matches!(it, Self::Weakens | Self::Both);
        let tightens = |it| matches!(it, Self::Tightens | Self::Both);
        Self::when(weakens(self) || weakens(other), tightens(self) || tightens(other))
    }

    fn of_missing(before: &[String], after: &[String]) -> Self {
        Self::when(before.iter().any(|it| !after.contains(it)), after.iter().any(|it| !before.contains(it)))
    }

    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Weakens => "weakens",
            Self::Tightens => "tightens",
            Self::Both => "both",
        }
    }
}

// === impl SwitchChange ===

impl SwitchChange {
    /// Tells whether another row says the same and differs in one switch only.
    fn is_twin(&self, other: &Self, switch: usize) -> bool {
        let says_same = self.before == other.before && self.after == other.after;
        let differs = |index: usize| self.switches.all().get(index) != other.switches.all().get(index);
        says_same && differs(switch) && (0..7).all(|index| index == switch || !differs(index))
    }

    fn without(mut self, switch: usize) -> Self {
        let it = &mut self.switches;
        let fields = [
            &mut it.external_api,
            &mut it.internal_api,
            &mut it.api_key,
            &mut it.jwt,
            &mut it.basic_auth,
            &mut it.login_flow,
            &mut it.mtls,
        ];
        if let Some(field) = fields.into_iter().nth(switch) {
            *field = None;
        }
        self
    }
}

// === impl Switches ===

impl Switches {
    fn all(&self) -> [Option<bool>; 7] {
        let Self { external_api, internal_api, api_key, mtls, jwt, basic_auth, login_flow } = *self;
        [external_api, internal_api, api_key, jwt, basic_auth, login_flow, mtls]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;
    use proptest::prelude::*;
    use tollgate_model::policies::{AccessPolicy, AccessRequirement, Policies};

    use super::*;

    fn policies(external: AccessRequirement, internal: AccessRequirement) -> Policies {
        let policy = |name: AccessPolicy, value: AccessRequirement| {
            serde_json::from_value::<Policy>(json!({ "name": name, "environments": { "prod": value } }))
                .expect("valid")
        };
        Policies::initial(&BTreeSet::from([EnvironmentName::prod()]))
            .replace(policy(AccessPolicy::ExternalApiAccess, external))
            .and_then(|it| it.replace(policy(AccessPolicy::InternalApiAccess, internal)))
            .expect("names every environment")
    }

    fn compare(today: &Policies, proposed: &Policies) -> Meaning {
        let now = Timestamp::UNIX_EPOCH;
        meaning(&Judge::new(today, &[], now), &Judge::new(proposed, &[], now)).expect("known")
    }

    #[test]
    fn a_change_is_told_by_the_switches_that_matter() {
        use AccessRequirement::{ApiKey, JwtWithApiKey};
        let told = compare(&policies(ApiKey, ApiKey), &policies(JwtWithApiKey, ApiKey));
        assert_eq!(told.effect, Effect::Tightens);
        let [prod] = told.environments.as_slice() else { panic!("one environment") };
        assert_eq!((prod.combinations, prod.changed), (96, 16));
        let rows: Vec<_> = prod.switches.iter().map(|row| (row.switches, row.after.join(", "))).collect();
        assert!(rows.len() <= 4, "{rows:?}");
        for (switches, after) in rows {
            assert_eq!(
                (switches.external_api, switches.jwt, switches.login_flow),
                (Some(true), Some(false), Some(false))
            );
            assert_eq!(switches.basic_auth, None);
            assert!(after.contains("Missing external JWT"));
        }
    }

    #[test]
    fn settings_say_which_way_they_go() {
        let prod = |policy: Value| serde_json::from_value::<Policy>(policy).expect("a policy");
        let today = policies(AccessRequirement::Any, AccessRequirement::Any);
        let rule = |mode: &str, condition: &str| {
            prod(
                json!({ "name": "r", "condition": condition, "message": "no", "environments": { "prod": mode } }),
            )
        };
        for (before, after, effect) in [
            (None, Some(rule("required", "true")), Effect::Tightens),
            (None, Some(rule("advised", "true")), Effect::None),
            (Some(rule("required", "true")), Some(rule("off", "true")), Effect::Weakens),
            (Some(rule("required", "true")), Some(rule("required", "false")), Effect::Both),
            (
                None,
                Some(prod(
                    json!({ "name": "login-flows", "environments": { "prod": { "maxTokenLifetimeMs": 60000 } } }),
                )),
                Effect::Tightens,
            ),
            (
                None,
                Some(prod(json!({ "name": "sensitive-fields", "environments": { "prod": ["email"] } }))),
                Effect::Tightens,
            ),
            (
                Some(prod(
                    json!({ "name": "enforcement", "environments": { "prod": { "atGateway": "2030-01-01T00:00:00Z" } } }),
                )),
                Some(prod(json!({ "name": "enforcement", "environments": { "prod": "atDeploy" } }))),
                Effect::Weakens,
            ),
        ] {
            let before = before.map_or(Ok(today.clone()), |policy| today.replace(policy)).expect("valid");
            let next =
                after.clone().map_or(Ok(before.clone()), |policy| before.replace(policy)).expect("valid");
            assert_eq!(compare(&before, &next).effect, effect, "{after:?}");
        }
    }

    #[test]
    fn what_makes_no_difference_is_told_in_one_row() {
        use AccessRequirement::{Any, ApiKey};
        let told = compare(&policies(Any, ApiKey), &policies(Any, Any));
        let rows: Vec<_> = told.environments[0].switches.iter().map(|row| row.switches.all()).collect();
        assert_eq!(rows, [[None, Some(true), Some(false), None, None, None, Some(false)]]);
    }

    proptest! {
        #[test]
        fn the_rows_cover_exactly_what_changes(a in 0..3_usize, b in 0..3_usize, c in 0..3_usize, d in 0..3_usize) {
            let all = AccessRequirement::ALL;
            let (today, proposed) = (policies(all[a], all[b]), policies(all[c], all[d]));
            let told = compare(&today, &proposed);
            let now = Timestamp::UNIX_EPOCH;
            let (before, after) = (Judge::new(&today, &[], now), Judge::new(&proposed, &[], now));
            let prod = EnvironmentName::prod();
            let mut changed = 0;
            for Combination { switches, pipeline } in combinations() {
                let says = |judge: &Judge<'_>| -> Vec<String> {
                    let violations = judge.verdict(&pipeline, &prod).expect("known").violations;
                    let access = violations.into_iter().filter(|it| matches!(it.policy, PolicyName::Access(_)));
                    access.map(|it| it.message).collect()
                };
                let (before, after) = (says(&before), says(&after));
                let covering: Vec<_> = told.environments[0].switches.iter().filter(|row| {
                    row.switches.all().iter().zip(switches.all()).all(|(pattern, value)| pattern.is_none() || *pattern == value)
                }).collect();
                if before == after {
                    prop_assert!(covering.is_empty(), "{switches:?}");
                } else {
                    changed += 1;
                    prop_assert_eq!(covering.len(), 1, "{:?}", switches);
                    prop_assert_eq!((&covering[0].before, &covering[0].after), (&before, &after));
                }
            }
            prop_assert_eq!(told.environments[0].changed, changed);
            let (stricter, weaker) = (c > a || d > b, c < a || d < b);
            prop_assert_eq!(told.effect, Effect::when(weaker, stricter));
        }
    }
}
