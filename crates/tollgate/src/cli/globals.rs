//! `tollgate global …`: values for flows, per environment.

use clap::Subcommand;
use serde_json::{Value, json};
use tollgate_model::names::{EnvironmentName, ValueName};

use super::{Context, dependents};
use crate::failure::Failure;

/// `tollgate global …`
#[derive(Subcommand)]
pub(crate) enum GlobalCommand {
    /// Sets a value; flows read it as `globals["NAME"]`. Not for secrets: those are accounts.
    Set {
        /// Its name.
        name: ValueName,
        /// The value: taken as JSON when it is JSON, else as text.
        value: String,
        /// The environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
        /// Takes the value as text even when it is JSON.
        #[arg(long)]
        text: bool,
    },
    /// Lists the values of an environment.
    List {
        /// The environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
    /// Lists the deployments that read a value: what breaks when it goes. MAYBE is true where a flow computes the name that it
    /// reads.
    Dependents {
        /// Its name.
        name: ValueName,
        /// The environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
    /// Deletes a value.
    Delete {
        /// Its name.
        name: ValueName,
        /// The environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
}

/// Runs `tollgate global …`.
pub(crate) async fn run(context: &Context<'_>, command: GlobalCommand) -> Result<(), Failure> {
    let client = &context.client;
    match command {
        GlobalCommand::Set { name, value, env, text } => {
            let value = if text { Value::String(value) } else { json_or_text(value) };
            let path = client.environment_path(env.as_str(), &["globals", name.as_str()]);
            let saved = client.put(&path, &json!({ "value": value })).await?;
            context.output.done(&saved, &format!("set global {name} in {env}"));
        }
        GlobalCommand::List { env } => {
            let globals = client.list(&client.environment_path(env.as_str(), &["globals"])).await?;
            context.output.list(&globals, &[("NAME", "/name"), ("VALUE", "/value")]);
        }
        GlobalCommand::Dependents { name, env } => {
            let path = client.environment_path(env.as_str(), &["globals", name.as_str()]);
            dependents::list(context, &path).await?;
        }
        GlobalCommand::Delete { name, env } => {
            client.delete(&client.environment_path(env.as_str(), &["globals", name.as_str()])).await?;
            context
                .output
                .done(&json!({ "name": name, "deleted": true }), &format!("deleted global {name} of {env}"));
        }
    }
    Ok(())
}

fn json_or_text(value: String) -> Value {
    serde_json::from_str(&value).unwrap_or(Value::String(value))
}
