//! `tollgate policy …`: what exposed pipelines must demand of their callers.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tollgate_model::names::EnvironmentName;
use tollgate_model::policies::{AccessRequirement, PolicyName};
use tollgate_model::versions::Version;
use tollgate_model::waivers::Waiver;

use super::shadow::ShadowCommand;
use super::times::AsOfArgument;
use super::usage::DaysArgument;
use super::versions::{self, SaveArguments};
use super::{Context, change_requests, confirm, conformance, impact, reasons};
use crate::answers::items;
use crate::failure::Failure;
use crate::output::Column;

/// `tollgate policy …`
#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Lists the policies and their value in each environment.
    List,
    /// Shows one policy.
    Get {
        /// `external-api-access`, `internal-api-access`, `login-flows`, `sensitive-fields`, `enforcement`, or a custom
        /// rule.
        name: PolicyName,
    },
    /// Changes the environments named and keeps the others' values; shows the impact, saves with --yes.
    Set(SetArguments),
    /// Shows what a change would mean, which running deployments it would make conform or not, and who calls them.
    Impact {
        #[command(flatten)]
        change: ChangeArguments,
        #[command(flatten)]
        days: DaysArgument,
    },
    /// Lists the versions of the policies, newest first: who saved them, when and why.
    Versions,
    /// Shows one version of the policies.
    Show {
        /// Which, such as 1.2.
        version: Version,
    },
    /// Shows what two versions of the policies differ in, and what the difference means.
    Diff {
        /// The version to compare from.
        from: Version,
        /// The version to compare to; without, today's.
        to: Option<Version>,
    },
    /// Brings an earlier version back as the next one; shows the impact, saves with --yes.
    Restore {
        /// Which, such as 1.2.
        version: Version,
        #[command(flatten)]
        save: SaveArguments,
    },
    /// Removes a custom rule; shows the impact, saves with --yes.
    Remove {
        /// The rule.
        rule: PolicyName,
        #[command(flatten)]
        save: SaveArguments,
    },
    /// Shows, per environment, which running deployments conform today.
    Conformance {
        /// Only this environment.
        #[arg(long, value_name = "ENVIRONMENT")]
        env: Option<EnvironmentName>,
        #[command(flatten)]
        past: AsOfArgument,
    },
    /// A proposed change that runs alongside and refuses nothing, until it is promoted or ended.
    #[command(subcommand)]
    Shadow(ShadowCommand),
    /// Prints all policies, custom rules and waivers as files for `tollgate check --policy` and `tollgate apply`.
    Export,
}

// === impl PolicyCommand ===

impl PolicyCommand {
    /// Returns the time that it asks about, when it asks the past.
    pub(crate) fn as_of(&self) -> Option<Timestamp> {
        match self {
            Self::Conformance { past, .. } => past.as_of,
            _ => None,
        }
    }
}

/// A change of one policy.
#[derive(Args)]
pub(crate) struct ChangeArguments {
    /// `external-api-access`, `internal-api-access`, `login-flows`, `sensitive-fields`, `enforcement`, or a custom rule.
    pub(super) name: PolicyName,
    /// New value of an environment; repeatable. Access: `api-key`, `jwt-with-api-key` or `any`. Custom rule: `off`,
    /// `advised` or `required`. Sensitive fields: `email,phone`. Enforcement: `atDeploy` or `atGateway@DATE`. Login
    /// flows: JSON such as `{"maxTokenLifetimeMs":3600000}`.
    #[arg(long = "env", value_name = "ENVIRONMENT=VALUE", required = true, value_parser = parse_value)]
    environments: Vec<(EnvironmentName, String)>,
}

/// Arguments of `tollgate policy set`.
#[derive(Args)]
pub(crate) struct SetArguments {
    #[command(flatten)]
    change: ChangeArguments,
    #[command(flatten)]
    save: SaveArguments,
}

fn parse_value(input: &str) -> Result<(EnvironmentName, String), String> {
    let (environment, value) =
        input.split_once('=').ok_or("write ENVIRONMENT=VALUE, for example `test=api-key`")?;
    let environment = EnvironmentName::parse(environment).map_err(|error| error.to_string())?;
    Ok((environment, value.to_owned()))
}

/// Turns a value of the command line into what the policy takes.
fn value_of(policy: &PolicyName, text: &str) -> Result<Value, Failure> {
    match policy {
        PolicyName::Access(_) => match text.parse::<AccessRequirement>() {
            Ok(value) => Ok(json!(value)),
            Err(error) => Err(Failure::usage(error.to_string())),
        },
        PolicyName::Rule(_) => match text {
            "off" | "advised" | "required" => Ok(text.into()),
            other => Err(Failure::usage(format!("`{other}` is no value of a custom rule"))
                .hint("use one of `off`, `advised`, `required`")),
        },
        PolicyName::SensitiveFields => {
            Ok(text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect())
        }
        PolicyName::Enforcement => match text.split_once('@') {
            None if text == "atDeploy" => Ok(text.into()),
            Some(("atGateway", date)) => {
                let date = super::waivers::parse_until(date).map_err(|_| {
                    Failure::usage(format!("`{date}` is no date of enforcement"))
                        .hint("write `atGateway@2030-01-31`, or `atGateway@2030-01-31T12:00:00Z`")
                })?;
                Ok(json!({ "atGateway": date }))
            }
            _ => Err(Failure::usage(format!("`{text}` is no value of policy `enforcement`"))
                .hint("write `atDeploy`, or `atGateway@2030-01-31`")),
        },
        PolicyName::LoginFlows => serde_json::from_str(text).map_err(|_| {
            Failure::usage(format!("`{text}` is no value of policy `login-flows`"))
                .hint("write JSON, for example {\"maxTokenLifetimeMs\":3600000}")
        }),
    }
}

/// Runs `tollgate policy …`.
pub(crate) async fn run(context: &Context<'_>, command: PolicyCommand) -> Result<(), Failure> {
    let client = &context.client;
    match command {
        PolicyCommand::List => {
            let policies = client.get(&client.realm_path(&["policies"])).await?;
            list(context, &policies);
        }
        PolicyCommand::Get { name } => {
            let policy = client.get(&client.realm_path(&["policies", name.as_str()])).await?;
            context.output.document(&policy);
        }
        PolicyCommand::Impact { change, days } => {
            let change = impact_of(context, &change, Some(&days)).await?;
            if context.output.format() == crate::output::Format::Table {
                impact::print(&change);
            } else {
                context.output.document(&change);
            }
        }
        PolicyCommand::Set(SetArguments { change, save }) => {
            let told = impact_of(context, &change, None).await?;
            impact::say(&told);
            confirm::demand_yes(save.yes, &told)?;
            let mut body = body_of(&change)?;
            if let Some(fields) = body.as_object_mut() {
                fields.insert("reason".to_owned(), reasons::ask(save.reason.as_deref())?.into());
            }
            let saved = client.put(&client.realm_path(&["policies", change.name.as_str()]), &body).await?;
            if change_requests::told(context, &saved) {
                return Ok(());
            }
            let version = saved.get("version").and_then(Value::as_str).unwrap_or_default();
            context.output.done(&saved, &format!("saved {}: policy version {version}", change.name));
        }
        PolicyCommand::Versions => {
            let versions = client.list(&client.realm_path(&["policy-versions"])).await?;
            context.output.list(
                &versions,
                &[
                    ("VERSION", "/version"),
                    ("SAVED", "/createdAt"),
                    ("BY", "/createdBy"),
                    ("APPROVED BY", "/approvedBy"),
                    ("REASON", "/reason"),
                ],
            );
        }
        PolicyCommand::Show { version } => versions::show(context, version).await?,
        PolicyCommand::Diff { from, to } => versions::diff(context, from, to).await?,
        PolicyCommand::Restore { version, save } => versions::restore(context, version, &save).await?,
        PolicyCommand::Remove { rule, save } => versions::remove(context, &rule, &save).await?,
        PolicyCommand::Conformance { env, .. } => conformance::run(context, env.as_ref()).await?,
        PolicyCommand::Shadow(command) => super::shadow::run(context, command).await?,
        PolicyCommand::Export => {
            let policies = client.get(&client.realm_path(&["policies"])).await?;
            let waivers = super::check::waivers_of(client).await?;
            export(context, &policies, &waivers);
        }
    }
    Ok(())
}

/// Asks for the impact of a change.
async fn impact_of(
    context: &Context<'_>,
    change: &ChangeArguments,
    days: Option<&DaysArgument>,
) -> Result<Value, Failure> {
    let mut path = context.client.realm_path(&["policies", change.name.as_str(), "impact"]);
    if let Some(DaysArgument { days }) = days {
        path.push_str(&format!("?days={days}"));
    }
    context.client.post(&path, &body_of(change)?).await
}

pub(super) fn body_of(change: &ChangeArguments) -> Result<Value, Failure> {
    let mut environments = Map::new();
    for (environment, value) in &change.environments {
        if environments.insert(environment.to_string(), value_of(&change.name, value)?).is_some() {
            return Err(Failure::usage(format!("environment `{environment}` is named twice"))
                .hint("give one value for each environment"));
        }
    }
    Ok(json!({ "environments": environments, "partial": true }))
}

fn list(context: &Context<'_>, policies: &Value) {
    if context.output.format() != crate::output::Format::Table {
        return context.output.document(policies);
    }
    table(context, policies);
    crate::output::say!("policy version {}", policies.get("version").and_then(Value::as_str).unwrap_or("-"));
}

/// Prints a row for each value of each policy.
pub(super) fn table(context: &Context<'_>, policies: &Value) {
    let rows: Vec<Value> = items(policies, "items")
        .iter()
        .flat_map(|policy| {
            let name = policy.get("name").cloned().unwrap_or_default();
            let values = policy.get("environments").and_then(Value::as_object).into_iter().flatten();
            values
                .map(|(environment, value)| {
                    let shown = value.as_str().and_then(|value| value.parse::<AccessRequirement>().ok());
                    let meaning = match (shown, policy.get("message")) {
                        (Some(shown), _) => Some(shown.label()),
                        (None, message) => message.and_then(Value::as_str),
                    };
                    json!({ "policy": name, "environment": environment, "value": value, "shownAs": meaning })
                })
                .collect::<Vec<_>>()
        })
        .collect();
    let columns: &[Column] = &[
        ("POLICY", "/policy"),
        ("ENVIRONMENT", "/environment"),
        ("VALUE", "/value"),
        ("MEANING", "/shownAs"),
    ];
    context.output.list(&json!({ "items": rows }), columns);
}

fn export(context: &Context<'_>, policies: &Value, waivers: &[Waiver]) {
    let waivers = waivers.iter().map(|waiver| super::files::with_kind("Waiver", json!(waiver)));
    let documents: Vec<Value> =
        items(policies, "items").iter().map(super::resources::policy_as_file).chain(waivers).collect();
    if context.output.format() == crate::output::Format::Json {
        context.output.document(&json!({ "items": documents }));
    } else {
        let version = policies.get("version").and_then(Value::as_str).unwrap_or("-");
        let texts: Vec<String> = documents.iter().map(crate::output::yaml).collect();
        crate::output::print_out(&format!("# policy version {version}\n{}", texts.join("---\n")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_environment_and_requirement() {
        assert!(parse_value("prod=jwt-with-api-key").is_ok());
        assert!(parse_value("prod").expect_err("no value").contains("ENVIRONMENT=VALUE"));
        let access = "external-api-access".parse().expect("a policy");
        assert!(value_of(&access, "open").is_err() && value_of(&access, "any").is_ok());
        assert_eq!(
            value_of(&PolicyName::SensitiveFields, "email, phone").ok(),
            Some(json!(["email", "phone"]))
        );
        assert_eq!(value_of(&PolicyName::SensitiveFields, "").ok(), Some(json!([])));
        let at = json!({ "atGateway": "2030-01-31T00:00:00Z" });
        assert_eq!(value_of(&PolicyName::Enforcement, "atGateway@2030-01-31").ok(), Some(at));
        assert!(value_of(&PolicyName::Enforcement, "atGateway").is_err());
        for bad in ["atGateway@tomorrow", "atGateway@2030-13-45", "atGateway@"] {
            let refused = value_of(&PolicyName::Enforcement, bad).expect_err(bad);
            assert!(format!("{refused:?}").contains("is no date of enforcement"), "{bad}");
        }
        assert!(parse_value("Prod=any").expect_err("no slug").contains("slug"));
    }
}
