//! `tollgate realm get` and `tollgate realm set`: one realm, and what it decided about itself.

use clap::Args;
use serde_json::{Value, json};
use tollgate_model::names::RealmName;
use tollgate_model::networks::Network;
use tollgate_model::triggers::Cors;

use super::{Context, change_requests};
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
#[command(group = clap::ArgGroup::new("setting").required(true).multiple(true)
    .args(["max_waiver_days", "four_eyes_policies", "four_eyes_waivers", "second_factor", "allow_upstreams", "cors"]))]
pub(crate) struct SetArguments {
    /// How long a waiver can last, in days: 1 to 365. Waivers that were made before keep their end.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=365))]
    max_waiver_days: Option<u16>,
    /// Whether what makes a policy version is asked for by one person and approved by another.
    #[arg(long, value_name = "on|off", value_parser = parse_switch)]
    four_eyes_policies: Option<bool>,
    /// Whether waivers are asked for by one person and approved by another.
    #[arg(long, value_name = "on|off", value_parser = parse_switch)]
    four_eyes_waivers: Option<bool>,
    /// Whether users need a second factor: `optional` or `required`; in realm default, where users live. Whoever demands
    /// one needs one themselves.
    #[arg(long, value_name = "RULE", value_parser = ["optional", "required"])]
    second_factor: Option<String>,
    /// Networks that flows may call although they are those of the machine itself, of its link, or special otherwise:
    /// `127.0.0.1/32,::1/128`, or nothing. All others they may call anyway.
    #[arg(long, value_name = "NETWORKS", value_parser = parse_networks)]
    allow_upstreams: Option<Networks>,
    /// What pages of other origins may do where a trigger does not say, as in a trigger's `cors`: JSON, or `off`.
    #[arg(long, value_name = "JSON|off", value_parser = parse_cors)]
    cors: Option<Value>,
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// A list of networks, which may be empty.
#[derive(Debug, Clone)]
struct Networks(Vec<Network>);

fn parse_networks(input: &str) -> Result<Networks, String> {
    let networks = input.split(',').map(str::trim).filter(|text| !text.is_empty());
    networks.map(Network::parse).collect::<Result<_, _>>().map(Networks)
}

fn parse_cors(input: &str) -> Result<Value, String> {
    if input == "off" {
        return Ok(Value::Null);
    }
    let cors: Cors = serde_json::from_str(input).map_err(|error| {
        format!("{error}: write for example `{{\"allowOrigins\": [\"https://shop.example\"]}}`")
    })?;
    serde_json::to_value(cors).map_err(|error| error.to_string())
}

fn parse_switch(input: &str) -> Result<bool, String> {
    match input {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write `on` or `off`".to_owned()),
    }
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
    for (field, said) in
        [("policies", arguments.four_eyes_policies), ("waivers", arguments.four_eyes_waivers)]
    {
        let (Some(said), Some(fields)) = (said, settings.as_object_mut()) else { continue };
        let off = || json!({ "policies": false, "waivers": false });
        if let Some(four_eyes) = fields.entry("fourEyes").or_insert_with(off).as_object_mut() {
            four_eyes.insert(field.to_owned(), said.into());
        }
    }
    if let (Some(reason), Some(fields)) = (arguments.reason, settings.as_object_mut()) {
        fields.insert("reason".to_owned(), reason.into());
    }
    if let (Some(rule), Some(fields)) = (arguments.second_factor, settings.as_object_mut()) {
        fields.insert("secondFactor".to_owned(), json!(rule));
    }
    for (field, said) in
        [("allowUpstreams", arguments.allow_upstreams.map(|it| json!(it.0))), ("cors", arguments.cors)]
    {
        if let (Some(said), Some(fields)) = (said, settings.as_object_mut()) {
            fields.insert(field.to_owned(), said);
        }
    }
    let saved = client.put(&client.realm_path(&["settings"]), &settings).await?;
    if change_requests::told(context, &saved) {
        return Ok(());
    }
    let name = saved.get("name").and_then(Value::as_str).unwrap_or_default();
    let days = saved.pointer("/settings/maxWaiverDays").and_then(Value::as_u64).unwrap_or_default();
    let is_on = |field: &&str| saved.pointer(&format!("/settings/fourEyes/{field}")) == Some(&json!(true));
    let wanted: Vec<&str> = ["policies", "waivers"].into_iter().filter(is_on).collect();
    let four_eyes = match wanted.is_empty() {
        true => String::new(),
        false => format!(", four eyes for {}", wanted.join(" and ")),
    };
    let rule = saved.pointer("/settings/secondFactor").and_then(Value::as_str).unwrap_or("optional");
    let networks = saved.pointer("/settings/allowUpstreams").and_then(Value::as_array);
    let networks: Vec<&str> = networks.into_iter().flatten().filter_map(Value::as_str).collect();
    let upstreams = match networks.is_empty() {
        true => String::new(),
        false => format!("; flows may call {}", networks.join(" and ")),
    };
    let sentence = format!(
        "set realm {name}: a waiver lasts {days} days at most; a second factor is {rule}{four_eyes}{upstreams}"
    );
    context.output.done(&saved, &sentence);
    Ok(())
}
