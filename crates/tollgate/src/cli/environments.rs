//! `tollgate environment …` and `tollgate realm …`: where pipelines run, and whose they are.

use clap::Subcommand;
use serde_json::json;
use tollgate_model::names::RealmName;

use super::{Context, realm_settings};
use crate::failure::Failure;

/// `tollgate environment …`
#[derive(Subcommand)]
pub(crate) enum EnvironmentCommand {
    /// Lists the environments and what each demands.
    List,
}

/// `tollgate realm …`
#[derive(Subcommand)]
pub(crate) enum RealmCommand {
    /// Lists the realms.
    List,
    /// Makes a realm with the environments test and prod, which demand API keys.
    Create {
        /// Its name; part of every URL.
        name: RealmName,
    },
    /// Shows a realm with its settings.
    Get(realm_settings::GetArguments),
    /// Changes the settings named and keeps the others.
    Set(realm_settings::SetArguments),
}

/// Runs `tollgate environment …`.
pub(crate) async fn environment(context: &Context<'_>, command: EnvironmentCommand) -> Result<(), Failure> {
    let EnvironmentCommand::List = command;
    let environments = context.client.list(&context.client.realm_path(&["environments"])).await?;
    context.output.list(
        &environments,
        &[
            ("NAME", "/name"),
            ("EXTERNAL API ACCESS", "/policies/external-api-access"),
            ("INTERNAL API ACCESS", "/policies/internal-api-access"),
        ],
    );
    Ok(())
}

/// Runs `tollgate realm …`.
pub(crate) async fn realm(context: &Context<'_>, command: RealmCommand) -> Result<(), Failure> {
    match command {
        RealmCommand::List => {
            let realms = context.client.list("/realms").await?;
            context.output.list(&realms, &[("NAME", "/name"), ("CREATED", "/createdAt")]);
        }
        RealmCommand::Create { name } => {
            let realm = context.client.post("/realms", &json!({ "name": name })).await?;
            context.output.done(&realm, &format!("made realm {name}"));
        }
        RealmCommand::Get(arguments) => realm_settings::get(context, arguments).await?,
        RealmCommand::Set(arguments) => realm_settings::set(context, arguments).await?,
    }
    Ok(())
}
