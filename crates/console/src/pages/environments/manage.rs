//! Making and deleting environments: each comes with a value for every policy, and goes with all that belongs to it.

use std::collections::BTreeMap;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::Value;
use tollgate_app::access::{Op, Permission};
use tollgate_app::change_requests::Proposal;
use tollgate_app::environments::{EnvironmentView, NewEnvironment};
use tollgate_app::errors::Error;
use tollgate_model::environments::Exposure;
use tollgate_model::names::EnvironmentName;
use tollgate_model::policies::{AccessPolicy, AccessRequirement, PolicyName};

use super::super::change_requests::{asked_path, four_eyes};
use crate::Console;
use crate::answers::{Answer, page, refused, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::{FieldList, Fields, Problem, Refusal, Told};
use crate::paths::named;
use crate::permitted::may;
use crate::times::Moment;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/environments/index.html")]
struct EnvironmentsPage {
    chrome: Chrome,
    environments: Vec<Row>,
    may_create: bool,
    may_delete: bool,
    /// Whether making and deleting one is asked for.
    is_asked: bool,
    /// The one that something is wrong with.
    wrong: String,
    problem: Problem,
}

struct Row {
    name: String,
    made: Moment,
    listeners: Vec<(&'static str, String)>,
    /// The policies whose value there is one word.
    policies: Vec<(String, String)>,
    /// Whether it can be deleted at all.
    is_own: bool,
}

#[derive(Template)]
#[template(path = "pages/environments/new.html")]
struct NewPage {
    chrome: Chrome,
    name: String,
    external: String,
    internal: String,
    policies: Vec<PolicyChoice>,
    reason: String,
    is_asked: bool,
    problem: Problem,
}

/// The values of one access policy.
struct PolicyChoice {
    policy: &'static str,
    options: Vec<(&'static str, &'static str, bool)>,
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    done: String,
}

#[derive(Deserialize)]
struct EnvironmentPath {
    environment: String,
}

#[derive(Deserialize)]
struct DeleteForm {
    #[serde(default)]
    confirmation: String,
    #[serde(default)]
    reason: String,
}

pub(in crate::pages) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/environments", get(index).post(create))
        .route("/realms/{realm}/new-environment", get(new))
        .route("/realms/{realm}/environments/{environment}/delete", post(delete))
}

async fn index(State(console): State<Console>, visitor: Visitor, Query(query): Query<ListQuery>) -> Answer {
    let mut shown = EnvironmentsPage::new(&console, &visitor).await?;
    shown.chrome.notice = visitor.notice(match query.done.as_str() {
        "made" => Some("The environment was made. It listens within a second."),
        "deleted" => Some("The environment was deleted, with all that belonged to it."),
        _ => None,
    });
    page(&shown)
}

async fn new(State(console): State<Console>, visitor: Visitor) -> Answer {
    visitor.op.demand(Permission::EnvironmentCreate)?;
    page(&NewPage::new(&console, &visitor, &FieldList::default()).await?)
}

async fn create(State(console): State<Console>, visitor: Visitor, fields: FieldList) -> Answer<Response> {
    let op = &visitor.op;
    let mut again = NewPage::new(&console, &visitor, &fields).await?;
    let input = match new_environment(&fields) {
        Ok(input) => input,
        Err(problem) => {
            again.problem = problem;
            return Ok(refused(&again)?.into_response());
        }
    };
    let proposal = Proposal::CreateEnvironment(&input);
    let made = match console.app.change_requests().ask(op, proposal, &input.reason).await {
        Ok(Some(asked)) => return Ok(see_other(&asked_path(op, &asked.request.value))),
        Ok(None) => console.app.environments().create(op, input).await.map(drop),
        Err(error) => Err(error),
    };
    match made {
        Ok(()) => Ok(see_other(&format!("/realms/{}/environments?done=made", op.realm))),
        Err(error) => {
            let (told, refusal) = Told::of(error)?;
            let field = match told.code {
                "address-taken" => "external",
                "invalid" if refusal.message.contains("listener") => "external",
                "already-exists" | "environment-in-use" => "name",
                "invalid" => "name",
                "policy-environment-missing" => "policies",
                _ => "",
            };
            again.problem = Problem::new(field, refusal);
            told.answer(&again)
        }
    }
}

async fn delete(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<EnvironmentPath>,
    Fields(form): Fields<DeleteForm>,
) -> Answer<Response> {
    let op = &visitor.op;
    op.demand(Permission::EnvironmentDelete)?;
    let name: EnvironmentName = named(&path.environment)?;
    if form.confirmation.trim() != name.as_str() {
        let mut shown = EnvironmentsPage::new(&console, &visitor).await?;
        shown.wrong = name.to_string();
        let message = "Nothing was deleted: type the name of the environment".to_owned();
        shown.problem = Problem::new("confirmation", Refusal::saying(message, None));
        return Ok(refused(&shown)?.into_response());
    }
    let reason = form.reason.trim();
    let proposal = Proposal::DeleteEnvironment { name: &name, if_match: None };
    let deleted = match console.app.change_requests().ask(op, proposal, reason).await {
        Ok(Some(asked)) => return Ok(see_other(&asked_path(op, &asked.request.value))),
        Ok(None) => console.app.environments().delete(op, &name, None, reason).await,
        Err(error) => Err(error),
    };
    match deleted {
        Ok(()) => Ok(see_other(&format!("/realms/{}/environments?done=deleted", op.realm))),
        Err(error) => refuse(&console, &visitor, error).await,
    }
}

async fn refuse(console: &Console, visitor: &Visitor, error: Error) -> Answer<Response> {
    let (told, refusal) = Told::of(error)?;
    let mut shown = EnvironmentsPage::new(console, visitor).await?;
    shown.problem = Problem::new("", refusal);
    told.answer(&shown)
}

/// Reads the form; what is wrong is put at its field.
fn new_environment(fields: &FieldList) -> Result<NewEnvironment, Problem> {
    let name =
        EnvironmentName::parse(fields.one("name").trim()).map_err(|error| Problem::of("name", error))?;
    let listener = |exposure: Exposure| {
        let address = fields.one(exposure.as_str()).trim();
        (!address.is_empty()).then(|| (exposure, address.to_owned()))
    };
    let value = |policy: AccessPolicy| {
        let value = fields.one(policy.as_str());
        (!value.is_empty()).then(|| (PolicyName::Access(policy), value.into()))
    };
    Ok(NewEnvironment {
        name,
        policies: AccessPolicy::ALL.into_iter().filter_map(value).collect::<BTreeMap<_, _>>(),
        listeners: Exposure::ALL.into_iter().filter_map(listener).collect(),
        reason: fields.one("reason").trim().to_owned(),
    })
}

// === impl EnvironmentsPage ===

impl EnvironmentsPage {
    async fn new(console: &Console, visitor: &Visitor) -> Answer<Self> {
        let op = &visitor.op;
        let all = console.app.environments().list(op).await?;
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Environments, "Environments"),
            environments: all.into_iter().map(|it| Row::new(it, op)).collect(),
            may_create: may(op, Permission::EnvironmentCreate),
            may_delete: may(op, Permission::EnvironmentDelete),
            is_asked: four_eyes(console, op).await.policies,
            wrong: String::new(),
            problem: Problem::default(),
        })
    }
}

// === impl Row ===

impl Row {
    fn new(view: EnvironmentView, op: &Op) -> Self {
        let EnvironmentView { environment, policies } = view;
        let always = [EnvironmentName::test(), EnvironmentName::prod()];
        // What is one word says what is demanded; the rest is under Policies.
        let word =
            |(name, value): (&PolicyName, &Value)| Some((name.to_string(), value.as_str()?.to_owned()));
        Self {
            is_own: !always.contains(&environment.name),
            name: environment.name.to_string(),
            made: Moment::new(environment.created_at, op.now),
            listeners: environment.listeners.iter().map(|(of, at)| (of.as_str(), at.to_string())).collect(),
            policies: policies.iter().filter_map(word).collect(),
        }
    }
}

// === impl NewPage ===

impl NewPage {
    async fn new(console: &Console, visitor: &Visitor, fields: &FieldList) -> Answer<Self> {
        let choice = |policy: AccessPolicy| {
            let chosen = fields.one(policy.as_str());
            // A new environment begins as strict as there is, unless somebody says otherwise.
            let chosen = if chosen.is_empty() { AccessRequirement::JwtWithApiKey.as_str() } else { chosen };
            let option = |it: AccessRequirement| (it.as_str(), it.label(), it.as_str() == chosen);
            PolicyChoice {
                policy: policy.as_str(),
                options: AccessRequirement::ALL.into_iter().rev().map(option).collect(),
            }
        };
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Environments, "New environment"),
            name: fields.one("name").to_owned(),
            external: fields.one("external").to_owned(),
            internal: fields.one("internal").to_owned(),
            policies: AccessPolicy::ALL.into_iter().map(choice).collect(),
            reason: fields.one("reason").to_owned(),
            is_asked: four_eyes(console, &visitor.op).await.policies,
            problem: Problem::default(),
        })
    }
}
