//! Asks the server whose the keys are. Only SHA-256 digests are sent.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Value, json};
use tollgate_credential::leaks::LeakKind;

use super::findings::{Findings, KnownKey, Owner};
use crate::answers::{items, text};
use crate::cli::Context;
use crate::failure::Failure;

/// Most digests that the server looks up at once.
const DIGESTS_AT_ONCE: usize = 500;

/// Finds out whose the keys are that were found; those of an environment that the server does not have stay unknown.
/// Nobody is asked when nothing was found.
///
/// # Errors
///
/// When there is no server, or it refuses; what was learnt before is kept.
pub(super) async fn identify<'a>(
    connect: impl FnOnce() -> Result<Context<'a>, Failure>,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let mut digests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for finding in &findings.findings {
        if let LeakKind::ApiKey { environment } = &finding.leak.kind {
            digests.entry(environment.to_string()).or_default().insert(finding.leak.digest.to_string());
        }
    }
    if digests.is_empty() {
        return Ok(());
    }
    let client = connect()?.client;
    let mut owners = HashMap::new();
    let mut end = Ok(());
    'all: for (environment, digests) in digests {
        let digests: Vec<_> = digests.into_iter().collect();
        let path = client.environment_path(&environment, &["keys", "identify"]);
        for some in digests.chunks(DIGESTS_AT_ONCE) {
            let known = match client.post(&path, &json!({ "digests": some })).await {
                Ok(known) => known,
                Err(Failure::Problem { status: 404, .. }) => Value::Null,
                Err(failure) => {
                    end = Err(failure);
                    break 'all;
                }
            };
            owners.extend(some.iter().map(|digest| (digest.clone(), Owner::Unknown)));
            owners.extend(
                items(&known, "items").iter().map(|item| (text(item, "digest").to_owned(), known_key(item))),
            );
        }
    }
    for finding in &mut findings.findings {
        if let Some(owner) = owners.get(&finding.leak.digest.to_string()) {
            finding.owner = owner.clone();
        }
    }
    end
}

fn known_key(item: &Value) -> Owner {
    let key = item.get("key").unwrap_or(&Value::Null);
    let field = |name: &str| text(key, name).to_owned();
    Owner::Known(KnownKey {
        id: field("id"),
        name: field("name"),
        consumer: field("consumer"),
        state: field("state"),
        last_used_at: key.get("lastUsedAt").and_then(Value::as_str).map(str::to_owned),
    })
}

/// Returns why the server could not be asked.
pub(super) fn reason(failure: &Failure) -> String {
    match failure {
        Failure::Problem { status, body } => {
            let detail = text(body, "detail");
            let words = if detail.is_empty() { text(body, "title") } else { detail };
            format!("it answered {status}: {words}")
        }
        Failure::Other { message, .. } => message.clone(),
    }
}
