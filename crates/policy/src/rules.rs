//! Custom rules: conditions over a pipeline, written by a platform team.
//!
//! A rule is checked when it is saved: that it parses, that its types fit what a pipeline is ([`types`]), that it
//! cannot cost too much on the largest pipeline, and that it gives an answer on samples of every kind of trigger.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use serde_json::Value;
use tollgate_expression::{Context, Meter, Parsed, Vocabulary, base_context, execute_prepared, parse};
use tollgate_model::pipelines::Pipeline;
use tollgate_model::policies::Rule;

mod types;
mod view;

use view::{Needs, PipelineView};

const VOCABULARY: Vocabulary = Vocabulary { roots: &view::ROOTS, slow: None };
/// Most work that a rule may be on the largest pipeline, in nodes: about a twentieth of a second.
const MAX_WORK: u64 = 4_000_000;
/// Work of preparing an evaluation, whatever the condition.
const EVALUATION_WORK: u64 = 200;

/// Largest value of a fix as JSON, in bytes: every violation carries it, of every deployment that breaks the rule.
const MAX_FIX_BYTES: usize = 4096;

/// Why a custom rule was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckRuleError {
    /// It does not parse, names what there is not, or its types don't fit.
    #[error("the condition of rule `{rule}` does not fit: {reason}")]
    Condition {
        /// Which rule.
        rule: String,
        /// A sentence for its author.
        reason: String,
    },
    /// It could take too long.
    #[error(
        "rule `{0}` costs too much on a large pipeline: nest all, exists, filter and map less deep, or split the rule"
    )]
    Cost(String),
    /// A part of it that people read is missing or too long.
    #[error("rule `{rule}` needs {what}")]
    Text {
        /// Which rule.
        rule: String,
        /// What it needs.
        what: &'static str,
    },
}

/// A rule, ready to be evaluated.
pub(crate) struct CompiledRule {
    pub(crate) rule: Rule,
    pub(crate) condition: Condition,
    parsed: Result<Parsed, String>,
    needs: Needs,
}

/// SHA-256 of the text of a condition: it stands for the text, and takes the same little room however long that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Condition([u8; SHA256_OUTPUT_LEN]);

/// What a rule says of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RuleOutcome {
    Holds,
    Broken,
    /// It could not be evaluated; with the reason.
    Unknown(Box<str>),
}

static BASE: LazyLock<Context<'static, 'static>> = LazyLock::new(base_context);

/// A condition gives true or false, which is no data.
struct NoData;

impl Meter for NoData {
    fn spend_text(&self, text: &str) -> Result<(), String> {
        if text.is_empty() { Ok(()) } else { Err("it gives neither true nor false".to_owned()) }
    }
}

/// Checks a rule before it is saved.
///
/// # Errors
///
/// [`CheckRuleError`], by variant.
pub fn check_rule(rule: &Rule) -> Result<(), CheckRuleError> {
    checked(rule).map(drop)
}

/// Checks a rule, and compiles it.
pub(crate) fn checked(rule: &Rule) -> Result<CompiledRule, CheckRuleError> {
    let name = || rule.name.to_string();
    if !(1..=300).contains(&rule.message.trim().chars().count()) {
        return Err(CheckRuleError::Text {
            rule: name(),
            what: "a message of 1 to 300 characters for the developer whose pipeline breaks it",
        });
    }
    if rule.message.trim().chars().any(char::is_control) {
        return Err(CheckRuleError::Text {
            rule: name(),
            what: "a message in one line of text, without control characters",
        });
    }
    if rule.fix.as_ref().is_some_and(|fix| !fix.pointer.starts_with('/') || fix.pointer.len() > 300) {
        return Err(CheckRuleError::Text {
            rule: name(),
            what: "a fix whose pointer is a JSON pointer such as /trigger/rateLimit",
        });
    }
    let value = rule.fix.as_ref().and_then(|fix| fix.value.as_ref());
    if value.is_some_and(|value| value.to_string().len() > MAX_FIX_BYTES) {
        return Err(CheckRuleError::Text {
            rule: name(),
            what: "a fix whose value is a setting: 4 KiB at most",
        });
    }
    let refused = |reason| CheckRuleError::Condition { rule: name(), reason };
    let parsed = parse(&rule.condition, &VOCABULARY).map_err(refused)?;
    types::check(parsed.program.expression()).map_err(refused)?;
    let cost = &parsed.cost;
    if cost.nodes.saturating_mul(cost.rounds(Pipeline::MAX_STEPS as u64)) > MAX_WORK {
        return Err(CheckRuleError::Cost(name()));
    }
    let compiled = CompiledRule::of(rule, Ok(parsed));
    for sample in view::samples() {
        if let (RuleOutcome::Unknown(reason), _) = compiled.evaluate(&sample.pipeline) {
            return Err(refused(format!("on {}, {reason}", sample.name)));
        }
    }
    Ok(compiled)
}

// === impl CompiledRule ===

impl CompiledRule {
    pub(crate) fn new(rule: &Rule) -> Self {
        Self::of(rule, parse(&rule.condition, &VOCABULARY))
    }

    fn of(rule: &Rule, parsed: Result<Parsed, String>) -> Self {
        let needs = parsed.as_ref().map(Needs::of).unwrap_or_default();
        Self { rule: rule.clone(), condition: Condition::new(&rule.condition), parsed, needs }
    }

    /// Tells whether what it says of a pipeline is always the same. That it could not be compiled need not stay so.
    pub(crate) fn is_sure(&self) -> bool {
        self.parsed.is_ok()
    }

    /// Returns what it says of a pipeline, which nothing but the condition and the pipeline decides, and about how much work
    /// it was to find out, in nodes.
    pub(crate) fn evaluate(&self, pipeline: &Pipeline) -> (RuleOutcome, u64) {
        let mut spent = EVALUATION_WORK;
        let outcome = match &self.parsed {
            Ok(parsed) => self.run(parsed, pipeline, &mut spent),
            Err(reason) => Err(reason.clone()),
        };
        let outcome = match outcome {
            Ok(true) => RuleOutcome::Holds,
            Ok(false) => RuleOutcome::Broken,
            Err(reason) => RuleOutcome::Unknown(reason.into()),
        };
        (outcome, spent)
    }

    fn run(&self, parsed: &Parsed, pipeline: &Pipeline, spent: &mut u64) -> Result<bool, String> {
        let view = PipelineView::of(pipeline, &self.needs);
        // Texts of a pipeline make it larger than steps alone do.
        let work = parsed.cost.work(&parsed.roots, |root| &view.root(root).value)?;
        if work > MAX_WORK.saturating_mul(50) {
            return Err("it would take too long".to_owned());
        }
        *spent = spent.saturating_add(work);
        let data = parsed.roots.iter().map(|root| (*root, &view.root(root).prepared));
        match execute_prepared(&parsed.program, &BASE, data, &NoData)? {
            Value::Bool(holds) => Ok(holds),
            _ => Err("it gives neither true nor false".to_owned()),
        }
    }
}

// === impl Condition ===

impl Condition {
    fn new(text: &str) -> Self {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(condition: &str) -> Rule {
        serde_json::from_value(
            json!({ "name": "r", "condition": condition, "message": "no", "environments": {} }),
        )
        .expect("a rule")
    }

    fn evaluate(condition: &str, pipeline: &Pipeline) -> RuleOutcome {
        CompiledRule::new(&rule(condition)).evaluate(pipeline).0
    }

    fn holds(condition: &str, pipeline: Value) -> RuleOutcome {
        check_rule(&rule(condition)).expect(condition);
        let pipeline: Pipeline = serde_json::from_value(pipeline).expect("a pipeline");
        evaluate(condition, &pipeline)
    }

    fn pipeline(trigger: Value, steps: Value) -> Value {
        json!({ "name": "p", "project": "store", "trigger": trigger, "steps": steps })
    }

    #[test]
    fn rules_say_what_platform_teams_want_to_say() {
        let plain = || pipeline(json!({ "type": "rest", "externalApi": true }), json!([{ "json": 1 }]));
        let limited = json!({ "type": "rest", "externalApi": true,
            "rateLimit": { "limits": [{ "interval": "minute", "limit": 600 }] } });
        let nightly =
            || pipeline(json!({ "type": "scheduler", "cron": "0 6 * * *" }), json!([{ "json": 1 }]));
        let limit = "!trigger.externalApi || has(trigger.rateLimit)";
        assert_eq!(holds(limit, plain()), RuleOutcome::Broken);
        assert_eq!(holds(limit, nightly()), RuleOutcome::Holds);
        assert_eq!(holds(limit, pipeline(limited.clone(), json!([{ "json": 1 }]))), RuleOutcome::Holds);
        let low = "!has(trigger.rateLimit) || trigger.rateLimit.limits.all(l, l.interval != 'second' && l.limit <= 1000)";
        assert_eq!(holds(low, pipeline(limited, json!([{ "json": 1 }]))), RuleOutcome::Holds);

        let hosts = "steps.filter(s, s.type == 'http').all(s, s.host in ['stock.example', 'users.example'])";
        let call = |url: &str| {
            let nested = json!([{ "choice": { "when": [{ "condition": "true",
                "steps": [{ "http": { "url": url } }] }] } }]);
            pipeline(json!({ "type": "rest" }), nested)
        };
        assert_eq!(holds(hosts, call("https://stock.example/items")), RuleOutcome::Holds);
        for elsewhere in [
            "https://evil.example/items",
            "https://stock.example@evil.example/",
            "https://stock.example.evil.example/",
            "https://{{ message.body.host }}/",
            "{{ globals.url }}",
            "https://stock.example:8443{{ message.path }}",
            "https://STOCK.example\\@evil.example/",
        ] {
            assert_eq!(holds(hosts, call(elsewhere)), RuleOutcome::Broken, "{elsewhere}");
        }

        let bodies = "steps.all(s, s.type != 'http' || s.method != 'GET' || !has(s.body))";
        let with_body = json!([{ "http": { "url": "https://a.example/", "body": { "x": 1 } } }]);
        assert_eq!(holds(bodies, pipeline(json!({ "type": "rest" }), with_body)), RuleOutcome::Broken);
        assert_eq!(holds(bodies, plain()), RuleOutcome::Holds);

        let no_cookies =
            "steps.all(s, !('cookie' in s.headers) && (!has(s.headers.accept) || s.headers.accept == 'a'))";
        for (headers, outcome) in [
            (json!({ "Cookie": "x" }), RuleOutcome::Broken),
            (json!({ "Accept": "a" }), RuleOutcome::Holds),
            (json!({ "ACCEPT": "b", "accept": "a" }), RuleOutcome::Broken),
        ] {
            let call = json!([{ "http": { "url": "https://a.example/", "headers": headers } }]);
            assert_eq!(holds(no_cookies, pipeline(json!({ "type": "rest" }), call)), outcome);
        }

        let url_keys = "!trigger.apiKeyInQuery";
        let in_url = json!({ "type": "rest", "apiKey": { "query": true } });
        assert_eq!(holds(url_keys, pipeline(in_url, json!([]))), RuleOutcome::Broken);
        assert_eq!(holds("project == 'store' && name.matches('^[a-z]+$')", plain()), RuleOutcome::Holds);
    }

    #[test]
    fn a_rule_that_does_not_fit_is_refused_with_what_to_write() {
        for (condition, says) in [
            ("", "empty"),
            ("trigger.", "does not parse"),
            ("triger.jwt", "did you mean `trigger`?"),
            ("trigger.apikey", "did you mean `apiKey`?"),
            ("trigger.rateLimit.limit > 3", "has no field `limit`"),
            ("steps.all(s, s.hosts == 'x')", "did you mean `host`?"),
            ("trigger.timeoutMs > '30'", "compares"),
            ("trigger.jwt == 'on'", "compares"),
            ("trigger.jwt", ""),
            ("name", "gives a text"),
            ("trigger.timeoutMs", "gives a number"),
            ("!name", "needs true or false"),
            ("trigger.jwt && name", "needs true or false"),
            ("steps.all(s, s.type)", "needs true or false"),
            ("name.all(c, c == 'a')", "need a list"),
            ("trigger.methods.contains('GET')", "needs a text"),
            ("trigger.methods == ['GET'] && trigger.routes.exists(r, r.url == '/x')", "has no field `url`"),
            ("name in 'store'", "needs a list"),
            ("trigger.rateLimit.by == 'consumer'", "a field that it reads is not there"),
            ("name.matches('(')", "on "),
            ("verifyPassword('a', 'b')", "unknown function"),
            ("trigger.timeoutMs / 0 > 1", "divides by zero"),
            ("steps.exists(s, s == steps[0])", "compare their fields"),
            ("steps.all(s, s in steps)", "compare their fields"),
            ("steps.map(s, s) == []", "compare their fields"),
            ("!trigger.externalApi || has(trigger.jwt)", "`jwt` of trigger is always there"),
            ("steps.all(s, s.type != 'http' || has(s.host))", "`host` of a step is always there"),
            ("trigger.cron == null", "compares a text with null"),
            ("steps.all(s, null != s.expiresInMs)", "compares null with a number"),
            ("steps.all(s, !has(s.body) || s.body != null)", ""),
            ("!has(trigger.cors) || trigger.cors.allowOrigins != []", ""),
            ("steps.all(s, !has(s.headers.Cookie))", "in small letters, `cookie`"),
            ("steps.all(s, !('X-Id' in s.headers))", "in small letters, `x-id`"),
            ("'no-store' == trigger.responseHeaders['Cache-Control']", "in small letters, `cache-control`"),
            ("steps.all(s, dyn(s) == dyn(steps[0]))", "compare their fields"),
            ("trigger.all(k, k != 'x')", "need a list"),
            ("'x' in trigger", "needs a list"),
            ("size(trigger) > 3", "needs a text or a list"),
            ("trigger[name] == true", "written out"),
            ("string(steps[0]) == ''", "has no text"),
            ("type(steps[0]) == type(name)", "type of"),
        ] {
            let outcome = check_rule(&rule(condition));
            if says.is_empty() {
                assert_eq!(outcome, Ok(()), "{condition}");
                continue;
            }
            let error = outcome.expect_err(condition).to_string();
            assert!(error.contains(says), "{condition}: {error}");
        }
        let deep = "steps.all(a, steps.all(b, steps.all(c, a.type == b.type && b.type == c.type)))";
        assert_eq!(check_rule(&rule(deep)), Err(CheckRuleError::Cost("r".to_owned())));
        let mut silent = rule("true");
        for message in [" ", "a\nb", "\u{1b}[2Jall is well", &"x".repeat(301)] {
            silent.message = message.to_owned();
            assert!(check_rule(&silent).is_err(), "{message:?}");
        }
        silent.message = "folded by YAML\n".to_owned();
        assert_eq!(check_rule(&silent), Ok(()));
        for (bytes, fits) in [(4000, true), (5000, false)] {
            let mut large = rule("true");
            let value = Some("x".repeat(bytes).into());
            large.fix = Some(tollgate_model::policies::RuleFix { pointer: "/name".to_owned(), value });
            assert_eq!(check_rule(&large).is_ok(), fits);
        }
    }

    #[test]
    fn a_broken_rule_never_holds() {
        let pipeline: Pipeline =
            serde_json::from_value(pipeline(json!({ "type": "rest" }), json!([]))).expect("a pipeline");
        for broken in ["trigger.rateLimit.by == 'consumer'", "((("] {
            assert!(matches!(evaluate(broken, &pipeline), RuleOutcome::Unknown(_)), "{broken}");
        }
    }
}
