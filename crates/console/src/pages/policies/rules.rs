//! Custom rules: written here, and tried on what runs while they are written.

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use tollgate_app::errors::ErrorKind;
use tollgate_app::policies::{PolicyEdit, PolicyValues, RuleTrial};
use tollgate_model::names::RuleName;
use tollgate_model::policies::{Policies, PolicyName, Rule, RuleFix, RuleMode};

use super::super::change_requests::four_eyes;
use super::impact::ImpactView;
use super::save::{self, Outcome};
use super::versions::Change;
use crate::Console;
use crate::answers::{Answer, page, refused, render};
use crate::chrome::{Chrome, Section};
use crate::errors::Failure;
use crate::forms::{FieldList, Refusal, capitalised};
use crate::paths::named;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/policies/rule.html")]
struct RulePage {
    chrome: Chrome,
    draft: RuleDraft,
    /// Whether it is one that there is, whose name stays.
    known: bool,
    environments: Vec<Modes>,
    trial: TrialView,
    reason: String,
    revision: u64,
    version: String,
    problem: Option<Refusal>,
    meanwhile: Vec<Change>,
    unconfirmed: bool,
    /// Whether saving asks for the change in place of making it.
    is_asked: bool,
}

/// What the form holds of a rule.
#[derive(Default)]
struct RuleDraft {
    name: String,
    condition: String,
    message: String,
    pointer: String,
    value: String,
}

/// How the rule is taken in one environment.
struct Modes {
    environment: String,
    options: Vec<Mode>,
}

struct Mode {
    value: &'static str,
    label: &'static str,
    help: &'static str,
    chosen: bool,
}

#[derive(Template)]
#[template(path = "pages/policies/trial.html")]
struct TrialFragment {
    trial: TrialView,
}

/// What the rule says of what runs.
#[derive(Default)]
struct TrialView {
    /// Why it cannot be told, and at which field.
    fault: Option<(&'static str, String)>,
    environments: Vec<TriedIn>,
    /// Whether there is more to try it on.
    goes_on: bool,
    /// Where the rest is asked for.
    realm: String,
}

struct TriedIn {
    name: String,
    deployments: usize,
    /// How many of them it was tried on so far.
    tried: usize,
    broken: usize,
    items: Vec<(String, String, String)>,
}

#[derive(Template)]
#[template(path = "pages/policies/remove_rule.html")]
struct RemovePage {
    chrome: Chrome,
    rule: String,
    condition: String,
    impact: Option<ImpactView>,
    reason: String,
    revision: u64,
    version: String,
    problem: Option<Refusal>,
    meanwhile: Vec<Change>,
    unconfirmed: bool,
    /// Whether removing it is asked for in place of being done.
    is_asked: bool,
}

#[derive(Deserialize)]
struct RulePath {
    rule: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/new-rule", get(new).post(make))
        .route("/realms/{realm}/new-rule/try", post(attempt))
        .route("/realms/{realm}/rules/{rule}", get(edit).post(change))
        .route("/realms/{realm}/rules/{rule}/remove", get(ask_to_remove).post(remove))
}

async fn new(State(console): State<Console>, visitor: Visitor) -> Answer {
    let today = console.app.policies().get(&visitor.op).await?;
    let mut shown = RulePage::new(&visitor, &today.value, today.revision, None);
    shown.is_asked = four_eyes(&console, &visitor.op).await.policies;
    page(&shown)
}

async fn edit(State(console): State<Console>, visitor: Visitor, Path(path): Path<RulePath>) -> Answer {
    let today = console.app.policies().get(&visitor.op).await?;
    let rule = find(&today.value, &path.rule)?;
    let mut shown = RulePage::new(&visitor, &today.value, today.revision, Some(&rule));
    shown.trial = tried(&console, &visitor, &shown.draft).await?;
    shown.is_asked = four_eyes(&console, &visitor.op).await.policies;
    page(&shown)
}

/// Tells what a rule that is being written says of what runs.
async fn attempt(State(console): State<Console>, visitor: Visitor, fields: FieldList) -> Answer {
    let draft = RuleDraft::of(&fields);
    page(&TrialFragment { trial: tried(&console, &visitor, &draft).await? })
}

async fn make(State(console): State<Console>, visitor: Visitor, fields: FieldList) -> Answer<Response> {
    saved(&console, &visitor, &fields, None).await
}

async fn change(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<RulePath>,
    fields: FieldList,
) -> Answer<Response> {
    saved(&console, &visitor, &fields, Some(path.rule)).await
}

async fn saved(
    console: &Console,
    visitor: &Visitor,
    fields: &FieldList,
    known: Option<String>,
) -> Answer<Response> {
    let today = console.app.policies().get(&visitor.op).await?;
    let mut again = RulePage::new(visitor, &today.value, today.revision, None);
    again.known = known.is_some();
    again.draft = RuleDraft::of(fields);
    if let Some(name) = known {
        again.chrome.title = format!("Rule {name}");
        again.draft.name = name;
    }
    for modes in &mut again.environments {
        let chosen = fields.one(&format!("mode.{}", modes.environment));
        for option in &mut modes.options {
            option.chosen = option.value == chosen;
        }
    }
    again.reason = fields.one("reason").to_owned();
    again.is_asked = four_eyes(console, &visitor.op).await.policies;
    // Shown again, it is still what was read that is changed.
    again.revision = fields.one("revision").parse().unwrap_or_default();
    again.version = fields.one("version").to_owned();
    again.trial = tried(console, visitor, &again.draft).await?;
    let edit = match again.draft.edit(&again.environments) {
        Ok(edit) => edit,
        Err(fault) => {
            again.trial.fault = Some(fault);
            return Ok(refused(&again)?.into_response());
        }
    };
    if fields.one("action") == "try" || again.trial.fault.is_some() {
        return Ok(refused(&again)?.into_response());
    }
    let outcome = if fields.one("action") == "shadow" {
        save::shadow(console, visitor, &edit, &again.reason).await?
    } else if fields.one("confirmation").trim() == again.draft.name {
        let exists = today.value.rules().any(|rule| rule.name.as_str() == again.draft.name);
        if !again.known && exists {
            again.trial.fault = Some(("name", "There is a rule of this name already.".to_owned()));
            return Ok(refused(&again)?.into_response());
        }
        save::save(console, visitor, &edit, &again.reason, again.revision).await?
    } else {
        again.unconfirmed = true;
        return Ok(refused(&again)?.into_response());
    };
    match outcome {
        Outcome::Done(response) => Ok(response),
        Outcome::Again(status, problem) => {
            if status == StatusCode::PRECONDITION_FAILED {
                again.meanwhile = save::meanwhile(console, visitor, fields.one("version")).await?;
                (again.revision, again.version) = (today.revision, today.value.version().to_string());
            }
            again.problem = Some(problem);
            Ok(render(status, &again)?.into_response())
        }
    }
}

async fn ask_to_remove(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<RulePath>,
) -> Answer {
    page(&RemovePage::new(&console, &visitor, &path.rule).await?)
}

async fn remove(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<RulePath>,
    fields: FieldList,
) -> Answer<Response> {
    let mut again = RemovePage::new(&console, &visitor, &path.rule).await?;
    again.reason = fields.one("reason").to_owned();
    let revision = fields.one("revision").parse().unwrap_or_default();
    if fields.one("confirmation").trim() != again.rule {
        again.unconfirmed = true;
        (again.revision, again.version) = (revision, fields.one("version").to_owned());
        return Ok(refused(&again)?.into_response());
    }
    let edit = PolicyEdit::Remove(named::<RuleName>(&path.rule)?);
    match save::save(&console, &visitor, &edit, fields.one("reason"), revision).await? {
        Outcome::Done(response) => Ok(response),
        Outcome::Again(status, problem) => {
            if status == StatusCode::PRECONDITION_FAILED {
                again.meanwhile = save::meanwhile(&console, &visitor, fields.one("version")).await?;
            }
            again.problem = Some(problem);
            Ok(render(status, &again)?.into_response())
        }
    }
}

fn find(policies: &Policies, name: &str) -> Answer<Rule> {
    let rule = policies.rules().find(|rule| rule.name.as_str() == name).cloned();
    rule.ok_or_else(|| Failure::plain(StatusCode::NOT_FOUND, format!("There is no custom rule `{name}`.")))
}

/// Tries what was written so far.
async fn tried(console: &Console, visitor: &Visitor, draft: &RuleDraft) -> Answer<TrialView> {
    let mut view = TrialView { realm: visitor.op.realm.to_string(), ..TrialView::default() };
    if draft.condition.trim().is_empty() {
        return Ok(view);
    }
    let rule = match draft.rule() {
        Ok(rule) => rule,
        Err(fault) => {
            view.fault = Some(fault);
            return Ok(view);
        }
    };
    match console.app.policies().try_rule(&visitor.op, &rule).await {
        Ok(trial) => {
            view.goes_on = !trial.is_done();
            view.environments = TrialView::environments(trial);
        }
        Err(error) if error.kind == ErrorKind::Invalid => {
            let field = if error.message.contains("needs a message") { "message" } else { "condition" };
            view.fault = Some((field, capitalised(&error.message)));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(view)
}

// === impl RuleDraft ===

impl RuleDraft {
    fn of(fields: &FieldList) -> Self {
        let field = |name| fields.one(name).trim().to_owned();
        Self {
            name: field("name"),
            condition: field("condition"),
            message: field("message"),
            pointer: field("pointer"),
            value: field("value"),
        }
    }

    /// Returns the rule as far as it is written, to try it; what is missing has a placeholder.
    fn rule(&self) -> Result<Rule, (&'static str, String)> {
        let name = if self.name.is_empty() { "new-rule" } else { &self.name };
        let name = RuleName::parse(name).map_err(|error| ("name", capitalised(&error.to_string())))?;
        let message = if self.message.is_empty() { "This rule does not hold" } else { &self.message };
        Ok(Rule {
            name,
            condition: self.condition.clone(),
            message: message.to_owned(),
            fix: self.fix()?,
            environments: std::collections::BTreeMap::new(),
        })
    }

    fn fix(&self) -> Result<Option<RuleFix>, (&'static str, String)> {
        if self.pointer.is_empty() {
            return Ok(None);
        }
        let value = (!self.value.is_empty()).then(|| serde_json::from_str::<Value>(&self.value)).transpose();
        let value = value.map_err(|error| ("value", format!("This is no JSON: {error}")))?;
        Ok(Some(RuleFix { pointer: self.pointer.clone(), value }))
    }

    fn edit(&self, environments: &[Modes]) -> Result<PolicyEdit, (&'static str, String)> {
        if self.message.is_empty() {
            let say = "Say in one line what a developer whose pipeline breaks it is to know.";
            return Err(("message", say.to_owned()));
        }
        let name = RuleName::parse(&self.name).map_err(|error| ("name", capitalised(&error.to_string())))?;
        let mode = |modes: &Modes| {
            let chosen = modes.options.iter().find(|option| option.chosen).map_or("off", |it| it.value);
            Some((modes.environment.parse().ok()?, Value::from(chosen)))
        };
        Ok(PolicyEdit::Set(PolicyValues {
            policy: PolicyName::Rule(name),
            environments: environments.iter().filter_map(mode).collect(),
            partial: false,
            condition: Some(self.condition.clone()),
            message: Some(self.message.clone()),
            fix: self.fix()?,
        }))
    }
}

// === impl TrialView ===

impl TrialView {
    /// Returns what is wrong with a field.
    fn fault_of(&self, field: &str) -> Option<&str> {
        self.fault.as_ref().filter(|(of, _)| *of == field).map(|(_, what)| what.as_str())
    }

    fn environments(trial: RuleTrial) -> Vec<TriedIn> {
        let tried = trial.environments.into_iter().map(|it| TriedIn {
            name: it.environment.to_string(),
            deployments: it.deployments,
            tried: it.tried,
            broken: it.broken,
            items: it
                .items
                .into_iter()
                .map(|item| {
                    let says = item.violations.iter().map(|violation| {
                        if violation.remedy.is_empty() {
                            violation.message.clone()
                        } else {
                            violation.remedy.clone()
                        }
                    });
                    let says = says.collect::<Vec<_>>().join(", ");
                    (item.pipeline.to_string(), item.version.to_string(), says)
                })
                .collect(),
        });
        tried.collect()
    }
}

// === impl RulePage ===

impl RulePage {
    fn new(visitor: &Visitor, today: &Policies, revision: u64, rule: Option<&Rule>) -> Self {
        let mode = |environment| rule.and_then(|rule| rule.environments.get(environment)).copied();
        let environments = today.environments().map(|environment| Modes {
            environment: environment.to_string(),
            options: [
                (RuleMode::Required, "Required", "A pipeline that breaks it is not deployed"),
                (RuleMode::Advised, "Advised", "It is deployed, with the message as advice"),
                (RuleMode::Off, "Off", "Nobody is told"),
            ]
            .map(|(value, label, help)| Mode {
                value: value.as_str(),
                label,
                help,
                chosen: mode(environment).unwrap_or(RuleMode::Advised) == value,
            })
            .into(),
        });
        let draft = rule.map(|rule| RuleDraft {
            name: rule.name.to_string(),
            condition: rule.condition.clone(),
            message: rule.message.clone(),
            pointer: rule.fix.as_ref().map(|fix| fix.pointer.clone()).unwrap_or_default(),
            value: rule
                .fix
                .as_ref()
                .and_then(|fix| fix.value.as_ref())
                .map(Value::to_string)
                .unwrap_or_default(),
        });
        let title = rule.map_or_else(|| "New rule".to_owned(), |rule| format!("Rule {}", rule.name));
        Self {
            chrome: Chrome::new(visitor, Section::Policies, title),
            draft: draft.unwrap_or_default(),
            known: rule.is_some(),
            environments: environments.collect(),
            trial: TrialView::default(),
            reason: String::new(),
            revision,
            version: today.version().to_string(),
            problem: None,
            meanwhile: Vec::new(),
            unconfirmed: false,
            is_asked: false,
        }
    }
}

// === impl RemovePage ===

impl RemovePage {
    async fn new(console: &Console, visitor: &Visitor, name: &str) -> Answer<Self> {
        let today = console.app.policies().get(&visitor.op).await?;
        let rule = find(&today.value, name)?;
        let edit = PolicyEdit::Remove(rule.name.clone());
        let impact = console.app.policies().impact(&visitor.op, &edit).await?;
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Policies, format!("Remove {name}")),
            rule: rule.name.to_string(),
            condition: rule.condition,
            impact: Some(ImpactView::new(&impact)),
            reason: String::new(),
            revision: today.revision,
            version: today.value.version().to_string(),
            problem: None,
            meanwhile: Vec::new(),
            unconfirmed: false,
            is_asked: four_eyes(console, &visitor.op).await.policies,
        })
    }
}
