//! `tollgate policy conformance`: how what runs stands to the policies, put together from the pages of the report.

use serde_json::Value;
use tollgate_model::names::EnvironmentName;

use super::Context;
use crate::answers::{items, text};
use crate::failure::Failure;
use crate::output::Column;

/// Deployments of a page: as many as the server gives, since a report of the past is judged for each page.
const PAGE: u32 = 500;

const COLUMNS: &[Column] = &[
    ("PIPELINE", "/pipeline"),
    ("VERSION", "/version"),
    ("PROJECT", "/project"),
    ("ADMITTED BY", "/admittedBy"),
    ("CONFORMS", "/shown/conforms"),
    ("LOGIN FLOW", "/loginFlow"),
    ("VIOLATIONS", "/shown/reasons"),
];

/// Shows how what runs stands, in one environment or in all.
pub(super) async fn run(context: &Context<'_>, environment: Option<&EnvironmentName>) -> Result<(), Failure> {
    let mut path = context.client.realm_path(&["conformance"]);
    if let Some(environment) = environment {
        path.push_str(&format!("?environment={environment}"));
    }
    let report = whole_report(context, &path).await?;
    if context.output.format() != crate::output::Format::Table {
        context.output.document(&report);
        return Ok(());
    }
    let version = report.get("policyVersion").and_then(Value::as_str).unwrap_or("-");
    for entry in items(&report, "environments") {
        let number = |field: &str| entry.get(field).and_then(Value::as_u64).unwrap_or_default();
        crate::output::print_out(&format!(
            "{}: {} deployments, {} conformant, {} waived, {} not conformant (policy version {version})\n",
            entry.get("environment").and_then(Value::as_str).unwrap_or("-"),
            number("deployments"),
            number("conformant"),
            number("waived"),
            number("notConformant"),
        ));
        if !items(entry, "items").is_empty() {
            let rows = super::standings::rows(items(entry, "items"));
            crate::output::print_out(&crate::output::table(&rows, COLUMNS));
        }
        for gap in items(entry, "scopeGaps") {
            let text = |field: &str| gap.get(field).and_then(Value::as_str).unwrap_or("-");
            crate::output::print_out(&format!(
                "{} demands scope {}, which no login flow offers here\n",
                text("pipeline"),
                text("scope"),
            ));
        }
    }
    Ok(())
}

/// Gets every page of the report, and puts them together.
async fn whole_report(context: &Context<'_>, path: &str) -> Result<Value, Failure> {
    let mut whole = context.client.page(path, PAGE, None).await?;
    while let Some(cursor) = whole.get("next").and_then(Value::as_str).map(str::to_owned) {
        let page = context.client.page(path, PAGE, Some(&cursor)).await?;
        add(&mut whole, page)?;
    }
    for environment in environments(&mut whole) {
        // Two majors of a pipeline, on two pages, may lack the same scope.
        if let Some(Value::Array(gaps)) = environment.get_mut("scopeGaps") {
            gaps.sort_by_cached_key(|gap| [text(gap, "pipeline"), text(gap, "scope")].map(str::to_owned));
            gaps.dedup();
        }
    }
    Ok(whole)
}

/// Adds the next page of a report to those before.
fn add(whole: &mut Value, mut page: Value) -> Result<(), Failure> {
    let of = |report: &Value| {
        let names = items(report, "environments").iter().map(|it| text(it, "environment").to_owned());
        (report.get("policyVersion").cloned(), names.collect::<Vec<_>>())
    };
    if of(whole) != of(&page) {
        return Err(Failure::new("the policies changed while the report was read").hint("ask again"));
    }
    for (environment, more) in environments(whole).zip(environments(&mut page)) {
        for list in ["items", "scopeGaps"] {
            if let (Some(Value::Array(known)), Some(Value::Array(more))) =
                (environment.get_mut(list), more.get_mut(list))
            {
                known.append(more);
            }
        }
    }
    if let (Value::Object(whole), Value::Object(page)) = (whole, page) {
        whole.remove("next");
        whole.extend(page.into_iter().filter(|(name, _)| name == "next"));
    }
    Ok(())
}

fn environments(report: &mut Value) -> impl Iterator<Item = &mut Value> {
    report.get_mut("environments").and_then(Value::as_array_mut).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pages_of_a_report_are_put_together_unless_the_policies_changed_between_them() {
        let page = |version: &str, items: Value, next: Option<&str>| {
            let report = json!({ "policyVersion": version,
                "environments": [{ "environment": "prod", "deployments": 0, "items": [], "scopeGaps": [] },
                    { "environment": "test", "deployments": 3, "items": items, "scopeGaps": items }] });
            let Value::Object(mut report) = report else { panic!("an object") };
            report.extend(next.map(|next| ("next".to_owned(), json!(next))));
            Value::Object(report)
        };
        let mut whole = page("1.3", json!([1]), Some("test/a"));
        add(&mut whole, page("1.3", json!([2]), Some("test/b"))).expect("fits");
        assert_eq!(whole, page("1.3", json!([1, 2]), Some("test/b")));
        assert!(add(&mut whole.clone(), page("1.4", json!([3]), None)).is_err());
        let mut other = page("1.3", json!([3]), None);
        *other.pointer_mut("/environments/1/environment").expect("test") = json!("staging");
        assert!(add(&mut whole.clone(), other).is_err());
        add(&mut whole, page("1.3", json!([3]), None)).expect("fits");
        assert_eq!(whole, page("1.3", json!([1, 2, 3]), None));
    }
}
