//! Traffic: what became of calls and how long they took, drawn over time, by pipeline and by consumer.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::routing::get;
use jiff::Timestamp;
use serde::Deserialize;
use tollgate_app::traffic::{Tally, TrafficQuery, TrafficRange, TrafficReport};
use tollgate_model::names::{ConsumerName, PipelineName};
use tollgate_model::traffic::TrafficCaller;

use super::environments::{Switch, kept};
use crate::Console;
use crate::answers::{Answer, page};
use crate::charts::{Columns, Lines, columns, lines};
use crate::chrome::{Chrome, Section};
use crate::paths::named;
use crate::times::duration;
use crate::visitor::Visitor;

/// Most pipelines, and most consumers, that are told one by one.
const SHOWN: usize = 20;

#[derive(Template)]
#[template(path = "pages/traffic/index.html")]
struct TrafficPage {
    chrome: Chrome,
    switch: Switch,
    environment: String,
    ranges: Vec<RangeTab>,
    range: &'static str,
    pipeline: String,
    consumer: String,
    /// Where to ask again, while it is still added up.
    adding_up: Option<String>,
    total: TallyView,
    calls: CallsChart,
    latency: LatencyChart,
    steps: Vec<(String, TallyView)>,
    codes: Vec<CodeRow>,
    pipelines: Rows,
    consumers: Rows,
}

/// The busiest of something, by name.
struct Rows {
    what: &'static str,
    rows: Vec<Row>,
    /// How many more there are.
    more: usize,
}

struct RangeTab {
    value: &'static str,
    label: &'static str,
    here: bool,
}

/// Calls over time, with the words beside the drawing.
pub(super) struct CallsChart {
    pub(super) columns: Columns,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) step: String,
}

struct LatencyChart {
    lines: Lines,
    top: String,
}

struct TallyView {
    calls: u64,
    refused: u64,
    failed: u64,
    p50: String,
    p95: String,
    p99: String,
}

struct CodeRow {
    code: String,
    class: &'static str,
    calls: u64,
}

struct Row {
    name: String,
    href: Option<String>,
    tally: TallyView,
}

#[derive(Deserialize)]
struct TrafficAsked {
    environment: Option<String>,
    #[serde(default)]
    pipeline: String,
    #[serde(default)]
    consumer: String,
    range: Option<String>,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/realms/{realm}/traffic", get(show))
}

async fn show(State(console): State<Console>, visitor: Visitor, Query(asked): Query<TrafficAsked>) -> Answer {
    let range = TrafficRange::parse(asked.range.as_deref())?;
    let given = |text: &str| (!text.trim().is_empty()).then(|| text.trim().to_owned());
    let (pipeline, consumer) = (given(&asked.pipeline), given(&asked.consumer));
    let pipeline = pipeline.as_deref().map(named::<PipelineName>).transpose()?;
    let consumer = consumer.as_deref().map(named::<ConsumerName>).transpose()?;
    let mut rest = format!("&range={}", range.as_str());
    rest.extend(pipeline.iter().map(|name| format!("&pipeline={name}")));
    rest.extend(consumer.iter().map(|name| format!("&consumer={name}")));
    let (environment, switch) = kept(&console, &visitor, asked.environment.as_deref(), &rest).await?;
    let query = TrafficQuery {
        environment: Some(environment.clone()),
        pipeline: pipeline.clone(),
        consumer: consumer.clone(),
        range,
    };
    let report = console.app.traffic().reports_soon(&visitor.op, &[query]).await?.pop();
    let report = report.transpose()?.flatten();
    let adding_up = report
        .is_none()
        .then(|| format!("/realms/{}/traffic?environment={environment}{rest}", visitor.op.realm));
    let report = report.unwrap_or_default();
    let here =
        |of: &str, name: &str| format!("?environment={environment}&range={}&{of}={name}", range.as_str());
    let pipelines = report.pipelines.iter().map(|it| Row {
        name: it
            .pipeline
            .as_ref()
            .map_or("no pipeline".to_owned(), |(name, major)| format!("{name} v{major}")),
        href: it.pipeline.as_ref().map(|(name, _)| here("pipeline", name.as_str())),
        tally: TallyView::new(&it.tally),
    });
    let consumers = report.consumers.iter().map(|it| {
        let (name, href) = match &it.caller {
            TrafficCaller::Consumer(name) => (name.to_string(), Some(here("consumer", name.as_str()))),
            TrafficCaller::Unknown => ("nobody known".to_owned(), None),
            TrafficCaller::Others => ("others, too many to tell apart".to_owned(), None),
        };
        Row { name, href, tally: TallyView::new(&it.tally) }
    });
    let codes = report.total.codes().into_iter();
    page(&TrafficPage {
        chrome: Chrome::new(&visitor, Section::Traffic, "Traffic"),
        switch,
        environment: environment.to_string(),
        ranges: TrafficRange::ALL
            .map(|of| RangeTab { value: of.as_str(), label: label(of), here: of == range })
            .into(),
        range: range.as_str(),
        pipeline: pipeline.map(|name| name.to_string()).unwrap_or_default(),
        consumer: consumer.map(|name| name.to_string()).unwrap_or_default(),
        adding_up,
        total: TallyView::new(&report.total),
        calls: CallsChart::new(&report),
        latency: LatencyChart::new(&report),
        steps: report
            .points
            .iter()
            .rev()
            .filter(|point| point.tally.calls() > 0)
            .map(|point| (shown(point.at, report.step_minutes), TallyView::new(&point.tally)))
            .collect(),
        codes: codes
            .map(|(class, code, calls)| CodeRow { code: code.to_owned(), class: class.as_str(), calls })
            .collect(),
        pipelines: Rows::new("Pipeline", pipelines),
        consumers: Rows::new("Consumer", consumers),
    })
}

fn label(range: TrafficRange) -> &'static str {
    match range {
        TrafficRange::Hour => "Last hour",
        TrafficRange::SixHours => "6 hours",
        TrafficRange::Day => "24 hours",
        TrafficRange::Week => "7 days",
        TrafficRange::Month => "30 days",
    }
}

/// Shows when a step begins, as finely as steps are.
fn shown(at: Timestamp, step_minutes: u32) -> String {
    let format = if step_minutes < 60 { "%H:%M" } else { "%b %-d %H:%M" };
    at.strftime(format).to_string()
}

fn step_words(minutes: u32) -> String {
    match (minutes, minutes / 60) {
        (1, _) => "minute".to_owned(),
        (_, 0) => format!("{minutes} minutes"),
        (_, hours) => format!("{hours} hours"),
    }
}

// === impl Rows ===

impl Rows {
    fn new(what: &'static str, rows: impl ExactSizeIterator<Item = Row>) -> Self {
        let more = rows.len().saturating_sub(SHOWN);
        Self { what, more, rows: rows.take(SHOWN).collect() }
    }
}

// === impl CallsChart ===

impl CallsChart {
    pub(super) fn new(report: &TrafficReport) -> Self {
        let steps = report.points.iter().map(|point| {
            let tally = &point.tally;
            let (calls, refused, failed) = (tally.calls(), tally.refused(), tally.failed());
            let at = shown(point.at, report.step_minutes);
            let title = format!("{at}: {calls} calls, {refused} refused, {failed} failed");
            let answered = calls.saturating_sub(refused + failed);
            ([("good", answered), ("waived", refused), ("bad", failed)], title)
        });
        Self {
            columns: columns(steps),
            from: shown(report.since, report.step_minutes),
            to: format!("{} UTC", shown(report.until, report.step_minutes)),
            step: step_words(report.step_minutes),
        }
    }
}

// === impl LatencyChart ===

impl LatencyChart {
    fn new(report: &TrafficReport) -> Self {
        let steps: Vec<_> = report
            .points
            .iter()
            .map(|point| [50, 95, 99].map(|percent| point.tally.percentile_us(percent)))
            .collect();
        let lines = lines(["p50", "p95", "p99"], &steps);
        let top = duration(lines.top);
        Self { lines, top }
    }
}

// === impl TallyView ===

impl TallyView {
    fn new(tally: &Tally) -> Self {
        let percentile = |percent| tally.percentile_us(percent).map_or("–".to_owned(), duration);
        Self {
            calls: tally.calls(),
            refused: tally.refused(),
            failed: tally.failed(),
            p50: percentile(50),
            p95: percentile(95),
            p99: percentile(99),
        }
    }
}
