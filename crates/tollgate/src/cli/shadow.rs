//! `tollgate policy shadow …`: a proposed change that runs alongside and refuses nothing.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tollgate_model::names::RuleName;

use super::policies::{ChangeArguments, body_of};
use super::{Context, change_requests, confirm};
use crate::answers::{items, number, text};
use crate::failure::Failure;
use crate::output::{Column, Format, say, table};

/// `tollgate policy shadow …`
#[derive(Subcommand)]
pub(crate) enum ShadowCommand {
    /// Proposes values of a policy, which run alongside from now on; other proposals stay.
    Set(SetArguments),
    /// Proposes to take a custom rule away.
    Remove {
        /// The custom rule.
        rule: RuleName,
        /// Why, for the journal.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Shows what the shadow would do, and what it would have refused since it began.
    Show,
    /// Saves the shadow as the next policy version and ends it; shows the impact, saves with --yes.
    Promote {
        /// Saves without asking.
        #[arg(long)]
        yes: bool,
        /// Why, for the journal.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Ends the shadow; nothing of it is saved.
    End,
}

/// Arguments of `tollgate policy shadow set`.
#[derive(Args)]
pub(crate) struct SetArguments {
    #[command(flatten)]
    change: ChangeArguments,
    /// The condition of a new custom rule, or a new one.
    #[arg(long, value_name = "CEL")]
    condition: Option<String>,
    /// What developers are told whose pipeline breaks the custom rule.
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// Why, for the journal.
    #[arg(long)]
    reason: Option<String>,
}

const DEPLOY_COLUMNS: &[Column] = &[
    ("SEQ", "/seq"),
    ("AT", "/at"),
    ("ACTOR", "/actor"),
    ("ENVIRONMENT", "/environment"),
    ("PIPELINE", "/pipeline"),
    ("VERSION", "/version"),
    ("VIOLATIONS", "/violations"),
];

const CHANGE_COLUMNS: &[Column] =
    &[("POLICY", "/policy"), ("ENVIRONMENT", "/environment"), ("PROPOSED", "/value")];

/// Runs `tollgate policy shadow …`.
pub(crate) async fn run(context: &Context<'_>, command: ShadowCommand) -> Result<(), Failure> {
    let client = &context.client;
    match command {
        ShadowCommand::Set(SetArguments { change, condition, message, reason }) => {
            let mut body = body_of(&change)?;
            if let Some(fields) = body.as_object_mut() {
                for (name, text) in [("condition", condition), ("message", message), ("reason", reason)] {
                    fields.extend(text.map(|text| (name.to_owned(), text.into())));
                }
            }
            let path = client.realm_path(&["shadow", "policies", change.name.as_str()]);
            let shadow = client.put(&path, &body).await?;
            done(context, &shadow, &format!("{} runs in shadow", change.name));
        }
        ShadowCommand::Remove { rule, reason } => {
            let path = client.realm_path(&["shadow", "policies", rule.as_str(), "remove"]);
            let shadow = client.post(&path, &json!({ "reason": reason.unwrap_or_default() })).await?;
            done(context, &shadow, &format!("{rule} is taken away in shadow"));
        }
        ShadowCommand::Show => {
            let report = client.get(&client.realm_path(&["shadow"])).await?;
            if context.output.format() == Format::Table {
                show(&report);
            } else {
                context.output.document(&report);
            }
        }
        ShadowCommand::Promote { yes, reason } => {
            let report = client.get(&client.realm_path(&["shadow"])).await?;
            super::impact::say(&report);
            show_refused(&report);
            confirm::demand_yes(yes, &report)?;
            let body = json!({
                "reason": reason.unwrap_or_default(),
                "policyVersion": report.get("policyVersion"),
            });
            let saved = client.post(&client.realm_path(&["shadow", "promote"]), &body).await?;
            if change_requests::told(context, &saved) {
                return Ok(());
            }
            let version = text(&saved, "version");
            context.output.done(&saved, &format!("promoted the shadow: policy version {version}"));
        }
        ShadowCommand::End => {
            client.delete(&client.realm_path(&["shadow"])).await?;
            context.output.done(&json!({ "ended": true }), "ended the shadow: nothing of it was saved");
        }
    }
    Ok(())
}

fn done(context: &Context<'_>, shadow: &Value, what: &str) {
    super::impact::say(shadow);
    let since = text(shadow, "since");
    context.output.done(shadow, &format!("{what}; the shadow began {since} and refuses nothing"));
}

fn show(report: &Value) {
    let reason = match text(report, "reason") {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    crate::output::print_out(&format!(
        "since {} by {}{reason}\n",
        text(report, "since"),
        text(report, "createdBy")
    ));
    let mut rows = Vec::new();
    for policy in items(report, "changes") {
        let values = policy.get("environments").and_then(Value::as_object).into_iter().flatten();
        rows.extend(values.map(|(environment, value)| {
            json!({ "policy": text(policy, "name"), "environment": environment, "value": value })
        }));
    }
    rows.extend(
        items(report, "removedRules").iter().map(|rule| json!({ "policy": rule, "value": "taken away" })),
    );
    crate::output::print_out(&table(&rows, CHANGE_COLUMNS));
    super::impact::say(report);
    show_refused(report);
    let refused = report.get("deploys").map(|deploys| items(deploys, "items")).unwrap_or_default();
    if !refused.is_empty() {
        crate::output::print_out(&table(refused, DEPLOY_COLUMNS));
    }
}

/// Tells on stderr what the shadow would have refused.
fn show_refused(report: &Value) {
    let deploys = report.get("deploys").cloned().unwrap_or_default();
    let number = |field| number(&deploys, field);
    let part = if deploys.get("complete") == Some(&Value::Bool(false)) { "the newest " } else { "" };
    say!("it would have refused {} of {part}{} deploys since it began", number("refused"), number("judged"));
    if number("unjudged") > 0 {
        say!("{} more could not be judged: what was deployed is gone", number("unjudged"));
    }
}
