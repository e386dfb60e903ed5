//! `tollgate realm get` and `tollgate realm set`: one realm, and what it decided about itself.

use clap::Args;
use serde_json::{Value, json};
use tollgate_model::names::RealmName;

use super::Context;
use crate::client::segment;
use crate::failure::Failure;

/// Arguments of `tollgate realm get`.
#[derive(Args)]
pub(crate) struct GetArguments {
    /// Which one; without, the one of `--realm`.
    name: Option<RealmName>,
}

/// Arguments of `tollgate realm set`.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("setting").required(true).multiple(true).args(["max_waiver_days"]))]
pub(crate) struct SetArguments {
    /// How long a waiver can last, in days: 1 to 365. Waivers that were made before keep their end.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=365))]
    max_waiver_days: Option<u16>,
}

/// Shows a realm with its settings.
pub(crate) async fn get(context: &Context<'_>, arguments: GetArguments) -> Result<(), Failure> {
    let path = match arguments.name {
        Some(name) => format!("/realms/{}", segment(name.as_str())),
        None => context.client.realm_path(&[]),
    };
    context.output.document(&context.client.get(&path).await?);
    Ok(())
}

/// Changes settings of the realm of `--realm`, and keeps the others.
pub(crate) async fn set(context: &Context<'_>, arguments: SetArguments) -> Result<(), Failure> {
    let client = &context.client;
    let realm = client.get(&client.realm_path(&[])).await?;
    let mut settings = realm.get("settings").cloned().unwrap_or_default();
    if let (Some(days), Some(fields)) = (arguments.max_waiver_days, settings.as_object_mut()) {
        fields.insert("maxWaiverDays".to_owned(), json!(days));
    }
    let saved = client.put(&client.realm_path(&["settings"]), &settings).await?;
    let name = saved.get("name").and_then(Value::as_str).unwrap_or_default();
    let days = saved.pointer("/settings/maxWaiverDays").and_then(Value::as_u64).unwrap_or_default();
    context.output.done(&saved, &format!("set realm {name}: a waiver lasts {days} days at most"));
    Ok(())
}
