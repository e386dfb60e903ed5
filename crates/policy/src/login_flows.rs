//! Login flows: pipelines that answer a token and nothing else, by what their steps do, never by what their
//! author says.
//!
//! Under `jwt-with-api-key` a login flow is let out without demanding a token. Whatever passes as one escapes that
//! demand, so the rule is strict: **every** way through the flow that succeeds ends in `jwtGenerate`, and
//! nothing on any way can put something else in front of the caller. In doubt a flow is none.

use tollgate_model::pipelines::Pipeline;
use tollgate_model::steps::{Step, StepKind};

/// How the ways through a list of steps end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Every way that succeeds ends in `jwtGenerate`, and there is one.
    Token,
    /// No way succeeds.
    Failure,
    /// Some way ends in a message that is the response.
    Data,
}

/// Tells whether a pipeline is a login flow.
pub fn is_login_flow(pipeline: &Pipeline) -> bool {
    pipeline.trigger.http().is_some()
        && end_of(&pipeline.steps) == End::Token
        && !pipeline.steps.iter().any(speaks_otherwise)
        && token_steps(&pipeline.steps) == final_token_steps(&pipeline.steps)
}

fn end_of(steps: &[Step]) -> End {
    let Some((last, before)) = steps.split_last() else { return End::Data };
    // What stands behind an error that always happens is for show.
    if !goes_on(before) {
        return End::Failure;
    }
    // An error that does not fail becomes the message, and the message would be the response.
    if !last.fail_on_error {
        return End::Data;
    }
    match &last.kind {
        StepKind::JwtGenerate(_) => End::Token,
        StepKind::Throw(_) => End::Failure,
        StepKind::Choice(choice) => {
            let otherwise = choice.otherwise.as_deref().map_or(End::Data, end_of);
            choice.when.iter().map(|branch| end_of(&branch.steps)).fold(otherwise, End::or)
        }
        StepKind::Block(block) => {
            let error = block.on_error.as_deref().map_or(End::Failure, end_of);
            end_of(&block.steps).or(error)
        }
        _ => End::Data,
    }
}

/// Tells whether some way leads through all the steps.
fn goes_on(steps: &[Step]) -> bool {
    steps.iter().all(|step| {
        !step.fail_on_error
            || match &step.kind {
                StepKind::Throw(_) => false,
                StepKind::Choice(choice) => {
                    choice.otherwise.as_deref().is_none_or(goes_on)
                        || choice.when.iter().any(|branch| goes_on(&branch.steps))
                }
                StepKind::Block(block) => {
                    goes_on(&block.steps) || block.on_error.as_deref().is_some_and(goes_on)
                }
                _ => true,
            }
    })
}

/// Tells whether a step, or one inside it, can put something of its own in front of the caller.
fn speaks_otherwise(step: &Step) -> bool {
    let computed = |text: &str| text.contains("{{");
    let own = match &step.kind {
        StepKind::Respond(_) | StepKind::Proxy(_) => true,
        StepKind::Assert(assert) => computed(&assert.error) || assert.code.as_deref().is_some_and(computed),
        StepKind::Throw(throw) => computed(&throw.error) || throw.code.as_deref().is_some_and(computed),
        _ => false,
    };
    own || children(step).into_iter().flatten().any(speaks_otherwise)
}

/// Counts `jwtGenerate` steps anywhere.
fn token_steps(steps: &[Step]) -> usize {
    let here = |step: &Step| usize::from(matches!(step.kind, StepKind::JwtGenerate(_)));
    steps.iter().map(|step| here(step) + children(step).into_iter().map(token_steps).sum::<usize>()).sum()
}

/// Counts `jwtGenerate` steps with which a way through the flow ends.
fn final_token_steps(steps: &[Step]) -> usize {
    let Some(last) = steps.last() else { return 0 };
    match &last.kind {
        StepKind::JwtGenerate(_) => 1,
        _ => children(last).into_iter().map(final_token_steps).sum(),
    }
}

fn children(step: &Step) -> Vec<&[Step]> {
    match &step.kind {
        StepKind::Choice(choice) => choice
            .when
            .iter()
            .map(|branch| branch.steps.as_slice())
            .chain(choice.otherwise.as_deref())
            .collect(),
        StepKind::Block(block) => {
            std::iter::once(block.steps.as_slice()).chain(block.on_error.as_deref()).collect()
        }
        _ => Vec::new(),
    }
}

// === impl End ===

impl End {
    /// Joins two ways of which either may be taken.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Data, _) | (_, Self::Data) => Self::Data,
            (Self::Token, _) | (_, Self::Token) => Self::Token,
            (Self::Failure, Self::Failure) => Self::Failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn classified(steps: Value) -> bool {
        let pipeline = json!({ "name": "login", "project": "store",
            "trigger": { "type": "rest", "externalApi": true, "apiKey": true }, "steps": steps });
        is_login_flow(&serde_json::from_value(pipeline).expect("a pipeline"))
    }

    fn token() -> Value {
        json!({ "jwtGenerate": { "expiresInMs": 60_000 } })
    }

    #[test]
    fn a_flow_whose_successful_ways_all_end_in_a_token_is_a_login_flow() {
        let check =
            json!({ "assert": { "condition": "true", "status": 401, "error": "invalid user or password" } });
        for steps in [
            json!([token()]),
            json!([check, { "json": { "user": "{{ message.body.user }}" } }, token()]),
            json!([{ "http": { "url": "https://users.example/" }, "failOnError": false }, check, token()]),
            json!([{ "choice": { "when": [{ "condition": "true", "steps": [token()] }],
                "otherwise": [{ "throw": { "error": "no", "status": 401 } }] } }]),
            json!([{ "block": { "steps": [check, token()], "onError": [{ "throw": { "error": "no" } }] } }]),
            json!([{ "block": { "steps": [check, token()] } }]),
            json!([{ "choice": { "when": [{ "condition": "true", "steps": [{ "log": { "message": "x" } }] }] } }, token()]),
        ] {
            assert!(classified(steps.clone()), "not taken for a login flow: {steps}");
        }
    }

    #[test]
    fn no_other_pipeline_hides_behind_a_login_flow() {
        let data = json!({ "json": { "customers": [1, 2, 3] } });
        for (disguise, steps) in [
            ("no step", json!([])),
            ("data alone", json!([data])),
            ("data after the token", json!([token(), data])),
            ("a response after the token", json!([token(), { "respond": { "body": { "secret": 1 } } }])),
            ("a response before the token", json!([{ "respond": { "body": 1 } }, token()])),
            (
                "a response inside a branch",
                json!([{ "choice": { "when": [{ "condition": "true",
                "steps": [{ "respond": {} }] }] } }, token()]),
            ),
            (
                "a branch that answers data",
                json!([{ "choice": { "when": [
                { "condition": "message.method == 'GET'", "steps": [data] },
                { "condition": "true", "steps": [token()] }], "otherwise": [token()] } }]),
            ),
            (
                "a choice that falls through",
                json!([data, { "choice": { "when": [
                { "condition": "false", "steps": [token()] }] } }]),
            ),
            (
                "an otherwise that answers data",
                json!([{ "choice": { "when": [
                { "condition": "true", "steps": [token()] }], "otherwise": [data] } }]),
            ),
            (
                "an empty branch",
                json!([data, { "choice": { "when": [
                { "condition": "true", "steps": [] }], "otherwise": [token()] } }]),
            ),
            (
                "a token step that may fail into a message",
                json!([{ "jwtGenerate": { "expiresInMs": 1000 },
                "failOnError": false }]),
            ),
            (
                "a block around it that may",
                json!([{ "block": { "steps": [token()] }, "failOnError": false }]),
            ),
            (
                "a choice around it that may",
                json!([{ "choice": { "when": [], "otherwise": [token()] },
                "failOnError": false }]),
            ),
            (
                "an error path that answers data",
                json!([{ "block": { "steps": [token()], "onError": [data] } }]),
            ),
            ("an empty error path", json!([{ "block": { "steps": [token()], "onError": [] } }])),
            (
                "an assertion that leaks",
                json!([{ "assert": { "condition": "false",
                "error": "{{ message.body }}" } }, token()]),
            ),
            (
                "a code that leaks",
                json!([{ "assert": { "condition": "false", "error": "no",
                "code": "{{ message.body.x }}" } }, token()]),
            ),
            (
                "a throw that leaks",
                json!([{ "choice": { "when": [{ "condition": "true",
                "steps": [{ "throw": { "error": "{{ message.body }}" } }] }], "otherwise": [token()] } }]),
            ),
            (
                "a throw that becomes a message",
                json!([{ "choice": { "when": [{ "condition": "true",
                "steps": [{ "throw": { "error": "x" }, "failOnError": false }] }], "otherwise": [token()] } }]),
            ),
            ("a token that is never reached", json!([{ "throw": { "error": "x" } }, token()])),
            (
                "a token behind a choice of errors",
                json!([{ "choice": { "when": [{ "condition": "message.body.known",
                "steps": [{ "throw": { "error": "yes" } }] }], "otherwise": [{ "throw": { "error": "no" } }] } }, token()]),
            ),
            (
                "an upstream's answer in a branch",
                json!([{ "choice": { "when": [{ "condition": "true",
                "steps": [{ "proxy": { "url": "https://users.example/" } }] }], "otherwise": [token()] } }]),
            ),
            (
                "an upstream's answer before the token",
                json!([{ "proxy": { "url": "https://users.example/" } }, token()]),
            ),
            ("only failures", json!([{ "throw": { "error": "x" } }])),
            ("a token on the way", json!([token(), { "log": { "message": "x" } }, token()])),
        ] {
            assert!(!classified(steps), "{disguise} passed for a login flow");
        }
    }

    #[test]
    fn a_schedule_is_no_login_flow() {
        let pipeline = json!({ "name": "nightly", "project": "store",
            "trigger": { "type": "scheduler", "cron": "0 6 * * *" }, "steps": [token()] });
        assert!(!is_login_flow(&serde_json::from_value(pipeline).expect("a pipeline")));
    }

    /// How a way through a flow can end, found by walking all of them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Outcome {
        /// The last message is data.
        Data,
        /// The last message is that of `jwtGenerate`.
        Token,
        Error,
        Response,
    }

    /// Walks every way through the steps, each of which may fail, as slowly and plainly as can be.
    fn outcomes(steps: &[Step], from: Outcome) -> BTreeSet<Outcome> {
        let Some((step, rest)) = steps.split_first() else { return BTreeSet::from([from]) };
        let mut ends = match &step.kind {
            StepKind::Json(_) | StepKind::Http(_) | StepKind::JwtDecode(_) => BTreeSet::from([Outcome::Data]),
            StepKind::Assert(_) | StepKind::Log(_) => BTreeSet::from([from]),
            StepKind::Respond(_) | StepKind::Proxy(_) => BTreeSet::from([Outcome::Response]),
            StepKind::Throw(_) => BTreeSet::new(),
            StepKind::JwtGenerate(_) => BTreeSet::from([Outcome::Token]),
            StepKind::Choice(choice) => {
                let mut ends = outcomes(choice.otherwise.as_deref().unwrap_or_default(), from);
                choice.when.iter().for_each(|branch| ends.extend(outcomes(&branch.steps, from)));
                ends
            }
            StepKind::Block(block) => {
                let mut ends = outcomes(&block.steps, from);
                if let Some(on_error) = &block.on_error
                    && ends.remove(&Outcome::Error)
                {
                    ends.extend(outcomes(on_error, Outcome::Data));
                }
                ends
            }
        };
        if !matches!(step.kind, StepKind::Block(_)) {
            ends.insert(Outcome::Error);
        }
        if !step.fail_on_error && ends.remove(&Outcome::Error) {
            ends.insert(Outcome::Data);
        }
        let (stops, goes_on): (BTreeSet<_>, BTreeSet<_>) =
            ends.into_iter().partition(|end| matches!(end, Outcome::Error | Outcome::Response));
        goes_on.into_iter().flat_map(|end| outcomes(rest, end)).chain(stops).collect()
    }

    fn steps() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            4 => Just(token()),
            1 => Just(json!({ "json": 1 })),
            1 => Just(json!({ "http": { "url": "https://users.example/" } })),
            1 => Just(json!({ "assert": { "condition": "true", "error": "no" } })),
            1 => Just(json!({ "log": { "message": "x" } })),
            1 => Just(json!({ "throw": { "error": "no" } })),
            1 => Just(json!({ "respond": {} })),
            1 => Just(json!({ "proxy": { "url": "https://users.example/" } })),
        ];
        let step = leaf.prop_recursive(3, 16, 3, |step| {
            let steps = prop::collection::vec(step, 0..3);
            let branches = prop::collection::vec(steps.clone(), 1..3);
            prop_oneof![
                (branches, prop::option::of(steps.clone())).prop_map(|(branches, otherwise)| {
                    let when: Vec<_> = branches
                        .into_iter()
                        .map(|steps| json!({ "condition": "true", "steps": steps }))
                        .collect();
                    json!({ "choice": { "when": when, "otherwise": otherwise } })
                }),
                (steps.clone(), prop::option::of(steps)).prop_map(
                    |(steps, on_error)| json!({ "block": { "steps": steps, "onError": on_error } })
                ),
            ]
        });
        let step = (step, prop::bool::weighted(0.9)).prop_map(|(mut step, fail_on_error)| {
            step["failOnError"] = fail_on_error.into();
            step
        });
        prop::collection::vec(step, 1..4).prop_map(Value::Array)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn whatever_passes_for_a_login_flow_ends_in_a_token_or_an_error(steps in steps()) {
            if classified(steps.clone()) {
                let steps: Vec<Step> = serde_json::from_value(steps).expect("steps");
                let ends = outcomes(&steps, Outcome::Data);
                prop_assert!(ends.contains(&Outcome::Token));
                prop_assert!(ends.iter().all(|end| matches!(end, Outcome::Token | Outcome::Error)), "{ends:?}");
            }
        }
    }
}
