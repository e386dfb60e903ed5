//! What pipelines that issue tokens must keep to.
//!
//! A login flow is exempt from demanding a token, so it is governed by rules of its own: how long its tokens live, that
//! the endpoint itself demands an API key, that named fields and no whole message become claims, and that no password
//! is compared with a global, which everybody who can read globals can read.

use serde_json::Value;
use tollgate_expression::ast::{Expr, IdedExpr, LiteralValue};
use tollgate_expression::lexer::end_of_expression;
use tollgate_expression::{FLOWS, parse, path};
use tollgate_model::names::EnvironmentName;
use tollgate_model::pipelines::Pipeline;
use tollgate_model::policies::{LoginFlowRules, PolicyName};
use tollgate_model::steps::{JwtGenerateStep, Step, StepKind};
use tollgate_model::verdicts::{Violation, ViolationCode};

use crate::judge::OR_MTLS;

/// Words in the names of fields that hold passwords.
const PASSWORD_WORDS: [&str; 7] = ["password", "passwort", "passwd", "passphrase", "pwd", "secret", "pin"];

/// Collects violations on the way through a flow.
struct Walk<'a> {
    environment: &'a EnvironmentName,
    rules: &'a LoginFlowRules,
    wholes: &'a [Keys],
    violations: &'a mut Vec<Violation>,
}

/// Where in a message something stands.
type Keys = Vec<String>;

/// Judges an exposed pipeline that issues tokens; any other has nothing to keep to.
pub(crate) fn judge(
    pipeline: &Pipeline,
    environment: &EnvironmentName,
    rules: &LoginFlowRules,
    violations: &mut Vec<Violation>,
) {
    let Some(trigger) = pipeline.trigger.http().filter(|_| pipeline.trigger.is_exposed()) else { return };
    if token_steps(&pipeline.steps).next().is_none() {
        return;
    }
    let mut wholes = Vec::new();
    find_wholes(&pipeline.steps, &mut wholes);
    let mut walk = Walk { environment, rules, wholes: &wholes, violations };
    if rules.api_key && !trigger.demands_key() {
        walk.add(
            ViolationCode::LoginApiKey,
            "Login endpoint without API Key".to_owned(),
            "/trigger/apiKey".to_owned(),
            Value::Bool(true),
            OR_MTLS.to_owned(),
        );
    }
    walk.steps(&pipeline.steps, "/steps", false);
}

/// Returns every `jwtGenerate` step of a flow, however deep.
pub(crate) fn token_steps(steps: &[Step]) -> Box<dyn Iterator<Item = &JwtGenerateStep> + '_> {
    Box::new(steps.iter().flat_map(|step| -> Box<dyn Iterator<Item = &JwtGenerateStep> + '_> {
        match &step.kind {
            StepKind::JwtGenerate(token) => Box::new(std::iter::once(token)),
            StepKind::Choice(choice) => Box::new(
                choice
                    .when
                    .iter()
                    .map(|branch| branch.steps.as_slice())
                    .chain(choice.otherwise.as_deref())
                    .flat_map(token_steps),
            ),
            StepKind::Block(block) => Box::new(
                std::iter::once(block.steps.as_slice())
                    .chain(block.on_error.as_deref())
                    .flat_map(token_steps),
            ),
            _ => Box::new(std::iter::empty()),
        }
    }))
}

// === impl Walk ===

impl Walk<'_> {
    /// Walks a list of steps; `named` tells whether a step with named fields made the message so far. Returns whether
    /// one made the message after them.
    fn steps(&mut self, steps: &[Step], pointer: &str, mut named: bool) -> bool {
        for (index, step) in steps.iter().enumerate() {
            named = self.step(step, &format!("{pointer}/{index}"), named);
        }
        named
    }

    fn step(&mut self, step: &Step, pointer: &str, named: bool) -> bool {
        self.expressions(step, pointer);
        match &step.kind {
            StepKind::Json(value) => is_named(value, self.wholes),
            StepKind::Assert(_) | StepKind::Log(_) => named,
            StepKind::Choice(choice) => {
                let mut every = true;
                for (index, branch) in choice.when.iter().enumerate() {
                    every &=
                        self.steps(&branch.steps, &format!("{pointer}/choice/when/{index}/steps"), named);
                }
                match &choice.otherwise {
                    Some(otherwise) => {
                        self.steps(otherwise, &format!("{pointer}/choice/otherwise"), named) && every
                    }
                    None => every && named,
                }
            }
            StepKind::Block(block) => {
                let mut every = self.steps(&block.steps, &format!("{pointer}/block/steps"), named);
                if let Some(on_error) = &block.on_error {
                    // An error's message has three fields of ours.
                    every &= self.steps(on_error, &format!("{pointer}/block/onError"), true);
                }
                every
            }
            StepKind::JwtGenerate(token) => {
                self.token(token, pointer, named);
                true
            }
            // These end the flow.
            StepKind::Respond(_) | StepKind::Throw(_) | StepKind::Proxy(_) => true,
            StepKind::Http(_) | StepKind::JwtDecode(_) => false,
        }
    }

    fn token(&mut self, token: &JwtGenerateStep, pointer: &str, named: bool) {
        let most = self.rules.max_token_lifetime_ms;
        if token.expires_in_ms > most {
            self.add(
                ViolationCode::TokenLifetime,
                format!("Token lives {} ms, {} ms at most", token.expires_in_ms.get(), most.get()),
                format!("{pointer}/jwtGenerate/expiresInMs"),
                most.get().into(),
                String::new(),
            );
        }
        if self.rules.named_claims && !named {
            self.add(
                ViolationCode::UnnamedClaims,
                "A whole message would become the claims of a token".to_owned(),
                pointer.to_owned(),
                Value::Null,
                "put a json step with the fields that the token needs before jwtGenerate, each by its name and \
                 without secrets"
                    .to_owned(),
            );
        }
    }

    /// Looks for a password that is compared with a global.
    fn expressions(&mut self, step: &Step, pointer: &str) {
        if !self.rules.hashed_passwords {
            return;
        }
        let mut found = Vec::new();
        match &step.kind {
            StepKind::Assert(assert) => {
                found.push((format!("{pointer}/assert/condition"), &assert.condition))
            }
            StepKind::Choice(choice) => {
                found.extend(
                    choice.when.iter().enumerate().map(|(i, branch)| {
                        (format!("{pointer}/choice/when/{i}/condition"), &branch.condition)
                    }),
                )
            }
            _ => {}
        }
        let mut texts: Vec<(String, String)> =
            found.into_iter().map(|(pointer, source)| (pointer, source.clone())).collect();
        // Whatever a step writes can compare in its braces; steps inside a step are looked at by themselves.
        if !matches!(step.kind, StepKind::Choice(_) | StepKind::Block(_))
            && let Ok(value) = serde_json::to_value(step)
        {
            let mut sources = Vec::new();
            braces(&value, &mut sources);
            let at = format!("{pointer}/{}", step.type_name());
            texts.extend(sources.into_iter().map(|source| (at.clone(), source)));
        }
        for (pointer, source) in texts {
            let Ok(parsed) = parse(source.trim(), &FLOWS) else { continue };
            if compares_password(parsed.program.expression()) {
                self.add(
                    ViolationCode::PlainPassword,
                    "A password is compared with a plain global".to_owned(),
                    pointer,
                    Value::Null,
                    "keep the password's hash in an account, in a field that is stored as a hash, and compare with \
                     verifyPassword(…)"
                        .to_owned(),
                );
            }
        }
    }

    fn add(&mut self, code: ViolationCode, message: String, pointer: String, fix: Value, remedy: String) {
        self.violations.push(Violation {
            policy: PolicyName::LoginFlows,
            environment: self.environment.clone(),
            code,
            message,
            pointer,
            fix,
            remedy,
        });
    }
}

/// Tells whether a `json` step makes a message of named fields, none of them a whole message or a secret.
fn is_named(value: &Value, wholes: &[Keys]) -> bool {
    let Value::Object(fields) = value else { return false };
    let mut sources = Vec::new();
    fields.values().for_each(|field| braces(field, &mut sources));
    !sources.iter().any(|source| is_whole(source, wholes))
}

/// Tells whether what stands in braces gives a whole message or a secret, or nobody knows.
fn is_whole(source: &str, wholes: &[Keys]) -> bool {
    !parse(source.trim(), &FLOWS).is_ok_and(|parsed| {
        !gives_whole(parsed.program.expression(), wholes) && !parsed.roots.contains(&"accounts")
    })
}

/// Collects where `json` steps put a whole message or a secret: a step behind them can name it like any field.
fn find_wholes(steps: &[Step], wholes: &mut Vec<Keys>) {
    fn find(value: &Value, at: &mut Keys, wholes: &mut Vec<Keys>) {
        let mut sources = Vec::new();
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    at.push(name.clone());
                    find(field, at, wholes);
                    at.pop();
                }
                return;
            }
            other => braces(other, &mut sources),
        }
        if !at.is_empty() && sources.iter().any(|source| is_whole(source, wholes)) {
            wholes.push(at.clone());
        }
    }
    for step in steps {
        match &step.kind {
            StepKind::Json(value) => find(value, &mut Vec::new(), wholes),
            StepKind::Choice(choice) => {
                let branches = choice.when.iter().map(|branch| branch.steps.as_slice());
                branches.chain(choice.otherwise.as_deref()).for_each(|steps| find_wholes(steps, wholes));
            }
            StepKind::Block(block) => {
                find_wholes(&block.steps, wholes);
                block.on_error.iter().for_each(|steps| find_wholes(steps, wholes));
            }
            _ => {}
        }
    }
}

/// Tells whether what an expression gives holds a whole message, or could: wrapped in a list or a map, cast, copied by a
/// comprehension, or read by a computed name. Asking something of a message (`==`, `in`, `size`, `exists`) gives none of it.
fn gives_whole(expression: &IdedExpr, wholes: &[Keys]) -> bool {
    let gives = |expression: &IdedExpr| gives_whole(expression, wholes);
    if let Some((root, keys)) = path(expression) {
        return FLOWS.roots.contains(&root)
            && match (root, keys.as_slice()) {
                (_, []) => true,
                ("message", [only])
                    if matches!(only.as_str(), "body" | "form" | "headers" | "queryAndPath") =>
                {
                    true
                }
                ("message", keys) => wholes.iter().any(|whole| whole.starts_with(keys)),
                _ => false,
            };
    }
    match &expression.expr {
        Expr::Select(select) => !select.test && gives(&select.operand),
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (
                "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" | "@in" | "_&&_" | "_||_" | "!_" | "size",
                _,
            ) => false,
            ("contains" | "startsWith" | "endsWith" | "matches", _) => false,
            ("_?_:_", [_, then, otherwise]) => gives(then) || gives(otherwise),
            // One item of a list, not all of it.
            ("_[_]", [list, index])
                if path(list).is_some() && matches!(index.expr, Expr::Literal(LiteralValue::Int(_))) =>
            {
                false
            }
            _ => children(expression).into_iter().any(gives),
        },
        Expr::Comprehension(it) => {
            // `all` and `exists` begin with true or false; `exists_one` ends in a comparison.
            !matches!(it.accu_init.expr, Expr::Literal(LiteralValue::Boolean(_)))
                && !matches!(&it.result.expr, Expr::Call(call) if call.func_name == "_==_")
                && (gives(&it.iter_range) || gives(&it.loop_step))
        }
        _ => children(expression).into_iter().any(gives),
    }
}

/// Collects what stands in double braces. A text in which braces do not close is no template and was refused when the
/// pipeline was saved.
fn braces(value: &Value, sources: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let mut rest = text.as_str();
            while let Some((_, after)) = rest.split_once("{{") {
                let Ok(Some(end)) = end_of_expression(after) else { return };
                let (source, after) = after.split_at(end);
                sources.push(source.to_owned());
                rest = after.strip_prefix("}}").unwrap_or(after);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| braces(item, sources)),
        Value::Object(fields) => fields.values().for_each(|field| braces(field, sources)),
        _ => {}
    }
}

/// Tells whether an expression compares something of a global with something of the message, one of them a password by
/// its name.
fn compares_password(expression: &IdedExpr) -> bool {
    let compared: Vec<&IdedExpr> = match &expression.expr {
        Expr::Call(call) => match call.func_name.as_str() {
            "_==_" | "_!=_" | "@in" | "contains" | "startsWith" | "endsWith" | "matches" => {
                children(expression)
            }
            _ => Vec::new(),
        },
        // What goes over a list looks at its items by another name.
        Expr::Comprehension(it) => vec![&it.iter_range, &it.loop_step],
        _ => Vec::new(),
    };
    if let [left, right] = compared.as_slice() {
        let (mut roots, mut keys) = (Vec::new(), Vec::new());
        names(left, &mut roots, &mut keys);
        let first = roots.clone();
        roots.clear();
        names(right, &mut roots, &mut keys);
        let global = |roots: &[String]| roots.iter().any(|root| root == "globals");
        let message = |roots: &[String]| roots.iter().any(|root| root == "message");
        let between = global(&first) && message(&roots) || message(&first) && global(&roots);
        let password = keys.iter().any(|key| {
            let key = key.to_ascii_lowercase();
            key.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
                PASSWORD_WORDS.contains(&word) || PASSWORD_WORDS.iter().take(5).any(|it| word.contains(it))
            })
        });
        if between && password {
            return true;
        }
    }
    children(expression).into_iter().any(compares_password)
}

/// Collects the roots and keys of every path in an expression.
fn names(expression: &IdedExpr, roots: &mut Vec<String>, keys: &mut Vec<String>) {
    match &expression.expr {
        Expr::Ident(name) => roots.push(name.clone()),
        Expr::Select(select) => keys.push(select.field.clone()),
        Expr::Literal(LiteralValue::String(text)) => keys.push(text.inner().to_owned()),
        _ => {}
    }
    children(expression).into_iter().for_each(|child| names(child, roots, keys));
}

fn children(expression: &IdedExpr) -> Vec<&IdedExpr> {
    use tollgate_expression::ast::EntryExpr;

    match &expression.expr {
        Expr::Select(select) => vec![&select.operand],
        Expr::Call(call) => call.target.iter().map(|it| &**it).chain(&call.args).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map
            .entries
            .iter()
            .flat_map(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
                EntryExpr::StructField(field) => vec![&field.value],
            })
            .collect(),
        Expr::Comprehension(it) => {
            vec![&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn codes(api_key: bool, steps: Value) -> Vec<&'static str> {
        let pipeline: Pipeline = serde_json::from_value(json!({ "name": "login", "project": "store",
            "trigger": { "type": "rest", "externalApi": true, "apiKey": api_key }, "steps": steps }))
        .expect("a pipeline");
        let mut violations = Vec::new();
        judge(&pipeline, &EnvironmentName::prod(), &LoginFlowRules::strict(), &mut violations);
        violations.iter().map(|violation| violation.code.as_str()).collect()
    }

    fn token(expires_in_ms: u64) -> Value {
        json!({ "jwtGenerate": { "expiresInMs": expires_in_ms } })
    }

    #[test]
    fn a_careful_login_flow_keeps_every_rule() {
        let check = json!({ "assert": { "condition":
            "message.body.user == globals[\"portal-user\"] && verifyPassword(message.body.password, accounts.portal.hash)" } });
        let claims = json!({ "json": { "user": "{{ message.body.user }}", "kind": "portal" } });
        assert!(codes(true, json!([check, claims, token(86_400_000)])).is_empty());
        let branches = json!([{ "choice": { "when": [{ "condition": "true", "steps": [claims] }],
            "otherwise": [claims, { "log": { "message": "x" } }] } }, token(1000)]);
        assert!(codes(true, branches).is_empty());
        let kept = json!({ "json": { "before": "{{ message.body }}" } });
        let of_it = json!({ "json": { "user": "{{ message.before.user }}" } });
        assert!(codes(true, json!([kept, of_it, token(1000)])).is_empty(), "one field of what was kept");
        for named in [
            "message.body.users.filter(u, u.active)[0].name",
            "message.body[0].name",
            "size(message.body) > 3 && \"a\" in message.headers",
            "message.body.exists(k, k == \"a\") ? message.body.user : \"x\"",
            "message.body.exists_one(k, k == \"a\")",
            "has(message.body.user) && message.body.roles.all(r, r != \"admin\")",
            "{\"a\": {\"b\": message.body.user}}",
            "message.body == {}",
        ] {
            let claims = json!({ "json": { "x": format!("{{{{ {named} }}}}") } });
            assert!(codes(true, json!([claims, token(1000)])).is_empty(), "{named}");
        }
        assert!(codes(false, json!([{ "json": 1 }])).is_empty(), "it issues no token");
    }

    #[test]
    fn each_carelessness_is_named() {
        let claims = json!({ "json": { "user": "{{ message.body.user }}" } });
        assert_eq!(codes(false, json!([claims, token(1000)])), ["login-api-key"]);
        assert_eq!(codes(true, json!([claims, token(86_400_001)])), ["token-lifetime"]);
        for whole in [
            json!([token(1000)]),
            json!([{ "json": "{{ message.body }}" }, token(1000)]),
            json!([{ "json": { "all": "{{ message }}" } }, token(1000)]),
            json!([{ "json": { "all": [{ "deep": "{{ message[\"body\"] }}" }] } }, token(1000)]),
            json!([{ "json": { "key": "{{ accounts.portal.hash }}" } }, token(1000)]),
            json!([{ "json": { "all": "{{ [message.body] }}" } }, token(1000)]),
            json!([{ "json": { "x": "{{ message.body }}" } }, { "json": { "y": "{{ message.x }}" } }, token(1000)]),
            json!([{ "json": { "a": { "b": "{{ accounts.portal.hash }}" } } }, { "json": { "y": "{{ message.a }}" } },
                token(1000)]),
            json!([{ "block": { "steps": [{ "json": { "x": "{{ message.form }}" } }] } },
                { "json": { "y": "{{ message.x }}" } }, { "json": { "z": "{{ message.y }}" } }, token(1000)]),
            json!([{ "json": { "all": "{{ {\"a\": {\"b\": message.body}} }}" } }, token(1000)]),
            json!([{ "json": { "all": "{{ dyn(message.body) }}" } }, token(1000)]),
            json!([{ "json": { "all": "{{ string(message.form) }}" } }, token(1000)]),
            json!([{ "json": { "all": "{{ message[\"bo\" + \"dy\"] }}" } }, token(1000)]),
            json!([{ "json": { "all": "{{ true ? message.body : 0 }}" } }, token(1000)]),
            json!([{ "json": { "all": "{{ message.body.filter(k, true) }}" } }, token(1000)]),
            json!([{ "json": { "all": "{{ [1].map(x, message.headers) }}" } }, token(1000)]),
            json!([{ "json": { "all": "{{ [message][0].body }}" } }, token(1000)]),
            json!([claims, { "http": { "url": "https://users.example/" } }, token(1000)]),
            json!([{ "choice": { "when": [{ "condition": "true", "steps": [claims] }] } }, token(1000)]),
            json!([{ "block": { "steps": [claims, { "http": { "url": "https://users.example/" } }] } }, token(1000)]),
        ] {
            assert_eq!(codes(true, whole.clone()), ["unnamed-claims"], "{whole}");
        }
        for plain in [
            "message.body.password == globals[\"portal-password\"]",
            "globals.x == message.body.userPassword",
            "message.body.user == \"a\" && !(message.body[\"pin\"] != globals.code)",
            "message.body.secret in [globals.a, globals.b]",
            "client.address != \"\" && message.body.password == globals.a",
            "message.body.password.matches(globals.a)",
            "globals.a.startsWith(message.body.password)",
            "[globals.a].exists(x, x == message.body.password)",
        ] {
            let check = json!({ "assert": { "condition": plain } });
            assert_eq!(codes(true, json!([check, claims, token(1000)])), ["plain-password"], "{plain}");
        }
        let same = "{{ message.body.password == globals.p }}";
        for hidden in [
            json!({ "json": { "ok": same, "user": "x" } }),
            json!({ "json": { "a": "{{ {\"a\": {\"ok\": message.body.password == globals.p}} }}" } }),
            json!({ "http": { "url": "https://users.example/", "headers": { "ok": same } } }),
            json!({ "assert": { "condition": "true", "error": same } }),
            json!({ "block": { "steps": [{ "log": { "message": same } }] } }),
        ] {
            assert_eq!(codes(true, json!([hidden, claims, token(1000)])), ["plain-password"], "{hidden}");
        }
    }
}
