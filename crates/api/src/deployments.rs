//! Deployments: deploy, undeploy, promote, roll back, history, runs.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_app::access::Permission;
use tollgate_app::deployments::{Deployed, DeploymentView as Deployment};
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::versions::Version;

use crate::Api;
use crate::answers::{Answer, Created, ListView, Tagged};
use crate::extract::{Ask, Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DeploymentView {
    id: String,
    pipeline: String,
    project: String,
    version: String,
    environment: String,
    /// The policy version that admitted it.
    policy_version: String,
    deployed_at: String,
    deployed_by: String,
    /// `deploy`, `promote` or `rollback`.
    action: Value,
    login_flow: bool,
    /// Whether today's policies would admit it.
    conforms: bool,
    violations: Vec<Value>,
    urls: Vec<UrlView>,
}

#[derive(Serialize, JsonSchema)]
struct UrlView {
    /// `external` or `internal`.
    exposure: &'static str,
    path: String,
}

#[derive(Serialize, JsonSchema)]
struct DeployedView {
    deployment: DeploymentView,
    /// What is still missing for calls to succeed, and what is advised.
    reminders: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct HistoryView {
    /// Number of the journal entry.
    seq: u64,
    at: String,
    actor: String,
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_version: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeployBody {
    pipeline: PipelineName,
    /// The latest, when absent.
    #[schemars(with = "Option<String>")]
    version: Option<Version>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PromoteBody {
    /// The environment where it runs.
    from: EnvironmentName,
    /// Which major, when several run.
    major: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RollbackBody {
    /// The version deployed before, when absent.
    #[schemars(with = "Option<String>")]
    version: Option<Version>,
    /// Which major, when several run.
    major: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only this environment.
    environment: Option<EnvironmentName>,
    /// Taken for the sake of clients that page every list; this one is always whole.
    #[serde(rename = "limit")]
    _limit: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MajorQuery {
    /// Which major, when several run.
    major: Option<u32>,
    /// Taken for the sake of clients that page every list; this one is always whole.
    #[serde(rename = "limit")]
    _limit: Option<u32>,
}

#[derive(Deserialize)]
struct InEnvironment {
    environment: EnvironmentName,
}

#[derive(Deserialize)]
struct Place {
    environment: EnvironmentName,
    pipeline: PipelineName,
}

pub(crate) fn operations() -> Vec<Operation> {
    let (read, create) =
        (Access::Needs(Permission::DeploymentRead), Access::Needs(Permission::DeploymentCreate));
    vec![
        Operation::get(
            "/realms/{realm}/deployments",
            read,
            "Lists what runs, and whether it conforms today",
            list,
        )
        .asks::<ListQuery>()
        .answers::<ListView<DeploymentView>>(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/deployments",
            create,
            "Deploys a pipeline version, if the policies admit it",
            deploy,
        )
        .conditional()
        .takes::<DeployBody>()
        .answers::<DeployedView>()
        .creates(),
        Operation::get(
            "/realms/{realm}/environments/{environment}/deployments/{pipeline}",
            read,
            "Returns a deployment",
            get,
        )
        .tagged()
        .asks::<MajorQuery>()
        .answers::<DeploymentView>(),
        Operation::delete(
            "/realms/{realm}/environments/{environment}/deployments/{pipeline}",
            Access::Needs(Permission::DeploymentDelete),
            "Stops a deployment",
            undeploy,
        )
        .conditional()
        .asks::<MajorQuery>(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/deployments/{pipeline}/promote",
            create,
            "Deploys here what runs in another environment, if the policies admit it",
            promote,
        )
        .takes::<PromoteBody>()
        .answers::<DeployedView>()
        .creates(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/deployments/{pipeline}/rollback",
            create,
            "Deploys an earlier version again, if the policies admit it",
            rollback,
        )
        .takes::<RollbackBody>()
        .answers::<DeployedView>()
        .creates(),
        Operation::get(
            "/realms/{realm}/environments/{environment}/deployments/{pipeline}/history",
            read,
            "Lists what ran here, newest first",
            history,
        )
        .answers::<ListView<HistoryView>>(),
        Operation::get(
            "/realms/{realm}/environments/{environment}/deployments/{pipeline}/runs",
            read,
            "Lists the last runs of a scheduled pipeline",
            runs,
        )
        .asks::<MajorQuery>()
        .answers::<ListView<Value>>(),
    ]
}

async fn list(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(query): Ask<ListQuery>,
) -> Answer<Json<ListView<DeploymentView>>> {
    let deployments = api.app.deployments().list(&op, query.environment.as_ref()).await?;
    Ok(ListView::whole(deployments, |deployment| DeploymentView::from(&deployment)))
}

async fn deploy(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<InEnvironment>,
    Body(body): Body<DeployBody>,
) -> Answer<Created<DeployedView>> {
    let DeployBody { pipeline, version } = body;
    let deployed = api.app.deployments().deploy(&op, &path.environment, &pipeline, version, if_match).await?;
    Ok(Created(deployed.into()))
}

async fn get(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<Place>,
    Ask(query): Ask<MajorQuery>,
) -> Answer<Tagged<DeploymentView>> {
    let stored = api.app.deployments().get(&op, &path.environment, &path.pipeline, query.major).await?;
    Ok(Tagged(DeploymentView::from(&stored.value), stored.revision))
}

async fn undeploy(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Place>,
    Ask(query): Ask<MajorQuery>,
) -> Answer<StatusCode> {
    api.app.deployments().undeploy(&op, &path.environment, &path.pipeline, query.major, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn promote(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<Place>,
    Body(body): Body<PromoteBody>,
) -> Answer<Created<DeployedView>> {
    let PromoteBody { from, major } = body;
    let deployments = api.app.deployments();
    Ok(Created(deployments.promote(&op, &path.pipeline, &from, &path.environment, major).await?.into()))
}

async fn rollback(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<Place>,
    Body(body): Body<RollbackBody>,
) -> Answer<Created<DeployedView>> {
    let RollbackBody { version, major } = body;
    let deployments = api.app.deployments();
    Ok(Created(deployments.rollback(&op, &path.environment, &path.pipeline, major, version).await?.into()))
}

async fn history(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<Place>,
) -> Answer<Json<ListView<HistoryView>>> {
    let items = api.app.deployments().history(&op, &path.environment, &path.pipeline).await?;
    Ok(ListView::whole(items, |item| HistoryView {
        seq: item.seq,
        at: item.at.to_string(),
        actor: item.actor,
        action: item.action,
        version: item.version.map(|version| version.to_string()),
        policy_version: item.policy_version.map(|version| version.to_string()),
    }))
}

async fn runs(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<Place>,
    Ask(query): Ask<MajorQuery>,
) -> Answer<Json<ListView<Value>>> {
    let runs = api.app.schedule().runs(&op, &path.environment, &path.pipeline, query.major).await?;
    Ok(ListView::whole(runs, |run| json!(run)))
}

impl From<&Deployment> for DeploymentView {
    fn from(view: &Deployment) -> Self {
        let Deployment { deployment, project, verdict, urls } = view;
        Self {
            id: deployment.id.to_string(),
            pipeline: deployment.pipeline.to_string(),
            project: project.to_string(),
            version: deployment.version.to_string(),
            environment: deployment.environment.to_string(),
            policy_version: deployment.policy_version.to_string(),
            deployed_at: deployment.deployed_at.to_string(),
            deployed_by: deployment.deployed_by.clone(),
            action: json!(deployment.action),
            login_flow: verdict.login_flow,
            conforms: verdict.conforms(),
            violations: verdict.violations.iter().map(|violation| json!(violation)).collect(),
            urls: urls
                .iter()
                .map(|url| UrlView { exposure: url.exposure.as_str(), path: url.path.clone() })
                .collect(),
        }
    }
}

impl From<Deployed> for DeployedView {
    fn from(deployed: Deployed) -> Self {
        Self { deployment: DeploymentView::from(&deployed.deployment), reminders: deployed.reminders }
    }
}
