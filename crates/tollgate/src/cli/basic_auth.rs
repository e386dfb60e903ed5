//! `tollgate basic-auth …`: Basic Auth credentials of consumers.

use clap::Subcommand;
use serde_json::{Value, json};
use tollgate_model::names::{ConsumerName, EnvironmentName};

use super::{Context, secrets};
use crate::failure::Failure;

/// `tollgate basic-auth …`
#[derive(Subcommand)]
pub(crate) enum BasicAuthCommand {
    /// Makes a credential; without --password-stdin a password is made up and printed once.
    Create {
        /// Whose credential.
        consumer: ConsumerName,
        /// Its environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
        /// User name, unique in the environment.
        #[arg(long)]
        username: String,
        /// Reads the password from stdin.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Lists a consumer's credentials.
    List {
        /// The consumer.
        consumer: ConsumerName,
        /// Its environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
    /// Revokes a credential: dead everywhere within a second.
    Revoke {
        /// The credential's id, `bas_…`.
        id: String,
        /// Its environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
}

/// Runs `tollgate basic-auth …`.
pub(crate) async fn run(context: &Context<'_>, command: BasicAuthCommand) -> Result<(), Failure> {
    let client = &context.client;
    match command {
        BasicAuthCommand::Create { consumer, env, username, password_stdin } => {
            let mut body = json!({ "username": username });
            if password_stdin && let Some(fields) = body.as_object_mut() {
                fields.insert("password".to_owned(), secrets::ask("password")?.into());
            }
            let path = client.environment_path(env.as_str(), &["consumers", consumer.as_str(), "basic-auth"]);
            let made = client.post(&path, &body).await?;
            if context.output.format() == crate::output::Format::Table
                && let Some(password) = made.get("password").and_then(Value::as_str)
            {
                crate::output::print_out(&format!("{username}:{password}\n"));
                crate::output::say!("keep the password now: it is not shown again");
            } else {
                context.output.done(&made, &format!("made a Basic Auth credential for {consumer} in {env}"));
            }
        }
        BasicAuthCommand::List { consumer, env } => {
            let path = client.environment_path(env.as_str(), &["consumers", consumer.as_str(), "basic-auth"]);
            context.output.list(
                &client.list(&path).await?,
                &[
                    ("ID", "/id"),
                    ("USERNAME", "/username"),
                    ("STATE", "/state"),
                    ("CREATED", "/createdAt"),
                    ("LAST USED", "/lastUsedAt"),
                ],
            );
        }
        BasicAuthCommand::Revoke { id, env } => {
            let path = client.environment_path(env.as_str(), &["basic-auth", &id, "revoke"]);
            let revoked = client.post(&path, &json!({})).await?;
            context.output.done(&revoked, &format!("revoked {id}"));
        }
    }
    Ok(())
}
