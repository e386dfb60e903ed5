//! What a check judges by: policies, custom rules and waivers, from files or from a server.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use tollgate_model::document::{Position, Resource};
use tollgate_model::names::EnvironmentName;
use tollgate_model::policies::{Policies, Policy, PolicyName, Rule};
use tollgate_model::waivers::Waiver;

use super::report::{FileReport, Finding, POLICY_INVALID};
use crate::answers::items;
use crate::cli::files::FileResource;
use crate::cli::resources::policy_as_file;
use crate::client::Client;
use crate::failure::Failure;

/// What a check judges by.
pub(super) struct Rulebook {
    pub(super) policies: Policies,
    pub(super) waivers: Vec<Waiver>,
}

/// Says that the policies in files do not fit together; what does not fit is a finding of its file.
pub(super) struct Unfit;

// === impl Rulebook ===

impl Rulebook {
    /// Puts the policies and waivers of files together; policies that are not written are those of a new realm. The
    /// first `leading` files were given as policies: where one does not parse, or none has any, nobody knows what
    /// to judge by, and waivers elsewhere do not count: whoever writes a pipeline could write its waiver beside it.
    pub(super) fn from_files(files: &mut [FileReport], leading: usize) -> Result<Self, Unfit> {
        let mut policies = Policies::initial(&environments(files));
        let (mut waivers, mut seen, mut fits) = (Vec::new(), BTreeSet::new(), true);
        if let Some(first) = given_without_policy(files, leading) {
            let message = "there is no policy and no waiver in what was given as policies".to_owned();
            first.problems.push(Finding::broken(
                POLICY_INVALID,
                message,
                "",
                Position { line: 1, column: 1 },
            ));
            fits = false;
        }
        for (index, file) in files.iter_mut().enumerate() {
            fits &= index >= leading || file.problems.is_empty();
            let mut problems = Vec::new();
            for resource in &file.resources {
                let policy = match &resource.located.value {
                    Resource::Policy(policy) => policy,
                    Resource::Waiver(waiver) => {
                        if leading == 0 || index < leading {
                            waivers.push(waiver.clone());
                        }
                        continue;
                    }
                    _ => continue,
                };
                let mut refuse = |message: String, pointer: &str| {
                    let position = resource.located.positions.find(pointer);
                    problems.push(Finding::broken(POLICY_INVALID, message, pointer, position));
                };
                if !seen.insert(policy.name()) {
                    refuse(format!("policy `{}` is written twice", policy.name()), "/name");
                    continue;
                }
                if let Policy::Rule(rule) = policy
                    && let Err(error) = tollgate_policy::check_rule(rule)
                {
                    refuse(error.to_string(), "/condition");
                    continue;
                }
                match policies.replace(policy.clone()) {
                    Ok(next) => policies = next,
                    Err(error) => refuse(error.to_string(), "/environments"),
                }
            }
            fits &= problems.is_empty();
            file.problems.extend(problems);
        }
        if fits { Ok(Self { policies, waivers }) } else { Err(Unfit) }
    }

    /// Reads what a realm on a server judges by.
    pub(super) async fn from_server(client: &Client) -> Result<Self, Failure> {
        let answer = client.get(&client.realm_path(&["policies"])).await?;
        let items = items(&answer, "items");
        let written: Vec<Value> = items.iter().map(policy_as_file).map(without_kind).collect();
        let policies = json!({ "version": answer.get("version"), "policies": written });
        let policies: Policies = serde_json::from_value(policies).map_err(|error| {
            Failure::new(format!("the server's policies are not understood: {error}"))
                .hint("use the `tollgate` of the server's version; `tollgate version` shows both")
        })?;
        Ok(Self { policies, waivers: waivers_of(client).await? })
    }

    /// Returns the custom rules.
    pub(super) fn rules(self) -> Vec<Rule> {
        self.policies.rules().cloned().collect()
    }
}

/// Returns the first of the files that were given as policies, when all of them parse and none has a policy or a waiver.
fn given_without_policy(files: &mut [FileReport], leading: usize) -> Option<&mut FileReport> {
    let given = files.get_mut(..leading)?;
    let is_law =
        |resource: &FileResource| matches!(resource.located.value, Resource::Policy(_) | Resource::Waiver(_));
    let tells = |file: &FileReport| !file.problems.is_empty() || file.resources.iter().any(is_law);
    if given.iter().any(tells) { None } else { given.first_mut() }
}

/// Returns the environments that the policies in files are for.
///
/// An export names every policy, and with it every environment of its realm. Where some are left out, the two that a
/// new realm has are filled in, so that a file without one of them is refused here as it is by the server.
fn environments(files: &[FileReport]) -> BTreeSet<EnvironmentName> {
    let written: Vec<&Policy> = files
        .iter()
        .flat_map(|file| &file.resources)
        .filter_map(|resource| match &resource.located.value {
            Resource::Policy(policy) => Some(policy),
            _ => None,
        })
        .collect();
    let mut environments: BTreeSet<_> =
        written.iter().flat_map(|policy| policy.environments().cloned()).collect();
    let is_written = |name: &PolicyName| written.iter().any(|policy| policy.name() == *name);
    if environments.is_empty() || !PolicyName::BUILT_IN.iter().all(is_written) {
        environments.extend([EnvironmentName::test(), EnvironmentName::prod()]);
    }
    environments
}

/// Reads the waivers of a realm; a server that has no waivers has none to give.
pub(in crate::cli) async fn waivers_of(client: &Client) -> Result<Vec<Waiver>, Failure> {
    let list = match client.list(&client.realm_path(&["waivers"])).await {
        Ok(list) => list,
        Err(Failure::Problem { status: 404, .. }) => return Ok(Vec::new()),
        Err(failure) => return Err(failure),
    };
    let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    items.into_iter().map(waiver).collect()
}

/// Takes what a waiver is from what a server says of it.
fn waiver(said: Value) -> Result<Waiver, Failure> {
    const FIELDS: [&str; 9] =
        ["id", "pipeline", "environment", "policy", "code", "until", "reason", "createdAt", "createdBy"];
    let fields = FIELDS.into_iter().filter_map(|name| Some((name.to_owned(), said.get(name)?.clone())));
    serde_json::from_value(Value::Object(Map::from_iter(fields))).map_err(|error| {
        Failure::new(format!("a waiver of the server is not understood: {error}"))
            .hint("use the `tollgate` of the server's version; `tollgate version` shows both")
    })
}

fn without_kind(mut document: Value) -> Value {
    if let Some(fields) = document.as_object_mut() {
        fields.shift_remove("kind");
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiver_is_understood_whatever_else_a_server_says_of_it() {
        let said = json!({ "id": "wvr_00000000000000000000000000000001", "pipeline": "orders",
            "environment": "prod", "policy": "external-api-access", "code": "missing-jwt",
            "until": "2030-01-31T00:00:00Z", "reason": "soon", "createdAt": "2030-01-01T00:00:00Z",
            "createdBy": "admin", "ended": false });
        assert_eq!(waiver(said.clone()).expect("understood").reason, "soon");
        let mut endless = said;
        endless.as_object_mut().expect("fields").remove("until");
        assert!(waiver(endless).is_err(), "no waiver without an end");
    }
}
