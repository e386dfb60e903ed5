//! Pipelines: what there is to deploy, and how each stands to the policies.

mod edit;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use serde::Deserialize;
use tollgate_app::Standing;
use tollgate_app::lists::ListRequest;
use tollgate_model::names::{PipelineName, ProjectName};
use tollgate_model::pipelines::{Pipeline, PipelineVersion};
use tollgate_model::triggers::{ApiKeySwitch, HttpTrigger};
use tollgate_model::verdicts::Verdict;
use tollgate_model::versions::Version;

use super::overview::reasons;
use crate::Console;
use crate::answers::{Answer, page};
use crate::chrome::{Chrome, Section};
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

/// Pipelines on a page of the list.
const PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "pages/pipelines/index.html")]
struct PipelinesPage {
    chrome: Chrome,
    projects: Vec<ProjectChoice>,
    pipelines: Vec<Row>,
    next: Option<String>,
}

struct ProjectChoice {
    name: String,
    chosen: bool,
}

struct Row {
    name: String,
    project: String,
    latest: String,
    versions: usize,
}

#[derive(Template)]
#[template(path = "pages/pipelines/show.html")]
struct PipelinePage {
    chrome: Chrome,
    name: String,
    project: String,
    description: String,
    version: String,
    login_flow: bool,
    trigger: &'static str,
    switches: Vec<Switch>,
    verdicts: Vec<VerdictView>,
    versions: Vec<VersionRow>,
    yaml: String,
}

/// A switch of a trigger.
struct Switch {
    label: &'static str,
    help: &'static str,
    on: bool,
    more: String,
}

/// What the policies of one environment say.
pub(super) struct VerdictView {
    pub(super) environment: String,
    pub(super) mark: (&'static str, &'static str),
    pub(super) reasons: String,
}

struct VersionRow {
    version: String,
    at: Moment,
    by: String,
    here: bool,
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    project: String,
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct PipelinePath {
    pipeline: String,
}

#[derive(Deserialize)]
struct VersionQuery {
    version: Option<String>,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/pipelines", get(index))
        .route("/realms/{realm}/pipelines/{pipeline}", get(show))
        .merge(edit::routes())
}

async fn index(State(console): State<Console>, visitor: Visitor, Query(query): Query<ListQuery>) -> Answer {
    let op = &visitor.op;
    let request = ListRequest { limit: Some(PAGE), cursor: query.cursor };
    let pipelines = console.app.pipelines();
    let list = if query.project.is_empty() {
        pipelines.list(op, request).await?
    } else {
        pipelines.list_of_project(op, &named::<ProjectName>(&query.project)?, request).await?
    };
    let projects = console.app.environments().projects(op).await?;
    page(&PipelinesPage {
        chrome: Chrome::new(&visitor, Section::Pipelines, "Pipelines"),
        projects: projects
            .into_iter()
            .map(|it| ProjectChoice { chosen: it.name.as_str() == query.project, name: it.name.to_string() })
            .collect(),
        pipelines: list
            .items
            .iter()
            .map(|head| Row {
                name: head.name.to_string(),
                project: head.project.to_string(),
                latest: head.latest.to_string(),
                versions: head.versions.len(),
            })
            .collect(),
        next: list.next.map(|cursor| format!("?project={}&cursor={cursor}", query.project)),
    })
}

async fn show(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<PipelinePath>,
    Query(query): Query<VersionQuery>,
) -> Answer {
    let op = &visitor.op;
    let name: PipelineName = named(&path.pipeline)?;
    let wanted = query.version.as_deref().map(named::<Version>).transpose()?;
    let versions = console.app.pipelines().versions(op, &name).await?;
    let head = console.app.pipelines().get(op, &name).await?.value;
    let shown = console.app.pipelines().version(op, &name, wanted.unwrap_or(head.latest)).await?;
    let PipelineVersion { version, pipeline, login_flow, .. } = shown.version;
    page(&PipelinePage {
        chrome: Chrome::new(&visitor, Section::Pipelines, format!("{name} {version}")),
        name: name.to_string(),
        project: pipeline.project.to_string(),
        description: pipeline.description.clone(),
        version: version.to_string(),
        login_flow,
        trigger: pipeline.trigger.type_name(),
        switches: pipeline.trigger.http().map(switches).unwrap_or_default(),
        verdicts: shown.verdicts.iter().map(VerdictView::from).collect(),
        versions: versions
            .iter()
            .rev()
            .map(|it| VersionRow {
                version: it.version.version.to_string(),
                at: Moment::new(it.version.created_at, op.now),
                by: it.version.created_by.clone(),
                here: it.version.version == version,
            })
            .collect(),
        yaml: as_file(&pipeline),
    })
}

/// Writes a pipeline as its file.
fn as_file(pipeline: &Pipeline) -> String {
    let mut document = serde_json::json!({ "kind": "Pipeline" });
    if let (Some(document), Ok(serde_json::Value::Object(fields))) =
        (document.as_object_mut(), serde_json::to_value(pipeline))
    {
        document.extend(fields);
    }
    serde_saphyr::to_string(&document).unwrap_or_else(|_| format!("{document:#}"))
}

fn switches(trigger: &HttpTrigger) -> Vec<Switch> {
    let listed =
        |what: &str, names: Vec<&str>| (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")));
    let scopes = trigger.jwt.scopes().iter().map(|it| it.as_str()).collect();
    let issuers = trigger.jwt.issuers().unwrap_or_default().iter().map(|it| it.as_str()).collect();
    let token: Vec<_> =
        [listed("issuers", issuers), listed("scopes", scopes)].into_iter().flatten().collect();
    let token = token.join("; ");
    let query = if trigger.api_key == ApiKeySwitch::OnWithQuery { "also in the URL" } else { "" };
    let switch = |label, help, on, more: &str| Switch { label, help, on, more: more.to_owned() };
    vec![
        switch("External API", "Reachable from outside", trigger.external_api, ""),
        switch("Internal API", "Reachable from inside", trigger.internal_api, ""),
        switch("API Key", "Callers show a key of an associated consumer", trigger.api_key.is_on(), query),
        switch("mTLS", "Callers show a client certificate of a consumer", trigger.mtls, ""),
        switch(
            "Token JWT",
            "Callers show a token of a login flow or of a listed issuer",
            trigger.jwt.is_on(),
            &token,
        ),
        switch("Basic Auth", "Callers show a user and a password of a consumer", trigger.basic_auth, ""),
    ]
}

impl From<&Verdict> for VerdictView {
    fn from(verdict: &Verdict) -> Self {
        let waived = verdict.waived.iter().map(|it| it.violation.message.as_str());
        Self {
            environment: verdict.environment.to_string(),
            mark: match Standing::of(verdict) {
                Standing::Conformant => ("good", "conforms"),
                Standing::Waived => ("waived", "by waiver"),
                Standing::NotConformant => ("bad", "would be refused"),
            },
            reasons: reasons(verdict.violations.iter().map(|it| it.message.as_str()).chain(waived)),
        }
    }
}
