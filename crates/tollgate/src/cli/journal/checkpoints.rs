//! Whether the journal is whole: `tollgate audit verify`, `checkpoint`, `accept-loss`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use tollgate_credential::evidence::checkpoints::{MAX_CHECKPOINT_BYTES, SignedCheckpoint};

use crate::answers::{items, number, text};
use crate::cli::Context;
use crate::cli::evidence::{read_keys, read_limited};
use crate::failure::Failure;
use crate::output::{Format, print_out, printable, say};

/// What was kept elsewhere, for `tollgate audit verify`.
#[derive(Args)]
pub(crate) struct KeptElsewhere {
    /// A checkpoint that was kept elsewhere, as `tollgate audit checkpoint` printed it, or `-` for stdin: the journal
    /// must pass through it.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Keys that were kept elsewhere, as `tollgate evidence keys --output json` printed them: the checkpoint must be
    /// signed by one of them, whatever keys the server has by now.
    #[arg(long, value_name = "FILE", requires = "checkpoint")]
    key: Option<PathBuf>,
}

/// Arguments of `tollgate audit checkpoint`.
#[derive(Args)]
pub(crate) struct CheckpointArguments {
    /// Prints the newest that the server keeps, and makes none.
    #[arg(long)]
    kept: bool,
}

/// Arguments of `tollgate audit accept-loss`.
#[derive(Args)]
pub(crate) struct AcceptLossArguments {
    /// What happened, for whoever verifies the journal.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Yes, these entries are gone and I answer for it.
    #[arg(long)]
    yes: bool,
}

/// Verifies the journal; exit code 1 when it is broken.
pub(crate) async fn verify(context: &Context<'_>, arguments: &KeptElsewhere) -> Result<ExitCode, Failure> {
    let mut body = json!({});
    if let (Some(path), Some(fields)) = (&arguments.checkpoint, body.as_object_mut()) {
        let note = read_limited(path, MAX_CHECKPOINT_BYTES as u64)?;
        let name = path.display();
        let refused = |reason: String| {
            Failure::new(format!("{name} does not hold: {reason}")).with("intact", false.into())
        };
        let note = String::from_utf8(note).map_err(|_| refused("it is no text in UTF-8".to_owned()))?;
        let signed = SignedCheckpoint::parse(&note).map_err(|error| refused(error.to_string()))?;
        if let Some(path) = &arguments.key {
            signed.verify(&read_keys(path)?).map_err(|error| refused(error.to_string()))?;
        }
        fields.insert("checkpoint".to_owned(), note.into());
    }
    let report = context.client.post(&context.client.realm_path(&["journal", "verify"]), &body).await?;
    let intact = report.get("intact").and_then(Value::as_bool) == Some(true);
    let mut lines = vec![if intact {
        format!("intact: {} entries, head {}", number(&report, "entries"), text(&report, "headHash"))
    } else {
        let place = report.get("seq").and_then(Value::as_u64).map(|seq| format!(" at entry {seq}"));
        format!("BROKEN{}: {}", place.unwrap_or_default(), printable(text(&report, "what")))
    }];
    if let Some(checkpoints) = report.get("checkpoints") {
        lines.extend(say_checkpoints(checkpoints));
    }
    context.output.done(&report, &lines.join("\n"));
    Ok(if intact { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says what checkpoints show.
fn say_checkpoints(checkpoints: &Value) -> Vec<String> {
    let fitting = number(checkpoints, "fitting");
    let of = |checkpoint: &Value| {
        format!("of {} entries, {}", number(checkpoint, "entries"), text(checkpoint, "at"))
    };
    let newest = checkpoints.get("newest").map(|newest| format!(", the newest {}", of(newest)));
    let mut lines = vec![format!("checkpoints that fit: {fitting}{}", newest.unwrap_or_default())];
    lines.extend(
        checkpoints.get("given").map(|given| format!("the checkpoint given fits: it is {}", of(given))),
    );
    for loss in items(checkpoints, "losses") {
        lines.push(format!(
            "accepted loss: entries after {} of {}, by {} at {}: {}",
            number(loss, "keptEntries"),
            number(loss, "seenEntries"),
            text(loss, "acceptedBy"),
            text(loss, "acceptedAt"),
            printable(text(loss, "reason")),
        ));
    }
    let remarks = items(checkpoints, "remarks").iter().filter_map(Value::as_str);
    lines.extend(remarks.map(|remark| format!("note: {}", printable(remark))));
    lines
}

/// Prints a checkpoint as it is.
pub(crate) async fn checkpoint(
    context: &Context<'_>,
    arguments: &CheckpointArguments,
) -> Result<(), Failure> {
    let path = context.client.realm_path(&["journal", "checkpoint"]);
    let checkpoint = match arguments.kept {
        true => context.client.get(&path).await?,
        false => context.client.post(&path, &json!({})).await?,
    };
    if context.output.format() == Format::Table {
        print_out(text(&checkpoint, "note"));
    } else {
        context.output.document(&checkpoint);
    }
    Ok(())
}

/// Answers for entries that are gone.
pub(crate) async fn accept_loss(
    context: &Context<'_>,
    arguments: &AcceptLossArguments,
) -> Result<(), Failure> {
    if !arguments.yes {
        return Err(Failure::usage("nothing was accepted: to answer for a loss needs a yes")
            .hint("read what `tollgate audit verify` says, then repeat the command with --yes"));
    }
    let path = context.client.realm_path(&["journal", "losses"]);
    let loss = context.client.post(&path, &json!({ "reason": arguments.reason })).await?;
    let (kept, seen) = (number(&loss, "keptEntries"), number(&loss, "seenEntries"));
    context.output.done(&loss, &format!("accepted: entries after {kept} of {seen} are gone"));
    say!("keep a checkpoint of what is there now elsewhere: `tollgate audit checkpoint`");
    Ok(())
}
