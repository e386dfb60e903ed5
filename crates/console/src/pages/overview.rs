//! How every environment stands, at a glance.

use std::collections::BTreeMap;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use tollgate_app::calls::{CallQuery, Days};
use tollgate_app::errors::ErrorKind;
use tollgate_app::{Conformance, Standing};
use tollgate_model::names::EnvironmentName;

use crate::Console;
use crate::answers::{Answer, page};
use crate::charts::{Part, bar};
use crate::chrome::{Chrome, Section};
use crate::visitor::Visitor;

/// Most deployments that are named on a card.
const NAMED: usize = 5;

#[derive(Template)]
#[template(path = "pages/overview.html")]
struct OverviewPage {
    chrome: Chrome,
    policy_version: String,
    environments: Vec<Card>,
}

struct Card {
    name: String,
    standing: StandingView,
    /// Calls of the last day; `None` for whom that is not to see.
    calls: Option<u64>,
    waiting: Vec<Waiting>,
    more_waiting: usize,
}

/// How the deployments of an environment stand.
pub(super) struct StandingView {
    pub(super) deployments: usize,
    pub(super) conformant: usize,
    pub(super) waived: usize,
    pub(super) not_conformant: usize,
    pub(super) bar: Vec<Part>,
}

/// A deployment that somebody has to look at.
struct Waiting {
    pipeline: String,
    version: String,
    reasons: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/realms/{realm}/overview", get(show))
}

async fn show(State(console): State<Console>, visitor: Visitor) -> Answer {
    let report = console.app.conformance().report(&visitor.op, None).await?;
    let calls = calls_of_a_day(&console, &visitor).await?;
    let environments = report
        .environments
        .iter()
        .map(|it| Card {
            calls: calls.as_ref().map(|calls| calls.get(&it.environment).copied().unwrap_or(0)),
            ..Card::new(it)
        })
        .collect();
    page(&OverviewPage {
        chrome: Chrome::new(&visitor, Section::Overview, "Overview"),
        policy_version: report.policy_version.to_string(),
        environments,
    })
}

/// Counts the calls of the last day by environment; `None` for somebody who may not see them.
async fn calls_of_a_day(
    console: &Console,
    visitor: &Visitor,
) -> Answer<Option<BTreeMap<EnvironmentName, u64>>> {
    let query = CallQuery { environment: None, pipeline: None, days: Days::parse(Some(1))? };
    let report = match console.app.calls().report(&visitor.op, &query).await {
        Ok(report) => report,
        Err(error) if error.kind == ErrorKind::Forbidden => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut calls = BTreeMap::new();
    for item in report.items {
        *calls.entry(item.environment).or_insert(0) += item.calls;
    }
    Ok(Some(calls))
}

// === impl Card ===

impl Card {
    fn new(conformance: &Conformance) -> Self {
        let out = || conformance.items.iter().filter(|item| item.standing == Standing::NotConformant);
        let waiting = out().take(NAMED).map(|item| Waiting {
            pipeline: item.pipeline.to_string(),
            version: item.version.to_string(),
            reasons: reasons(item.violations.iter().map(|violation| violation.message.as_str())),
        });
        Self {
            name: conformance.environment.to_string(),
            standing: StandingView::new(conformance),
            calls: None,
            waiting: waiting.collect(),
            more_waiting: out().count().saturating_sub(NAMED),
        }
    }
}

// === impl StandingView ===

impl StandingView {
    pub(super) fn new(conformance: &Conformance) -> Self {
        let Conformance { deployments, conformant, waived, not_conformant, .. } = *conformance;
        let parts = [("good", conformant), ("waived", waived), ("bad", not_conformant)];
        Self { deployments, conformant, waived, not_conformant, bar: bar(parts) }
    }
}

/// Puts reasons into one line.
pub(super) fn reasons<'a>(messages: impl Iterator<Item = &'a str>) -> String {
    messages.collect::<Vec<_>>().join(", ")
}
