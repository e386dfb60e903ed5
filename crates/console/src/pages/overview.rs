//! How every environment stands, at a glance, and what needs somebody now.

mod attention;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use tollgate_app::Standing;
use tollgate_app::access::Permission;
use tollgate_app::conformance::{ConformanceFilter, StandingCounts};
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::lists::ListRequest;
use tollgate_app::traffic::{TrafficQuery, TrafficRange, TrafficReport};

use super::traffic::CallsChart;
use crate::Console;
use crate::answers::{Answer, page};
use crate::charts::{Part, bar};
use crate::chrome::{Chrome, Section};
use crate::visitor::Visitor;
use attention::{Attention, Concern};

/// Most deployments that are named on a card.
const NAMED: usize = 5;

/// Most reasons of refusals on a card.
const REASONS: usize = 3;

#[derive(Template)]
#[template(path = "pages/overview.html")]
struct OverviewPage {
    chrome: Chrome,
    policy_version: String,
    /// Change requests that wait, as a concern of the realm.
    realm_concerns: Vec<Concern>,
    environments: Vec<Card>,
    /// Whether calls are still added up somewhere.
    adding_up: bool,
    /// Whether to say how to begin: nothing runs anywhere, and whoever looks may write pipelines.
    begins: bool,
}

struct Card {
    name: String,
    standing: StandingView,
    /// What became of the calls of the last hour; `None` for whom that is not to see.
    traffic: Option<TrafficView>,
    /// Whether they are still added up.
    adding_up: bool,
    waiting: Vec<Waiting>,
    more_waiting: usize,
    concerns: Vec<Concern>,
}

struct TrafficView {
    calls: u64,
    refused: u64,
    failed: u64,
    chart: CallsChart,
    reasons: Vec<Reason>,
}

/// A reason of refusals, with a bar beside it.
struct Reason {
    code: String,
    calls: u64,
    bar: Vec<Part>,
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
    let summary = console.app.conformance().summary(&visitor.op).await?;
    let mut attention = Attention::gather(&console, &visitor).await?;
    let mut environments = Vec::new();
    let traffic = traffic(&console, &visitor, &summary.environments).await?;
    for (counts, traffic) in summary.environments.iter().zip(traffic) {
        let adding_up = matches!(traffic, Some(None));
        let traffic = traffic.flatten();
        environments.push(Card {
            name: counts.environment.to_string(),
            standing: StandingView::from(counts),
            traffic: traffic.as_ref().map(TrafficView::new),
            adding_up,
            waiting: waiting(&console, &visitor, counts).await?,
            more_waiting: counts.not_conformant.saturating_sub(NAMED),
            concerns: attention.of(&counts.environment),
        });
    }
    page(&OverviewPage {
        chrome: Chrome::new(&visitor, Section::Overview, "Overview"),
        policy_version: summary.policy_version.to_string(),
        realm_concerns: attention.of_realm,
        begins: environments.iter().all(|it| it.standing.deployments == 0)
            && visitor.op.rights().allows_anywhere(Permission::PipelineUpdate),
        adding_up: environments.iter().any(|it| it.adding_up),
        environments,
    })
}

/// Returns the first of what does not conform.
async fn waiting(console: &Console, visitor: &Visitor, counts: &StandingCounts) -> Answer<Vec<Waiting>> {
    if counts.not_conformant == 0 {
        return Ok(Vec::new());
    }
    let filter =
        ConformanceFilter { standing: Some(Standing::NotConformant), ..ConformanceFilter::default() };
    let request = ListRequest { limit: u32::try_from(NAMED).ok(), cursor: None };
    let list = console.app.conformance().list(&visitor.op, &counts.environment, &filter, request).await?;
    let waiting = list.items.items.iter().map(|item| Waiting {
        pipeline: item.pipeline.to_string(),
        version: item.version.to_string(),
        reasons: reasons(item.violations.iter().map(|violation| violation.message.as_str())),
    });
    Ok(waiting.collect())
}

/// Returns the traffic of the last hour of each environment, as far as it was added up; `None` for somebody who may not see it.
async fn traffic(
    console: &Console,
    visitor: &Visitor,
    environments: &[StandingCounts],
) -> Answer<Vec<Option<Option<TrafficReport>>>> {
    let query = |counts: &StandingCounts| TrafficQuery {
        environment: Some(counts.environment.clone()),
        range: TrafficRange::Hour,
        ..TrafficQuery::default()
    };
    let queries: Vec<_> = environments.iter().map(query).collect();
    if !visitor.op.rights().allows_anywhere(Permission::UsageRead) {
        return Ok(environments.iter().map(|_| None).collect());
    }
    let reports = console.app.traffic().reports_soon(&visitor.op, &queries).await?;
    let told = |report| match report {
        Ok(report) => Ok(Some(report)),
        Err(Error { kind: ErrorKind::Forbidden, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    };
    reports.into_iter().map(told).collect()
}

// === impl TrafficView ===

impl TrafficView {
    fn new(report: &TrafficReport) -> Self {
        let total = &report.total;
        let codes = total.codes();
        let most = codes.iter().map(|(.., calls)| *calls).max().unwrap_or_default();
        let reasons = codes.iter().take(REASONS).map(|(_, code, calls)| {
            let part = |calls: u64| usize::try_from(calls).unwrap_or(usize::MAX / 2_000);
            let bar = bar([("waived", part(*calls)), ("track", part(most - calls)), ("bad", 0)]);
            Reason { code: (*code).to_owned(), calls: *calls, bar }
        });
        Self {
            calls: total.calls(),
            refused: total.refused(),
            failed: total.failed(),
            reasons: reasons.collect(),
            chart: CallsChart::new(report),
        }
    }
}

// === impl StandingView ===

impl From<&StandingCounts> for StandingView {
    fn from(counts: &StandingCounts) -> Self {
        let StandingCounts { deployments, conformant, waived, not_conformant, .. } = *counts;
        let parts = [("good", conformant), ("waived", waived), ("bad", not_conformant)];
        Self { deployments, conformant, waived, not_conformant, bar: bar(parts) }
    }
}

/// Puts reasons into one line.
pub(super) fn reasons<'a>(messages: impl Iterator<Item = &'a str>) -> String {
    messages.collect::<Vec<_>>().join(", ")
}
