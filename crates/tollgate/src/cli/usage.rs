//! `tollgate usage`, and who calls what a policy change would make stop conforming.

use clap::Args;
use serde_json::{Value, json};
use tollgate_model::names::{EnvironmentName, PipelineName};

use super::Context;
use crate::answers::{items, number};
use crate::failure::Failure;
use crate::output::{Column, Format, say, table};

/// Arguments of `tollgate usage`.
#[derive(Args)]
pub(crate) struct UsageArguments {
    /// Only this environment.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: Option<EnvironmentName>,
    /// Only this pipeline.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<PipelineName>,
    #[command(flatten)]
    days: DaysArgument,
}

/// How far back.
#[derive(Args)]
pub(crate) struct DaysArgument {
    /// How many days back calls are counted: 1 to 90.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=90))]
    pub(crate) days: u16,
}

const COLUMNS: &[Column] = &[
    ("ENVIRONMENT", "/environment"),
    ("PIPELINE", "/pipeline"),
    ("MAJOR", "/major"),
    ("CONSUMER", "/consumer"),
    ("CREDENTIAL", "/credentialName"),
    ("CREDENTIALS", "/credentials"),
    ("CALLS", "/calls"),
    ("LAST CALL", "/lastCall"),
];

/// Most callers of a deployment that are shown one by one.
const SHOWN_CALLERS: usize = 10;

/// Shows how many calls there were.
pub(crate) async fn usage(context: &Context<'_>, arguments: UsageArguments) -> Result<(), Failure> {
    let UsageArguments { env, pipeline, days: DaysArgument { days } } = arguments;
    let mut path = format!("{}?days={days}", context.client.realm_path(&["usage"]));
    for (name, value) in [
        ("environment", env.as_ref().map(EnvironmentName::as_str)),
        ("pipeline", pipeline.as_ref().map(PipelineName::as_str)),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={value}"));
        }
    }
    let report = context.client.get(&path).await?;
    if context.output.format() != Format::Table {
        context.output.document(&report);
        return Ok(());
    }
    let rows: Vec<Value> = items(&report, "items").iter().map(row).collect();
    crate::output::print_out(&table(&rows, COLUMNS));
    say!("{} since {}", calls(number(&report, "calls")), text(&report, "since"));
    Ok(())
}

/// Tells who calls the deployments that would stop conforming, and what of it lacked what would be demanded.
pub(crate) fn callers(impact: &Value, _: usize) -> String {
    let Some(callers) = impact.get("callers").filter(|it| !items(it, "deployments").is_empty()) else {
        return String::new();
    };
    lines(callers).join("\n") + "\n"
}

fn lines(callers: &Value) -> Vec<String> {
    // To the second: nobody counts calls more finely.
    let since = text(callers, "since");
    let since = since.split_once('.').map_or_else(|| since.to_owned(), |(second, _)| format!("{second}Z"));
    let mut lines = vec![format!(
        "calls to them since {since}: {}, of which {} lacked what would be demanded",
        number(callers, "calls"),
        number(callers, "lacking"),
    )];
    for deployment in items(callers, "deployments") {
        let demands = items(deployment, "demands").iter().map(|demand| {
            let what = match text(demand, "code") {
                "missing-jwt" => "a bearer token",
                _ => "an API key",
            };
            format!("{} without {what}", number(demand, "lacking"))
        });
        let counts = std::iter::once(calls(number(deployment, "calls"))).chain(demands);
        lines.push(format!(
            "  {} {} in {}: {}",
            text(deployment, "pipeline"),
            text(deployment, "version"),
            text(deployment, "environment"),
            counts.collect::<Vec<_>>().join(", "),
        ));
        let callers = items(deployment, "callers");
        for caller in callers.iter().take(SHOWN_CALLERS) {
            lines.push(format!(
                "    {}: {}, {} lacking",
                who(caller),
                calls(number(caller, "calls")),
                number(caller, "lacking")
            ));
        }
        if let Some(more) = callers.len().checked_sub(SHOWN_CALLERS).filter(|more| *more > 0) {
            lines.push(format!("    and {more} more: `--output json` shows all"));
        }
    }
    lines
}

fn row(item: &Value) -> Value {
    let mut row = item.clone();
    let credentials = items(item, "credentials");
    let key = item.get("key").filter(|key| !key.is_null());
    let other = item.get("credential").filter(|it| !it.is_null());
    if let Some(fields) = row.as_object_mut() {
        if let Some(name) = key.map(named_key).or_else(|| other.map(named_credential)) {
            fields.insert("credentialName".to_owned(), name.into());
        }
        if item.get("others") == Some(&Value::Bool(true)) {
            fields.insert("consumer".to_owned(), "(others)".into());
        }
        if credentials.is_empty() {
            fields.insert("credentials".to_owned(), json!("none"));
        }
    }
    row
}

fn who(caller: &Value) -> String {
    if caller.get("others") == Some(&Value::Bool(true)) {
        return "others, too many at once to be told apart".to_owned();
    }
    let Some(consumer) = caller.get("consumer").and_then(Value::as_str) else {
        return "nobody knows who (no credentials were demanded)".to_owned();
    };
    match caller.get("key").filter(|key| !key.is_null()) {
        Some(key) => format!("{consumer}, key {} ({})", named_key(key), text(key, "id")),
        None => match caller.get("credential").filter(|it| !it.is_null()) {
            Some(it) => format!("{consumer}, {} ({})", named_credential(it), text(it, "id")),
            None => consumer.to_owned(),
        },
    }
}

/// Names a key by its name and the end of it; by its id when it is gone.
fn named_key(key: &Value) -> String {
    match (key.get("name").and_then(Value::as_str), key.get("hint").and_then(Value::as_str)) {
        (Some(name), Some(hint)) => format!("{name} …{hint}"),
        _ => text(key, "id").to_owned(),
    }
}

/// Names a client certificate by its name, a Basic Auth credential by its user name; by its id when that is not known.
fn named_credential(credential: &Value) -> String {
    let kind = if text(credential, "kind") == "certificate" { "certificate" } else { "user" };
    let name = credential.get("name").and_then(Value::as_str);
    format!("{kind} {}", name.unwrap_or_else(|| text(credential, "id")))
}

fn calls(number: u64) -> String {
    if number == 1 { "1 call".to_owned() } else { format!("{number} calls") }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_named_by_consumer_and_key_with_what_they_lacked() {
        let key = json!({ "id": "key_1", "name": "main", "hint": "x4Qz" });
        let user = json!({ "kind": "basic-auth", "id": "bas_1", "name": "bobby" });
        let callers = json!({ "since": "2026-11-17T00:00:00Z", "calls": 12, "lacking": 9, "deployments": [{
            "environment": "prod", "pipeline": "shop", "version": "1.2", "calls": 12, "lacking": 9,
            "demands": [{ "code": "missing-jwt", "lacking": 9 }],
            "callers": [
                { "consumer": "ann", "key": key, "calls": 9, "lacking": 9 },
                { "consumer": "bob", "key": null, "credential": user, "calls": 3, "lacking": 0 },
                { "consumer": null, "key": null, "calls": 2, "lacking": 0 },
                { "consumer": null, "key": null, "others": true, "calls": 1, "lacking": 0 },
            ],
        }] });
        assert_eq!(
            lines(&callers),
            [
                "calls to them since 2026-11-17T00:00:00Z: 12, of which 9 lacked what would be demanded",
                "  shop 1.2 in prod: 12 calls, 9 without a bearer token",
                "    ann, key main …x4Qz (key_1): 9 calls, 9 lacking",
                "    bob, user bobby (bas_1): 3 calls, 0 lacking",
                "    nobody knows who (no credentials were demanded): 2 calls, 0 lacking",
                "    others, too many at once to be told apart: 1 call, 0 lacking",
            ]
        );
    }
}
