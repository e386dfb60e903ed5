//! `tollgate audit …`: who changed what, when, and whether the record is whole.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Context;
use crate::answers::items;
use crate::client::segment;
use crate::failure::Failure;
use crate::output::{Format, print_out, table};

/// `tollgate audit …`
#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Lists the last changes, newest first.
    List(ListArguments),
    /// Recomputes the hash chain of the whole journal.
    Verify,
    /// Prints every change, oldest first, one JSON object a line.
    Export,
}

/// Arguments of `tollgate audit list`.
#[derive(Args)]
pub(crate) struct ListArguments {
    /// Only changes of this kind of object, for example `deployment`.
    #[arg(long)]
    kind: Option<String>,
    /// Only changes of the object with this key.
    #[arg(long, requires = "kind")]
    key: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 50)]
    limit: u16,
}

/// Runs `tollgate audit …`.
pub(crate) async fn run(context: &Context<'_>, command: AuditCommand) -> Result<ExitCode, Failure> {
    let client = &context.client;
    let journal = client.realm_path(&["journal"]);
    match command {
        AuditCommand::List(ListArguments { kind, key, limit }) => {
            let mut path = format!("{journal}?limit={limit}");
            for (name, value) in [("kind", kind), ("key", key)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", segment(&value)));
                }
            }
            let page = client.get(&path).await?;
            if context.output.format() == Format::Table {
                print_out(&rows(&page));
            } else {
                context.output.document(&page);
            }
        }
        AuditCommand::Verify => {
            let report = client.post(&client.realm_path(&["journal", "verify"]), &json!({})).await?;
            let text = |field: &str| report.get(field).and_then(Value::as_str).unwrap_or("-");
            let number = |field: &str| report.get(field).and_then(Value::as_u64).unwrap_or_default();
            if report.get("intact").and_then(Value::as_bool) != Some(true) {
                context.output.done(&report, &format!("BROKEN at entry {}: {}", number("seq"), text("what")));
                return Ok(ExitCode::FAILURE);
            }
            context
                .output
                .done(&report, &format!("intact: {} entries, head {}", number("entries"), text("headHash")));
        }
        AuditCommand::Export => {
            let mut all = client.list(&format!("{journal}?order=oldest")).await?;
            let items =
                all.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
            if context.output.format() == Format::Table {
                for item in &items {
                    print_out(&format!("{item}\n"));
                }
            } else {
                context.output.document(&json!({ "items": items }));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(page: &Value) -> String {
    let rows: Vec<Value> = items(page, "items")
        .iter()
        .map(|item| {
            let mut row = item.clone();
            let objects: Vec<String> = item
                .get("objects")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|object| {
                    let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
                    let deleted = object.get("deleted").and_then(Value::as_bool) == Some(true);
                    format!("{}{} {}", if deleted { "-" } else { "" }, text("kind"), text("key"))
                })
                .collect();
            if let Some(fields) = row.as_object_mut() {
                fields.insert("objects".to_owned(), objects.join(", ").into());
            }
            row
        })
        .collect();
    table(
        &rows,
        &[
            ("SEQ", "/seq"),
            ("AT", "/at"),
            ("ACTOR", "/actor"),
            ("ACTION", "/action"),
            ("OBJECTS", "/objects"),
            ("REASON", "/reason"),
        ],
    )
}
