//! Pipelines: what there is to deploy, and how each stands to the policies.

mod beside;
mod draft;
mod edit;
mod fields;
mod forms;
mod list;
mod switches;
mod trial;
mod versions;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};
use tollgate_app::Standing;
use tollgate_model::document;
use tollgate_model::names::PipelineName;
use tollgate_model::pipelines::{Pipeline, PipelineVersion};
use tollgate_model::verdicts::Verdict;
use tollgate_model::versions::Version;

use self::switches::Switch;
use super::overview::reasons;
use crate::Console;
use crate::answers::{Answer, page};
use crate::chrome::{Chrome, Section};
use crate::flow_diagram::Diagram;
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

/// Versions that the page of a pipeline lists; there is a page for all.
const LISTED_VERSIONS: usize = 8;

#[derive(Template)]
#[template(path = "pages/pipelines/show.html")]
struct PipelinePage {
    chrome: Chrome,
    name: String,
    project: String,
    description: String,
    version: String,
    latest: bool,
    login_flow: bool,
    trigger: &'static str,
    flow: Diagram,
    /// Where a part of the flow is edited: its pointer comes behind this.
    step_link: String,
    switches: Vec<Switch>,
    verdicts: Vec<VerdictView>,
    versions: Vec<VersionRow>,
    /// How many further versions there are.
    older: usize,
    yaml: String,
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
struct PipelinePath {
    pipeline: String,
}

#[derive(Deserialize)]
struct VersionQuery {
    version: Option<String>,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/pipelines", get(list::index))
        .route("/realms/{realm}/pipelines/{pipeline}", get(show))
        .route("/realms/{realm}/pipelines/{pipeline}/versions", get(versions::versions))
        .merge(edit::routes())
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
    let document = self::document(&pipeline);
    page(&PipelinePage {
        chrome: Chrome::new(&visitor, Section::Pipelines, format!("{name} {version}")),
        name: name.to_string(),
        project: pipeline.project.to_string(),
        description: pipeline.description.clone(),
        version: version.to_string(),
        latest: version == head.latest,
        login_flow,
        trigger: pipeline.trigger.type_name(),
        flow: Diagram::of(&document, ""),
        step_link: format!("/realms/{}/pipelines/{name}/edit?step=", op.realm),
        switches: switches::of(&document),
        verdicts: shown.verdicts.iter().map(VerdictView::from).collect(),
        versions: versions
            .iter()
            .rev()
            .take(LISTED_VERSIONS)
            .map(|it| VersionRow {
                version: it.version.version.to_string(),
                at: Moment::new(it.version.created_at, op.now),
                by: it.version.created_by.clone(),
                here: it.version.version == version,
            })
            .collect(),
        older: versions.len().saturating_sub(LISTED_VERSIONS),
        yaml: document::to_yaml(&document),
    })
}

/// Returns a pipeline as the document that its file is.
fn document(pipeline: &Pipeline) -> Value {
    let mut document = json!({ "kind": "Pipeline" });
    if let (Some(document), Ok(Value::Object(fields))) =
        (document.as_object_mut(), serde_json::to_value(pipeline))
    {
        document.extend(fields);
    }
    document
}

/// Writes a pipeline as its file.
fn as_file(pipeline: &Pipeline) -> String {
    document::to_yaml(&document(pipeline))
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
