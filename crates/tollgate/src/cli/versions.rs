//! `tollgate policy show`, `diff`, `restore` and `remove`: versions of the policies.

use clap::Args;
use serde_json::{Value, json};
use tollgate_model::policies::PolicyName;
use tollgate_model::versions::Version;

use super::{Context, change_requests, confirm, impact, policies, reasons};
use crate::client::segment;
use crate::failure::Failure;
use crate::output::{Format, print_out, printable};

/// How a change of the policies is saved.
#[derive(Args)]
pub(crate) struct SaveArguments {
    /// Saves without asking.
    #[arg(long)]
    pub(super) yes: bool,
    /// Why, for the version and the journal; asked for at a terminal.
    #[arg(long)]
    pub(super) reason: Option<String>,
}

/// Widest line of a difference before it becomes two.
const WIDTH: usize = 100;

/// Shows one version: who, when, why, and every value.
pub(super) async fn show(context: &Context<'_>, version: Version) -> Result<(), Failure> {
    let path = context.client.realm_path(&["policy-versions", &version.to_string()]);
    let mut shown = context.client.get(&path).await?;
    if context.output.format() != Format::Table {
        context.output.document(&shown);
        return Ok(());
    }
    let text = |field: &str| shown.get(field).and_then(Value::as_str).unwrap_or_default();
    let reason = match text("reason") {
        "" => "no reason given".to_owned(),
        reason => printable(reason),
    };
    let (created_at, created_by) = (text("createdAt"), text("createdBy"));
    let approved = match text("approvedBy") {
        "" => String::new(),
        name => format!(", approved by {}", printable(name)),
    };
    print_out(&format!("policy version {version}, saved {created_at} by {created_by}{approved}: {reason}\n"));
    if let Some(fields) = shown.as_object_mut()
        && let Some(all) = fields.remove("policies")
    {
        fields.insert("items".to_owned(), all);
    }
    policies::table(context, &shown);
    Ok(())
}

/// Shows what two versions differ in and what that means.
pub(super) async fn diff(context: &Context<'_>, from: Version, to: Option<Version>) -> Result<(), Failure> {
    let mut path = context.client.realm_path(&["policy-versions", &from.to_string(), "diff"]);
    if let Some(to) = to {
        path.push_str(&format!("?to={to}"));
    }
    let diff = context.client.get(&path).await?;
    if context.output.format() != Format::Table {
        context.output.document(&diff);
        return Ok(());
    }
    print_out(&text(&diff));
    impact::print_meaning(&diff);
    Ok(())
}

/// Writes the values that differ.
pub(super) fn text(diff: &Value) -> String {
    let word = |value: &Value, field: &str| {
        value.get(field).and_then(Value::as_str).map(printable).unwrap_or_default()
    };
    let list =
        |value: &Value, field: &str| value.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut out = format!("policy version {} → {}\n", word(diff, "from"), word(diff, "to"));
    for (field, what) in [("environmentsAdded", "added"), ("environmentsRemoved", "removed")] {
        for environment in list(diff, field) {
            out.push_str(&format!("environment {} {what}\n", environment.as_str().unwrap_or_default()));
        }
    }
    for policy in list(diff, "policies") {
        out.push_str(&format!("\n{} ({}):\n", word(&policy, "policy"), word(&policy, "change")));
        for part in list(&policy, "environments").iter().chain(&list(&policy, "settings")) {
            let value = |field: &str| part.get(field).cloned().unwrap_or_default();
            out.push_str(&impact::change(&word(part, "name"), &value("before"), &value("after"), WIDTH));
        }
    }
    out.push('\n');
    out
}

/// Brings an earlier version back as the next one; shows the impact first.
pub(super) async fn restore(
    context: &Context<'_>,
    version: Version,
    save: &SaveArguments,
) -> Result<(), Failure> {
    let client = &context.client;
    let path = client.realm_path(&["policy-versions", &version.to_string(), "restore"]);
    let reason = agreed(context, &format!("{path}/impact"), save).await?;
    let saved = client.post(&path, &json!({ "reason": reason })).await?;
    done(context, &saved, &format!("restored {version}"));
    Ok(())
}

/// Takes a custom rule away; shows the impact first.
pub(super) async fn remove(
    context: &Context<'_>,
    rule: &PolicyName,
    save: &SaveArguments,
) -> Result<(), Failure> {
    let client = &context.client;
    let path = client.realm_path(&["policies", rule.as_str()]);
    let reason = agreed(context, &format!("{path}/removal/impact"), save).await?;
    let saved = client.delete(&format!("{path}?reason={}", segment(&reason))).await?;
    done(context, &saved, &format!("removed {rule}"));
    Ok(())
}

/// Shows the impact, demands a yes, and returns the reason.
async fn agreed(context: &Context<'_>, path: &str, save: &SaveArguments) -> Result<String, Failure> {
    let change = context.client.post(path, &json!({})).await?;
    impact::say(&change);
    confirm::demand_yes(save.yes, &change)?;
    reasons::ask(save.reason.as_deref())
}

fn done(context: &Context<'_>, saved: &Value, what: &str) {
    if change_requests::told(context, saved) {
        return;
    }
    let version = saved.get("version").and_then(Value::as_str).unwrap_or_default();
    context.output.done(saved, &format!("{what}: policy version {version}"));
}
