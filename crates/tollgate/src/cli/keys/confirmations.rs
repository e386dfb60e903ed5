//! Waits until every gateway knows of a change.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Lifetime;
use crate::answers::{items, text};
use crate::client::Client;
use crate::failure::Failure;

/// How often is asked.
const EVERY: Duration = Duration::from_millis(200);

/// Waits until every gateway answers calls by the entry that changed a key; returns what each said.
pub(super) async fn wait(client: &Client, key: &Value, timeout: Lifetime) -> Result<Value, Failure> {
    let entry = key.get("journalEntry").and_then(Value::as_u64).unwrap_or_default();
    let path = format!("{}?entry={entry}", client.realm_path(&["gateways"]));
    let deadline = Instant::now() + Duration::from_secs(timeout.as_secs().unsigned_abs());
    loop {
        let told = client.get(&path).await?;
        if told.get("confirmed").and_then(Value::as_bool) == Some(true) {
            for gateway in in_state(&told, "silent") {
                crate::output::say!(
                    "warning: gateway {} ({}) was last heard of at {} and may not know of it: make sure that it is stopped",
                    text(gateway, "id"),
                    text(gateway, "name"),
                    text(gateway, "seenAt")
                );
            }
            return Ok(told);
        }
        if Instant::now() >= deadline {
            return Err(late(&told, text(key, "id")));
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Puts into words how many gateways confirmed.
pub(super) fn counted(told: &Value) -> String {
    match in_state(told, "confirmed").count() {
        1 => "1 gateway of 1".to_owned(),
        many => format!("all {many} gateways"),
    }
}

fn in_state<'a>(told: &'a Value, state: &'static str) -> impl Iterator<Item = &'a Value> {
    items(told, "gateways").iter().filter(move |gateway| text(gateway, "state") == state)
}

/// Says who lags.
fn late(told: &Value, key: &str) -> Failure {
    let lagging: Vec<String> = in_state(told, "lagging")
        .map(|gateway| {
            format!(
                "{} ({}, last heard of at {})",
                text(gateway, "id"),
                text(gateway, "name"),
                text(gateway, "seenAt")
            )
        })
        .collect();
    let who = if lagging.is_empty() { "no gateway was heard of".to_owned() } else { lagging.join(", ") };
    Failure::new(format!("{key} is revoked, and not every gateway has confirmed that it refuses it: {who}"))
        .hint("a gateway that cannot reach the store goes on with what it knows: stop it, or wait again with the same command")
}
