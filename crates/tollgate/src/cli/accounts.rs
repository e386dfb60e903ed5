//! `tollgate account …`: secrets for flows, per environment.

use std::path::Path;

use clap::Subcommand;
use serde_json::{Map, Value, json};
use tollgate_model::names::{EnvironmentName, ValueName};

use super::{Context, dependents, secrets};
use crate::failure::Failure;

/// `tollgate account …`
#[derive(Subcommand)]
pub(crate) enum AccountCommand {
    /// Sets an account with all its fields; flows read them as `accounts.NAME.FIELD`.
    ///
    /// Values never stand in the arguments: `--field token` asks on the terminal or reads a line from stdin,
    /// `--field token=@PATH` reads a file. With --hash only the Argon2id hash of a password is kept, for
    /// `verifyPassword` in a flow.
    Set {
        /// Its name.
        name: ValueName,
        /// The environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
        /// A secret field: `NAME` or `NAME=@PATH`; repeatable.
        #[arg(long = "field", value_name = "NAME[=@PATH]", required_unless_present = "hash")]
        fields: Vec<String>,
        /// A password of which only the hash is kept: `NAME` or `NAME=@PATH`; repeatable.
        #[arg(long, value_name = "NAME[=@PATH]")]
        hash: Vec<String>,
    },
    /// Lists the accounts of an environment and the names of their fields.
    List {
        /// The environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
    /// Lists the deployments that read an account: what breaks when it goes. MAYBE is true where a flow computes the name that it
    /// reads.
    Dependents {
        /// Its name.
        name: ValueName,
        /// The environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
    /// Deletes an account.
    Delete {
        /// Its name.
        name: ValueName,
        /// The environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
}

/// Runs `tollgate account …`.
pub(crate) async fn run(context: &Context<'_>, command: AccountCommand) -> Result<(), Failure> {
    let client = &context.client;
    match command {
        AccountCommand::Set { name, env, fields, hash } => {
            let body = json!({ "fields": read(&fields)?, "hashedFields": read(&hash)? });
            let path = client.environment_path(env.as_str(), &["accounts", name.as_str()]);
            let saved = client.put(&path, &body).await?;
            context.output.done(&saved, &format!("set account {name} in {env}"));
        }
        AccountCommand::List { env } => {
            let accounts = client.list(&client.environment_path(env.as_str(), &["accounts"])).await?;
            context.output.list(&accounts, &[("NAME", "/name"), ("FIELDS", "/fields")]);
        }
        AccountCommand::Dependents { name, env } => {
            let path = client.environment_path(env.as_str(), &["accounts", name.as_str()]);
            dependents::list(context, &path).await?;
        }
        AccountCommand::Delete { name, env } => {
            client.delete(&client.environment_path(env.as_str(), &["accounts", name.as_str()])).await?;
            context
                .output
                .done(&json!({ "name": name, "deleted": true }), &format!("deleted account {name} of {env}"));
        }
    }
    Ok(())
}

fn read(fields: &[String]) -> Result<Map<String, Value>, Failure> {
    fields
        .iter()
        .map(|field| {
            let secret = match field.split_once('=') {
                None => (field.clone(), secrets::ask(field)?),
                Some((name, source)) => match source.strip_prefix('@') {
                    Some(path) => (name.to_owned(), secrets::from_file(name, Path::new(path))?),
                    None => {
                        return Err(Failure::usage(format!("the value of `{name}` stands in the arguments"))
                            .hint(format!("other users can read them: write `{name}` and put the value on stdin, or `{name}=@PATH`")));
                    }
                },
            };
            Ok((secret.0, Value::String(secret.1)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_the_arguments_is_refused_without_repeating_it() {
        let failure = read(&["token=hunter22".to_owned()]).expect_err("refused");
        assert!(!format!("{failure:?}").contains("hunter22"));
    }
}
