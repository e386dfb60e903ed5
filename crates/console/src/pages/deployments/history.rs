//! What ran where, by the journal; and what a deployment offers, as a document for its callers.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderValue, header};
use serde::Deserialize;
use tollgate_model::names::{EnvironmentName, PipelineName};

use crate::Console;
use crate::answers::{Answer, page};
use crate::chrome::{Chrome, Section};
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/deployments/history.html")]
struct HistoryPage {
    chrome: Chrome,
    environment: String,
    pipeline: String,
    items: Vec<Item>,
}

struct Item {
    seq: u64,
    at: Moment,
    who: String,
    what: &'static str,
    version: String,
    policy_version: String,
}

#[derive(Deserialize)]
struct Place {
    environment: String,
    pipeline: String,
}

#[derive(Deserialize)]
struct DocumentQuery {
    major: Option<u32>,
}

pub(super) fn routes() -> Router<Console> {
    let place = "/realms/{realm}/deployments/{environment}/{pipeline}";
    Router::new()
        .route(&format!("{place}/history"), get(show))
        .route(&format!("{place}/openapi.json"), get(openapi))
}

async fn show(State(console): State<Console>, visitor: Visitor, Path(place): Path<Place>) -> Answer {
    let (environment, pipeline): (EnvironmentName, PipelineName) =
        (named(&place.environment)?, named(&place.pipeline)?);
    let items = console.app.deployments().history(&visitor.op, &environment, &pipeline).await?;
    page(&HistoryPage {
        chrome: Chrome::new(&visitor, Section::Deployments, format!("History of {pipeline}")),
        environment: environment.to_string(),
        pipeline: pipeline.to_string(),
        items: items
            .into_iter()
            .map(|item| Item {
                seq: item.seq,
                at: Moment::new(item.at, visitor.op.now),
                who: item.actor,
                what: words(&item.action),
                version: item.version.map(|version| version.to_string()).unwrap_or_default(),
                policy_version: item.policy_version.map(|version| version.to_string()).unwrap_or_default(),
            })
            .collect(),
    })
}

async fn openapi(
    State(console): State<Console>,
    visitor: Visitor,
    Path(place): Path<Place>,
    Query(query): Query<DocumentQuery>,
) -> Answer<Response> {
    let (environment, pipeline): (EnvironmentName, PipelineName) =
        (named(&place.environment)?, named(&place.pipeline)?);
    let deployments = console.app.deployments();
    let document = deployments.openapi(&visitor.op, &environment, &pipeline, query.major, None).await?;
    let mut response = format!("{document:#}\n").into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}

/// Says what was done.
fn words(action: &str) -> &'static str {
    match action {
        "deployment.deploy" => "deployed",
        "deployment.promote" => "promoted",
        "deployment.rollback" => "rolled back",
        "deployment.undeploy" => "undeployed",
        "environment.delete" => "environment deleted",
        _ => "changed",
    }
}
