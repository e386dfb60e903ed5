//! `tollgate environment …` and `tollgate realm …`: where pipelines run, and whose they are.

use std::net::SocketAddr;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tollgate_model::environments::Exposure;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::policies::{AccessRequirement, PolicyName};

use super::{Context, change_requests, realm_settings};
use crate::failure::Failure;

/// `tollgate environment …`
#[derive(Subcommand)]
pub(crate) enum EnvironmentCommand {
    /// Lists the environments, what each demands and where it listens.
    List,
    /// Makes an environment with its listeners, a signing key and a value for every policy.
    Create(CreateArguments),
    /// Deletes an environment where nothing is deployed, with its consumers, credentials, values and keys.
    Delete {
        /// Which one; test and prod always exist.
        name: EnvironmentName,
        /// Why, for the policy version and the journal.
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Arguments of `tollgate environment create`.
#[derive(Args)]
pub(crate) struct CreateArguments {
    /// Its name.
    name: EnvironmentName,
    /// The value of an access policy there: `api-key`, `jwt-with-api-key` or `any`; once for external-api-access, once
    /// for internal-api-access. The other policies begin strict, custom rules as strict as they are anywhere.
    #[arg(long = "policy", value_name = "POLICY=VALUE", value_parser = parse_policy)]
    policies: Vec<(PolicyName, AccessRequirement)>,
    /// Address of its external listener, or of its internal one with `internal=`, as IP:PORT. A process that was started
    /// with --listen for that listener keeps its own.
    #[arg(long = "listen", value_name = "[internal=]ADDR", required = true, value_parser = parse_listener)]
    listeners: Vec<(Exposure, SocketAddr)>,
    /// Why, for the policy version and the journal.
    #[arg(long)]
    reason: Option<String>,
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
    let client = &context.client;
    match command {
        EnvironmentCommand::List => {
            let environments = client.list(&client.realm_path(&["environments"])).await?;
            context.output.list(
                &environments,
                &[
                    ("NAME", "/name"),
                    ("EXTERNAL API ACCESS", "/policies/external-api-access"),
                    ("INTERNAL API ACCESS", "/policies/internal-api-access"),
                    ("LISTENER", "/listeners/external"),
                    ("INTERNAL LISTENER", "/listeners/internal"),
                ],
            );
        }
        EnvironmentCommand::Create(arguments) => {
            let made = client.post(&client.realm_path(&["environments"]), &body_of(&arguments)?).await?;
            if change_requests::told(context, &made) {
                return Ok(());
            }
            let CreateArguments { name, listeners, .. } = arguments;
            let listeners =
                listeners.iter().map(|(exposure, address)| format!("{} {address}", exposure.as_str()));
            let listeners = listeners.collect::<Vec<_>>().join(", ");
            context.output.done(&made, &format!("made environment {name}: {listeners}"));
        }
        EnvironmentCommand::Delete { name, reason } => {
            let mut path = client.realm_path(&["environments", name.as_str()]);
            if let Some(reason) = reason {
                path.push_str(&format!("?reason={}", crate::client::segment(&reason)));
            }
            let answer = client.delete(&path).await?;
            if change_requests::told(context, &answer) {
                return Ok(());
            }
            let document = json!({ "kind": "environment", "name": name, "deleted": true });
            context.output.done(&document, &format!("deleted environment {name}"));
        }
    }
    Ok(())
}

fn body_of(arguments: &CreateArguments) -> Result<Value, Failure> {
    let CreateArguments { name, policies, listeners, reason } = arguments;
    let values = policies.iter().map(|(policy, value)| (policy.to_string(), json!(value)));
    let addresses =
        listeners.iter().map(|(exposure, address)| (exposure.as_str().to_owned(), json!(address)));
    let (values, addresses) = (once("policy", values)?, once("the listener", addresses)?);
    let reason = reason.as_deref().unwrap_or_default();
    Ok(json!({ "name": name, "policies": values, "listeners": addresses, "reason": reason }))
}

/// Puts pairs into an object; a name that stands twice says two things.
fn once(what: &str, pairs: impl Iterator<Item = (String, Value)>) -> Result<Map<String, Value>, Failure> {
    let mut object = Map::new();
    for (name, value) in pairs {
        if object.insert(name.clone(), value).is_some() {
            return Err(Failure::usage(format!("{what} `{name}` is given twice")).hint("give it once"));
        }
    }
    Ok(object)
}

fn parse_policy(input: &str) -> Result<(PolicyName, AccessRequirement), String> {
    let (policy, value) =
        input.split_once('=').ok_or("write POLICY=VALUE, for example external-api-access=api-key")?;
    let policy: PolicyName = policy.parse().map_err(|error| format!("{error}"))?;
    if !matches!(policy, PolicyName::Access(_)) {
        return Err(format!(
            "policy `{policy}` begins strict in a new environment: change it with `tollgate policy set`"
        ));
    }
    Ok((policy, value.parse().map_err(|error| format!("{error}"))?))
}

fn parse_listener(input: &str) -> Result<(Exposure, SocketAddr), String> {
    let (exposure, address) = match input.split_once('=') {
        None => (Exposure::External, input),
        Some(("external", address)) => (Exposure::External, address),
        Some(("internal", address)) => (Exposure::Internal, address),
        Some((other, _)) => {
            return Err(format!("there is no listener `{other}`: there are `external` and `internal`"));
        }
    };
    let address = address
        .parse()
        .map_err(|_| format!("`{address}` is no address: write IP:PORT, for example 127.0.0.1:7003"))?;
    Ok((exposure, address))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_new_environment_is_given_is_read_or_refused() {
        assert!(parse_policy("external-api-access=any").is_ok());
        for bad in ["external-api-access", "external-api-access=none", "login-flows=api-key", "Nope=any"] {
            assert!(parse_policy(bad).is_err(), "{bad}");
        }
        let internal = parse_listener("internal=[::1]:7013").expect("valid");
        assert_eq!(internal, (Exposure::Internal, "[::1]:7013".parse().expect("an address")));
        assert_eq!(parse_listener("127.0.0.1:7003").expect("valid").0, Exposure::External);
        for bad in ["7003", "localhost:7003", "mtls=127.0.0.1:1", "internal=", ""] {
            assert!(parse_listener(bad).is_err(), "{bad}");
        }
    }
}
