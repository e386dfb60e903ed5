//! `tollgate role …`: sets of permissions.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tollgate_model::access::Permission;
use tollgate_model::names::RoleName;

use super::Context;
use crate::failure::Failure;
use crate::output::Column;

/// `tollgate role …`
#[derive(Subcommand)]
pub(crate) enum RoleCommand {
    /// Lists the roles of the product, and the realm's own.
    List,
    /// Shows a role.
    Get {
        /// Its name.
        name: RoleName,
    },
    /// Makes a role of the realm's own, of permissions that you have in the whole realm.
    Create(RoleArguments),
    /// Gives a role of the realm's own other permissions: whoever holds it holds these at once.
    Update(RoleArguments),
    /// Deletes a role that no group grants.
    Delete {
        /// Its name.
        name: RoleName,
    },
}

/// A role as it is to be.
#[derive(Args)]
pub(crate) struct RoleArguments {
    /// Its name.
    name: RoleName,
    /// A permission that it has, for example `pipeline:read`; repeatable, or separated by commas.
    #[arg(
        long = "permission",
        value_name = "PERMISSION",
        required = true,
        value_delimiter = ',',
        value_parser = parse_permission
    )]
    permissions: Vec<Permission>,
    /// Who it is for.
    #[arg(long)]
    description: Option<String>,
}

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("BUILT IN", "/builtIn"),
    ("DESCRIPTION", "/description"),
    ("PERMISSIONS", "/permissions"),
];

fn parse_permission(input: &str) -> Result<Permission, String> {
    Permission::parse(input).map_err(|error| error.to_string())
}

/// Runs `tollgate role …`.
pub(crate) async fn run(context: &Context<'_>, command: RoleCommand) -> Result<(), Failure> {
    let client = &context.client;
    let path = |name: &RoleName| client.realm_path(&["roles", name.as_str()]);
    match command {
        RoleCommand::List => {
            let roles = client.list(&client.realm_path(&["roles"])).await?;
            context.output.list(&roles, COLUMNS);
        }
        RoleCommand::Get { name } => context.output.document(&client.get(&path(&name)).await?),
        RoleCommand::Create(RoleArguments { name, permissions, description }) => {
            let body = json!({ "name": name, "permissions": permissions,
                "description": description.unwrap_or_default() });
            let role = client.post(&client.realm_path(&["roles"]), &body).await?;
            context.output.done(&role, &format!("created role {name}"));
        }
        RoleCommand::Update(RoleArguments { name, permissions, description }) => {
            let now = client.get(&path(&name)).await?;
            let kept = now.get("description").and_then(Value::as_str).unwrap_or_default();
            let description = description.as_deref().unwrap_or(kept);
            let body = json!({ "permissions": permissions, "description": description });
            let role = client.put(&path(&name), &body).await?;
            context.output.done(&role, &format!("updated role {name}"));
        }
        RoleCommand::Delete { name } => {
            client.delete(&path(&name)).await?;
            context.output.done(&json!({ "name": name, "deleted": true }), &format!("deleted role {name}"));
        }
    }
    Ok(())
}
