//! Consumers: who may call what, with which keys.

mod certificates;
mod keys;
mod logins;
mod pick;

use std::collections::BTreeSet;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tollgate_app::access::Op;
use tollgate_app::basic_auth::BasicAuthView;
use tollgate_app::consumers::{ConsumerCredentials, NewConsumer};
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::keys::NewKey;
use tollgate_app::lists::ListRequest;
use tollgate_model::consumers::CredentialState;
use tollgate_model::names::{ConsumerName, CredentialName, EnvironmentName, PipelineName};

use self::certificates::{BindForm, Certificates};
use self::pick::Picker;
use super::environments::{Switch, environments, kept};
use crate::Console;
use crate::answers::{Answer, page, refused, render, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::{FieldList, Fields, Problem, Refusal, Told, capitalised};
use crate::meanwhile::Meanwhile;
use crate::paths::{encoded, named};
use crate::times::Moment;
use crate::visitor::Visitor;

/// Consumers on a page of the list.
const PAGE: u32 = 50;
/// Most pipelines of a consumer that a line of the list names.
const NAMED: usize = 3;
/// Most pipelines among which one that runs is looked for, for the call to try.
const TRIED: usize = 10;

#[derive(Template)]
#[template(path = "pages/consumers/index.html")]
struct ConsumersPage {
    chrome: Chrome,
    switch: Switch,
    environment: String,
    q: String,
    consumers: Vec<Row>,
    next: Option<String>,
}

struct Row {
    name: String,
    description: String,
    pipelines: String,
    /// What there is of keys; `None` for whom they are not to see.
    keys: Option<String>,
    logins: Option<String>,
    used: Option<Moment>,
}

#[derive(Template)]
#[template(path = "pages/consumers/new.html")]
struct NewPage<'a> {
    chrome: Chrome,
    name: &'a str,
    description: &'a str,
    environments: Vec<Pick>,
    picker: Picker,
    problem: Option<Refusal>,
    /// What is wrong with the name.
    name_fault: Option<String>,
}

/// Something that can be ticked.
struct Pick {
    name: String,
    ticked: bool,
}

#[derive(Template)]
#[template(path = "pages/consumers/made.html")]
struct MadePage {
    chrome: Chrome,
    title: String,
    back: String,
    secrets: Vec<ShownSecret>,
}

/// A secret that is shown this once, with a call to try it.
enum ShownSecret {
    Key { environment: String, key: String, url: String },
    Login { environment: String, user: String, password: String, url: String },
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
    picker: Picker,
    /// What it may call by now, for whoever is overtaken.
    had: Vec<String>,
    /// `None` for whom keys are not to see.
    keys: Option<Vec<KeyRow>>,
    /// Likewise.
    logins: Option<Vec<LoginRow>>,
    /// Likewise.
    certificates: Option<Certificates>,
    /// Since when tokens count, if some were revoked.
    tokens_from: Option<Moment>,
    /// What deleting it breaks.
    breaks: String,
    filled: Filled,
    problem: Problem,
    meanwhile: Vec<Meanwhile>,
}

/// What somebody wrote into the forms of a consumer.
#[derive(Default)]
struct Filled {
    key_name: String,
    days: String,
    import_name: String,
    /// Id of the key that was to be rotated, and for how long both were to work.
    rotated: String,
    overlap: String,
    username: String,
    /// One client certificate, and all that bear a name.
    one: BindForm,
    by_name: BindForm,
}

struct LoginRow {
    id: String,
    user: String,
    made: Moment,
    used: Option<Moment>,
    active: bool,
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
    #[serde(default)]
    q: String,
    cursor: Option<String>,
    /// What a new consumer is to call.
    pipeline: Option<String>,
}

#[derive(Deserialize)]
struct DeleteForm {
    /// The revision that was shown.
    revision: Option<u64>,
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
        .route("/realms/{realm}/pick-pipelines", post(pick::find))
        .merge(keys::routes())
        .merge(logins::routes())
        .merge(certificates::routes())
}

async fn index(State(console): State<Console>, visitor: Visitor, Query(query): Query<ListQuery>) -> Answer {
    let op = &visitor.op;
    let (environment, switch) = kept(&console, &visitor, query.environment.as_deref(), "").await?;
    let request = ListRequest { limit: Some(PAGE), cursor: query.cursor };
    let text = query.q.trim().to_lowercase();
    let list = console.app.consumers().search(op, &environment, &text, request).await?;
    let consumers = console.app.consumers().with_credentials(op, list.items).await?;
    page(&ConsumersPage {
        chrome: Chrome::new(&visitor, Section::Consumers, "Consumers"),
        switch,
        consumers: consumers.iter().map(|it| Row::new(it, op.now)).collect(),
        next: list.next.map(|cursor| {
            format!("?environment={environment}&q={}&cursor={}", encoded(&query.q), encoded(&cursor))
        }),
        q: query.q,
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
        picker: Picker::new(&console, &visitor.op, &pipelines, "", "").await?,
        problem: None,
        name_fault: None,
    })
}

async fn create(State(console): State<Console>, visitor: Visitor, fields: FieldList) -> Answer<Response> {
    let op = &visitor.op;
    let (name, description) = (fields.one("name").trim(), fields.one("description").trim());
    let mut name_fault = ConsumerName::parse(name).err().map(|error| capitalised(&error.to_string()));
    let made = if fields.one("action") == "find" {
        let mut again = NewPage::of(&console, &visitor, &fields, name, description).await?;
        again.name_fault = None;
        return Ok(page(&again)?.into_response());
    } else {
        match new_consumer(&fields) {
            Ok(input) => console.app.consumers().create(op, input).await.map_err(Refusal::with_status),
            Err(refusal) => Err((http::StatusCode::UNPROCESSABLE_ENTITY, refusal)),
        }
    };
    match made {
        Ok(created) => {
            let mut secrets = Vec::new();
            for it in &created {
                let Some(plain) = it.key.as_ref().and_then(|key| key.plain.as_ref()) else { continue };
                let (environment, pipelines) = (&it.consumer.environment, &it.consumer.pipelines);
                secrets.push(ShownSecret::Key {
                    environment: environment.to_string(),
                    key: plain.expose_secret().to_owned(),
                    url: example_url(&console, op, environment, pipelines).await,
                });
            }
            let made = MadePage {
                chrome: Chrome::new(&visitor, Section::Consumers, format!("{name} was made")),
                title: format!("{name} was made"),
                back: format!("/realms/{}/consumers", op.realm),
                secrets,
            };
            Ok(page(&made)?.into_response())
        }
        Err((status, problem)) if status.is_client_error() => {
            let mut again = NewPage::of(&console, &visitor, &fields, name, description).await?;
            if status == http::StatusCode::CONFLICT {
                name_fault.get_or_insert_with(|| format!("{}.", problem.message));
            }
            again.name_fault = name_fault;
            again.problem = Some(problem);
            Ok(render(status, &again)?.into_response())
        }
        Err((status, problem)) => Err(problem.into_failure(status)),
    }
}

async fn show(State(console): State<Console>, visitor: Visitor, Path(path): Path<ConsumerPath>) -> Answer {
    page(&ConsumerPage::new(&console, &visitor, &path).await?)
}

/// Shows a consumer with what somebody wrote, and at which field why a use case refused it.
async fn show_again(
    console: &Console,
    visitor: &Visitor,
    path: &ConsumerPath,
    filled: Filled,
    field: &'static str,
    error: Error,
) -> Answer<Response> {
    let (told, refusal) = Told::of(error)?;
    let mut again = ConsumerPage::new(console, visitor, path).await?;
    again.filled = filled;
    again.problem = Problem::new(field, refusal);
    told.answer(&again)
}

/// Shows a consumer with what somebody wrote that cannot be read.
async fn show_wrong(
    console: &Console,
    visitor: &Visitor,
    path: &ConsumerPath,
    filled: Filled,
    problem: Problem,
) -> Answer<Response> {
    let mut again = ConsumerPage::new(console, visitor, path).await?;
    again.filled = filled;
    again.problem = problem;
    Ok(refused(&again)?.into_response())
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
    if fields.one("action") == "find" {
        let mut again = ConsumerPage::new(&console, &visitor, &path).await?;
        again.picker = Picker::of_form(&console, op, &fields).await?;
        return Ok(page(&again)?.into_response());
    }
    let today = console.app.consumers().get(op, &environment, &name).await?.value.pipelines;
    let more: BTreeSet<_> = ticked.difference(&today).cloned().collect();
    let less: BTreeSet<_> =
        today.intersection(&offered).filter(|it| !ticked.contains(*it)).cloned().collect();
    let changed = async {
        let mut revision = revision;
        if !more.is_empty() {
            let stored = console.app.consumers().associate(op, &environment, &name, more, revision).await?;
            revision = Some(stored.revision);
        }
        if !less.is_empty() {
            console.app.consumers().dissociate(op, &environment, &name, less, revision).await?;
        }
        Ok::<_, tollgate_app::errors::Error>(())
    };
    match changed.await {
        Ok(()) => Ok(see_other(&consumer_path(op, &environment, &name))),
        Err(error) if error.kind == ErrorKind::PreconditionFailed => {
            let (told, refusal) = Told::of(error)?;
            let mut again = ConsumerPage::new(&console, &visitor, &path).await?;
            again.picker = Picker::of_form(&console, op, &fields).await?;
            again.meanwhile = meanwhile(&fields.all("had"), &again.had);
            again.problem = Problem::new("", refusal);
            told.answer(&again)
        }
        Err(error) => Err(error.into()),
    }
}

async fn delete(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<ConsumerPath>,
    Fields(form): Fields<DeleteForm>,
) -> Answer<Response> {
    let (environment, name) = place(&path)?;
    match console.app.consumers().delete(&visitor.op, &environment, &name, form.revision).await {
        Ok(()) => Ok(see_other(&format!("/realms/{}/consumers?environment={environment}", visitor.op.realm))),
        // What it breaks is not what was shown: it is told anew.
        Err(error) => show_again(&console, &visitor, &path, Filled::default(), "delete", error).await,
    }
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

/// Tells what somebody did not know who chose pipelines.
fn meanwhile(then: &BTreeSet<String>, now: &[String]) -> Vec<Meanwhile> {
    let now: BTreeSet<String> = now.iter().cloned().collect();
    let list = |names: &BTreeSet<String>| {
        if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.iter().cloned().collect::<Vec<_>>().join(", ")
        }
    };
    let told = |what: &str, then: String, now: String| vec![Meanwhile { what: what.to_owned(), then, now }];
    if *then == now {
        let since = "made, rotated or revoked since".to_owned();
        return told("Its credentials", "as they were shown".to_owned(), since);
    }
    told("May call", list(then), list(&now))
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
        Pick { ticked: ticked.contains(&name), name }
    };
    Ok(names.into_iter().map(pick).collect())
}

/// Returns the URL of something that a consumer may call and that runs; of none, when nothing does.
async fn example_url(
    console: &Console,
    op: &Op,
    environment: &EnvironmentName,
    pipelines: &BTreeSet<PipelineName>,
) -> String {
    let gateway = console.settings.gateways.get(environment.as_str()).map_or("GATEWAY", String::as_str);
    for pipeline in pipelines.iter().take(TRIED) {
        // Whoever may not see what runs is shown where it would answer.
        let Ok(running) = console.app.deployments().get(op, environment, pipeline, None).await else {
            continue;
        };
        if let Some(url) = running.value.urls.first() {
            return format!("{gateway}{}", url.path);
        }
    }
    let name = pipelines.first().map_or("PIPELINE", PipelineName::as_str);
    format!("{gateway}/pipeline/{}/v1/{name}", op.realm)
}

// === impl NewPage ===

impl<'a> NewPage<'a> {
    /// Shows what was written once more.
    async fn of(
        console: &Console,
        visitor: &Visitor,
        fields: &FieldList,
        name: &'a str,
        description: &'a str,
    ) -> Answer<NewPage<'a>> {
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Consumers, "New consumer"),
            name,
            description,
            environments: pick_environments(console, &visitor.op, &fields.all("environment")).await?,
            picker: Picker::of_form(console, &visitor.op, fields).await?,
            problem: None,
            name_fault: None,
        })
    }
}

// === impl Row ===

impl Row {
    fn new(it: &ConsumerCredentials, now: jiff::Timestamp) -> Self {
        let consumer = &it.consumer;
        let mut pipelines: Vec<String> =
            consumer.pipelines.iter().take(NAMED).map(ToString::to_string).collect();
        if consumer.pipelines.len() > NAMED {
            pipelines.push(format!("{} more", consumer.pipelines.len() - NAMED));
        }
        let keys = it.keys.as_ref().map(|keys| {
            let works = keys.iter().filter(|key| key.state(now) == CredentialState::Active).count();
            match (works, keys.len() - works) {
                (0, 0) => "none".to_owned(),
                (works, 0) => works.to_string(),
                (works, dead) => format!("{works} (and {dead} that work no more)"),
            }
        });
        let logins = it.logins.as_ref().map(|logins| {
            let users: Vec<&str> = logins
                .iter()
                .filter(|login| login.revoked_at.is_none())
                .map(|login| login.username.as_str())
                .collect();
            if users.is_empty() { "none".to_owned() } else { users.join(", ") }
        });
        Self {
            name: consumer.name.to_string(),
            description: consumer.description.clone(),
            pipelines: if pipelines.is_empty() { "none".to_owned() } else { pipelines.join(", ") },
            keys,
            logins,
            used: it.last_used_at.map(|at| Moment::new(at, now)),
        }
    }
}

// === impl ShownSecret ===

impl ShownSecret {
    /// Says where it can be tried.
    fn at(mut self, place: &str) -> Self {
        let (Self::Key { url, .. } | Self::Login { url, .. }) = &mut self;
        place.clone_into(url);
        self
    }
}

// === impl ConsumerPage ===

impl ConsumerPage {
    async fn new(console: &Console, visitor: &Visitor, path: &ConsumerPath) -> Answer<Self> {
        let op = &visitor.op;
        let (environment, name) = place(path)?;
        let consumer = console.app.consumers().get(op, &environment, &name).await?;
        let keys: Option<Vec<KeyRow>> = match console.app.keys().list(op, &environment, &name).await {
            Ok(keys) => Some(keys.iter().rev().map(|it| KeyRow::new(it, op.now)).collect()),
            Err(error) if error.kind == ErrorKind::Forbidden => None,
            Err(error) => return Err(error.into()),
        };
        let logins: Option<Vec<LoginRow>> = match console.app.basic_auth().list(op, &environment, &name).await
        {
            Ok(logins) => Some(logins.iter().rev().map(|it| LoginRow::new(it, op.now)).collect()),
            Err(error) if error.kind == ErrorKind::Forbidden => None,
            Err(error) => return Err(error.into()),
        };
        let certificates = Certificates::of(console, op, &environment, &name).await?;
        let had: Vec<String> = consumer.value.pipelines.iter().map(ToString::to_string).collect();
        let works = keys.iter().flatten().filter(|key| key.active).count();
        let mut used =
            keys.iter().flatten().filter_map(|key| key.used.as_ref()).map(|used| used.relative.as_str());
        let users = logins.iter().flatten().filter(|login| login.active).count();
        let bound = certificates.iter().flat_map(|it| &it.rows).filter(|it| it.active).count();
        let count =
            |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let certificates_too =
            if bound == 0 { String::new() } else { format!(" and {}", count(bound, "client certificate")) };
        let breaks = format!(
            "{} and {}{certificates_too} stop working at once{}, and so does every token that was issued to it. \
             It may call {}.",
            count(works, "API key"),
            count(users, "password"),
            used.next_back().map(|used| format!(" (a key was used {used})")).unwrap_or_default(),
            match had.len() {
                0 => "nothing".to_owned(),
                1 => "1 pipeline".to_owned(),
                many => format!("{many} pipelines"),
            },
        );
        let picked = had.iter().cloned().collect();
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Consumers, name.to_string()),
            environment: environment.to_string(),
            name: name.to_string(),
            description: consumer.value.description,
            made: Moment::new(consumer.value.created_at, op.now),
            revision: consumer.revision,
            picker: Picker::new(console, op, &picked, "", "").await?,
            had,
            keys,
            logins,
            certificates,
            tokens_from: consumer.value.tokens_revoked_before.map(|at| Moment::new(at, op.now)),
            breaks,
            filled: Filled::default(),
            problem: Problem::default(),
            meanwhile: Vec::new(),
        })
    }
}

// === impl LoginRow ===

impl LoginRow {
    fn new(view: &BasicAuthView, now: jiff::Timestamp) -> Self {
        let login = &view.credential;
        Self {
            id: login.id.to_string(),
            user: login.username.clone(),
            made: Moment::new(login.created_at, now),
            used: view.last_used_at.map(|at| Moment::new(at, now)),
            active: login.revoked_at.is_none(),
        }
    }
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
