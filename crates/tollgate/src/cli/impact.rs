//! What a policy change means and does, for people: in a line per environment, then by switches, settings,
//! deployments and their callers.

use serde_json::Value;
use tollgate_model::verdicts::Violation;

use crate::answers::{self, items, number};
use crate::output::{print_err, print_out, printable};

/// How wide lines may be where nobody says.
const WIDTH: usize = 100;

/// The parts, in the order in which they are shown; one that has nothing to say is left out.
const PARTS: [fn(&Value, usize) -> String; 5] =
    [summary, switches, settings, deployments, super::usage::callers];

/// The switches: as a column is headed, as a sentence names them, and their field.
const SWITCHES: [(&str, &str, &str); 7] = [
    ("EXTERNAL", "external", "externalApi"),
    ("INTERNAL", "internal", "internalApi"),
    ("KEY", "API key", "apiKey"),
    ("MTLS", "mTLS", "mtls"),
    ("JWT", "JWT", "jwt"),
    ("BASIC", "Basic", "basicAuth"),
    ("LOGIN", "login flow", "loginFlow"),
];

/// The lines of one cell.
type Cell = Vec<String>;

/// Shows the impact of a change that may be saved next: words, on stderr.
pub(crate) fn say(impact: &Value) {
    print_err(text(&PARTS, impact, width(std::io::stderr())).trim_end());
}

/// Shows the impact that was asked for: data, on stdout.
pub(crate) fn print(impact: &Value) {
    print_out(&text(&PARTS, impact, width(std::io::stdout())));
}

/// Shows what a difference between two versions means; its settings are shown already.
pub(crate) fn print_meaning(diff: &Value) {
    print_out(&text(&[summary, switches], diff, width(std::io::stdout())));
}

fn text(parts: &[fn(&Value, usize) -> String], impact: &Value, width: usize) -> String {
    let texts = parts.iter().map(|part| part(impact, width)).filter(|text| !text.is_empty());
    texts.collect::<Vec<_>>().join("\n")
}

/// Returns how many columns a terminal has.
fn width(stream: impl std::os::fd::AsFd + std::io::IsTerminal) -> usize {
    let size = stream.is_terminal().then(|| rustix::termios::tcgetwinsize(stream).ok()).flatten();
    size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0).unwrap_or(WIDTH)
}

/// Returns what a change means in each environment.
fn meant(impact: &Value) -> &[Value] {
    impact.get("meaning").map(|meaning| items(meaning, "environments")).unwrap_or_default()
}

/// Says in one line what the change means in each environment.
fn summary(impact: &Value, _: usize) -> String {
    let mut out = String::new();
    for entry in meant(impact) {
        let (changed, settings) = (number(entry, "changed"), items(entry, "settings").len() as u64);
        let effect = match answers::text(entry, "effect") {
            "both" => "weakens and tightens",
            "none" if changed + settings == 0 => "nothing changes",
            "none" => "neither weakens nor tightens",
            effect => effect,
        };
        let mut parts = vec![format!("{}: {effect}", answers::text(entry, "environment"))];
        if changed > 0 {
            let combinations = number(entry, "combinations");
            let are = if changed == 1 { "is" } else { "are" };
            parts
                .push(format!("{changed} of {combinations} combinations of switches {are} judged otherwise"));
        }
        match settings {
            0 => {}
            1 => parts.push("1 setting changes".to_owned()),
            more => parts.push(format!("{more} settings change")),
        }
        let (first, rest) = parts.split_at(1);
        let colon = if rest.is_empty() { "" } else { ": " };
        out.push_str(&format!("{}{colon}{}\n", first.concat(), rest.join(", ")));
    }
    out
}

/// Shows the combinations of switches that are judged otherwise, once for environments where they are the same.
fn switches(impact: &Value, width: usize) -> String {
    let mut groups: Vec<(Vec<&str>, &[Value])> = Vec::new();
    for entry in meant(impact) {
        let (environment, rows) = (answers::text(entry, "environment"), items(entry, "switches"));
        match groups.iter_mut().find(|(_, other)| *other == rows) {
            _ if rows.is_empty() => {}
            Some((environments, _)) => environments.push(environment),
            None => groups.push((vec![environment], rows)),
        }
    }
    let (mut out, mut legend) = (String::new(), "");
    for (environments, rows) in groups {
        out.push_str(&format!(
            "judged otherwise in {}, by switches of the trigger:\n",
            environments.join(", ")
        ));
        let tables = [table(rows, &["BEFORE", "AFTER"], wide), table(rows, &["BEFORE → AFTER"], tall)];
        match tables.into_iter().find(|table| table.lines().all(|line| line.chars().count() <= width)) {
            Some(table) => {
                out.push_str(&table);
                legend = "(KEY: API key; LOGIN: login flow; * makes no difference)\n";
            }
            None => out.extend(rows.iter().map(narrow_row)),
        }
    }
    out + legend
}

/// Lays rows out in columns; what is missing stands in one or two columns behind the switches, a line each.
fn table(rows: &[Value], headings: &[&str], verdicts: fn(&Value) -> Vec<Cell>) -> String {
    let heading = SWITCHES.iter().map(|(heading, ..)| *heading).chain(headings.iter().copied());
    let mut cells: Vec<Vec<Cell>> = vec![heading.map(|heading| vec![heading.to_owned()]).collect()];
    cells.extend(rows.iter().map(|row| {
        let switches = SWITCHES.iter().map(|(.., field)| {
            vec![row.pointer(&format!("/switches/{field}")).map_or("*", switch).to_owned()]
        });
        switches.chain(verdicts(row)).collect()
    }));
    let wide = |column: usize| {
        let lines = cells.iter().filter_map(|row| row.get(column)).flatten();
        lines.map(|line| line.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..SWITCHES.len() + headings.len()).map(wide).collect();
    let mut out = String::new();
    for row in &cells {
        for line in 0..row.iter().map(Vec::len).max().unwrap_or_default() {
            let padded = row.iter().zip(&widths).map(|(cell, width)| {
                let text = cell.get(line).map(String::as_str).unwrap_or_default();
                format!("{text:<width$}")
            });
            out.push_str(&format!("  {}\n", padded.collect::<Vec<_>>().join("  ").trim_end()));
        }
    }
    out
}

fn wide(row: &Value) -> Vec<Cell> {
    vec![missing(row, "before"), missing(row, "after")]
}

fn tall(row: &Value) -> Vec<Cell> {
    let mut cell = missing(row, "before");
    let marks = std::iter::once("→").chain(std::iter::repeat(" "));
    cell.extend(marks.zip(missing(row, "after")).map(|(mark, text)| format!("{mark} {text}")));
    vec![cell]
}

/// Names only the switches that matter, so that a row fits where columns do not.
fn narrow_row(row: &Value) -> String {
    let named: Vec<String> = SWITCHES
        .iter()
        .filter_map(|(_, name, field)| {
            let value = row.pointer(&format!("/switches/{field}")).filter(|value| value.is_boolean())?;
            Some(format!("{name} {}", switch(value)))
        })
        .collect();
    let named = if named.is_empty() { "whatever the switches".to_owned() } else { named.join(", ") };
    let said = |field| missing(row, field).join(", ");
    format!("  {named}\n    before: {}\n    after:  {}\n", said("before"), said("after"))
}

fn switch(value: &Value) -> &'static str {
    match value {
        Value::Bool(true) => "on",
        Value::Bool(false) => "off",
        _ => "*",
    }
}

fn missing(row: &Value, field: &str) -> Cell {
    let all: Cell = items(row, field).iter().filter_map(Value::as_str).map(printable).collect();
    if all.is_empty() { vec!["conforms".to_owned()] } else { all }
}

/// Shows what else changes: custom rules, and values of the policies that are no table.
fn settings(impact: &Value, width: usize) -> String {
    let mut out = String::new();
    for entry in meant(impact) {
        for setting in items(entry, "settings") {
            let (environment, policy) =
                (answers::text(entry, "environment"), answers::text(setting, "policy"));
            let effect = match answers::text(setting, "effect") {
                "none" => "",
                "both" => " (weakens and tightens)",
                "weakens" => " (weakens)",
                _ => " (tightens)",
            };
            out.push_str(&format!("{environment}, {policy}{effect}:\n"));
            let (before, after) = (setting.get("before"), setting.get("after"));
            out.push_str(&changes(before.unwrap_or(&Value::Null), after.unwrap_or(&Value::Null), width));
        }
    }
    out
}

/// Writes a value before and after, field by field where it has fields.
pub(crate) fn changes(before: &Value, after: &Value, width: usize) -> String {
    let none = serde_json::Map::new();
    let fields = |value: &Value| value.as_object().cloned();
    if before.is_object() || after.is_object() {
        let (old, new) = (fields(before).unwrap_or(none.clone()), fields(after).unwrap_or(none));
        let names: Vec<&String> =
            old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))).collect();
        let scalar = [before, after].into_iter().find(|it| !it.is_object() && !it.is_null());
        let mut out = scalar.map(|_| change("", before, after, width)).unwrap_or_default();
        if out.is_empty() {
            for name in names {
                let value = |fields: &serde_json::Map<String, Value>| fields.get(name).cloned();
                let (old, new) = (value(&old).unwrap_or_default(), value(&new).unwrap_or_default());
                if old != new {
                    out.push_str(&change(name, &old, &new, width));
                }
            }
        }
        return out;
    }
    change("", before, after, width)
}

/// Writes one value before and after: in a line, or in two where that is too long.
pub(crate) fn change(name: &str, before: &Value, after: &Value, width: usize) -> String {
    let (before, after) = (shown(before), shown(after));
    let label = if name.is_empty() { String::new() } else { format!("{name}: ") };
    let line = format!("  {label}{before} → {after}");
    if line.chars().count() <= width {
        return format!("{line}\n");
    }
    let label = if name.is_empty() { String::new() } else { format!("  {name}:\n") };
    format!("{label}  - {before}\n  + {after}\n")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => printable(text),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => printable(&other.to_string()),
    }
}

/// Shows what the change does to what runs.
fn deployments(impact: &Value, _: usize) -> String {
    let mut out = String::new();
    for entry in items(impact, "impact") {
        let (falls_out, comes_in) = (items(entry, "fallsOut"), items(entry, "comesIn"));
        out.push_str(&format!(
            "{}: {} would stop conforming, {} would start to, {} unchanged\n",
            answers::text(entry, "environment"),
            falls_out.len(),
            comes_in.len(),
            number(entry, "unchanged")
        ));
        let (enforced_from, broken) = (answers::text(entry, "enforcedFrom"), number(entry, "notConformant"));
        let refused = match enforced_from {
            "" => "its next deploy is refused".to_owned(),
            from => format!("its calls are refused from {from} on, and its next deploy"),
        };
        if !enforced_from.is_empty() && broken > 0 {
            out.push_str(&format!(
                "  calls to {broken} that would not conform are refused from {enforced_from} on (policy enforcement)\n"
            ));
        }
        for item in falls_out {
            out.push_str(&format!("  - {} ({refused})\n", deployment(item)));
            out.push_str(&violations(item));
        }
        for item in comes_in {
            out.push_str(&format!("  + {}\n", deployment(item)));
        }
    }
    out
}

fn deployment(item: &Value) -> String {
    format!("{} {}", answers::text(item, "pipeline"), answers::text(item, "version"))
}

fn violations(item: &Value) -> String {
    let all = items(item, "violations").iter().map(|violation| {
        let advice = serde_json::from_value::<Violation>(violation.clone()).map(|it| it.advice());
        let advice = advice.map(|advice| format!(": {}", printable(&advice))).unwrap_or_default();
        format!("      {}{advice}\n", printable(answers::text(violation, "message")))
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stricter() -> Value {
        let row = json!({ "switches": { "externalApi": true, "internalApi": null, "apiKey": true, "mtls": null, "jwt": false,
            "basicAuth": null, "loginFlow": false }, "before": [], "after": ["Missing external JWT"],
            "effect": "tightens" });
        let violation = json!({ "policy": "external-api-access", "environment": "prod", "code": "missing-jwt",
            "message": "Missing external JWT", "pointer": "/trigger/jwt", "fix": true });
        json!({
            "meaning": { "effect": "tightens", "environments": [
                { "environment": "prod", "effect": "tightens", "combinations": 96, "changed": 16, "switches": [row],
                  "settings": [{ "policy": "login-flows", "before": { "maxTokenLifetimeMs": 86400000, "apiKey": true },
                    "after": { "maxTokenLifetimeMs": 3600000, "apiKey": true }, "effect": "tightens" }] },
                { "environment": "test", "effect": "none", "combinations": 96, "changed": 0, "switches": [],
                  "settings": [] },
            ] },
            "impact": [
                { "environment": "prod", "fallsOut": [{ "pipeline": "orders", "version": "1.0",
                    "violations": [violation] }], "comesIn": [{ "pipeline": "shop", "version": "2.1" }],
                  "unchanged": 3 },
            ],
        })
    }

    #[test]
    fn an_impact_says_first_what_it_means_and_last_whom_it_meets() {
        assert_eq!(
            text(&PARTS, &stricter(), 100),
            "\
prod: tightens: 16 of 96 combinations of switches are judged otherwise, 1 setting changes
test: nothing changes

judged otherwise in prod, by switches of the trigger:
  EXTERNAL  INTERNAL  KEY  MTLS  JWT  BASIC  LOGIN  BEFORE    AFTER
  on        *         on   *     off  *      off    conforms  Missing external JWT
(KEY: API key; LOGIN: login flow; * makes no difference)

prod, login-flows (tightens):
  maxTokenLifetimeMs: 86400000 → 3600000

prod: 1 would stop conforming, 1 would start to, 3 unchanged
  - orders 1.0 (its next deploy is refused)
      Missing external JWT: set /trigger/jwt to true
  + shop 2.1
"
        );
    }

    #[test]
    fn where_policies_are_enforced_an_impact_says_that_calls_are_refused() {
        let mut impact = stricter();
        impact["impact"][0]["enforcedFrom"] = "2026-11-24T20:43:56Z".into();
        impact["impact"][0]["notConformant"] = 2.into();
        let text = text(&[deployments], &impact, 100);
        assert!(
            text.contains("calls to 2 that would not conform are refused from 2026-11-24T20:43:56Z on"),
            "{text}"
        );
        assert!(
            text.contains(
                "orders 1.0 (its calls are refused from 2026-11-24T20:43:56Z on, and its next deploy)"
            ),
            "{text}"
        );
        assert!(!text.contains("its next deploy is refused"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_gets_lines_that_fit_it() {
        let mut impact = stricter();
        impact["meaning"]["environments"][0]["switches"][0]["after"] =
            json!(["Missing external JWT", "Missing internal JWT"]);
        assert_eq!(
            text(&[switches], &impact, 78),
            "\
judged otherwise in prod, by switches of the trigger:
  EXTERNAL  INTERNAL  KEY  MTLS  JWT  BASIC  LOGIN  BEFORE → AFTER
  on        *         on   *     off  *      off    conforms
                                                    → Missing external JWT
                                                      Missing internal JWT
(KEY: API key; LOGIN: login flow; * makes no difference)
"
        );
        assert_eq!(
            text(&[switches], &stricter(), 60),
            "\
judged otherwise in prod, by switches of the trigger:
  external on, API key on, JWT off, login flow off
    before: conforms
    after:  Missing external JWT
"
        );
        let long = changes(&json!("a".repeat(30)), &json!("b".repeat(30)), 60);
        assert_eq!(long.lines().count(), 2, "{long}");
    }

    #[test]
    fn environments_that_change_alike_share_a_table() {
        let mut impact = stricter();
        let prod = impact["meaning"]["environments"][0].clone();
        impact["meaning"]["environments"][1] = prod;
        impact["meaning"]["environments"][1]["environment"] = "test".into();
        assert_eq!(text(&[switches], &impact, 100).matches("EXTERNAL").count(), 1);
        assert!(text(&[switches], &impact, 100).starts_with("judged otherwise in prod, test,"));
    }

    #[test]
    fn a_rule_that_comes_or_goes_is_told_with_its_condition() {
        let rule = json!({ "condition": "trigger.apiKey", "message": "no\u{1b}[2J", "mode": "required" });
        let added = changes(&Value::Null, &rule, 100);
        assert!(added.contains("  condition: none → trigger.apiKey\n"), "{added}");
        assert!(!added.contains('\u{1b}'), "a rule cannot drive the terminal: {added:?}");
        let moved = changes(&json!("atDeploy"), &json!({ "atGateway": "2030-01-31T00:00:00Z" }), 100);
        assert_eq!(moved, "  atDeploy → {\"atGateway\":\"2030-01-31T00:00:00Z\"}\n");
    }
}
