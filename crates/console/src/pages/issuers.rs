//! Issuers outside whose tokens an environment takes: what is demanded of their tokens, and how their keys stand.

mod changes;
mod form;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use jiff::Timestamp;
use serde::Deserialize;
use tollgate_app::Stored;
use tollgate_app::access::{Permission, Place};
use tollgate_app::issuers::{IssuerKeysState, IssuerView};
use tollgate_model::names::{EnvironmentName, IssuerName};

use self::form::IssuerForm;
use super::dependents::DependentsView;
use super::environments::{Switch, kept};
use crate::Console;
use crate::answers::{Answer, page};
use crate::chrome::{Chrome, Section};
use crate::forms::Problem;
use crate::meanwhile::Meanwhile;
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/issuers/index.html")]
struct IssuersPage {
    chrome: Chrome,
    switch: Switch,
    environment: String,
    issuers: Vec<Row>,
    may_update: bool,
}

struct Row {
    name: String,
    issuer: String,
    audience: String,
    algorithms: String,
    keys: KeysView,
}

/// How the gateway of this process stands with the keys of an issuer.
struct KeysView {
    mark: (&'static str, &'static str),
    /// What it means for calls.
    means: &'static str,
    fetched: Option<Moment>,
    tried: Option<Moment>,
    error: Option<String>,
    keys: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "pages/issuers/new.html")]
struct NewPage {
    chrome: Chrome,
    environment: String,
    form: IssuerForm,
    problem: Problem,
}

#[derive(Template)]
#[template(path = "pages/issuers/show.html")]
struct IssuerPage {
    chrome: Chrome,
    environment: String,
    name: String,
    changed: Moment,
    keys: KeysView,
    form: IssuerForm,
    revision: u64,
    /// The settings that the form was filled with, for whoever is overtaken.
    read: String,
    dependents: DependentsView,
    may_update: bool,
    problem: Problem,
    meanwhile: Vec<Meanwhile>,
}

#[derive(Deserialize)]
struct ListQuery {
    environment: Option<String>,
    #[serde(default)]
    done: String,
}

#[derive(Deserialize)]
struct IssuerPath {
    environment: String,
    issuer: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/issuers", get(index).post(changes::create))
        .route("/realms/{realm}/new-issuer", get(new))
        .route("/realms/{realm}/issuers/{environment}/{issuer}", get(show).post(changes::save))
        .merge(changes::routes())
}

async fn index(State(console): State<Console>, visitor: Visitor, Query(query): Query<ListQuery>) -> Answer {
    let op = &visitor.op;
    let (environment, switch) = kept(&console, &visitor, query.environment.as_deref(), "").await?;
    let issuers = console.app.issuers().list(op, &environment).await?;
    let mut chrome = Chrome::new(&visitor, Section::Issuers, "Issuers");
    chrome.notice = visitor.notice((query.done == "delete").then_some("The issuer was deleted."));
    page(&IssuersPage {
        chrome,
        switch,
        issuers: issuers.iter().map(|it| Row::new(it, op.now)).collect(),
        may_update: op.may(Permission::IssuerUpdate, Place::environment(&environment)),
        environment: environment.to_string(),
    })
}

async fn new(State(console): State<Console>, visitor: Visitor, Query(query): Query<ListQuery>) -> Answer {
    visitor.op.demand_anywhere(Permission::IssuerUpdate)?;
    let (environment, _) = kept(&console, &visitor, query.environment.as_deref(), "").await?;
    visitor.op.demand_in(Permission::IssuerUpdate, Place::environment(&environment))?;
    page(&NewPage::new(&visitor, &environment, IssuerForm::empty()))
}

async fn show(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<IssuerPath>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let (environment, name) = place(&path)?;
    let mut shown = IssuerPage::new(&console, &visitor, &environment, &name).await?;
    shown.chrome.notice = visitor.notice(changes::notice(&query.done));
    page(&shown)
}

fn place(path: &IssuerPath) -> Answer<(EnvironmentName, IssuerName)> {
    Ok((named(&path.environment)?, named(&path.issuer)?))
}

// === impl Row ===

impl Row {
    fn new(stored: &Stored<IssuerView>, now: Timestamp) -> Self {
        let IssuerView { issuer, keys } = &stored.value;
        let algorithms: Vec<&str> = issuer.settings.algorithms.iter().map(|it| it.as_str()).collect();
        Self {
            name: issuer.name.to_string(),
            issuer: issuer.settings.issuer.to_string(),
            audience: issuer.settings.audience.clone(),
            algorithms: algorithms.join(", "),
            keys: KeysView::new(keys.as_ref(), now),
        }
    }
}

// === impl KeysView ===

impl KeysView {
    fn new(state: Option<&IssuerKeysState>, now: Timestamp) -> Self {
        let Some(state) = state else {
            return Self {
                mark: ("", "not heard of yet"),
                means: "The gateway of this process has not heard of it yet.",
                fetched: None,
                tried: None,
                error: None,
                keys: Vec::new(),
            };
        };
        let (mark, means) = match (state.usable, &state.error) {
            (true, None) => (("good", "usable"), "Tokens are verified by these keys."),
            (true, Some(_)) => (
                ("waived", "stale"),
                "The last attempt to fetch keys failed. Those from before count until they are too old; then its \
                 tokens are answered 503.",
            ),
            (false, Some(_)) => {
                (("bad", "unreachable"), "There are no keys that count: its tokens are answered 503.")
            }
            (false, None) => {
                (("bad", "no keys yet"), "No keys were fetched yet: until then its tokens are answered 503.")
            }
        };
        Self {
            mark,
            means,
            fetched: state.fetched_at.map(|at| Moment::new(at, now)),
            tried: state.tried_at.map(|at| Moment::new(at, now)),
            error: state.error.clone(),
            keys: state
                .keys
                .iter()
                .map(|(kid, algorithm)| {
                    (kid.clone().unwrap_or_else(|| "without an id".to_owned()), algorithm.clone())
                })
                .collect(),
        }
    }
}

// === impl NewPage ===

impl NewPage {
    fn new(visitor: &Visitor, environment: &EnvironmentName, form: IssuerForm) -> Self {
        Self {
            chrome: Chrome::new(visitor, Section::Issuers, "New issuer"),
            environment: environment.to_string(),
            form,
            problem: Problem::default(),
        }
    }
}

// === impl IssuerPage ===

impl IssuerPage {
    async fn new(
        console: &Console,
        visitor: &Visitor,
        environment: &EnvironmentName,
        name: &IssuerName,
    ) -> Answer<Self> {
        let (op, issuers) = (&visitor.op, console.app.issuers());
        let Stored { value: IssuerView { issuer, keys }, revision } =
            issuers.get(op, environment, name).await?;
        let dependents = issuers.dependents(op, environment, name).await?;
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Issuers, name.to_string()),
            environment: environment.to_string(),
            name: name.to_string(),
            changed: Moment::new(issuer.updated_at, op.now),
            keys: KeysView::new(keys.as_ref(), op.now),
            form: IssuerForm::of(&issuer.settings),
            revision,
            read: serde_json::to_string(&issuer.settings).unwrap_or_default(),
            dependents: DependentsView::new(&dependents),
            may_update: op.may(Permission::IssuerUpdate, Place::environment(environment)),
            problem: Problem::default(),
            meanwhile: Vec::new(),
        })
    }
}
