//! Findings as SARIF 2.1.0.

use serde_json::{Value, json};
use tollgate_credential::leaks::LeakKind;

use super::findings::{Finding, Findings, Part, Place};
use super::report::{place, what};
use crate::cli::sarif::{RuleText, Run, uri};

const API_KEY: &str = "leaked-api-key";
const USER_TOKEN: &str = "leaked-user-token";

/// Writes the document.
pub(super) fn document(findings: &Findings) -> Value {
    let rules = vec![
        rule(
            API_KEY,
            "An API key stands where it can be read",
            "Rotate the key (`tollgate key rotate`), put the new one where secrets belong, and revoke the old one. \
             Taking it out of the file is not enough: whoever could read the file has it.",
        ),
        rule(
            USER_TOKEN,
            "An API token of a user stands where it can be read",
            "Delete the token (`tollgate token delete`) and make a new one. Taking it out of the file is not enough: \
             whoever could read the file has it.",
        ),
    ];
    let notifications = findings.failures.iter().map(|unread| {
        json!({ "level": "error", "message": { "text": format!("{}: {}", unread.what, unread.why) } })
    });
    let notes = findings.notes.iter().map(|note| json!({ "level": "warning", "message": { "text": note } }));
    let invocation = json!({
        "executionSuccessful": findings.failures.is_empty(),
        "exitCode": findings.exit().map_or(0, |exit| exit as u8),
        "toolExecutionNotifications": notifications.chain(notes).collect::<Vec<_>>(),
    });
    let results = findings.findings.iter().map(result).collect();
    Run { rules, invocation, artifacts: Vec::new(), results }.document()
}

fn rule(id: &str, short: &str, help: &str) -> RuleText {
    // What code scanning of GitHub sorts by.
    let properties = json!({ "tags": ["security"], "security-severity": "8.0" });
    let (id, short, help) = (id.to_owned(), short.to_owned(), help.to_owned());
    RuleText { id, short, help, level: "error", family: "leak", properties }
}

fn result(finding: &Finding) -> Value {
    let Finding { leak, place: at, .. } = finding;
    let (index, id) = match leak.kind {
        LeakKind::ApiKey { .. } => (0, API_KEY),
        LeakKind::UserToken => (1, USER_TOKEN),
    };
    let level = if finding.counts() { "error" } else { "note" };
    let message = format!("{} ({})", what(finding), place(at));
    // The same in the next run, and another for another key or file.
    let commit = at.commit.as_deref().unwrap_or_default();
    let print =
        format!("{}|{}|{}", leak.digest, uri(&file(at)), if at.path.is_empty() { commit } else { "" });
    let mut result = json!({
        "ruleId": id,
        "ruleIndex": index,
        "level": level,
        "message": { "text": message },
        "partialFingerprints": { "tollgateLeak/v1": print },
        "properties": { "sha256": leak.digest, "commit": at.commit, "repository": at.repository },
    });
    if let (false, Some(fields)) = (at.path.is_empty(), result.as_object_mut()) {
        let mut physical = json!({ "artifactLocation": { "uri": uri(&file(at)) } });
        let region = match at.part {
            Part::Content { spot, binary: false } => {
                Some(json!({ "startLine": spot.line, "startColumn": spot.column }))
            }
            Part::Content { spot, binary: true } => {
                Some(json!({ "byteOffset": spot.offset, "byteLength": 1 }))
            }
            Part::Name | Part::Message => None,
        };
        if let (Some(region), Some(fields)) = (region, physical.as_object_mut()) {
            fields.insert("region".to_owned(), region);
        }
        fields.insert("locations".to_owned(), json!([{ "physicalLocation": physical }]));
    }
    result
}

/// Returns the path of a file as seen from where the command runs.
fn file(place: &Place) -> String {
    match &place.repository {
        Some(repository) if repository != "." => format!("{repository}/{}", place.path),
        _ => place.path.clone(),
    }
}
