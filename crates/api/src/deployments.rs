//! Deployments: deploy, undeploy, promote, roll back, history, runs.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_app::Standing;
use tollgate_app::access::Permission;
use tollgate_app::deployments::{Deployed, DeploymentView as Deployment};
use tollgate_app::lists::ListRequest;
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::versions::Version;

use crate::Api;
use crate::answers::{Answer, Created, ListView, Tagged};
use crate::extract::{Ask, Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};
use crate::past::Then;
use crate::pipelines::verdict as judged;

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
    /// Its attestation; absent when it was deployed before there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    attestation: Option<String>,
    /// Digest of the version that was admitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    login_flow: bool,
    /// Whether today's policies would admit it.
    conforms: bool,
    /// `conformant`, `waived` (admitted by waivers only) or `notConformant`.
    standing: Value,
    violations: Vec<Value>,
    /// What would count against it, if it were not waived: `violation`, `waiver`, `until`, `reason`.
    waived: Vec<Value>,
    /// What a promotion would get in every other environment: `environment`, `standing`, `conforms`, `violations`,
    /// `waived`.
    elsewhere: Vec<Value>,
    urls: Vec<UrlView>,
}

#[derive(Serialize, JsonSchema)]
struct UrlView {
    /// `external` or `internal`.
    exposure: &'static str,
    path: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DeployedView {
    deployment: DeploymentView,
    /// Which waivers it leans on, what is still missing for calls to succeed, and what is advised.
    reminders: Vec<String>,
    /// Whether it demands an API key and no consumer there is associated with it: nobody can call it.
    nobody_associated: bool,
    /// Whether it was judged only: nothing was deployed, and a new deployment will have another id.
    dry_run: bool,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct CandidateView {
    version: String,
    /// When it was last deployed here.
    deployed_at: String,
    /// What today's policies say of it here.
    verdict: Value,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    attestation: Option<String>,
    /// Digest of the version that was admitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeployBody {
    pipeline: PipelineName,
    /// The latest, when absent.
    #[schemars(with = "Option<String>")]
    version: Option<Version>,
    /// Judges and checks the routes, and changes nothing: 200.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PromoteBody {
    /// The environment where it runs.
    from: EnvironmentName,
    /// Which major, when several run.
    major: Option<u32>,
    /// Judges and checks the routes, and changes nothing: 200.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RollbackBody {
    /// The version deployed before, when absent.
    #[schemars(with = "Option<String>")]
    version: Option<Version>,
    /// Which major, when several run.
    major: Option<u32>,
    /// Judges and checks the routes, and changes nothing: 200.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only this environment.
    environment: Option<EnvironmentName>,
    /// Only those whose name contains this.
    search: Option<String>,
    /// How many at most: 1 to 500. Without it, and without a cursor, all.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
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

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OpenapiQuery {
    /// Which major, when several run.
    major: Option<u32>,
    /// The URL under which callers reach the gateway, for example `https://api.example.com`; the addresses of the answering
    /// process when absent.
    gateway: Option<String>,
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
        .of_the_past()
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
        .of_the_past()
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
            "/realms/{realm}/environments/{environment}/deployments/{pipeline}/rollback-candidates",
            read,
            "Lists what a rollback can go back to, highest version first, and what the policies say of each",
            candidates,
        )
        .asks::<MajorQuery>()
        .answers::<ListView<CandidateView>>(),
        Operation::get(
            "/realms/{realm}/environments/{environment}/deployments/{pipeline}/history",
            read,
            "Lists what ran here, newest first",
            history,
        )
        .of_the_past()
        .answers::<ListView<HistoryView>>(),
        Operation::get(
            "/realms/{realm}/environments/{environment}/deployments/{pipeline}/openapi",
            read,
            "Describes what a deployment offers to its callers, as OpenAPI 3.1",
            openapi,
        )
        .asks::<OpenapiQuery>()
        .answers::<Value>(),
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
    Then(api): Then,
    Caller(op): Caller,
    Ask(query): Ask<ListQuery>,
) -> Answer<Json<ListView<DeploymentView>>> {
    let ListQuery { environment, search, limit, cursor } = query;
    let (environment, search) = (environment.as_ref(), search.as_deref().unwrap_or_default());
    let deployments = api.app.deployments();
    if limit.is_none() && cursor.is_none() && search.is_empty() {
        let whole = deployments.list(&op, environment).await?;
        return Ok(ListView::whole(whole, |deployment| DeploymentView::from(&deployment)));
    }
    let page = deployments.list_page(&op, environment, search, ListRequest { limit, cursor }).await?;
    Ok(ListView::page(page, |deployment| DeploymentView::from(&deployment)))
}

async fn deploy(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<InEnvironment>,
    Body(body): Body<DeployBody>,
) -> Answer<Response> {
    let DeployBody { pipeline, version, dry_run } = body;
    let (deployments, environment) = (api.app.deployments(), &path.environment);
    let deployed = match dry_run {
        true => deployments.deploy_dry_run(&op, environment, &pipeline, version, if_match).await?,
        false => deployments.deploy(&op, environment, &pipeline, version, if_match).await?,
    };
    Ok(answer(deployed, dry_run))
}

async fn get(
    Then(api): Then,
    Caller(op): Caller,
    In(path): In<Place>,
    Ask(query): Ask<MajorQuery>,
) -> Answer<Tagged<DeploymentView>> {
    let stored = api.app.deployments().get(&op, &path.environment, &path.pipeline, query.major).await?;
    Ok(Tagged(DeploymentView::from(&stored.value), stored.revision))
}

async fn openapi(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<Place>,
    Ask(query): Ask<OpenapiQuery>,
) -> Answer<Json<Value>> {
    let (deployments, gateway) = (api.app.deployments(), query.gateway.as_deref());
    let document = deployments.openapi(&op, &path.environment, &path.pipeline, query.major, gateway).await?;
    Ok(Json(document))
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
) -> Answer<Response> {
    let PromoteBody { from, major, dry_run } = body;
    let (deployments, Place { environment, pipeline }) = (api.app.deployments(), &path);
    let deployed = match dry_run {
        true => deployments.promote_dry_run(&op, pipeline, &from, environment, major).await?,
        false => deployments.promote(&op, pipeline, &from, environment, major).await?,
    };
    Ok(answer(deployed, dry_run))
}

async fn rollback(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<Place>,
    Body(body): Body<RollbackBody>,
) -> Answer<Response> {
    let RollbackBody { version, major, dry_run } = body;
    let (deployments, Place { environment, pipeline }) = (api.app.deployments(), &path);
    let deployed = match dry_run {
        true => deployments.rollback_dry_run(&op, environment, pipeline, major, version).await?,
        false => deployments.rollback(&op, environment, pipeline, major, version).await?,
    };
    Ok(answer(deployed, dry_run))
}

async fn candidates(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<Place>,
    Ask(query): Ask<MajorQuery>,
) -> Answer<Json<ListView<CandidateView>>> {
    let deployments = api.app.deployments();
    let candidates =
        deployments.rollback_candidates(&op, &path.environment, &path.pipeline, query.major).await?;
    Ok(ListView::whole(candidates, |candidate| CandidateView {
        version: candidate.version.to_string(),
        deployed_at: candidate.deployed_at.to_string(),
        verdict: judged(&candidate.verdict),
    }))
}

async fn history(
    Then(api): Then,
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
        attestation: item.attested.as_ref().map(|attested| attested.attestation.to_string()),
        sha256: item.attested.map(|attested| attested.sha256),
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
        let Deployment { deployment, project, verdict, elsewhere, urls } = view;
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
            attestation: deployment.attested.as_ref().map(|attested| attested.attestation.to_string()),
            sha256: deployment.attested.as_ref().map(|attested| attested.sha256.clone()),
            login_flow: verdict.login_flow,
            conforms: verdict.conforms(),
            standing: json!(Standing::of(verdict)),
            violations: verdict.violations.iter().map(|violation| json!(violation)).collect(),
            waived: verdict.waived.iter().map(|waived| json!(waived)).collect(),
            elsewhere: elsewhere.iter().map(judged).collect(),
            urls: urls
                .iter()
                .map(|url| UrlView { exposure: url.exposure.as_str(), path: url.path.clone() })
                .collect(),
        }
    }
}

/// Answers 201, or 200 when nothing was made.
fn answer(deployed: Deployed, dry_run: bool) -> Response {
    let Deployed { deployment, reminders, nobody_associated } = deployed;
    let view =
        DeployedView { deployment: DeploymentView::from(&deployment), reminders, nobody_associated, dry_run };
    if dry_run { Json(view).into_response() } else { Created(view).into_response() }
}
