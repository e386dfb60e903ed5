//! Findings as SARIF 2.1.0 (OASIS), as code scanning reads it.

use serde_json::{Value, json};
use tollgate_model::policies::{AccessPolicy, PolicyName};
use tollgate_model::verdicts::ViolationCode;

use super::edits::{Edit, edits};
use super::report::{
    ADVICE, Case, FILE_INVALID, FileReport, Finding, FindingKind, PIPELINE_INVALID, POLICY_INVALID, Report,
    rule_id,
};
use crate::cli::sarif::{RuleText, Run, uri};

/// Most findings of a file that come with an edit: each is tried on a copy of the file first.
const MAX_FIXES: usize = 200;

/// Writes the document.
pub(super) fn document(report: &Report) -> Value {
    let mut rules = catalogue(report);
    for (_, _, finding) in report.findings() {
        if !rules.iter().any(|rule| rule.id == finding.rule) {
            // No catalogue names it: such as a custom rule that cannot be evaluated.
            let help = "Ask whoever answers for the policies of the realm.";
            rules.push(rule_text(finding.rule.clone(), &finding.message, help, "error"));
        }
    }
    let artifacts: Vec<Value> =
        report.files.iter().map(|file| json!({ "location": { "uri": uri(&file.file) } })).collect();
    let mut results = Vec::new();
    for (index, file) in report.files.iter().enumerate() {
        let mut fixes_left = MAX_FIXES;
        let of_cases =
            file.cases.iter().flat_map(|case| case.findings.iter().map(move |it| (Some(case), it)));
        for (case, finding) in file.problems.iter().map(|it| (None, it)).chain(of_cases) {
            let rule = rules.iter().position(|rule| rule.id == finding.rule).unwrap_or_default();
            let mut result = result(file, index, case, finding, rule);
            if let (Some(case), FindingKind::Violation(violation)) = (case, &finding.kind)
                && fixes_left > 0
            {
                let edits = edits(file, case.resource, violation);
                if let (false, Some(fields)) = (edits.is_empty(), result.as_object_mut()) {
                    fields.insert("fixes".to_owned(), json!([fix(file, index, &violation.advice(), &edits)]));
                    fixes_left -= 1;
                }
            }
            results.push(result);
        }
    }
    let exit = report.exit().map_or(0, |exit| exit as u8);
    let invocation = json!({ "executionSuccessful": !report.is_broken(), "exitCode": exit });
    Run { rules, invocation, artifacts, results }.document()
}

fn result(file: &FileReport, index: usize, case: Option<&Case>, finding: &Finding, rule: usize) -> Value {
    let Finding { rule: id, message, pointer, position, kind } = finding;
    let level = if matches!(kind, FindingKind::Advice) { "warning" } else { "error" };
    let pipeline = case.map(|case| case.pipeline.to_string()).unwrap_or_default();
    let environment = case.and_then(|case| case.environment.as_ref()).map(ToString::to_string);
    let environment = environment.unwrap_or_default();
    let mut location = json!({ "physicalLocation": {
        "artifactLocation": { "uri": uri(&file.file), "index": index },
        "region": { "startLine": position.line, "startColumn": position.column },
    } });
    let mut result =
        json!({ "ruleId": id, "ruleIndex": rule, "level": level, "message": { "text": message } });
    // What stays the same when lines above are added: another name for the same finding in the next run.
    let whose = if case.is_some() { pipeline.clone() } else { uri(&file.file) };
    // The words tell apart what has no rule of its own.
    let words = if matches!(kind, FindingKind::Broken | FindingKind::Advice) { message } else { "" };
    let fingerprint = format!("{whose}|{environment}|{id}|{pointer}|{words}");
    if let (Some(fields), Some(location)) = (result.as_object_mut(), location.as_object_mut()) {
        if case.is_some() {
            let name = format!("{pipeline}{pointer}");
            location.insert(
                "logicalLocations".to_owned(),
                json!([{ "fullyQualifiedName": name, "kind": "member" }]),
            );
            fields
                .insert("properties".to_owned(), json!({ "pipeline": pipeline, "environment": environment }));
        }
        fields.insert("locations".to_owned(), json!([location]));
        fields.insert("partialFingerprints".to_owned(), json!({ "tollgateFinding/v1": fingerprint }));
        if let FindingKind::Waived(waived) = kind {
            let why = format!("waived until {}: {}", waived.until, waived.reason);
            let suppression = json!([{ "kind": "external", "status": "accepted", "justification": why }]);
            fields.insert("suppressions".to_owned(), suppression);
        }
    }
    result
}

fn fix(file: &FileReport, index: usize, advice: &str, edits: &[Edit]) -> Value {
    let replacements = edits.iter().map(|Edit { at, end_column, text }| {
        json!({
            "deletedRegion": { "startLine": at.line, "startColumn": at.column, "endLine": at.line,
                "endColumn": end_column },
            "insertedContent": { "text": text },
        })
    });
    json!({
        "description": { "text": advice },
        "artifactChanges": [{
            "artifactLocation": { "uri": uri(&file.file), "index": index },
            "replacements": replacements.collect::<Vec<_>>(),
        }],
    })
}

/// Returns what every run can find: also when nothing is found, a reader sees what was looked for.
fn catalogue(report: &Report) -> Vec<RuleText> {
    let error = |id: String, short: &str, help: &str| rule_text(id, short, help, "error");
    let mut rules = Vec::new();
    for policy in AccessPolicy::ALL {
        for (code, what, switch) in [
            (ViolationCode::MissingApiKey, "an API key", "apiKey"),
            (ViolationCode::MissingJwt, "a JSON Web Token", "jwt"),
        ] {
            let (exposure, named) = (policy.exposure().as_str(), policy.as_str());
            let short = format!("A pipeline on the {exposure} listener must demand {what}");
            let help = format!(
                "The environment's `{named}` asks for {what}. Set `/trigger/{switch}` to true in the pipeline, or \
                 turn its {exposure} API off."
            );
            rules.push(error(rule_id(&PolicyName::Access(policy), code.as_str()), &short, &help));
        }
    }
    for (code, short, help) in [
        (
            ViolationCode::TokenLifetime,
            "A token lives longer than it may",
            "Lower `expiresInMs` of the step `jwtGenerate` to what `login-flows` allows in the environment.",
        ),
        (
            ViolationCode::LoginApiKey,
            "Tokens are issued without an API key",
            "Set `/trigger/apiKey` to true: whoever asks for a token shows a key first.",
        ),
        (
            ViolationCode::UnnamedClaims,
            "A whole message becomes the claims of a token",
            "Put a `json` step with named fields before `jwtGenerate`, so that only what is meant goes into the token.",
        ),
        (
            ViolationCode::PlainPassword,
            "A password is compared with a plain global",
            "Keep the password's hash in an account and compare with `verifyPassword`.",
        ),
    ] {
        rules.push(error(rule_id(&PolicyName::LoginFlows, code.as_str()), short, help));
    }
    for rule in &report.rules {
        let name = PolicyName::Rule(rule.name.clone());
        let help = format!("A custom rule of this realm. Its condition: {}", rule.condition);
        rules.push(error(rule_id(&name, ViolationCode::Rule.as_str()), &rule.message, &help));
    }
    for (id, short, help) in [
        (FILE_INVALID, "The file is no resource file", "`tollgate schema pipeline` shows what a file holds."),
        (
            POLICY_INVALID,
            "The policies do not fit together",
            "Export them anew with `tollgate policy export`.",
        ),
        (
            PIPELINE_INVALID,
            "The pipeline cannot be saved",
            "Correct the place that is named; `tollgate apply` refuses it with the same words.",
        ),
    ] {
        rules.push(error(id.to_owned(), short, help));
    }
    let help = "The policies let the pipeline pass. The message says what would be better.";
    rules.push(rule_text(ADVICE.to_owned(), "Allowed, and advised against", help, "warning"));
    rules
}

/// Makes a rule of policies.
fn rule_text(id: String, short: &str, help: &str, level: &'static str) -> RuleText {
    let (short, help) = (short.to_owned(), help.to_owned());
    RuleText { id, short, help, level, family: "violation", properties: json!({ "tags": ["policy"] }) }
}
