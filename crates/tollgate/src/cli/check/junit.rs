//! Findings as JUnit XML: a suite for each file, a case for each pipeline and environment.

use std::fmt::Write as _;

use super::report::{Case, FileReport, Finding, FindingKind, Report};

/// What became of a case.
struct Outcome<'a> {
    case: String,
    element: Option<&'static str>,
    findings: Vec<&'a Finding>,
}

/// Writes the document.
pub(super) fn document(report: &Report) -> String {
    let suites: Vec<(&FileReport, Vec<Outcome<'_>>)> =
        report.files.iter().map(|file| (file, outcomes(file))).filter(|(_, all)| !all.is_empty()).collect();
    let all = || suites.iter().flat_map(|(_, outcomes)| outcomes);
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites name=\"tollgate check\"{}>", counts(all()));
    for (file, outcomes) in &suites {
        let name = escape(&file.file);
        let _ = writeln!(out, "  <testsuite name=\"{name}\"{}>", counts(outcomes.iter()));
        for outcome in outcomes {
            write(&mut out, file, outcome);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn outcomes(file: &FileReport) -> Vec<Outcome<'_>> {
    let problems = (!file.problems.is_empty()).then(|| Outcome {
        case: "is valid".to_owned(),
        element: Some("error"),
        findings: file.problems.iter().collect(),
    });
    problems.into_iter().chain(file.cases.iter().map(outcome)).collect()
}

fn outcome(case: &Case) -> Outcome<'_> {
    let of = |kind: fn(&FindingKind) -> bool| -> Vec<&Finding> {
        case.findings.iter().filter(|finding| kind(&finding.kind)).collect()
    };
    let broken = of(|kind| matches!(kind, FindingKind::Broken));
    let violations = of(|kind| matches!(kind, FindingKind::Violation(_)));
    let waived = of(|kind| matches!(kind, FindingKind::Waived(_)));
    let (element, findings) = match (broken.is_empty(), violations.is_empty(), waived.is_empty()) {
        (false, ..) => (Some("error"), broken),
        (true, false, _) => (Some("failure"), violations),
        (true, true, false) => (Some("skipped"), waived),
        (true, true, true) => (None, of(|kind| matches!(kind, FindingKind::Advice))),
    };
    let case = match &case.environment {
        Some(environment) => format!("{} in {environment}", case.pipeline),
        None => format!("{} can be saved", case.pipeline),
    };
    Outcome { case, element, findings }
}

fn counts<'a>(outcomes: impl Iterator<Item = &'a Outcome<'a>>) -> String {
    let (mut tests, mut failures, mut errors, mut skipped) = (0, 0, 0, 0);
    for outcome in outcomes {
        tests += 1;
        match outcome.element {
            Some("failure") => failures += 1,
            Some("error") => errors += 1,
            Some(_) => skipped += 1,
            None => {}
        }
    }
    format!(" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\"")
}

fn write(out: &mut String, file: &FileReport, outcome: &Outcome<'_>) {
    let Outcome { case, element, findings } = outcome;
    let (case, name) = (escape(case), escape(&file.file));
    let _ = write!(out, "    <testcase name=\"{case}\" classname=\"{name}\" file=\"{name}\"");
    let lines: Vec<String> = findings.iter().map(|finding| line(file, finding)).collect();
    let body = escape(&lines.join("\n"));
    match (element, findings.split_first()) {
        (Some(element), Some((first, rest))) => {
            let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
            let message = escape(&format!("{}{more}", summary(first)));
            let (line, kind) = (first.position.line, escape(&first.rule));
            // `skipped` has no type.
            let kind = if *element == "skipped" { String::new() } else { format!(" type=\"{kind}\"") };
            let _ = writeln!(out, " line=\"{line}\">");
            let _ = writeln!(out, "      <{element} message=\"{message}\"{kind}>{body}</{element}>");
            out.push_str("    </testcase>\n");
        }
        (_, None) => out.push_str("/>\n"),
        (None, Some(_)) => {
            let _ = writeln!(out, ">\n      <system-out>{body}</system-out>\n    </testcase>");
        }
    }
}

/// Says in a few words what was found; where and how to mend it stand in the body.
fn summary(finding: &Finding) -> String {
    match &finding.kind {
        FindingKind::Violation(violation) => violation.message.clone(),
        FindingKind::Waived(waived) => {
            format!("waived until {}: {}", waived.until, waived.violation.message)
        }
        FindingKind::Broken | FindingKind::Advice => finding.message.clone(),
    }
}

fn line(file: &FileReport, finding: &Finding) -> String {
    let Finding { position, message, kind, .. } = finding;
    let more = match kind {
        FindingKind::Waived(waived) => format!(" (waived until {}: {})", waived.until, waived.reason),
        _ => String::new(),
    };
    format!("{}:{}:{}: {message}{more}", file.file, position.line, position.column)
}

/// Escapes a text for attributes and elements. Characters that XML 1.0 cannot hold at all (section 2.2) are written
/// out, so that nothing of the text is lost.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push_str(&format!("&#{};", u32::from(c))),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_out_of_its_place() {
        for text in ["<a b=\"c\">&amp;'</a>", "tab\tline\r\nend", "üñí 日本 \u{1f600}"] {
            let xml = format!("<x y=\"{0}\">{0}</x>", escape(text));
            let document = roxmltree::Document::parse(&xml).expect("XML");
            let root = document.root_element();
            assert_eq!((root.attribute("y"), root.text()), (Some(text), Some(text)));
        }
        for text in ["\u{0}\u{1b}[2J\u{7f}\u{85}", "\u{fffe}\u{ffff}"] {
            let xml = format!("<x y=\"{0}\">{0}</x>", escape(text));
            assert!(roxmltree::Document::parse(&xml).is_ok(), "{xml:?}");
        }
        assert_eq!(escape("\u{1b}"), "\\u{1b}");
    }
}
