//! The live log: the last calls, renewed while one looks.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::routing::get;
use serde::Deserialize;
use tollgate_app::recent_calls::{Ended, RecentFilter};
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName};
use tollgate_model::recent_calls::RecentCall;

use super::environments::{Switch, kept};
use crate::Console;
use crate::answers::{Answer, page};
use crate::chrome::{Chrome, Section};
use crate::paths::named;
use crate::times::duration;
use crate::visitor::Visitor;

/// Calls on the page.
const SHOWN: u32 = 100;

#[derive(Template)]
#[template(path = "pages/calls/index.html")]
struct CallsPage {
    chrome: Chrome,
    switch: Switch,
    environment: String,
    pipeline: String,
    consumer: String,
    ends: Vec<End>,
    paused: bool,
    /// What the page was asked for, as a query.
    query: String,
    list: CallsList,
}

#[derive(Template)]
#[template(path = "pages/calls/list.html")]
struct CallsList {
    realm: String,
    calls: Vec<Row>,
    left_out: u64,
    is_filtered: bool,
    environment: String,
}

struct End {
    value: &'static str,
    label: &'static str,
    here: bool,
}

struct Row {
    id: String,
    at: String,
    exact: String,
    method: String,
    path: String,
    status: String,
    code: String,
    /// Class and word of how it ended.
    mark: (&'static str, &'static str),
    /// Whether it can be explained.
    refused: bool,
    pipeline: String,
    consumer: String,
    took: String,
}

#[derive(Deserialize)]
struct CallsAsked {
    environment: Option<String>,
    #[serde(default)]
    pipeline: String,
    #[serde(default)]
    consumer: String,
    #[serde(default)]
    ended: String,
    #[serde(default)]
    paused: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/realms/{realm}/calls", get(show)).route("/realms/{realm}/calls/list", get(list))
}

async fn show(State(console): State<Console>, visitor: Visitor, Query(asked): Query<CallsAsked>) -> Answer {
    let mut filter = filter(&asked)?;
    let rest = rest(&filter);
    let (environment, switch) = kept(&console, &visitor, asked.environment.as_deref(), &rest).await?;
    filter.environment = Some(environment.clone());
    let ends = [None].into_iter().chain(Ended::ALL.map(Some)).map(|ended| End {
        value: ended.map_or("", Ended::as_str),
        label: match ended {
            None => "All",
            Some(Ended::Well) => "Answered",
            Some(Ended::Refused) => "Refused",
            Some(Ended::Failed) => "Failed",
            Some(Ended::HungUp) => "Hung up",
        },
        here: ended == filter.ended,
    });
    page(&CallsPage {
        chrome: Chrome::new(&visitor, Section::Calls, "Live log"),
        switch,
        ends: ends.collect(),
        paused: !asked.paused.is_empty(),
        query: format!("environment={environment}{rest}"),
        pipeline: filter.pipeline.as_ref().map(ToString::to_string).unwrap_or_default(),
        consumer: filter.consumer.as_ref().map(ToString::to_string).unwrap_or_default(),
        list: CallsList::new(&console, &visitor, &environment, &filter).await?,
        environment: environment.to_string(),
    })
}

async fn list(State(console): State<Console>, visitor: Visitor, Query(asked): Query<CallsAsked>) -> Answer {
    let environment: EnvironmentName = named(asked.environment.as_deref().unwrap_or_default())?;
    let filter = RecentFilter { environment: Some(environment.clone()), ..filter(&asked)? };
    page(&CallsList::new(&console, &visitor, &environment, &filter).await?)
}

fn filter(asked: &CallsAsked) -> Answer<RecentFilter> {
    let given = |text: &str| (!text.trim().is_empty()).then(|| text.trim().to_owned());
    let ended = given(&asked.ended).map(|text| Ended::parse(&text)).transpose()?;
    Ok(RecentFilter {
        pipeline: given(&asked.pipeline).as_deref().map(named::<PipelineName>).transpose()?,
        consumer: given(&asked.consumer).as_deref().map(named::<ConsumerName>).transpose()?,
        ended,
        ..RecentFilter::default()
    })
}

/// Writes what is asked for besides the environment.
fn rest(filter: &RecentFilter) -> String {
    let mut rest = String::new();
    rest.extend(filter.pipeline.iter().map(|name| format!("&pipeline={name}")));
    rest.extend(filter.consumer.iter().map(|name| format!("&consumer={name}")));
    rest.extend(filter.ended.iter().map(|ended| format!("&ended={}", ended.as_str())));
    rest
}

// === impl CallsList ===

impl CallsList {
    async fn new(
        console: &Console,
        visitor: &Visitor,
        environment: &EnvironmentName,
        filter: &RecentFilter,
    ) -> Answer<Self> {
        let list = console.app.recent_calls().list(&visitor.op, filter, Some(SHOWN)).await?;
        Ok(Self {
            realm: visitor.op.realm.to_string(),
            calls: list.calls.iter().map(|call| Row::new(call)).collect(),
            left_out: list.left_out,
            is_filtered: !rest(filter).is_empty(),
            environment: environment.to_string(),
        })
    }
}

// === impl Row ===

impl Row {
    fn new(call: &RecentCall) -> Self {
        let ended = Ended::of(call);
        Self {
            id: call.request_id.to_string(),
            at: call.at.strftime("%H:%M:%S").to_string(),
            exact: call.at.to_string(),
            method: call.method.clone(),
            path: call.path.clone(),
            status: call.status.map(|status| status.to_string()).unwrap_or_default(),
            code: call.code.clone().unwrap_or_default(),
            mark: match ended {
                Ended::Well => ("good", "answered"),
                Ended::Refused => ("waived", "refused"),
                Ended::Failed => ("bad", "failed"),
                Ended::HungUp => ("", "hung up"),
            },
            refused: call.code.is_some(),
            pipeline: call
                .pipeline
                .as_ref()
                .map(|(name, version)| format!("{name} {version}"))
                .unwrap_or_default(),
            consumer: call.consumer.as_ref().map(ToString::to_string).unwrap_or_default(),
            took: duration(call.took_us),
        }
    }
}
