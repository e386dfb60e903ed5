//! Findings as lines for people, and as one document for programs.

use serde_json::{Value, json};

use super::report::{Case, FileReport, Finding, FindingKind, Report};
use crate::failure::Exit;
use crate::output::printable;

/// Writes a line for each finding: `file:line:column: message`.
pub(super) fn lines(report: &Report) -> String {
    let line = |(file, _, finding): (&FileReport, Option<&Case>, &Finding)| {
        let Finding { position, message, kind, .. } = finding;
        let (mark, more) = match kind {
            FindingKind::Advice => ("advice: ".to_owned(), String::new()),
            FindingKind::Waived(waived) => {
                (format!("waived until {}: ", waived.until), format!(" ({})", waived.reason))
            }
            FindingKind::Broken | FindingKind::Violation(_) => Default::default(),
        };
        let text =
            printable(&format!("{}:{}:{}: {mark}{message}{more}", file.file, position.line, position.column));
        format!("{text}\n")
    };
    report.findings().map(line).collect()
}

/// Sums up in a line; findings that do not count are counted apart.
pub(super) fn summary(report: &Report) -> String {
    let counted = report.count(|kind| matches!(kind, FindingKind::Broken | FindingKind::Violation(_)));
    let mut out = format!("{} pipelines checked, {counted} findings", report.pipelines());
    for (number, what) in [
        (report.count(|kind| matches!(kind, FindingKind::Waived(_))), "waived"),
        (report.count(|kind| matches!(kind, FindingKind::Advice)), "advised"),
    ] {
        if number > 0 {
            out.push_str(&format!(", {number} {what}"));
        }
    }
    out
}

/// Puts everything into one document.
pub(super) fn document(report: &Report) -> Value {
    let findings: Vec<Value> = report.findings().map(finding).collect();
    let mut document = json!({
        "pipelines": report.pipelines(),
        "conforms": report.count(|kind| matches!(kind, FindingKind::Violation(_))) == 0,
        "compiles": !report.is_broken(),
        "waived": report.count(|kind| matches!(kind, FindingKind::Waived(_))),
        "findings": findings,
    });
    // As in every failure of the command line.
    let failed = report.exit().map(|exit| match exit {
        Exit::Refused => ("policy-refused", "a pipeline breaks the policies"),
        _ => ("invalid", "a file or a pipeline is not valid"),
    });
    if let (Some((code, title)), Some(fields)) = (failed, document.as_object_mut()) {
        fields.insert("code".to_owned(), code.into());
        fields.insert("title".to_owned(), title.into());
    }
    document
}

fn finding((file, case, finding): (&FileReport, Option<&Case>, &Finding)) -> Value {
    let Finding { rule, message, pointer, position, kind } = finding;
    let (level, violation, waived) = match kind {
        FindingKind::Broken => ("error", None, None),
        FindingKind::Violation(violation) => ("error", Some(json!(violation)), None),
        FindingKind::Waived(waived) => {
            let by = json!({ "waiver": waived.waiver, "until": waived.until, "reason": waived.reason });
            ("waived", Some(json!(waived.violation)), Some(by))
        }
        FindingKind::Advice => ("advice", None, None),
    };
    json!({
        "file": file.file, "line": position.line, "column": position.column, "level": level, "rule": rule,
        "pipeline": case.map(|case| &case.pipeline), "environment": case.and_then(|case| case.environment.as_ref()),
        "pointer": pointer, "message": message, "violation": violation, "waived": waived,
    })
}
