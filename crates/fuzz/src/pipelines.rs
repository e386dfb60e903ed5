//! Resource files, from the text to a verdict.

use std::sync::LazyLock;

use jiff::Timestamp;
use tollgate_model::document::{self, Resource, parse_resources};
use tollgate_model::names::EnvironmentName;
use tollgate_model::policies::{Policies, Policy};
use tollgate_policy::{Judge, apply_fix, check_rule, is_login_flow};

pub(crate) const WORDS: &[&str] = &[
    "kind: Pipeline\n",
    "kind: Policy\n",
    "name: a\n",
    "project: store\n",
    "trigger: { type: rest, externalApi: true }\n",
    "type: scheduler",
    "cron: \"0 6 * * *\"",
    "apiKey: { query: true }",
    "jwt: { scopes: [a] }",
    "routes: [{ path: /a/:b }]",
    "rateLimit: { limits: [{ interval: minute, limit: 1 }] }",
    "steps:\n",
    "  - json: 1\n",
    "  - jwtGenerate: {}\n",
    "  - choice: { when: [] }\n",
    "{{ message.body }}",
    "condition: has(trigger.rateLimit)\n",
    "environments: { test: required, prod: off }\n",
    "---\n",
    "&a ",
    "*a",
    "!!binary ",
    "? ",
    "<<: ",
    "|\n",
    "1e999",
    "\u{feff}",
    "\u{85}",
];

static POLICIES: LazyLock<Policies> =
    LazyLock::new(|| Policies::initial(&[EnvironmentName::test(), EnvironmentName::prod()].into()));

/// What parses is written and parses again as the same; a mistake stands somewhere in the text; whatever parses can be
/// compiled, classified and judged, and a fix mends what it says it mends.
pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let resources = match parse_resources(text) {
        Ok(resources) => resources,
        Err(error) => {
            let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
            let inside =
                error.position.is_none_or(|at| at.line >= 1 && at.column >= 1 && at.line <= lines + 1);
            assert!(!error.message.is_empty() && inside, "{error:?}");
            return;
        }
    };
    for located in resources {
        match located.value {
            Resource::Pipeline(pipeline) => {
                let mut written = serde_json::to_value(&pipeline).expect("JSON");
                written["kind"] = "Pipeline".into();
                let again =
                    document::parse_pipeline(&written.to_string()).expect("what we write, we read").value;
                assert_eq!(again, pipeline);
                let _ = (tollgate_flow::compile(&pipeline).is_ok(), is_login_flow(&pipeline));
                let judge = Judge::new(&POLICIES, &[], Timestamp::UNIX_EPOCH);
                let verdict =
                    judge.verdict(&pipeline, &EnvironmentName::prod()).expect("a known environment");
                for violation in &verdict.violations {
                    let Ok(mended) = apply_fix(&pipeline, violation) else { continue };
                    let after =
                        judge.verdict(&mended, &EnvironmentName::prod()).expect("a known environment");
                    let still = after
                        .violations
                        .iter()
                        .any(|it| it.code == violation.code && it.policy == violation.policy);
                    assert!(!still, "a fix that mends nothing: {violation:?}");
                }
            }
            Resource::Policy(Policy::Rule(rule)) => drop(check_rule(&rule)),
            Resource::Policy(_)
            | Resource::Consumer(_)
            | Resource::Global(_)
            | Resource::Group(_)
            | Resource::Issuer(_)
            | Resource::Role(_)
            | Resource::Waiver(_) => {}
        }
    }
}
