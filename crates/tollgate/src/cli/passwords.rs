//! `tollgate password …`: one's own password.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Context, secrets};
use crate::answers::number;
use crate::failure::Failure;
use crate::output::say;

/// `tollgate password …`
#[derive(Subcommand)]
pub(crate) enum PasswordCommand {
    /// Changes your password, and ends your other sessions.
    Change(ChangeArguments),
}

/// Arguments of `tollgate password change`.
#[derive(Args)]
pub(crate) struct ChangeArguments {
    /// Reads the current and the new password from stdin, a line each, instead of asking on the terminal.
    #[arg(long)]
    password_stdin: bool,
    /// Ends your API tokens, too.
    #[arg(long)]
    end_tokens: bool,
}

/// Runs `tollgate password …`.
pub(crate) async fn run(context: &Context<'_>, command: PasswordCommand) -> Result<(), Failure> {
    let PasswordCommand::Change(arguments) = command;
    secrets::demand_terminal(arguments.password_stdin)?;
    let current = secrets::ask("current password")?;
    let new = secrets::ask_new("new password")?;
    let body = json!({ "current": current, "new": new, "endApiTokens": arguments.end_tokens });
    let ended = context.client.post("/password", &body).await?;
    let (sessions, tokens) = (number(&ended, "endedSessions"), number(&ended, "endedApiTokens"));
    context.output.done(
        &ended,
        &format!("changed the password: {sessions} other sessions and {tokens} API tokens ended"),
    );
    let left = number(&ended, "apiTokensLeft");
    if left > 0 {
        say!(
            "{left} API tokens go on: if somebody knew the old password, look at `tollgate token list`, or change it \
             again with --end-tokens"
        );
    }
    Ok(())
}
