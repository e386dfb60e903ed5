//! Consumers: who may call what, with which keys.

mod keys;

use std::collections::BTreeSet;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tollgate_app::access::Op;
use tollgate_app::consumers::NewConsumer;
use tollgate_app::errors::ErrorKind;
use tollgate_app::keys::NewKey;
use tollgate_app::lists::ListRequest;
use tollgate_model::consumers::CredentialState;
use tollgate_model::names::{ConsumerName, CredentialName, EnvironmentName, PipelineName};

use super::environments::{Tab, chosen, environments};
use crate::Console;
use crate::answers::{Answer, page, render, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::{FieldList, Refusal};
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

/// Consumers on a page of the list.
const PAGE: u32 = 50;
/// Most pipelines that are offered to be picked.
const OFFERED: u32 = 500;

#[derive(Template)]
#[template(path = "pages/consumers/index.html")]
struct ConsumersPage {
    chrome: Chrome,
    tabs: Vec<Tab>,
    environment: String,
    consumers: Vec<Row>,
    next: Option<String>,
}

struct Row {
    name: String,
    description: String,
    pipelines: usize,
    made: Moment,
}

#[derive(Template)]
#[template(path = "pages/consumers/new.html")]
struct NewPage<'a> {
    chrome: Chrome,
    name: &'a str,
    description: &'a str,
    environments: Vec<Pick>,
    pipelines: Vec<Pick>,
    problem: Option<Refusal>,
}

/// Something that can be ticked.
struct Pick {
    name: String,
    about: String,
    ticked: bool,
}

#[derive(Template)]
#[template(path = "pages/consumers/made.html")]
struct MadePage {
    chrome: Chrome,
    title: String,
    back: String,
    keys: Vec<ShownKeyView>,
}

/// A key that is shown this once.
struct ShownKeyView {
    environment: String,
    key: String,
}

#[derive(Template)]
#[template(path = "pages/consumers/show.html")]
struct ConsumerPage {
    chrome: Chrome,
    environment: String,
    name: String,
    description: String,
    made: Moment,
    revision: u64,
    pipelines: Vec<Pick>,
    /// `None` for whom keys are not to see.
    keys: Option<Vec<KeyRow>>,
}

struct KeyRow {
    id: String,
    name: String,
    hint: String,
    mark: (&'static str, &'static str),
    made: Moment,
    expires: Option<Moment>,
    used: Option<Moment>,
    active: bool,
    rotated: bool,
}

#[derive(Deserialize)]
struct ListQuery {
    environment: Option<String>,
    cursor: Option<String>,
    /// What a new consumer is to call.
    pipeline: Option<String>,
}

#[derive(Deserialize)]
struct ConsumerPath {
    environment: String,
    consumer: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/consumers", get(index).post(create))
        .route("/realms/{realm}/consumers/new", get(new))
        .route("/realms/{realm}/consumers/{environment}/{consumer}", get(show))
        .route("/realms/{realm}/consumers/{environment}/{consumer}/pipelines", post(associate))
        .route("/realms/{realm}/consumers/{environment}/{consumer}/delete", post(delete))
        .merge(keys::routes())
}

async fn index(State(console): State<Console>, visitor: Visitor, Query(query): Query<ListQuery>) -> Answer {
    let op = &visitor.op;
    let (environment, tabs) = chosen(&console, op, query.environment.as_deref()).await?;
    let request = ListRequest { limit: Some(PAGE), cursor: query.cursor };
    let list = console.app.consumers().list(op, &environment, request).await?;
    page(&ConsumersPage {
        chrome: Chrome::new(&visitor, Section::Consumers, "Consumers"),
        tabs,
        consumers: list
            .items
            .into_iter()
            .map(|it| Row {
                name: it.name.to_string(),
                pipelines: it.pipelines.len(),
                made: Moment::new(it.created_at, op.now),
                description: it.description,
            })
            .collect(),
        next: list.next.map(|cursor| format!("?environment={environment}&cursor={cursor}")),
        environment: environment.to_string(),
    })
}

async fn new(State(console): State<Console>, visitor: Visitor, Query(query): Query<ListQuery>) -> Answer {
    let ticked = query.environment.into_iter().collect();
    let pipelines = query.pipeline.into_iter().collect();
    page(&NewPage {
        chrome: Chrome::new(&visitor, Section::Consumers, "New consumer"),
        name: "",
        description: "",
        environments: pick_environments(&console, &visitor.op, &ticked).await?,
        pipelines: pick_pipelines(&console, &visitor.op, &pipelines).await?,
        problem: None,
    })
}

async fn create(State(console): State<Console>, visitor: Visitor, fields: FieldList) -> Answer<Response> {
    let op = &visitor.op;
    let (name, description) = (fields.one("name").trim(), fields.one("description").trim());
    let made = match new_consumer(&fields) {
        Ok(input) => console.app.consumers().create(op, input).await.map_err(Refusal::with_status),
        Err(refusal) => Err((http::StatusCode::UNPROCESSABLE_ENTITY, refusal)),
    };
    match made {
        Ok(created) => {
            let keys = created.iter().filter_map(|it| {
                let plain = it.key.as_ref()?.plain.as_ref()?;
                Some(ShownKeyView {
                    environment: it.consumer.environment.to_string(),
                    key: plain.expose_secret().to_owned(),
                })
            });
            let made = MadePage {
                chrome: Chrome::new(&visitor, Section::Consumers, format!("{name} was made")),
                title: format!("{name} was made"),
                back: format!("/realms/{}/consumers", op.realm),
                keys: keys.collect(),
            };
            Ok(page(&made)?.into_response())
        }
        Err((status, problem)) if status.is_client_error() => {
            let again = NewPage {
                chrome: Chrome::new(&visitor, Section::Consumers, "New consumer"),
                name,
                description,
                environments: pick_environments(&console, op, &fields.all("environment")).await?,
                pipelines: pick_pipelines(&console, op, &fields.all("pipeline")).await?,
                problem: Some(problem),
            };
            Ok(render(status, &again)?.into_response())
        }
        Err((status, problem)) => Err(problem.into_failure(status)),
    }
}

async fn show(State(console): State<Console>, visitor: Visitor, Path(path): Path<ConsumerPath>) -> Answer {
    let op = &visitor.op;
    let (environment, name) = place(&path)?;
    let consumer = console.app.consumers().get(op, &environment, &name).await?;
    let keys = match console.app.keys().list(op, &environment, &name).await {
        Ok(keys) => Some(keys.iter().rev().map(|it| KeyRow::new(it, op.now)).collect()),
        Err(error) if error.kind == ErrorKind::Forbidden => None,
        Err(error) => return Err(error.into()),
    };
    let associated = consumer.value.pipelines.iter().map(ToString::to_string).collect();
    page(&ConsumerPage {
        chrome: Chrome::new(&visitor, Section::Consumers, name.to_string()),
        environment: environment.to_string(),
        name: name.to_string(),
        description: consumer.value.description,
        made: Moment::new(consumer.value.created_at, op.now),
        revision: consumer.revision,
        pipelines: pick_pipelines(&console, op, &associated).await?,
        keys,
    })
}

/// Makes the associations what is ticked, as far as pipelines were offered.
async fn associate(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<ConsumerPath>,
    fields: FieldList,
) -> Answer<Response> {
    let op = &visitor.op;
    let (environment, name) = place(&path)?;
    let revision = fields.one("revision").parse().ok();
    let names =
        |field| fields.all(field).iter().map(|it| named(it)).collect::<Answer<BTreeSet<PipelineName>>>();
    let (ticked, offered) = (names("pipeline")?, names("offered")?);
    let today = console.app.consumers().get(op, &environment, &name).await?.value.pipelines;
    let more: BTreeSet<_> = ticked.difference(&today).cloned().collect();
    let less: BTreeSet<_> =
        today.intersection(&offered).filter(|it| !ticked.contains(*it)).cloned().collect();
    let mut revision = revision;
    if !more.is_empty() {
        let stored = console.app.consumers().associate(op, &environment, &name, more, revision).await?;
        revision = Some(stored.revision);
    }
    if !less.is_empty() {
        console.app.consumers().dissociate(op, &environment, &name, less, revision).await?;
    }
    Ok(see_other(&consumer_path(op, &environment, &name)))
}

async fn delete(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<ConsumerPath>,
) -> Answer<Response> {
    let (environment, name) = place(&path)?;
    console.app.consumers().delete(&visitor.op, &environment, &name, None).await?;
    Ok(see_other(&format!("/realms/{}/consumers?environment={environment}", visitor.op.realm)))
}

fn new_consumer(fields: &FieldList) -> Result<NewConsumer, Refusal> {
    let name = ConsumerName::parse(fields.one("name").trim()).map_err(Refusal::of)?;
    let environments =
        fields.all("environment").iter().map(|it| EnvironmentName::parse(it)).collect::<Result<_, _>>();
    let pipelines = fields.all("pipeline").iter().map(|it| PipelineName::parse(it)).collect::<Result<_, _>>();
    Ok(NewConsumer {
        name,
        environments: environments.map_err(Refusal::of)?,
        pipelines: pipelines.map_err(Refusal::of)?,
        description: fields.one("description").trim().to_owned(),
        first_key: Some(NewKey {
            name: CredentialName::parse("default").map_err(Refusal::of)?,
            expires_at: None,
        }),
    })
}

fn place(path: &ConsumerPath) -> Answer<(EnvironmentName, ConsumerName)> {
    Ok((named(&path.environment)?, named(&path.consumer)?))
}

fn consumer_path(op: &Op, environment: &EnvironmentName, name: &ConsumerName) -> String {
    format!("/realms/{}/consumers/{environment}/{name}", op.realm)
}

async fn pick_environments(console: &Console, op: &Op, ticked: &BTreeSet<String>) -> Answer<Vec<Pick>> {
    let names = environments(console, op).await?;
    let pick = |name: EnvironmentName| {
        let name = name.to_string();
        Pick { ticked: ticked.contains(&name), about: String::new(), name }
    };
    Ok(names.into_iter().map(pick).collect())
}

/// Returns the pipelines to pick from, ordered by project.
async fn pick_pipelines(console: &Console, op: &Op, ticked: &BTreeSet<String>) -> Answer<Vec<Pick>> {
    let request = ListRequest { limit: Some(OFFERED), cursor: None };
    let list = console.app.pipelines().list(op, request).await?;
    let mut picks: Vec<Pick> = list
        .items
        .into_iter()
        .map(|head| Pick {
            ticked: ticked.contains(head.name.as_str()),
            about: head.project.to_string(),
            name: head.name.to_string(),
        })
        .collect();
    picks.sort_by(|one, other| (&one.about, &one.name).cmp(&(&other.about, &other.name)));
    Ok(picks)
}

// === impl KeyRow ===

impl KeyRow {
    fn new(view: &tollgate_app::keys::KeyView, now: jiff::Timestamp) -> Self {
        let key = &view.key;
        let state = key.state(now);
        Self {
            id: key.id.to_string(),
            name: key.name.to_string(),
            hint: key.hint.clone(),
            mark: match state {
                CredentialState::Active => ("good", "works"),
                CredentialState::Expired => ("bad", "expired"),
                CredentialState::Revoked => ("bad", "revoked"),
            },
            made: Moment::new(key.created_at, now),
            expires: key.expires_at.map(|at| Moment::new(at, now)),
            used: view.last_used_at.map(|at| Moment::new(at, now)),
            active: state == CredentialState::Active,
            rotated: key.replaced_by.is_some(),
        }
    }
}
