//! `tollgate audit …`: who changed what, when, who was refused, and whether the record is whole.

mod checkpoints;
mod offline;

use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Context;
use super::times::parse_time;
use crate::answers::{items, number, text};
use crate::client::segment;
use crate::failure::Failure;
use crate::output::{Format, Output, print_out, printable, table};

/// `tollgate audit …`
#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Lists the last changes and refused attempts, newest first.
    List(ListArguments),
    /// Shows an entry: who, from where, why, and what each field was before and after.
    Show(ShowArguments),
    /// Recomputes the hash chain of the whole journal, and checks it against every signed checkpoint; or that of an export.
    Verify(VerifyArguments),
    /// Prints a signed checkpoint of the journal as it is now, to be kept elsewhere.
    Checkpoint(checkpoints::CheckpointArguments),
    /// Answers for entries that are gone, as after a restored backup; shown by `verify` from then on.
    AcceptLoss(checkpoints::AcceptLossArguments),
    /// Writes all changes and refused attempts, oldest first: JSON Lines, or CSV.
    Export(ExportArguments),
}

/// Which entries; all that are named must hold.
#[derive(Args)]
pub(crate) struct FilterArguments {
    /// Only at or after this time: `2026-11-24T12:00:00Z`, a date, or how long ago (`24h`, `7d`).
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Only before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
    /// Only of this actor: a user's name, `system`, or `nobody` for those who were not signed in.
    #[arg(long)]
    actor: Option<String>,
    /// Only this action, for example `policy.set`.
    #[arg(long)]
    action: Option<String>,
    /// Only about this kind of object, for example `deployment`.
    #[arg(long)]
    kind: Option<String>,
    /// Only about the object with this key.
    #[arg(long, requires = "kind")]
    key: Option<String>,
    /// Only what was done, or what was refused.
    #[arg(long)]
    outcome: Option<OutcomeArgument>,
    /// Only of the request with this id, as answers carry it.
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Only from this source: a remote address.
    #[arg(long, value_name = "ADDRESS")]
    source: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutcomeArgument {
    /// Changes.
    Done,
    /// Attempts that were refused and changed nothing.
    Refused,
}

/// Arguments of `tollgate audit list`.
#[derive(Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// How many at most.
    #[arg(long, default_value_t = 50)]
    limit: u16,
}

/// Arguments of `tollgate audit show`.
#[derive(Args)]
pub(crate) struct ShowArguments {
    /// Number of the entry.
    seq: u64,
}

/// Arguments of `tollgate audit verify`.
#[derive(Args)]
pub(crate) struct VerifyArguments {
    /// An export (JSON Lines) to verify instead, without a server; `-` for standard input.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// The export is a part of the journal: entries may be missing between others.
    #[arg(long, requires = "file")]
    partial: bool,
    #[command(flatten)]
    elsewhere: checkpoints::KeptElsewhere,
}

/// Arguments of `tollgate audit export`.
#[derive(Args)]
pub(crate) struct ExportArguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// How to write it.
    #[arg(long, value_enum, default_value_t = ExportFormat::Jsonl)]
    format: ExportFormat,
    /// Tells of all other entries by their hashes, so that `audit verify --file` sees whether one was left out.
    #[arg(long)]
    chain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// One JSON object a line, with all that the hashes are made of; secrets are masked.
    Jsonl,
    /// For spreadsheets (RFC 4180): what would be a formula gets an apostrophe in front.
    Csv,
}

// === impl FilterArguments ===

impl FilterArguments {
    /// Returns the query parameters, each with an `&` in front.
    fn query(&self) -> String {
        let outcome = self.outcome.map(|outcome| match outcome {
            OutcomeArgument::Done => "done".to_owned(),
            OutcomeArgument::Refused => "refused".to_owned(),
        });
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        let parameters = [
            ("since", time(self.since)),
            ("until", time(self.until)),
            ("actor", self.actor.clone()),
            ("action", self.action.clone()),
            ("kind", self.kind.clone()),
            ("key", self.key.clone()),
            ("outcome", outcome),
            ("requestId", self.request.clone()),
            ("source", self.source.clone()),
        ];
        let given = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
        given.map(|(name, value)| format!("&{name}={}", segment(&value))).collect()
    }
}

/// Runs `tollgate audit …`.
pub(crate) async fn run<'a>(
    connect: impl Fn() -> Result<Context<'a>, Failure>,
    output: &Output,
    command: AuditCommand,
) -> Result<ExitCode, Failure> {
    match command {
        AuditCommand::List(arguments) => list(&connect()?, &arguments).await?,
        AuditCommand::Show(arguments) => show(&connect()?, &arguments).await?,
        AuditCommand::Checkpoint(arguments) => checkpoints::checkpoint(&connect()?, &arguments).await?,
        AuditCommand::AcceptLoss(arguments) => checkpoints::accept_loss(&connect()?, &arguments).await?,
        AuditCommand::Verify(VerifyArguments { file: Some(path), partial, .. }) => {
            verify_file(output, &path, partial)?;
        }
        AuditCommand::Verify(VerifyArguments { file: None, elsewhere, .. }) => {
            return checkpoints::verify(&connect()?, &elsewhere).await;
        }
        AuditCommand::Export(arguments) => export(&connect()?, &arguments).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(context: &Context<'_>, arguments: &ListArguments) -> Result<(), Failure> {
    let path = context.client.realm_path(&["journal"]);
    let query = format!("?limit={}{}", arguments.limit, arguments.filter.query());
    let page = context.client.get(&format!("{path}{query}")).await?;
    if context.output.format() == Format::Table {
        print_out(&rows(&page));
    } else {
        context.output.document(&page);
    }
    Ok(())
}

async fn show(context: &Context<'_>, arguments: &ShowArguments) -> Result<(), Failure> {
    let path = context.client.realm_path(&["journal", &arguments.seq.to_string()]);
    let entry = context.client.get(&path).await?;
    if context.output.format() == Format::Table {
        print_out(&whole(&entry));
    } else {
        context.output.document(&entry);
    }
    Ok(())
}

fn verify_file(output: &Output, path: &std::path::Path, partial: bool) -> Result<(), Failure> {
    let report = if path.as_os_str() == "-" {
        offline::verify(std::io::stdin().lock(), partial)?
    } else {
        let file = std::fs::File::open(path)
            .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", path.display())))?;
        offline::verify(BufReader::new(file), partial)?
    };
    output.done(&report.document(), &report.sentences());
    Ok(())
}

async fn export(context: &Context<'_>, arguments: &ExportArguments) -> Result<(), Failure> {
    let as_document = context.output.format() == Format::Json;
    let (format, is_csv) = match arguments.format {
        ExportFormat::Jsonl => ("jsonl", false),
        ExportFormat::Csv => ("csv", true),
    };
    if context.output.format() == Format::Yaml || (as_document && is_csv) {
        return Err(Failure::usage("an export is JSON Lines or CSV")
            .hint("leave --output away, and choose with --format"));
    }
    let path = context.client.realm_path(&["journal", "export"]);
    let query = format!("?format={format}&chain={}{}", arguments.chain, arguments.filter.query());
    let path = format!("{path}{query}");
    if !as_document {
        return context.client.stream(&path, print_out).await;
    }
    // One document, written as it comes.
    print_out("{\"items\": [");
    let mut separator = "\n";
    context
        .client
        .stream(&path, |line| {
            print_out(&format!("{separator}{}", line.trim_end()));
            separator = ",\n";
        })
        .await?;
    print_out("\n]}\n");
    Ok(())
}

/// Names an object.
fn object(object: &Value) -> String {
    let deleted = object.get("deleted").and_then(Value::as_bool) == Some(true);
    format!("{}{} {}", if deleted { "-" } else { "" }, text(object, "kind"), text(object, "key"))
        .trim_end()
        .to_owned()
}

fn rows(page: &Value) -> String {
    let rows: Vec<Value> = items(page, "items")
        .iter()
        .map(|item| {
            let mut row = item.clone();
            let mut objects: Vec<String> = items(item, "objects").iter().map(object).collect();
            objects.extend(item.get("about").map(object));
            let count = number(item, "count");
            let outcome = match (text(item, "code"), count) {
                ("", _) => text(item, "outcome").to_owned(),
                (code, 0 | 1) => code.to_owned(),
                (code, count) => format!("{code} × {count}"),
            };
            if let Some(fields) = row.as_object_mut() {
                fields.insert("objects".to_owned(), objects.join(", ").into());
                fields.insert("outcome".to_owned(), outcome.into());
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
            ("OUTCOME", "/outcome"),
            ("OBJECTS", "/objects"),
            ("REASON", "/reason"),
        ],
    )
}

/// Writes an entry for people.
fn whole(entry: &Value) -> String {
    let mut out = String::new();
    let mut say = |name: &str, value: String| {
        if !value.is_empty() {
            out.push_str(&format!("{name:<14} {}\n", printable(&value)));
        }
    };
    say("entry", number(entry, "seq").to_string());
    for (name, field) in [
        ("at", "at"),
        ("actor", "actor"),
        ("source", "source"),
        ("action", "action"),
        ("outcome", "outcome"),
        ("code", "code"),
        ("operation", "operation"),
        ("environment", "environment"),
    ] {
        say(name, text(entry, field).to_owned());
    }
    say("aimed at", entry.get("about").map(object).unwrap_or_default());
    if number(entry, "count") > 1 {
        let (first, last) = (text(entry, "firstAt"), text(entry, "lastAt"));
        say("attempts", format!("{}, from {first} to {last}", number(entry, "count")));
    }
    if let Some(sources) = entry.get("sources").and_then(Value::as_u64) {
        let more = entry.get("moreSources").and_then(Value::as_bool) == Some(true);
        say("sources", format!("{}{sources}", if more { "more than " } else { "" }));
    }
    for (name, field) in
        [("request", "requestId"), ("reason", "reason"), ("hash", "hash"), ("previous hash", "previousHash")]
    {
        say(name, text(entry, field).to_owned());
    }
    for change in items(entry, "changes") {
        let previous = match (change.get("deleted").and_then(Value::as_bool), change.get("previous")) {
            (Some(true), _) => "deleted".to_owned(),
            (_, Some(previous)) => format!("changed, last by entry {previous}"),
            (_, None) => "made".to_owned(),
        };
        let name = printable(&format!("{} {}", text(change, "kind"), text(change, "key")));
        out.push_str(&format!("\n{name} ({previous})\n"));
        let shown = |value: Option<&Value>| value.map_or_else(|| "-".to_owned(), Value::to_string);
        let rows: Vec<Value> = items(change, "fields")
            .iter()
            .map(|field| {
                json!({ "pointer": text(field, "pointer"), "before": shown(field.get("before")),
                    "after": shown(field.get("after")) })
            })
            .collect();
        let columns = [("FIELD", "/pointer"), ("BEFORE", "/before"), ("AFTER", "/after")];
        out.extend(table(&rows, &columns).lines().map(|line| format!("  {line}\n")));
    }
    out
}
