//! `tollgate second-factor …`: codes of an authenticator app beside the password.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tollgate_model::names::UserName;

use super::{Context, secrets};
use crate::answers::items;
use crate::client::segment;
use crate::failure::Failure;
use crate::output::{Format, print_out, say};

/// `tollgate second-factor …`
#[derive(Subcommand)]
pub(crate) enum SecondFactorCommand {
    /// Makes a secret for your authenticator app and prints it once.
    Enrol {
        /// Reads the password from stdin instead of asking on the terminal.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Confirms the secret with a first code, and prints your recovery codes once.
    Confirm {
        /// Six digits, as the app shows them now.
        code: String,
    },
    /// Removes your second factor.
    Remove(ProofArguments),
    /// Makes new recovery codes and prints them once; those before are void.
    RecoveryCodes(ProofArguments),
    /// Tells whether you have a second factor, and how many recovery codes are left.
    Status,
    /// Removes the second factor of somebody who lost it, and ends their sessions.
    Reset {
        /// Whose.
        user: UserName,
    },
}

/// What shows that it is you.
#[derive(Args)]
pub(crate) struct ProofArguments {
    /// Reads the password from stdin instead of asking on the terminal.
    #[arg(long)]
    password_stdin: bool,
    /// Code of the app, or a recovery code; on a terminal it is asked for.
    #[arg(long, value_name = "CODE", required_if_eq("password_stdin", "true"))]
    code: Option<String>,
}

/// Runs `tollgate second-factor …`.
pub(crate) async fn run(context: &Context<'_>, command: SecondFactorCommand) -> Result<(), Failure> {
    let client = &context.client;
    match command {
        SecondFactorCommand::Enrol { password_stdin } => {
            secrets::demand_terminal(password_stdin)?;
            let body = json!({ "password": secrets::ask("password")? });
            context.output.document(&client.post("/second-factor", &body).await?);
            say!("put the secret into your authenticator app, then: `tollgate second-factor confirm CODE`");
        }
        SecondFactorCommand::Confirm { code } => {
            let codes = client.post("/second-factor/confirm", &json!({ "code": code })).await?;
            show_codes(context, &codes);
        }
        SecondFactorCommand::Remove(arguments) => {
            client.post("/second-factor/remove", &arguments.body()?).await?;
            context.output.done(&json!({ "removed": true }), "removed your second factor");
        }
        SecondFactorCommand::RecoveryCodes(arguments) => {
            let codes = client.post("/second-factor/recovery-codes", &arguments.body()?).await?;
            show_codes(context, &codes);
        }
        SecondFactorCommand::Status => {
            context.output.document(&client.get("/second-factor").await?);
        }
        SecondFactorCommand::Reset { user } => {
            client.delete(&format!("/users/{}/second-factor", segment(user.as_str()))).await?;
            context.output.done(
                &json!({ "user": user.to_string(), "removed": true }),
                &format!("removed the second factor of {user} and ended their sessions"),
            );
        }
    }
    Ok(())
}

fn show_codes(context: &Context<'_>, codes: &Value) {
    if context.output.format() == Format::Table {
        let lines: Vec<&str> = items(codes, "recoveryCodes").iter().filter_map(Value::as_str).collect();
        print_out(&format!("{}\n", lines.join("\n")));
    } else {
        context.output.document(codes);
    }
    say!(
        "keep the recovery codes now: they are not shown again, and each works once instead of a code of the app"
    );
}

// === impl ProofArguments ===

impl ProofArguments {
    fn body(self) -> Result<Value, Failure> {
        secrets::demand_terminal(self.password_stdin)?;
        let password = secrets::ask("password")?;
        let code = match self.code {
            Some(code) => code,
            None => secrets::ask("code")?,
        };
        Ok(json!({ "password": password, "code": code }))
    }
}
