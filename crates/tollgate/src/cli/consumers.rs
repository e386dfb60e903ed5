//! `tollgate consumer …`: who may call.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName};

use super::Context;
use crate::failure::Failure;
use crate::output::{Column, Format};

/// `tollgate consumer …`
#[derive(Subcommand)]
pub(crate) enum ConsumerCommand {
    /// Makes a consumer in one or more environments, each with a first API key that is printed once.
    Create(CreateArguments),
    /// Lists the consumers of an environment.
    List {
        /// The environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
    /// Shows a consumer.
    Get {
        /// Its name.
        name: ConsumerName,
        /// Its environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
    /// Lets a consumer call pipelines.
    Associate(AssociateArguments),
    /// No longer lets a consumer call pipelines.
    Dissociate(AssociateArguments),
    /// Deletes a consumer with all its credentials.
    Delete {
        /// Its name.
        name: ConsumerName,
        /// Its environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: EnvironmentName,
    },
}

/// Arguments of `tollgate consumer create`.
#[derive(Args)]
pub(crate) struct CreateArguments {
    /// Its name, unique in each environment.
    name: ConsumerName,
    /// Where it may call; repeatable, or separated by commas.
    #[arg(long, value_name = "ENVIRONMENT", required = true, value_delimiter = ',')]
    env: Vec<EnvironmentName>,
    /// A pipeline that it may call; repeatable, or separated by commas.
    #[arg(long = "pipeline", value_name = "PIPELINE", value_delimiter = ',')]
    pipelines: Vec<PipelineName>,
    /// What it is.
    #[arg(long)]
    description: Option<String>,
    /// Makes no API key.
    #[arg(long)]
    no_key: bool,
    /// What to call the first key.
    #[arg(long, default_value = "default")]
    key_name: String,
    /// How long the first key works, for example `90d`; without, until it is revoked.
    #[arg(long, value_name = "DURATION")]
    key_expires_in: Option<super::keys::Lifetime>,
}

/// A consumer and the pipelines to let it call, or not.
#[derive(Args)]
pub(crate) struct AssociateArguments {
    /// The consumer.
    name: ConsumerName,
    /// Its environment.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: EnvironmentName,
    /// A pipeline; repeatable, or separated by commas.
    #[arg(long = "pipeline", value_name = "PIPELINE", required = true, value_delimiter = ',')]
    pipelines: Vec<PipelineName>,
}

const COLUMNS: &[Column] =
    &[("NAME", "/name"), ("ID", "/id"), ("PIPELINES", "/pipelines"), ("CREATED", "/createdAt")];

/// Runs `tollgate consumer …`.
pub(crate) async fn run(context: &Context<'_>, command: ConsumerCommand) -> Result<(), Failure> {
    let client = &context.client;
    match command {
        ConsumerCommand::Create(arguments) => create(context, arguments).await?,
        ConsumerCommand::List { env } => {
            let consumers = client.list(&client.environment_path(env.as_str(), &["consumers"])).await?;
            context.output.list(&consumers, COLUMNS);
        }
        ConsumerCommand::Get { name, env } => {
            let path = client.environment_path(env.as_str(), &["consumers", name.as_str()]);
            context.output.document(&client.get(&path).await?);
        }
        ConsumerCommand::Associate(arguments) => associate(context, arguments, "associate").await?,
        ConsumerCommand::Dissociate(arguments) => associate(context, arguments, "dissociate").await?,
        ConsumerCommand::Delete { name, env } => {
            client.delete(&client.environment_path(env.as_str(), &["consumers", name.as_str()])).await?;
            let document = json!({ "name": name, "environment": env, "deleted": true });
            context.output.done(&document, &format!("deleted consumer {name} of {env} and its credentials"));
        }
    }
    Ok(())
}

async fn create(context: &Context<'_>, arguments: CreateArguments) -> Result<(), Failure> {
    let CreateArguments { name, env, pipelines, description, no_key, key_name, key_expires_in } = arguments;
    let mut body = json!({
        "name": name, "environments": env, "pipelines": pipelines, "createKey": !no_key, "keyName": key_name,
    });
    if let Some(fields) = body.as_object_mut() {
        fields.extend(description.map(|text| ("description".to_owned(), text.into())));
        fields.extend(
            key_expires_in.map(|life| ("keyExpiresAt".to_owned(), life.ends_at().to_string().into())),
        );
    }
    let made = context.client.post(&context.client.realm_path(&["consumers"]), &body).await?;
    if context.output.format() != Format::Table {
        context.output.document(&made);
        return Ok(());
    }
    context.output.list(
        &made,
        &[
            ("ENVIRONMENT", "/consumer/environment"),
            ("CONSUMER", "/consumer/name"),
            ("PIPELINES", "/consumer/pipelines"),
            ("API KEY", "/key/key"),
        ],
    );
    if !no_key {
        crate::output::say!("keep the keys now: they are not shown again");
    }
    Ok(())
}

async fn associate(context: &Context<'_>, arguments: AssociateArguments, verb: &str) -> Result<(), Failure> {
    let AssociateArguments { name, env, pipelines } = arguments;
    let path = context.client.environment_path(env.as_str(), &["consumers", name.as_str(), verb]);
    let consumer = context.client.post(&path, &json!({ "pipelines": pipelines })).await?;
    let may: Vec<&str> = consumer
        .get("pipelines")
        .and_then(Value::as_array)
        .map(|pipelines| pipelines.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let may = if may.is_empty() { "nothing".to_owned() } else { may.join(", ") };
    context.output.done(&consumer, &format!("{name} may now call in {env}: {may}"));
    Ok(())
}
