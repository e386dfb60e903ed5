//! How verdicts are shown in tables: who conforms, who by waiver only, who not and why.

use serde_json::{Value, json};

use crate::answers::items;
use crate::output::{Column, Format, Output};

/// Columns of versions that a rollback can go back to.
pub(crate) const CANDIDATE_COLUMNS: &[Column] =
    &[("VERSION", "/version"), ("DEPLOYED", "/deployedAt"), ("TODAY", "/shown/verdict")];

/// Columns of a pipeline's versions.
pub(crate) const VERSION_COLUMNS: &[Column] = &[
    ("VERSION", "/version"),
    ("SAVED", "/createdAt"),
    ("BY", "/createdBy"),
    ("LOGIN FLOW", "/loginFlow"),
    ("SHA256", "/sha256"),
    ("TODAY", "/shown/verdicts"),
];

/// Prints the `items` of a list as [`Output::list`] does; columns can show what [`rows`] adds.
pub(crate) fn list(output: &Output, document: &Value, columns: &[Column]) {
    if output.format() == Format::Table {
        output.list(&json!({ "items": rows(items(document, "items")) }), columns);
    } else {
        output.document(document);
    }
}

/// Adds to each item the member `shown`, for tables: `conforms` and `reasons` of the item itself, `verdict` of the one
/// that it carries, and of those per environment `verdicts` and `elsewhere`.
pub(crate) fn rows(items: &[Value]) -> Vec<Value> {
    let row = |item: &Value| {
        let mut row = item.clone();
        if let Some(fields) = row.as_object_mut() {
            let of = |member: &str| item.get(member).map(in_short);
            let shown = json!({
                "conforms": conforms(item), "reasons": reasons(item), "verdict": of("verdict"),
                "verdicts": per_environment(item, "verdicts"), "elsewhere": per_environment(item, "elsewhere"),
            });
            fields.insert("shown".to_owned(), shown);
        }
        row
    };
    items.iter().map(row).collect()
}

/// Returns when the first of the waivers ends that an item leans on.
pub(crate) fn waived_until(item: &Value) -> Option<&str> {
    items(item, "waived").iter().filter_map(|waived| waived.get("until")?.as_str()).min()
}

/// Says in short what a verdict is: `admitted`, or `refused` and why.
fn in_short(verdict: &Value) -> String {
    let reasons: Vec<&str> = items(verdict, "violations").iter().filter_map(message).collect();
    match (reasons.is_empty(), waived_until(verdict)) {
        (false, _) => format!("refused ({})", reasons.join(", ")),
        (true, Some(until)) => format!("admitted by waiver until {until}"),
        (true, None) => "admitted".to_owned(),
    }
}

fn per_environment(item: &Value, member: &str) -> Vec<String> {
    let of = |verdict: &Value| {
        let environment = verdict.get("environment").and_then(Value::as_str).unwrap_or("-");
        format!("{environment}: {}", in_short(verdict))
    };
    items(item, member).iter().map(of).collect()
}

fn conforms(item: &Value) -> Value {
    let conforms = item.get("conforms").and_then(Value::as_bool);
    match (conforms, waived_until(item)) {
        (Some(true), Some(until)) => format!("by waiver until {until}").into(),
        (conforms, _) => json!(conforms),
    }
}

fn reasons(item: &Value) -> Vec<String> {
    let counted = items(item, "violations").iter().filter_map(message).map(str::to_owned);
    let waived = items(item, "waived").iter().filter_map(|waived| {
        let until = waived.get("until").and_then(Value::as_str).unwrap_or("-");
        Some(format!("{} (waived until {until})", message(waived.get("violation")?)?))
    });
    counted.chain(waived).collect()
}

fn message(violation: &Value) -> Option<&str> {
    violation.get("message").and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waived_is_told_apart_from_what_conforms_and_what_does_not() {
        let violation = json!({ "message": "Missing external JWT" });
        let waived = |until: &str| json!({ "violation": violation, "until": until });
        let shown = |item: Value| rows(&[item]).remove(0)["shown"].clone();
        let both = shown(json!({ "conforms": true, "violations": [],
            "waived": [waived("2026-12-08T00:00:00Z"), waived("2026-12-01T00:00:00Z")] }));
        assert_eq!(both["conforms"], "by waiver until 2026-12-01T00:00:00Z", "the first end counts");
        assert_eq!(both["reasons"][0], "Missing external JWT (waived until 2026-12-08T00:00:00Z)");
        let neither = shown(json!({ "conforms": false, "violations": [violation], "waived": [waived("x")] }));
        assert_eq!(neither["conforms"], false);
        assert_eq!(
            neither["reasons"],
            json!(["Missing external JWT", "Missing external JWT (waived until x)"])
        );
        let elsewhere = shown(json!({ "conforms": true, "elsewhere": [
            { "environment": "prod", "violations": [violation], "waived": [waived("x")] },
            { "environment": "staging", "violations": [], "waived": [waived("x")] },
            { "environment": "test", "violations": [] },
        ] }));
        assert_eq!(elsewhere["conforms"], true);
        assert_eq!(
            elsewhere["elsewhere"],
            json!([
                "prod: refused (Missing external JWT)",
                "staging: admitted by waiver until x",
                "test: admitted"
            ])
        );
    }
}
