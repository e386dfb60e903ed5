//! Writing a pipeline: its file, forms for its parts beside it, and what the policies say of both meanwhile.
//!
//! The file is what is edited; a form or a switch changes it in place, comments and all, and shows it anew. Nothing is
//! kept between requests: the form carries the whole file.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;
use tollgate_app::access::Permission;
use tollgate_app::pipelines::{SavePipeline, SavedPipeline};
use tollgate_model::document;
use tollgate_model::names::PipelineName;
use tollgate_model::versions::Version;

use super::as_file;
use super::beside::{Beside, Margin};
use super::draft::Draft;
use super::forms::{GENERAL, TRIGGER};
use super::trial::TrialPanel;
use crate::Console;
use crate::answers::{Answer, Page, page, render, see_other};
use crate::assets;
use crate::chrome::{Chrome, Section};
use crate::differences::{self, DiffLine};
use crate::errors::status_of;
use crate::forms::{FieldList, Refusal};
use crate::paths::named;
use crate::visitor::Visitor;

/// What a new pipeline begins as: open to the outside, with a key.
const START: &str = "kind: Pipeline
name: my-pipeline
project: default
description: What it is for
trigger:
  type: rest
  methods: [GET]
  externalApi: true
  apiKey: true
steps:
  - json: { hello: \"{{ message.method }}\" }
";

#[derive(Template)]
#[template(path = "pages/pipelines/edit.html")]
struct EditPage<'a> {
    chrome: Chrome,
    /// The script of the editor.
    editor: &'static str,
    /// The pipeline; empty for a new one.
    name: String,
    /// What it was when it was read.
    base: Base,
    panel: Panel<'a>,
    problem: Option<Refusal>,
    conflict: Option<Conflict>,
    trial: TrialPanel,
}

/// The editor and what is said of its content; all of it changes when a form or a switch does.
#[derive(Template)]
#[template(path = "pages/pipelines/editor.html")]
struct Panel<'a> {
    realm: String,
    document: &'a str,
    rows: usize,
    beside: Beside,
}

/// Answers with what stands beside the file, and what belongs to its lines.
#[derive(Template)]
#[template(source = "{{ beside|safe }}{{ beside.margin|safe }}", ext = "html")]
struct BesideOnly {
    beside: Beside,
}

/// What a pipeline was when somebody began to write.
#[derive(Default)]
struct Base {
    revision: Option<u64>,
    version: String,
}

/// What somebody else saved meanwhile.
struct Conflict {
    /// The version that is the latest now, and who saved it.
    version: String,
    by: String,
    /// What they changed.
    lines: Vec<DiffLine>,
}

#[derive(Deserialize)]
struct EditPath {
    pipeline: String,
}

#[derive(Deserialize)]
struct EditQuery {
    #[serde(default)]
    step: String,
}

/// What is shown with the page.
#[derive(Default)]
struct Shown {
    name: String,
    base: Base,
    problem: Option<Refusal>,
    conflict: Option<Conflict>,
    /// A trial that was made.
    trial: Option<TrialPanel>,
    status: StatusCode,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/new-pipeline", get(new).post(save))
        .route("/realms/{realm}/new-pipeline/turn", post(turn))
        .route("/realms/{realm}/new-pipeline/beside", post(beside))
        .route("/realms/{realm}/new-pipeline/try", post(try_it))
        .route("/realms/{realm}/pipelines/{pipeline}/edit", get(edit))
}

async fn new(State(console): State<Console>, visitor: Visitor) -> Answer {
    let draft = Draft { is_new: true, ..Draft::new(START, TRIGGER) };
    show(&console, &visitor, &draft, Shown::default()).await
}

async fn edit(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<EditPath>,
    Query(query): Query<EditQuery>,
) -> Answer {
    let name: PipelineName = named(&path.pipeline)?;
    let head = console.app.pipelines().get(&visitor.op, &name).await?;
    let latest = console.app.pipelines().version(&visitor.op, &name, head.value.latest).await?;
    let open = if query.step.is_empty() { TRIGGER } else { &query.step };
    let draft = Draft::new(as_file(&latest.version.pipeline), open);
    let base = Base { revision: Some(head.revision), version: head.value.latest.to_string() };
    show(&console, &visitor, &draft, Shown { name: name.to_string(), base, ..Shown::default() }).await
}

async fn turn(State(console): State<Console>, visitor: Visitor, form: FieldList) -> Answer {
    let draft = turned(&form);
    page(&Panel::new(&console, &visitor, &draft).await?)
}

async fn beside(State(console): State<Console>, visitor: Visitor, form: FieldList) -> Answer {
    let mut beside = Beside::of(&console, &visitor, &Draft::file(&form)).await?;
    beside.margin.beside = true;
    page(&BesideOnly { beside })
}

async fn try_it(State(console): State<Console>, visitor: Visitor, form: FieldList) -> Answer {
    let draft = Draft::filled(&form);
    page(&TrialPanel::tried(&console, &visitor, &form, &draft).await?)
}

async fn save(State(console): State<Console>, visitor: Visitor, form: FieldList) -> Answer<Response> {
    let mut draft = turned(&form);
    let base = Base { revision: form.one("revision").parse().ok(), version: form.one("base").to_owned() };
    let name = match document::parse_pipeline(&draft.text) {
        Ok(it) if !draft.is_new => it.value.name.to_string(),
        _ => String::new(),
    };
    let shown = Shown { name: name.clone(), base, ..Shown::default() };
    if form.one("turn") == "try" {
        let trial = TrialPanel::tried(&console, &visitor, &form, &draft).await?;
        let shown = Shown { trial: Some(trial), ..shown };
        return Ok(show(&console, &visitor, &draft, shown).await?.into_response());
    }
    if !form.one("turn").is_empty() {
        return Ok(show(&console, &visitor, &draft, shown).await?.into_response());
    }
    if !draft.unread.is_empty() {
        let problem = Some(Refusal::of("a field holds what cannot stand in the file: nothing was saved"));
        let shown = Shown { problem, status: StatusCode::UNPROCESSABLE_ENTITY, ..shown };
        return Ok(show(&console, &visitor, &draft, shown).await?.into_response());
    }
    let input = SavePipeline {
        document: draft.text.clone(),
        new_major: !form.one("major").is_empty(),
        dry_run: false,
        if_match: shown.base.revision,
        is_new: draft.is_new,
    };
    match console.app.pipelines().save(&visitor.op, input).await {
        Ok(SavedPipeline { name, version, .. }) => {
            Ok(see_other(&format!("/realms/{}/pipelines/{name}?version={version}", visitor.op.realm)))
        }
        Err(error) if !visitor.op.rights().allows_anywhere(Permission::PipelineUpdate) => Err(error.into()),
        // Whatever else it is, what was written is not lost.
        Err(error) => {
            let status = status_of(error.kind);
            let mut shown = Shown { problem: Some(error.into()), status, ..shown };
            if status == StatusCode::CONFLICT {
                // The name is taken: there it is changed.
                GENERAL.clone_into(&mut draft.open);
            }
            if status == StatusCode::PRECONDITION_FAILED {
                shown = overtaken(&console, &visitor, shown).await?;
            }
            Ok(show(&console, &visitor, &draft, shown).await?.into_response())
        }
    }
}

/// Finds out what somebody else saved meanwhile. What is shown is based on that from now on: whoever has seen it and saves
/// again means it.
async fn overtaken(console: &Console, visitor: &Visitor, shown: Shown) -> Answer<Shown> {
    let Ok(name) = shown.name.parse::<PipelineName>() else { return Ok(shown) };
    let pipelines = console.app.pipelines();
    // One that was deleted has nothing to compare with.
    let Ok(head) = pipelines.get(&visitor.op, &name).await else { return Ok(shown) };
    let latest = pipelines.version(&visitor.op, &name, head.value.latest).await?.version;
    let before = match shown.base.version.parse::<Version>() {
        Ok(base) => pipelines.version(&visitor.op, &name, base).await.ok(),
        Err(_) => None,
    };
    let before = before.map(|it| as_file(&it.version.pipeline)).unwrap_or_default();
    let conflict = Conflict {
        version: latest.version.to_string(),
        by: latest.created_by.clone(),
        lines: differences::lines(&before, &as_file(&latest.pipeline)),
    };
    let base = Base { revision: Some(head.revision), version: latest.version.to_string() };
    Ok(Shown { base, conflict: Some(conflict), ..shown })
}

fn turned(form: &FieldList) -> Draft {
    let mut draft = Draft::filled(form);
    draft.turn(form.one("turn"), form.one("kind"));
    draft
}

async fn show(console: &Console, visitor: &Visitor, draft: &Draft, shown: Shown) -> Answer<Page> {
    let Shown { name, base, problem, conflict, trial, status } = shown;
    let trial = match trial {
        Some(trial) => trial,
        None => TrialPanel::new(console, visitor).await?,
    };
    let title = if name.is_empty() { "New pipeline".to_owned() } else { format!("Edit {name}") };
    let page = EditPage {
        chrome: Chrome::new(visitor, Section::Pipelines, title),
        editor: &assets::EDITOR.path,
        name,
        base,
        panel: Panel::new(console, visitor, draft).await?,
        problem,
        conflict,
        trial,
    };
    render(status, &page)
}

// === impl Panel ===

impl<'a> Panel<'a> {
    async fn new(console: &Console, visitor: &Visitor, draft: &'a Draft) -> Answer<Self> {
        Ok(Self {
            realm: visitor.op.realm.to_string(),
            document: &draft.text,
            rows: draft.text.split('\n').count().max(12),
            beside: Beside::of(console, visitor, draft).await?,
        })
    }

    fn margin(&self) -> &Margin {
        &self.beside.margin
    }
}
