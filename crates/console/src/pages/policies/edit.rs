//! Changing an access policy: three options for each environment, and under them what the change would do.

use std::collections::BTreeMap;

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;
use tollgate_app::policies::{PolicyEdit, PolicyValues};
use tollgate_model::names::EnvironmentName;
use tollgate_model::policies::{AccessPolicy, AccessRequirement, Policies, PolicyName};

use super::super::change_requests::four_eyes;
use super::impact::{ImpactFragment, ImpactView};
use super::save::{self, Outcome};
use super::versions::Change;
use crate::Console;
use crate::answers::{Answer, page, refused, render};
use crate::chrome::{Chrome, Section};
use crate::errors::Failure;
use crate::forms::{Fields, Refusal};
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/policies/edit.html")]
struct EditPage<'a> {
    chrome: Chrome,
    policy: &'a str,
    exposure: &'static str,
    environments: Vec<Choices>,
    impact: Option<ImpactView>,
    reason: &'a str,
    /// The revision that the form was made of.
    revision: u64,
    /// The version of the policies that it was made of.
    version: String,
    problem: Option<Refusal>,
    /// What somebody else changed since.
    meanwhile: Vec<Change>,
    /// What is wrong with what was typed to confirm.
    unconfirmed: bool,
    /// Whether saving asks for the change in place of making it.
    is_asked: bool,
}

/// The options of one environment.
struct Choices {
    environment: String,
    options: Vec<Choice>,
}

struct Choice {
    value: &'static str,
    label: &'static str,
    help: &'static str,
    chosen: bool,
    today: bool,
}

#[derive(Deserialize)]
struct PolicyPath {
    policy: String,
}

/// What the form sends: a value for each environment under its name, and these.
#[derive(Deserialize)]
struct EditForm {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    confirmation: String,
    #[serde(default)]
    revision: u64,
    /// The version that the form was made of.
    #[serde(default)]
    version: String,
    /// `shadow` to begin with a shadow.
    #[serde(default)]
    action: String,
    #[serde(flatten)]
    values: BTreeMap<String, String>,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/policies/{policy}/edit", get(show).post(change))
        .route("/realms/{realm}/policies/{policy}/impact", post(preview))
}

async fn show(State(console): State<Console>, visitor: Visitor, Path(path): Path<PolicyPath>) -> Answer {
    let policy = access_policy(&path.policy)?;
    let today = console.app.policies().get(&visitor.op).await?;
    let mut shown = EditPage::new(&visitor, policy, &today.value, today.revision);
    shown.is_asked = four_eyes(&console, &visitor.op).await.policies;
    page(&shown)
}

async fn preview(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<PolicyPath>,
    Fields(form): Fields<EditForm>,
) -> Answer {
    let policy = access_policy(&path.policy)?;
    let today = console.app.policies().get(&visitor.op).await?.value;
    let edit = form.edit(policy, &today)?;
    let impact = console.app.policies().impact(&visitor.op, &edit).await?;
    page(&ImpactFragment { impact: Some(ImpactView::new(&impact)) })
}

async fn change(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<PolicyPath>,
    Fields(form): Fields<EditForm>,
) -> Answer<Response> {
    let policy = access_policy(&path.policy)?;
    let today = console.app.policies().get(&visitor.op).await?;
    let edit = form.edit(policy, &today.value)?;
    let impact = console.app.policies().impact(&visitor.op, &edit).await?;
    let mut again = EditPage::new(&visitor, policy, &today.value, today.revision);
    again.is_asked = four_eyes(&console, &visitor.op).await.policies;
    again.choose(&form.values);
    again.reason = &form.reason;
    // Shown again, it is still what was read that is changed.
    (again.revision, again.version) = (form.revision, form.version.clone());
    again.impact = Some(ImpactView::new(&impact));
    if form.action == "shadow" {
        return match save::shadow(&console, &visitor, &edit, &form.reason).await? {
            Outcome::Done(response) => Ok(response),
            Outcome::Again(status, problem) => {
                again.problem = Some(problem);
                Ok(render(status, &again)?.into_response())
            }
        };
    }
    if form.confirmation.trim() != policy.as_str() {
        again.unconfirmed = true;
        return Ok(refused(&again)?.into_response());
    }
    match save::save(&console, &visitor, &edit, &form.reason, form.revision).await? {
        Outcome::Done(response) => Ok(response),
        Outcome::Again(status, problem) => {
            if status == StatusCode::PRECONDITION_FAILED {
                again.meanwhile = save::meanwhile(&console, &visitor, &form.version).await?;
                (again.revision, again.version) = (today.revision, today.value.version().to_string());
            }
            again.problem = Some(problem);
            Ok(render(status, &again)?.into_response())
        }
    }
}

fn access_policy(name: &str) -> Answer<AccessPolicy> {
    AccessPolicy::ALL
        .into_iter()
        .find(|policy| policy.as_str() == name)
        .ok_or_else(|| Failure::plain(StatusCode::NOT_FOUND, "There is no such policy to change here."))
}

// === impl EditForm ===

impl EditForm {
    fn edit(&self, policy: AccessPolicy, today: &Policies) -> Answer<PolicyEdit> {
        let mut environments = BTreeMap::new();
        for (name, value) in &self.values {
            let environment = EnvironmentName::parse(name).ok();
            let environment = environment.filter(|it| today.environments().any(|known| known == it));
            let environment = environment.ok_or_else(|| {
                Failure::plain(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "The form names no environment of this realm.",
                )
            })?;
            environments.insert(environment, value.as_str().into());
        }
        Ok(PolicyEdit::Set(PolicyValues {
            policy: PolicyName::Access(policy),
            environments,
            partial: true,
            condition: None,
            message: None,
            fix: None,
        }))
    }
}

// === impl EditPage ===

impl<'a> EditPage<'a> {
    fn new(visitor: &Visitor, policy: AccessPolicy, today: &Policies, revision: u64) -> Self {
        let environments = today
            .environments()
            .map(|environment| Choices::new(environment, today.requirement(policy, environment)))
            .collect();
        Self {
            chrome: Chrome::new(visitor, Section::Policies, format!("Edit {}", policy.as_str())),
            policy: policy.as_str(),
            exposure: policy.exposure().as_str(),
            environments,
            impact: None,
            reason: "",
            revision,
            version: today.version().to_string(),
            problem: None,
            meanwhile: Vec::new(),
            unconfirmed: false,
            is_asked: false,
        }
    }

    /// Shows what was chosen in place of what holds.
    fn choose(&mut self, values: &BTreeMap<String, String>) {
        for choices in &mut self.environments {
            if let Some(value) = values.get(&choices.environment) {
                for option in &mut choices.options {
                    option.chosen = option.value == value;
                }
            }
        }
    }
}

// === impl Choices ===

impl Choices {
    fn new(environment: &EnvironmentName, today: Option<AccessRequirement>) -> Self {
        let options = AccessRequirement::ALL.into_iter().rev().map(|option| Choice {
            value: option.as_str(),
            label: option.label(),
            help: match option {
                AccessRequirement::JwtWithApiKey => {
                    "A key of a consumer, and a token issued to that consumer"
                }
                AccessRequirement::ApiKey => "A key of a consumer",
                AccessRequirement::Any => "Anything, including nothing at all; an API key is advised",
            },
            chosen: today == Some(option),
            today: today == Some(option),
        });
        Self { environment: environment.to_string(), options: options.collect() }
    }
}
