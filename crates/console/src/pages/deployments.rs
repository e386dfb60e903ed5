//! Deployments: what runs where, and changing it with the verdict in sight.

mod associate;
mod deploy;
mod history;
mod promote;
mod undeploy;

use std::collections::BTreeMap;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::routing::get;
use serde::Deserialize;
use tollgate_app::Standing;
use tollgate_app::deployments::DeploymentView;
use tollgate_app::errors::ErrorKind;
use tollgate_app::lists::ListRequest;
use tollgate_app::traffic::{Tally, TrafficRange};
use tollgate_model::environments::Exposure;
use tollgate_model::names::{EnvironmentName, PipelineName};

use super::environments::{Switch, environments, kept};
use super::overview::reasons;
use crate::Console;
use crate::answers::{Answer, page};
use crate::chrome::{Chrome, Section};
use crate::times::Moment;
use crate::visitor::Visitor;

/// Deployments on a page.
const PAGE: u32 = 24;

#[derive(Template)]
#[template(path = "pages/deployments/index.html")]
struct DeploymentsPage {
    chrome: Chrome,
    switch: Switch,
    environment: String,
    /// The other environments, to promote to.
    others: Vec<String>,
    search: String,
    deployments: Vec<Card>,
    next: Option<String>,
}

struct Card {
    pipeline: String,
    project: String,
    major: u32,
    version: String,
    at: Moment,
    by: String,
    admitted_by: String,
    mark: (&'static str, &'static str),
    reasons: String,
    /// Until when waivers let it pass.
    waived_until: Option<Moment>,
    urls: Vec<Url>,
    /// Whether callers can be told how to call it.
    has_document: bool,
    /// The calls of the last day; `None` for whom that is not to see.
    calls: Option<CallsOfADay>,
    /// Names the place of its URL on the page.
    id: String,
}

/// Where it answers.
struct Url {
    url: String,
    internal: bool,
}

#[derive(Default)]
struct CallsOfADay {
    calls: u64,
    refused: u64,
    failed: u64,
}

/// Where the gateway of this process listens in an environment, as the start of URLs.
struct Bases(BTreeMap<&'static str, String>);

#[derive(Deserialize)]
struct ListQuery {
    environment: Option<String>,
    #[serde(default)]
    search: String,
    cursor: Option<String>,
    deployed: Option<String>,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/deployments", get(index))
        .merge(associate::routes())
        .merge(deploy::routes())
        .merge(history::routes())
        .merge(promote::routes())
        .merge(undeploy::routes())
}

async fn index(State(console): State<Console>, visitor: Visitor, Query(query): Query<ListQuery>) -> Answer {
    let op = &visitor.op;
    let search = query.search.trim().to_lowercase();
    // It goes into a URL, and no name has anything else in it.
    let search: String = search.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(63).collect();
    let rest = if search.is_empty() { String::new() } else { format!("&search={search}") };
    let (environment, switch) = kept(&console, &visitor, query.environment.as_deref(), &rest).await?;
    let request = ListRequest { limit: Some(PAGE), cursor: query.cursor };
    let list = console.app.deployments().list_page(op, Some(&environment), &search, request).await?;
    let mut chrome = Chrome::new(&visitor, Section::Deployments, "Deployments");
    chrome.notice = match &query.deployed {
        Some(id) => deployed(&console, &visitor, &environment, id).await?,
        None => None,
    };
    let others = environments(&console, op).await?.into_iter().filter(|other| *other != environment);
    let shown: Vec<_> = list.items.iter().map(|it| it.deployment.pipeline.clone()).collect();
    let calls = calls_of_a_day(&console, &visitor, &environment, &shown).await?;
    let bases = Bases::find(&console, &visitor, &environment).await?;
    page(&DeploymentsPage {
        chrome,
        switch,
        others: others.map(|name| name.to_string()).collect(),
        deployments: list
            .items
            .iter()
            .map(|it| {
                let mut card = Card::new(it, &bases, op.now);
                let of = (it.deployment.pipeline.clone(), it.deployment.version.major);
                card.calls =
                    calls.as_ref().map(|calls| calls.get(&of).map(CallsOfADay::new).unwrap_or_default());
                card
            })
            .collect(),
        next: list.next.map(|cursor| format!("?environment={environment}{rest}&cursor={cursor}")),
        environment: environment.to_string(),
        search,
    })
}

/// Says what was just deployed.
async fn deployed(
    console: &Console,
    visitor: &Visitor,
    environment: &EnvironmentName,
    id: &str,
) -> Answer<Option<String>> {
    let Ok(id) = id.parse() else { return Ok(None) };
    let found = console.app.deployments().with_id(&visitor.op, environment, id).await?;
    let of = found.map(|view| view.deployment);
    Ok(of.map(|of| format!("{} {} runs in {}.", of.pipeline, of.version, of.environment)))
}

async fn calls_of_a_day(
    console: &Console,
    visitor: &Visitor,
    environment: &EnvironmentName,
    shown: &[PipelineName],
) -> Answer<Option<BTreeMap<(PipelineName, u32), Tally>>> {
    match console.app.traffic().of_pipelines(&visitor.op, environment, shown, TrafficRange::Day).await {
        Ok(traffic) => {
            let called = traffic.into_iter().filter_map(|it| Some((it.pipeline?, it.tally)));
            Ok(Some(called.collect()))
        }
        Err(error) if error.kind == ErrorKind::Forbidden => Ok(None),
        Err(error) => Err(error.into()),
    }
}

// === impl Bases ===

impl Bases {
    /// Finds them, where the visitor may know and there is a gateway.
    async fn find(console: &Console, visitor: &Visitor, environment: &EnvironmentName) -> Answer<Self> {
        let listeners = match console.app.explanations().listeners(&visitor.op).await {
            Ok(listeners) => listeners,
            Err(error) if matches!(error.kind, ErrorKind::Forbidden | ErrorKind::Unavailable) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        // How it is reached from elsewhere is not known: of an address that is all addresses only the path is shown.
        let here = listeners
            .into_iter()
            .filter(|it| it.environment == *environment && !it.address.ip().is_unspecified());
        Ok(Self(here.map(|it| (it.exposure.as_str(), it.url())).collect()))
    }

    fn url(&self, exposure: Exposure, path: &str) -> Url {
        let base = self.0.get(exposure.as_str()).map_or("", String::as_str);
        Url { url: format!("{base}{path}"), internal: exposure == Exposure::Internal }
    }
}

// === impl Card ===

impl Card {
    fn new(view: &DeploymentView, bases: &Bases, now: jiff::Timestamp) -> Self {
        let DeploymentView { deployment, project, verdict, urls, .. } = view;
        Self {
            pipeline: deployment.pipeline.to_string(),
            project: project.to_string(),
            major: deployment.version.major,
            version: deployment.version.to_string(),
            at: Moment::new(deployment.deployed_at, now),
            by: deployment.deployed_by.clone(),
            admitted_by: deployment.policy_version.to_string(),
            mark: mark(Standing::of(verdict)),
            reasons: reasons(verdict.violations.iter().map(|it| it.message.as_str())),
            waived_until: verdict.waived.iter().map(|it| it.until).min().map(|at| Moment::new(at, now)),
            urls: urls.iter().map(|url| bases.url(url.exposure, &url.path)).collect(),
            has_document: !urls.is_empty(),
            calls: None,
            id: deployment.id.to_string(),
        }
    }
}

/// Returns class and words of how a deployment stands.
fn mark(standing: Standing) -> (&'static str, &'static str) {
    match standing {
        Standing::Conformant => ("good", "conforms"),
        Standing::Waived => ("waived", "by waiver"),
        Standing::NotConformant => ("bad", "does not conform"),
    }
}

// === impl CallsOfADay ===

impl CallsOfADay {
    fn new(tally: &Tally) -> Self {
        Self { calls: tally.calls(), refused: tally.refused(), failed: tally.failed() }
    }
}
