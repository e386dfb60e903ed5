//! Policies: how each environment stands, what is demanded, and changing it with its impact in sight.

mod conformance;
mod edit;
mod impact;
mod rules;
mod save;
mod shadow;
mod values;
mod versions;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::routing::get;
use serde::Deserialize;
use tollgate_app::errors::ErrorKind;
use tollgate_model::names::EnvironmentName;
use tollgate_model::policies::{AccessRequirement, LoginFlowRules, Policy, PolicyVersion, RuleMode};

use super::overview::StandingView;
use crate::Console;
use crate::answers::{Answer, page};
use crate::chrome::{Chrome, Section};
use crate::times::Moment;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/policies/index.html")]
struct PoliciesPage {
    chrome: Chrome,
    version: String,
    saved: Option<Saved>,
    cards: Vec<Card>,
    environments: Vec<String>,
    policies: Vec<Row>,
    /// Whether shadow policies run.
    shadow: bool,
}

/// The last change.
struct Saved {
    at: Moment,
    by: String,
    reason: String,
}

struct Card {
    environment: String,
    title: String,
    standing: StandingView,
    login_flows: usize,
}

struct Row {
    name: String,
    about: String,
    values: Vec<String>,
    /// The end of the path of the page that changes it.
    edit: String,
    /// When it was changed last, and by whom; `None` for a long time ago.
    changed: Option<(Moment, String)>,
}

#[derive(Deserialize)]
struct IndexQuery {
    /// The version that was just saved.
    saved: Option<String>,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/policies", get(index))
        .merge(conformance::routes())
        .merge(edit::routes())
        .merge(rules::routes())
        .merge(shadow::routes())
        .merge(values::routes())
        .merge(versions::routes())
}

async fn index(State(console): State<Console>, visitor: Visitor, Query(query): Query<IndexQuery>) -> Answer {
    let op = &visitor.op;
    let policies = console.app.policies().get(op).await?.value;
    let summary = console.app.conformance().summary(op).await?;
    let changes = console.app.policies().last_changes(op).await?;
    let shadow = match console.app.shadow().runs(op).await {
        Ok(runs) => runs,
        Err(error) if error.kind == ErrorKind::Forbidden => false,
        Err(error) => return Err(error.into()),
    };
    let saved = console.app.policies().version(op, policies.version()).await.ok();
    let environments: Vec<EnvironmentName> = policies.environments().cloned().collect();
    let mut chrome = Chrome::new(&visitor, Section::Policies, "Policies");
    // What the address says is shown only where it is so.
    chrome.notice = query
        .saved
        .filter(|version| *version == policies.version().to_string())
        .map(|version| format!("Saved as policy version {version}. What runs goes on running."));
    page(&PoliciesPage {
        chrome,
        version: policies.version().to_string(),
        saved: saved.map(|version| Saved {
            at: Moment::new(version.created_at, op.now),
            by: version.created_by,
            reason: version.reason,
        }),
        cards: summary
            .environments
            .iter()
            .map(|it| Card {
                title: deploys_of(&it.environment),
                environment: it.environment.to_string(),
                standing: StandingView::from(it),
                login_flows: it.login_flows,
            })
            .collect(),
        policies: policies
            .policies()
            .map(|policy| Row::new(policy, &environments, changes.get(&policy.name()), op.now))
            .collect(),
        shadow,
        environments: environments.iter().map(ToString::to_string).collect(),
    })
}

/// Names the deployments of an environment: `Production deploys`.
fn deploys_of(environment: &EnvironmentName) -> String {
    match environment.as_str() {
        "prod" => "Production deploys".to_owned(),
        name => format!("{} deploys", crate::forms::capitalised(name)),
    }
}

// === impl Row ===

impl Row {
    fn new(
        policy: &Policy,
        environments: &[EnvironmentName],
        changed: Option<&PolicyVersion>,
        now: jiff::Timestamp,
    ) -> Self {
        let value = |environment| match policy {
            Policy::Access(file) => {
                file.environments.get(environment).map(|it: &AccessRequirement| it.label().to_owned())
            }
            Policy::Rule(rule) => rule.environments.get(environment).map(|mode| mode_of(*mode).to_owned()),
            Policy::LoginFlows(file) => file.environments.get(environment).map(rules_of),
            other => other.value(environment).map(|value| shown(&value)),
        };
        Self {
            name: policy.name().to_string(),
            about: about(policy),
            values: environments.iter().map(|it| value(it).unwrap_or_default()).collect(),
            edit: match policy {
                Policy::Rule(rule) => format!("rules/{}", rule.name),
                other => values::path_of(&other.name())
                    .unwrap_or_else(|| format!("policies/{}/edit", other.name())),
            },
            changed: changed.map(|it| (Moment::new(it.created_at, now), it.created_by.clone())),
        }
    }
}

fn about(policy: &Policy) -> String {
    match policy {
        Policy::Access(file) => {
            format!("What pipelines on the {} listener must demand", file.name.exposure().as_str())
        }
        Policy::LoginFlows(_) => "What pipelines that issue tokens must keep to".to_owned(),
        Policy::SensitiveFields(_) => "Fields that are never shown".to_owned(),
        Policy::Enforcement(_) => "When calls to what does not conform are refused".to_owned(),
        Policy::Rule(rule) => rule.message.clone(),
    }
}

fn mode_of(mode: RuleMode) -> &'static str {
    match mode {
        RuleMode::Off => "Off",
        RuleMode::Advised => "Advised",
        RuleMode::Required => "Required",
    }
}

/// Writes what login flows must keep to.
fn rules_of(rules: &LoginFlowRules) -> String {
    let mut words = format!("Tokens live {} at most", values::lifetime(rules));
    let demanded = [
        (rules.api_key, "API key"),
        (rules.named_claims, "named claims"),
        (rules.hashed_passwords, "no plain passwords"),
    ];
    for (_, demand) in demanded.into_iter().filter(|(on, _)| *on) {
        words.push_str(&format!(" · {demand}"));
    }
    words
}

/// Writes a setting for people.
fn shown(value: &serde_json::Value) -> String {
    use serde_json::Value;

    match value {
        Value::String(text) if text == "atDeploy" => "At deploy".to_owned(),
        Value::Array(items) if items.is_empty() => "None".to_owned(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        Value::Object(fields) if fields.is_empty() => "No rules".to_owned(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(", ")
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
