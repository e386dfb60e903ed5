//! Pipelines and their versions.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts as _, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_app::Standing;
use tollgate_app::access::Permission;
use tollgate_app::lists::ListRequest;
use tollgate_app::pipelines::{JudgedVersion, SaveChange, SavePipeline, SavedPipeline};
use tollgate_model::names::{EnvironmentName, PipelineName, ProjectName};
use tollgate_model::pipelines::PipelineHead;
use tollgate_model::verdicts::Verdict;
use tollgate_model::versions::Version;

use crate::Api;
use crate::answers::{Answer, ListView, Tagged};
use crate::extract::{self, Ask, Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};
use crate::past::Then;
use crate::problem::Problem;

/// A pipeline file to save.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SaveBody {
    /// The file: YAML or JSON.
    document: String,
    /// Saves a change as the first version of the next major.
    #[serde(default)]
    new_major: bool,
    /// Checks everything and saves nothing.
    #[serde(default)]
    dry_run: bool,
}

/// The same beside a body that is the file itself.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SaveQuery {
    /// With a body of `application/yaml`: saves a change as the first version of the next major.
    #[serde(default)]
    new_major: bool,
    /// With a body of `application/yaml`: checks everything and saves nothing.
    #[serde(default)]
    dry_run: bool,
}

impl FromRequest<Api> for SaveBody {
    type Rejection = Problem;

    /// Takes JSON, or the file itself as `application/yaml`.
    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        if !is_yaml(request.headers()) {
            return Body::from_request(request, api).await.map(|Body(body)| body);
        }
        let (mut parts, body) = request.into_parts();
        let Ask(SaveQuery { new_major, dry_run }) = Ask::from_request_parts(&mut parts, api).await?;
        let bytes = extract::read(Request::from_parts(parts, body), api).await?;
        let document = String::from_utf8(bytes.to_vec()).map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, "body-invalid", "the file is no UTF-8 text")
        })?;
        Ok(Self { document, new_major, dry_run })
    }
}

fn is_yaml(headers: &HeaderMap) -> bool {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type
        .split(';')
        .next()
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/yaml"))
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SavedView {
    name: String,
    /// The version that has this content.
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_version: Option<String>,
    /// `created`, `updated` or `unchanged`.
    change: &'static str,
    login_flow: bool,
    /// What today's policies say, per environment.
    verdicts: Vec<Value>,
    /// What would pass by waivers only, and what is allowed but advised against.
    reminders: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct PipelineView {
    name: String,
    project: String,
    /// The latest version.
    latest: String,
    /// Every version, oldest first.
    versions: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct VersionView {
    name: String,
    version: String,
    project: String,
    login_flow: bool,
    created_at: String,
    created_by: String,
    /// The pipeline as in its file.
    pipeline: Value,
    /// SHA-256 of its canonical form (RFC 8785), `kind` included: what an attestation states.
    sha256: String,
    /// What today's policies say, per environment.
    verdicts: Vec<Value>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct VersionItem {
    version: String,
    login_flow: bool,
    created_at: String,
    created_by: String,
    /// SHA-256 of its canonical form (RFC 8785), `kind` included: what an attestation states.
    sha256: String,
    /// What today's policies say, per environment: whether it would be refused.
    verdicts: Vec<Value>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only this project's.
    project: Option<ProjectName>,
    /// How many at most: 1 to 500.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Where a pipeline is to conform.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MendBody {
    /// The environment whose policies it is to conform to.
    environment: EnvironmentName,
    /// Checks everything and saves nothing: 200.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
struct Named {
    name: PipelineName,
}

#[derive(Deserialize)]
struct VersionPath {
    name: PipelineName,
    version: Version,
}

pub(crate) fn operations() -> Vec<Operation> {
    let needs = Access::Needs;
    vec![
        Operation::get(
            "/realms/{realm}/pipelines",
            needs(Permission::PipelineRead),
            "Lists the pipelines",
            list,
        )
        .of_the_past()
        .asks::<ListQuery>()
        .answers::<ListView<PipelineView>>(),
        Operation::post(
            "/realms/{realm}/pipelines",
            needs(Permission::PipelineUpdate),
            "Saves a pipeline file as the next version, unless the latest says the same",
            save,
        )
        .tagged()
        .conditional()
        .takes_file("application/yaml")
        .takes::<SaveBody>()
        .answers::<SavedView>()
        .creates(),
        Operation::get(
            "/realms/{realm}/pipelines/{name}",
            needs(Permission::PipelineRead),
            "Returns a pipeline",
            get,
        )
        .of_the_past()
        .tagged()
        .answers::<PipelineView>(),
        Operation::delete(
            "/realms/{realm}/pipelines/{name}",
            needs(Permission::PipelineDelete),
            "Deletes a pipeline that runs nowhere",
            delete,
        )
        .conditional(),
        Operation::post(
            "/realms/{realm}/pipelines/{name}/mend",
            needs(Permission::PipelineUpdate),
            "Turns on what the policies of an environment demand, and saves that as the next version",
            mend,
        )
        .tagged()
        .takes::<MendBody>()
        .answers::<SavedView>()
        .creates(),
        Operation::get(
            "/realms/{realm}/pipelines/{name}/versions",
            needs(Permission::PipelineRead),
            "Lists the versions of a pipeline, and what the policies say of each",
            versions,
        )
        .of_the_past()
        .answers::<ListView<VersionItem>>(),
        Operation::get(
            "/realms/{realm}/pipelines/{name}/versions/{version}",
            needs(Permission::PipelineRead),
            "Returns a version, and what the policies say of it",
            version,
        )
        .of_the_past()
        .answers::<VersionView>(),
    ]
}

async fn list(
    Then(api): Then,
    Caller(op): Caller,
    Ask(query): Ask<ListQuery>,
) -> Answer<Json<ListView<PipelineView>>> {
    let ListQuery { project, limit, cursor } = query;
    let request = ListRequest { limit, cursor };
    let page = match project {
        Some(project) => api.app.pipelines().list_of_project(&op, &project, request).await?,
        None => api.app.pipelines().list(&op, request).await?,
    };
    Ok(ListView::page(page, |head| PipelineView::from(&head)))
}

async fn save(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    body: SaveBody,
) -> Answer<Response> {
    let SaveBody { document, new_major, dry_run } = body;
    let saved = api
        .app
        .pipelines()
        .save(&op, SavePipeline { document, new_major, dry_run, if_match, is_new: false })
        .await?;
    Ok(saved_answer(saved, dry_run))
}

async fn mend(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<Named>,
    Body(body): Body<MendBody>,
) -> Answer<Response> {
    let saved = api.app.pipelines().mend(&op, &path.name, &body.environment, body.dry_run).await?;
    Ok(saved_answer(saved, body.dry_run))
}

fn saved_answer(saved: SavedPipeline, dry_run: bool) -> Response {
    let change = match saved.change {
        SaveChange::Created => "created",
        SaveChange::Updated => "updated",
        SaveChange::Unchanged => "unchanged",
    };
    let status =
        if dry_run || saved.change == SaveChange::Unchanged { StatusCode::OK } else { StatusCode::CREATED };
    let view = SavedView {
        name: saved.name.to_string(),
        version: saved.version.to_string(),
        previous_version: saved.previous_version.map(|version| version.to_string()),
        change,
        login_flow: saved.login_flow,
        verdicts: saved.verdicts.iter().map(verdict).collect(),
        reminders: saved.reminders,
    };
    match saved.revision {
        Some(revision) => (status, Tagged(view, revision)).into_response(),
        None => (status, Json(view)).into_response(),
    }
}

async fn get(Then(api): Then, Caller(op): Caller, In(path): In<Named>) -> Answer<Tagged<PipelineView>> {
    let stored = api.app.pipelines().get(&op, &path.name).await?;
    Ok(Tagged(PipelineView::from(&stored.value), stored.revision))
}

async fn delete(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Named>,
) -> Answer<StatusCode> {
    api.app.pipelines().delete(&op, &path.name, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn versions(
    Then(api): Then,
    Caller(op): Caller,
    In(path): In<Named>,
) -> Answer<Json<ListView<VersionItem>>> {
    let versions = api.app.pipelines().versions(&op, &path.name).await?;
    let items = versions.into_iter().map(|JudgedVersion { version, verdicts }| {
        Ok(VersionItem {
            version: version.version.to_string(),
            login_flow: version.login_flow,
            created_at: version.created_at.to_string(),
            sha256: tollgate_app::attestations::sha256(&version.pipeline)?,
            created_by: version.created_by,
            verdicts: verdicts.iter().map(verdict).collect(),
        })
    });
    Ok(ListView::whole(items.collect::<Answer<Vec<_>>>()?, |item| item))
}

async fn version(
    Then(api): Then,
    Caller(op): Caller,
    In(path): In<VersionPath>,
) -> Answer<Json<VersionView>> {
    let JudgedVersion { version, verdicts } =
        api.app.pipelines().version(&op, &path.name, path.version).await?;
    Ok(Json(VersionView {
        name: version.pipeline.name.to_string(),
        version: version.version.to_string(),
        project: version.pipeline.project.to_string(),
        login_flow: version.login_flow,
        created_at: version.created_at.to_string(),
        created_by: version.created_by,
        pipeline: json!(version.pipeline),
        sha256: tollgate_app::attestations::sha256(&version.pipeline)?,
        verdicts: verdicts.iter().map(verdict).collect(),
    }))
}

/// A verdict with its outcome: `conforms`, and `standing` as in the conformance report.
pub(crate) fn verdict(verdict: &Verdict) -> Value {
    let mut view = json!(verdict);
    if let Some(fields) = view.as_object_mut() {
        fields.insert("conforms".to_owned(), verdict.conforms().into());
        fields.insert("standing".to_owned(), json!(Standing::of(verdict)));
    }
    view
}

impl From<&PipelineHead> for PipelineView {
    fn from(head: &PipelineHead) -> Self {
        Self {
            name: head.name.to_string(),
            project: head.project.to_string(),
            latest: head.latest.to_string(),
            versions: head.versions.iter().map(ToString::to_string).collect(),
        }
    }
}
