//! Deploy, undeploy, promote, roll back, list.

use clap::Args;
use serde_json::{Map, Value, json};
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::versions::Version;

use super::times::AsOfArgument;
use super::{Context, standings};
use crate::answers::items;
use crate::client::segment;
use crate::failure::Failure;
use crate::next_steps::with_command;
use crate::output::{Column, say};

/// A pipeline, or one version of it: `product-list` or `product-list@1.2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PipelineRef {
    name: PipelineName,
    version: Option<Version>,
}

/// Arguments of `tollgate deploy`.
#[derive(Args)]
pub(crate) struct DeployArguments {
    /// The pipeline, or one version of it: NAME or NAME@VERSION; without a version the latest.
    pipeline: PipelineRef,
    /// Where to.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: EnvironmentName,
    /// Judges and checks the routes, and changes nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Arguments of `tollgate undeploy`.
#[derive(Args)]
pub(crate) struct UndeployArguments {
    /// The pipeline.
    pipeline: PipelineName,
    /// Where it runs.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: EnvironmentName,
    /// Which major, when several run.
    #[arg(long)]
    major: Option<u32>,
}

/// Arguments of `tollgate promote`.
#[derive(Args)]
pub(crate) struct PromoteArguments {
    /// The pipeline.
    pipeline: PipelineName,
    /// Where it runs.
    #[arg(long, value_name = "ENVIRONMENT")]
    from: EnvironmentName,
    /// Where it shall run too.
    #[arg(long, value_name = "ENVIRONMENT")]
    to: EnvironmentName,
    /// Which major, when several run.
    #[arg(long)]
    major: Option<u32>,
    /// Judges and checks the routes, and changes nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Arguments of `tollgate rollback`.
#[derive(Args)]
pub(crate) struct RollbackArguments {
    /// The pipeline, or the version to go back to: NAME or NAME@VERSION; without, the version deployed before.
    pipeline: PipelineRef,
    /// Where.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: EnvironmentName,
    /// Which major, when several run.
    #[arg(long)]
    major: Option<u32>,
    /// Judges and checks the routes, and changes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Lists the versions to go back to, and which of them would be refused today; changes nothing.
    #[arg(long, conflicts_with = "dry_run")]
    list: bool,
}

/// Arguments of `tollgate deployments`.
#[derive(Args)]
pub(crate) struct ListArguments {
    /// Only this environment.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: Option<EnvironmentName>,
    /// Only those whose name contains this.
    #[arg(long, value_name = "TEXT", requires = "env")]
    search: Option<String>,
    #[command(flatten)]
    pub(crate) past: AsOfArgument,
}

/// Arguments of `tollgate history`.
#[derive(Args)]
pub(crate) struct HistoryArguments {
    /// The pipeline.
    pipeline: PipelineName,
    /// Where.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: EnvironmentName,
}

/// Arguments of `tollgate openapi`.
#[derive(Args)]
pub(crate) struct OpenapiArguments {
    /// The pipeline.
    pipeline: PipelineName,
    /// Where it runs.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: EnvironmentName,
    /// Which major, when several run.
    #[arg(long)]
    major: Option<u32>,
    /// The URL under which callers reach the gateway [default: the addresses of the server].
    #[arg(long, value_name = "URL")]
    gateway: Option<String>,
}

/// Arguments of `tollgate runs`.
#[derive(Args)]
pub(crate) struct RunsArguments {
    /// The pipeline.
    pipeline: PipelineName,
    /// Where.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: EnvironmentName,
    /// Which major, when several run.
    #[arg(long)]
    major: Option<u32>,
}

const COLUMNS: &[Column] = &[
    ("ENVIRONMENT", "/environment"),
    ("PIPELINE", "/pipeline"),
    ("VERSION", "/version"),
    ("POLICY", "/policyVersion"),
    ("CONFORMS", "/shown/conforms"),
    ("ELSEWHERE", "/shown/elsewhere"),
    ("DEPLOYED", "/deployedAt"),
    ("BY", "/deployedBy"),
    ("URL", "/urls/0/path"),
];

/// Deploys a pipeline version.
pub(crate) async fn deploy(context: &Context<'_>, arguments: DeployArguments) -> Result<(), Failure> {
    let PipelineRef { name, version } = arguments.pipeline;
    let mut body = Map::from_iter([("pipeline".to_owned(), json!(name))]);
    body.extend(version.map(|version| ("version".to_owned(), version.to_string().into())));
    body.extend(dry_run_field(arguments.dry_run));
    let path = context.client.environment_path(arguments.env.as_str(), &["deployments"]);
    let answer = context.client.post(&path, &Value::Object(body)).await?;
    done(context, &answer, "deployed", "deploy");
    Ok(())
}

/// Stops a deployment.
pub(crate) async fn undeploy(context: &Context<'_>, arguments: UndeployArguments) -> Result<(), Failure> {
    let UndeployArguments { pipeline, env, major } = arguments;
    let path = context.client.environment_path(env.as_str(), &["deployments", pipeline.as_str()]);
    context.client.delete(&with_major(path, major)).await?;
    let document = json!({ "pipeline": pipeline, "environment": env, "undeployed": true });
    context.output.done(&document, &format!("undeployed {pipeline} from {env}"));
    Ok(())
}

/// Deploys in one environment what runs in another.
pub(crate) async fn promote(context: &Context<'_>, arguments: PromoteArguments) -> Result<(), Failure> {
    let PromoteArguments { pipeline, from, to, major, dry_run } = arguments;
    let mut body = Map::from_iter([("from".to_owned(), from.to_string().into())]);
    body.extend(dry_run_field(dry_run));
    body.extend(major.map(|major| ("major".to_owned(), major.into())));
    let path = context.client.environment_path(to.as_str(), &["deployments", pipeline.as_str(), "promote"]);
    let answer = context.client.post(&path, &Value::Object(body)).await?;
    done(context, &answer, "promoted", "promote");
    Ok(())
}

/// Deploys an earlier version again.
pub(crate) async fn rollback(context: &Context<'_>, arguments: RollbackArguments) -> Result<(), Failure> {
    let RollbackArguments { pipeline: PipelineRef { name, version }, env, major, dry_run, list } = arguments;
    if list {
        return candidates(context, &PipelineRef { name, version }, &env, major).await;
    }
    let mut body = Map::from_iter(dry_run_field(dry_run));
    body.extend(version.map(|version| ("version".to_owned(), version.to_string().into())));
    body.extend(major.map(|major| ("major".to_owned(), major.into())));
    let path = context.client.environment_path(env.as_str(), &["deployments", name.as_str(), "rollback"]);
    let answer = context.client.post(&path, &Value::Object(body)).await?;
    done(context, &answer, "rolled back to", "roll back to");
    Ok(())
}

/// Lists what a rollback can go back to.
async fn candidates(
    context: &Context<'_>,
    pipeline: &PipelineRef,
    env: &EnvironmentName,
    major: Option<u32>,
) -> Result<(), Failure> {
    let PipelineRef { name, version } = pipeline;
    if version.is_some() {
        return Err(Failure::usage("--list takes a pipeline without a version")
            .hint(format!("write `tollgate rollback {name} --env {env} --list`")));
    }
    let parts = ["deployments", name.as_str(), "rollback-candidates"];
    let path = context.client.environment_path(env.as_str(), &parts);
    let candidates = context.client.list(&with_major(path, major)).await?;
    standings::list(context.output, &candidates, standings::CANDIDATE_COLUMNS);
    Ok(())
}

/// Lists deployments.
pub(crate) async fn list(context: &Context<'_>, arguments: ListArguments) -> Result<(), Failure> {
    let mut path = context.client.realm_path(&["deployments"]);
    if let Some(environment) = arguments.env {
        path.push_str(&format!("?environment={environment}"));
        if let Some(search) = arguments.search {
            path.push_str(&format!("&search={}", segment(&search)));
        }
    }
    standings::list(context.output, &context.client.list(&path).await?, COLUMNS);
    Ok(())
}

/// Lists what was deployed in an environment, newest first.
pub(crate) async fn history(context: &Context<'_>, arguments: HistoryArguments) -> Result<(), Failure> {
    let HistoryArguments { pipeline, env } = arguments;
    let path = context.client.environment_path(env.as_str(), &["deployments", pipeline.as_str(), "history"]);
    context.output.list(
        &context.client.list(&path).await?,
        &[
            ("SEQ", "/seq"),
            ("AT", "/at"),
            ("ACTOR", "/actor"),
            ("ACTION", "/action"),
            ("VERSION", "/version"),
            ("POLICY", "/policyVersion"),
            ("SHA256", "/sha256"),
        ],
    );
    Ok(())
}

/// Prints what a deployment offers to its callers.
pub(crate) async fn openapi(context: &Context<'_>, arguments: OpenapiArguments) -> Result<(), Failure> {
    let OpenapiArguments { pipeline, env, major, gateway } = arguments;
    let path = context.client.environment_path(env.as_str(), &["deployments", pipeline.as_str(), "openapi"]);
    let mut path = with_major(path, major);
    if let Some(gateway) = gateway {
        let mark = if path.contains('?') { '&' } else { '?' };
        path.push_str(&format!("{mark}gateway={}", segment(&gateway)));
    }
    context.output.document(&context.client.get(&path).await?);
    Ok(())
}

/// Lists the last runs of a scheduled pipeline.
pub(crate) async fn runs(context: &Context<'_>, arguments: RunsArguments) -> Result<(), Failure> {
    let RunsArguments { pipeline, env, major } = arguments;
    let path = context.client.environment_path(env.as_str(), &["deployments", pipeline.as_str(), "runs"]);
    context.output.list(
        &context.client.list(&with_major(path, major)).await?,
        &[
            ("DUE", "/due"),
            ("VERSION", "/version"),
            ("ENDED", "/endedAt"),
            ("STATUS", "/outcome/status"),
            ("FAILURE", "/outcome/failure"),
        ],
    );
    Ok(())
}

/// Returns what asks for a dry run.
fn dry_run_field(dry_run: bool) -> Option<(String, Value)> {
    dry_run.then(|| ("dryRun".to_owned(), true.into()))
}

/// Tells what was done, or in a dry run what would be.
fn done(context: &Context<'_>, answer: &Value, what: &str, would: &str) {
    let deployment = answer.get("deployment").unwrap_or(answer);
    let text = |field: &str| deployment.get(field).and_then(Value::as_str).unwrap_or("-");
    let urls = items(deployment, "urls");
    let dry_run = answer.get("dryRun").and_then(Value::as_bool).unwrap_or_default();
    let what = if dry_run { format!("would {would}") } else { what.to_owned() };
    let waived = standings::waived_until(deployment);
    let waived = waived.map(|until| format!(", by waiver until {until}")).unwrap_or_default();
    let nothing = if dry_run { "; nothing was changed" } else { "" };
    let mut sentence = format!(
        "{what} {} {} in {} (admitted by policy version {}{waived}{nothing})",
        text("pipeline"),
        text("version"),
        text("environment"),
        text("policyVersion"),
    );
    for url in urls {
        let text = |field: &str| url.get(field).and_then(Value::as_str).unwrap_or("-");
        sentence.push_str(&format!("\n  {}: {}", text("exposure"), text("path")));
    }
    context.output.done(answer, &sentence);
    let nobody = answer.get("nobodyAssociated").and_then(Value::as_bool).unwrap_or_default();
    if nobody && let (Ok(pipeline), Ok(environment)) = (text("pipeline").parse(), text("environment").parse())
    {
        let step = NextStep::Associate { pipeline, environment };
        say!("hint: {}", with_command("let a consumer call it", &step));
    }
}

fn with_major(path: String, major: Option<u32>) -> String {
    match major {
        Some(major) => format!("{path}?major={major}"),
        None => path,
    }
}

// === impl PipelineRef ===

impl std::str::FromStr for PipelineRef {
    type Err = String;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let (name, version) = match input.split_once('@') {
            Some((name, version)) => {
                (name, Some(Version::parse(version).map_err(|error| error.to_string())?))
            }
            None => (input, None),
        };
        Ok(Self { name: PipelineName::parse(name).map_err(|error| error.to_string())?, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_follows_the_name_behind_an_at_sign() {
        let read = |text: &str| text.parse::<PipelineRef>().map(|it| (it.name.to_string(), it.version));
        assert_eq!(read("login"), Ok(("login".to_owned(), None)));
        assert_eq!(read("login@1.2"), Ok(("login".to_owned(), Version::parse("1.2").ok())));
        assert!(read("login@latest").is_err() && read("@1.0").is_err() && read("Log in").is_err());
    }
}
