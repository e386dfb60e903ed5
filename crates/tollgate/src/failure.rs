//! Why a command did not do what was asked: what people read, what programs read, and the exit code.

use std::process::ExitCode;

use serde::Deserialize as _;
use serde_json::{Value, json};
use tollgate_model::verdicts::Violation;

use crate::answers::{items, text};
use crate::output::{Format, Output, say};

/// Exit codes of the command line (see `tollgate --help`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    Refused = 3,
    NotFound = 4,
    NotPermitted = 5,
}

/// A command's failure.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server answered with a problem (RFC 9457).
    Problem { status: u16, body: Value },
    /// Something else went wrong, on this side or on the way.
    Other { exit: Exit, message: String, hints: Vec<String>, body: Option<Value> },
}

// === impl Failure ===

impl Failure {
    /// Makes a failure with a message and exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Other { exit: Exit::Failed, message: message.into(), hints: Vec::new(), body: None }
    }

    /// Makes a failure of usage: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Other { exit: Exit::Usage, message: message.into(), hints: Vec::new(), body: None }
    }

    /// Makes a failure of something that is not there: exit code 4.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::Other { exit: Exit::NotFound, message: message.into(), hints: Vec::new(), body: None }
    }

    /// Adds a line that says what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Other { hints, .. } = &mut self {
            hints.push(hint.into());
        }
        self
    }

    /// Adds a member to the document that programs read.
    #[must_use]
    pub(crate) fn with(mut self, member: &str, value: Value) -> Self {
        let document = self.document();
        let body = match &mut self {
            Self::Problem { body, .. } => body,
            Self::Other { body, .. } => body.get_or_insert(document),
        };
        if let Some(fields) = body.as_object_mut() {
            fields.insert(member.to_owned(), value);
        }
        self
    }

    /// Returns the exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Problem { status, body } => match (status, code_of(body)) {
                (_, "policy-refused") => Exit::Refused,
                (404, _) => Exit::NotFound,
                (401 | 403, _) => Exit::NotPermitted,
                _ => Exit::Failed,
            },
            Self::Other { exit, .. } => *exit,
        }
    }

    /// Tells the caller: words on stderr; with `--output json` or `yaml` the document on stdout too.
    pub(crate) fn report(&self, output: &Output) -> ExitCode {
        match self {
            Self::Problem { body, .. } => {
                if output.format() != Format::Table {
                    output.document(body);
                }
                say!("{}", problem_text(body).trim_end());
            }
            Self::Other { message, hints, body, .. } => {
                if output.format() != Format::Table {
                    output.document(&body.clone().unwrap_or_else(|| self.document()));
                }
                say!("error: {message}");
                for hint in hints {
                    say!("hint: {hint}");
                }
            }
        }
        ExitCode::from(self.exit() as u8)
    }
}

impl Failure {
    /// Returns what programs read of a failure that the server did not describe.
    fn document(&self) -> Value {
        let Self::Other { exit, message, hints, .. } = self else { return Value::Null };
        let mut document = json!({ "title": message, "code": exit.code() });
        if let (Some(fields), false) = (document.as_object_mut(), hints.is_empty()) {
            fields.insert("hint".to_owned(), hints.join("\n").into());
        }
        document
    }
}

// === impl Exit ===

impl Exit {
    /// Returns the code of a failure that has none from the server.
    fn code(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Refused => "policy-refused",
            Self::NotFound => "not-found",
            Self::NotPermitted => "not-permitted",
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(format!("{error:#}"))
    }
}

fn code_of(body: &Value) -> &str {
    text(body, "code")
}

/// Writes a problem for people: the sentence, each error or violation on its line, then hints.
fn problem_text(body: &Value) -> String {
    use std::fmt::Write as _;

    let mut out = String::new();
    let (title, detail) = (text(body, "title"), text(body, "detail"));
    let headline = if detail.is_empty() { title } else { detail };
    let headline = if headline.is_empty() { "the server refused without a reason" } else { headline };
    let file = text(body, "file");
    let place = if file.is_empty() { String::new() } else { format!("{file}: ") };
    let _ = writeln!(out, "error: {place}{headline}");
    for error in items(body, "errors") {
        let (message, line) = (text(error, "message"), error.get("line").and_then(Value::as_u64));
        let column = error.get("column").and_then(Value::as_u64);
        match (line, column) {
            (Some(line), Some(column)) => {
                let _ = writeln!(out, "  line {line}, column {column}: {message}");
            }
            _ => {
                let pointer = text(error, "pointer");
                let separator = if pointer.is_empty() { "" } else { ": " };
                let _ = writeln!(out, "  {pointer}{separator}{message}");
            }
        }
        let hint = text(error, "hint");
        if !hint.is_empty() {
            let _ = writeln!(out, "  hint: {hint}");
        }
    }
    for violation in items(body, "violations") {
        // Said in the words of the server, which are those of the offline check, too.
        let advice = Violation::deserialize(violation)
            .map_or_else(|_| "change the pipeline".to_owned(), |violation| violation.advice());
        let _ = writeln!(
            out,
            "  {} (policy {}, environment {})\n  hint: {advice}, save the pipeline and deploy it again",
            text(violation, "message"),
            text(violation, "policy"),
            text(violation, "environment"),
        );
    }
    let hinted = crate::next_steps::hint(body);
    let hint = match code_of(body) {
        // Each violation has said already what to do.
        "policy-refused" => "",
        "unauthenticated" => "sign in with `tollgate login`, or pass --token or TOLLGATE_TOKEN",
        "second-factor-required" => {
            "add --code CODE: six digits of your authenticator app, or a recovery code"
        }
        // What a gateway answers, not the management API.
        "route-not-found" => "is this the address of Tollgate's console? It is printed by `tollgate up`",
        _ => &hinted,
    };
    if !hint.is_empty() {
        let _ = writeln!(out, "hint: {hint}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_refusal_exits_with_3_and_names_the_switch() {
        let body = json!({
            "title": "Refused by policy", "status": 422, "code": "policy-refused",
            "violations": [{ "policy": "external-api-access", "environment": "test",
                "code": "missing-api-key", "message": "Missing external API Key", "pointer": "/trigger/apiKey", "fix": true }],
        });
        let failure = Failure::Problem { status: 422, body: body.clone() };
        assert_eq!(failure.exit(), Exit::Refused);
        let words = problem_text(&body);
        assert!(
            words.contains("Missing external API Key (policy external-api-access, environment test)"),
            "{words}"
        );
        assert!(words.contains("hint: set /trigger/apiKey to true"), "{words}");
    }

    #[test]
    fn statuses_become_the_documented_exit_codes() {
        for (status, code, exit) in [
            (404, "not-found", Exit::NotFound),
            (401, "unauthenticated", Exit::NotPermitted),
            (403, "not-permitted", Exit::NotPermitted),
            (422, "invalid", Exit::Failed),
            (503, "unavailable", Exit::Failed),
        ] {
            let failure = Failure::Problem { status, body: json!({ "code": code }) };
            assert_eq!(failure.exit(), exit, "{status} {code}");
        }
    }
}
