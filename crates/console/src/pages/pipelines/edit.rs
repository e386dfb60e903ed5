//! Writing a pipeline: its file, the switches of its trigger beside it, and what the policies say of both meanwhile.
//!
//! The file is what is edited; a switch that is turned changes it and shows it anew. Nothing is kept between requests:
//! the form carries the whole file.

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tollgate_app::errors::{Error, ErrorKind, Place};
use tollgate_app::pipelines::{SaveChange, SavePipeline, SavedPipeline};
use tollgate_model::document;
use tollgate_model::names::PipelineName;
use tollgate_model::pipelines::Pipeline;
use tollgate_model::triggers::HttpTrigger;

use super::{VerdictView, as_file, switches};
use crate::Console;
use crate::answers::{Answer, Page, page, render, see_other};
use crate::chrome::{Chrome, Section};
use crate::errors::{Failure, status_of};
use crate::forms::{Fields, Refusal, capitalised};
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
    /// The pipeline; empty for a new one.
    name: String,
    revision: Option<u64>,
    panel: Panel<'a>,
    problem: Option<Refusal>,
}

/// The editor and what is said of its content; all of it changes when a switch is turned.
#[derive(Template)]
#[template(path = "pages/pipelines/editor.html")]
struct Panel<'a> {
    realm: String,
    document: &'a str,
    lines: usize,
    beside: Beside,
}

/// The switches as the file has them, and what is said of it; all that changes while it is typed.
#[derive(Template)]
#[template(path = "pages/pipelines/beside.html")]
struct Beside {
    realm: String,
    switches: Vec<SwitchRow>,
    methods: Vec<(&'static str, bool)>,
    faults: Vec<Fault>,
    verdicts: Vec<VerdictView>,
    reminders: Vec<String>,
    /// What saving would do.
    outcome: String,
    login_flow: bool,
}

/// A place of the file that is at fault.
struct Fault {
    line: Option<usize>,
    /// The line itself.
    text: String,
    message: String,
    hint: Option<String>,
}

struct SwitchRow {
    field: &'static str,
    label: &'static str,
    help: &'static str,
    on: bool,
}

#[derive(Deserialize)]
struct EditPath {
    pipeline: String,
}

#[derive(Deserialize)]
struct EditForm {
    document: String,
    #[serde(default)]
    revision: String,
    /// A switch to turn, as `field=value`; empty to save.
    #[serde(default)]
    turn: String,
    #[serde(default)]
    major: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/new-pipeline", get(new).post(save))
        .route("/realms/{realm}/new-pipeline/turn", post(turn))
        .route("/realms/{realm}/new-pipeline/beside", post(beside))
        .route("/realms/{realm}/pipelines/{pipeline}/edit", get(edit))
}

async fn new(State(console): State<Console>, visitor: Visitor) -> Answer {
    show(&console, &visitor, String::new(), START, None, None, StatusCode::OK).await
}

async fn edit(State(console): State<Console>, visitor: Visitor, Path(path): Path<EditPath>) -> Answer {
    let name: PipelineName = named(&path.pipeline)?;
    let head = console.app.pipelines().get(&visitor.op, &name).await?;
    let latest = console.app.pipelines().version(&visitor.op, &name, head.value.latest).await?;
    let file = as_file(&latest.version.pipeline);
    show(&console, &visitor, name.to_string(), &file, Some(head.revision), None, StatusCode::OK).await
}

async fn turn(State(console): State<Console>, visitor: Visitor, Fields(form): Fields<EditForm>) -> Answer {
    let document = turned(&form).unwrap_or(form.document);
    page(&Panel::new(&console, &visitor, &document).await?)
}

async fn beside(State(console): State<Console>, visitor: Visitor, Fields(form): Fields<EditForm>) -> Answer {
    page(&Beside::of(&console, &visitor, &form.document).await?)
}

async fn save(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<EditForm>,
) -> Answer<Response> {
    let revision = form.revision.parse().ok();
    let name = document::parse_pipeline(&form.document).map(|it| it.value.name.to_string());
    let again = name.clone().unwrap_or_default();
    if !form.turn.is_empty() {
        let document = turned(&form).unwrap_or_else(|| form.document.clone());
        return Ok(show(&console, &visitor, again, &document, revision, None, StatusCode::OK)
            .await?
            .into_response());
    }
    let input = SavePipeline {
        document: form.document.clone(),
        new_major: !form.major.is_empty(),
        dry_run: false,
        if_match: revision,
    };
    match console.app.pipelines().save(&visitor.op, input).await {
        Ok(SavedPipeline { name, version, .. }) => {
            Ok(see_other(&format!("/realms/{}/pipelines/{name}?version={version}", visitor.op.realm)))
        }
        Err(error) if matches!(error.kind, ErrorKind::Invalid | ErrorKind::PreconditionFailed) => {
            let (status, problem) = (status_of(error.kind), error.into());
            Ok(show(&console, &visitor, again, &form.document, revision, Some(problem), status)
                .await?
                .into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn show(
    console: &Console,
    visitor: &Visitor,
    name: String,
    document: &str,
    revision: Option<u64>,
    problem: Option<Refusal>,
    status: StatusCode,
) -> Answer<Page> {
    let title = if name.is_empty() { "New pipeline".to_owned() } else { format!("Edit {name}") };
    let page = EditPage {
        chrome: Chrome::new(visitor, Section::Pipelines, title),
        name,
        revision,
        panel: Panel::new(console, visitor, document).await?,
        problem,
    };
    render(status, &page)
}

/// Returns the file with a switch turned; `None` when it is no pipeline yet, or the switch is none.
fn turned(form: &EditForm) -> Option<String> {
    let pipeline = document::parse_pipeline(&form.document).ok()?.value;
    let (field, value) = form.turn.split_once('=')?;
    let mut document = serde_json::to_value(&pipeline).ok()?;
    let trigger = document.pointer_mut("/trigger")?.as_object_mut()?;
    match field {
        "externalApi" | "internalApi" | "apiKey" | "mtls" | "jwt" | "basicAuth" => {
            let on = value == "on";
            trigger.insert(field.to_owned(), on.into());
            // Both need the `Authorization` header.
            match (field, on) {
                ("jwt", true) => drop(trigger.insert("basicAuth".to_owned(), false.into())),
                ("basicAuth", true) => drop(trigger.insert("jwt".to_owned(), false.into())),
                _ => {}
            }
        }
        "method" => {
            let methods = trigger.get_mut("methods")?.as_array_mut()?;
            let method = json!(value);
            match methods.iter().position(|it| *it == method) {
                Some(index) => drop(methods.remove(index)),
                None => methods.push(method),
            }
        }
        _ => return None,
    }
    let turned: Pipeline = serde_json::from_value(document).ok()?;
    Some(as_file(&turned))
}

// === impl Panel ===

impl<'a> Panel<'a> {
    async fn new(console: &Console, visitor: &Visitor, document: &'a str) -> Answer<Self> {
        Ok(Self {
            realm: visitor.op.realm.to_string(),
            document,
            lines: document.lines().count().clamp(18, 40),
            beside: Beside::of(console, visitor, document).await?,
        })
    }
}

fn rows(trigger: &HttpTrigger) -> Vec<SwitchRow> {
    const FIELDS: [&str; 6] = ["externalApi", "internalApi", "apiKey", "mtls", "jwt", "basicAuth"];
    let rows = FIELDS.into_iter().zip(switches(trigger));
    rows.map(|(field, it)| SwitchRow { field, label: it.label, help: it.help, on: it.on }).collect()
}

fn methods(trigger: &HttpTrigger) -> Vec<(&'static str, bool)> {
    const ALL: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"];
    let offered = serde_json::to_value(&trigger.methods).unwrap_or_default();
    let offers =
        |name: &str| offered.as_array().is_some_and(|all| all.iter().any(|it| it.as_str() == Some(name)));
    ALL.into_iter().map(|name| (name, offers(name))).collect()
}

// === impl Beside ===

impl Beside {
    /// Asks what saving would do, and what the policies would say.
    async fn of(console: &Console, visitor: &Visitor, document: &str) -> Answer<Self> {
        let parsed = document::parse_pipeline(document).ok();
        let trigger = parsed.as_ref().and_then(|it| it.value.trigger.http());
        let mut beside = Self {
            realm: visitor.op.realm.to_string(),
            switches: trigger.map(rows).unwrap_or_default(),
            methods: trigger.map(methods).unwrap_or_default(),
            faults: Vec::new(),
            verdicts: Vec::new(),
            reminders: Vec::new(),
            outcome: "Cannot be saved yet.".to_owned(),
            login_flow: false,
        };
        let input = SavePipeline { document: document.to_owned(), dry_run: true, ..SavePipeline::default() };
        match console.app.pipelines().save(&visitor.op, input).await {
            Ok(saved) => beside.judge(saved),
            Err(error) if error.kind == ErrorKind::Invalid => beside.faults = faults(error, document),
            Err(error) => return Err(Failure::from(error)),
        }
        Ok(beside)
    }

    fn judge(&mut self, saved: SavedPipeline) {
        let SavedPipeline { name, version, .. } = &saved;
        self.outcome = match saved.change {
            SaveChange::Created | SaveChange::Updated => format!("Would be saved as {name} {version}."),
            SaveChange::Unchanged => format!("Says the same as {name} {version}, which is saved."),
        };
        self.verdicts = saved.verdicts.iter().map(VerdictView::from).collect();
        self.reminders = saved.reminders;
        self.login_flow = saved.login_flow;
    }
}

/// Puts each fault beside the line that it is about.
fn faults(error: Error, document: &str) -> Vec<Fault> {
    let fault = |place: &Place| Fault {
        line: place.line,
        text: place
            .line
            .and_then(|line| document.lines().nth(line.checked_sub(1)?))
            .unwrap_or_default()
            .to_owned(),
        message: capitalised(&place.message),
        hint: place.hint.clone(),
    };
    if error.places.is_empty() {
        let Refusal { message, hint } = Refusal::from(error);
        return vec![Fault { line: None, text: String::new(), message, hint }];
    }
    error.places.iter().map(fault).collect()
}
