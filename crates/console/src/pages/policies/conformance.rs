//! The deployments of one environment, and how each stands to today's policies.

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use http::StatusCode;
use serde::Deserialize;
use tollgate_app::{ConformanceItem, Standing};
use tollgate_model::names::EnvironmentName;

use super::deploys_of;
use crate::Console;
use crate::answers::{Answer, page};
use crate::chrome::{Chrome, Section};
use crate::errors::Failure;
use crate::pages::overview::StandingView;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/policies/conformance.html")]
struct ConformancePage {
    chrome: Chrome,
    environment: String,
    title: String,
    policy_version: String,
    standing: StandingView,
    items: Vec<Item>,
}

struct Item {
    pipeline: String,
    version: String,
    project: String,
    admitted_by: String,
    login_flow: bool,
    /// Class and words of its mark.
    mark: (&'static str, &'static str),
    issues: Vec<Issue>,
}

struct Issue {
    message: String,
    policy: String,
    what_to_do: String,
}

#[derive(Deserialize)]
struct EnvironmentPath {
    environment: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/realms/{realm}/policies/conformance/{environment}", get(show))
}

async fn show(State(console): State<Console>, visitor: Visitor, Path(path): Path<EnvironmentPath>) -> Answer {
    let absent = || {
        let message = format!("There is no environment `{}`.", path.environment);
        Failure::plain(StatusCode::NOT_FOUND, message)
    };
    let environment = EnvironmentName::parse(&path.environment).map_err(|_| absent())?;
    let report = console.app.conformance().report(&visitor.op, Some(&environment)).await?;
    let conformance = report.environments.first().ok_or_else(absent)?;
    // What needs somebody comes first.
    let mut items: Vec<&ConformanceItem> = conformance.items.iter().collect();
    items.sort_by_key(|item| std::cmp::Reverse(item.standing));
    let title = deploys_of(&environment);
    page(&ConformancePage {
        chrome: Chrome::new(&visitor, Section::Policies, title.clone()),
        environment: environment.to_string(),
        title,
        policy_version: report.policy_version.to_string(),
        standing: StandingView::new(conformance),
        items: items.into_iter().map(Item::from).collect(),
    })
}

impl From<&ConformanceItem> for Item {
    fn from(item: &ConformanceItem) -> Self {
        let waived = item.waived.iter().map(|it| Issue {
            message: it.violation.message.clone(),
            policy: it.violation.policy.to_string(),
            what_to_do: format!("waived until {}", it.until.strftime("%Y-%m-%d %H:%M UTC")),
        });
        let violations = item.violations.iter().map(|it| Issue {
            message: it.message.clone(),
            policy: it.policy.to_string(),
            what_to_do: format!("{}, save the pipeline and deploy it again", it.advice()),
        });
        Self {
            pipeline: item.pipeline.to_string(),
            version: item.version.to_string(),
            project: item.project.to_string(),
            admitted_by: item.admitted_by.to_string(),
            login_flow: item.login_flow,
            mark: match item.standing {
                Standing::Conformant => ("good", "conforms"),
                Standing::Waived => ("waived", "by waiver"),
                Standing::NotConformant => ("bad", "does not conform"),
            },
            issues: violations.chain(waived).collect(),
        }
    }
}
