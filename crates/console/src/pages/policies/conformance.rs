//! The deployments of one environment, and how each stands to today's policies.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use http::StatusCode;
use serde::Deserialize;
use tollgate_app::conformance::ConformanceFilter;
use tollgate_app::lists::ListRequest;
use tollgate_app::{ConformanceItem, Standing};
use tollgate_model::names::EnvironmentName;

use super::deploys_of;
use crate::Console;
use crate::answers::{Answer, page};
use crate::chrome::{Chrome, Section};
use crate::errors::Failure;
use crate::pages::overview::StandingView;
use crate::paths::encoded;
use crate::visitor::Visitor;

/// Deployments on a page.
const PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "pages/policies/conformance.html")]
struct ConformancePage {
    chrome: Chrome,
    environment: String,
    title: String,
    policy_version: String,
    standing: StandingView,
    items: Vec<Item>,
    /// Who demands a scope that no login flow offers.
    scope_gaps: Vec<(String, String)>,
    tabs: Vec<ShowTab>,
    show: String,
    q: String,
    next: Option<String>,
}

/// A choice of what to show.
struct ShowTab {
    value: &'static str,
    label: &'static str,
    count: usize,
    here: bool,
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    show: String,
    #[serde(default)]
    q: String,
    cursor: Option<String>,
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

async fn show(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<EnvironmentPath>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let absent = || {
        let message = format!("There is no environment `{}`.", path.environment);
        Failure::plain(StatusCode::NOT_FOUND, message)
    };
    let environment = EnvironmentName::parse(&path.environment).map_err(|_| absent())?;
    let filter = ConformanceFilter {
        standing: query.standing(),
        login_flows: query.show == "login-flows",
        name: query.q.trim().to_lowercase(),
    };
    let request = ListRequest { limit: Some(PAGE), cursor: query.cursor.clone() };
    let list = console.app.conformance().list(&visitor.op, &environment, &filter, request).await?;
    let title = deploys_of(&environment);
    let mut tabs = Vec::new();
    for (value, label, count) in [
        ("", "All", list.counts.deployments),
        ("not-conformant", "Not conformant", list.counts.not_conformant),
        ("waived", "By waiver", list.counts.waived),
        ("login-flows", "Login flows", list.counts.login_flows),
    ] {
        tabs.push(ShowTab { value, label, count, here: query.show == value });
    }
    let next = list
        .items
        .next
        .map(|cursor| format!("?show={}&q={}&cursor={}", query.show, encoded(&query.q), encoded(&cursor)));
    page(&ConformancePage {
        chrome: Chrome::new(&visitor, Section::Policies, title.clone()),
        environment: environment.to_string(),
        title,
        policy_version: list.policy_version.to_string(),
        standing: StandingView::from(&list.counts),
        items: list.items.items.iter().map(Item::from).collect(),
        scope_gaps: list.scope_gaps.iter().map(|gap| (gap.pipeline.to_string(), gap.scope.clone())).collect(),
        tabs,
        show: query.show,
        q: query.q,
        next,
    })
}

// === impl ListQuery ===

impl ListQuery {
    fn standing(&self) -> Option<Standing> {
        match self.show.as_str() {
            "not-conformant" => Some(Standing::NotConformant),
            "waived" => Some(Standing::Waived),
            _ => None,
        }
    }
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
