//! Undeploying, with what it breaks: who called in the last days.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use tollgate_app::calls::{CallQuery, Days};
use tollgate_app::errors::ErrorKind;
use tollgate_model::names::{EnvironmentName, PipelineName};

use crate::Console;
use crate::answers::{Answer, page, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::Fields;
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

/// How far back callers are looked for, in days.
const DAYS: u16 = 7;

#[derive(Template)]
#[template(path = "pages/deployments/undeploy.html")]
struct UndeployPage {
    chrome: Chrome,
    environment: String,
    pipeline: String,
    major: u32,
    version: String,
    paths: Vec<String>,
    days: u16,
    /// Who called; `None` for whom that is not to see.
    callers: Option<Vec<Caller>>,
}

struct Caller {
    name: String,
    calls: u64,
    last: Moment,
}

#[derive(Deserialize)]
struct Place {
    environment: String,
    pipeline: String,
    major: u32,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/realms/{realm}/deployments/undeploy", get(show).post(undeploy))
}

async fn show(State(console): State<Console>, visitor: Visitor, Query(place): Query<Place>) -> Answer {
    let op = &visitor.op;
    let (environment, pipeline): (EnvironmentName, PipelineName) =
        (named(&place.environment)?, named(&place.pipeline)?);
    let running = console.app.deployments().get(op, &environment, &pipeline, Some(place.major)).await?.value;
    let query = CallQuery {
        environment: Some(environment.clone()),
        pipeline: Some(pipeline.clone()),
        days: Days::parse(Some(DAYS))?,
    };
    let callers = match console.app.calls().report(op, &query).await {
        Ok(report) => {
            let mut callers: Vec<Caller> = Vec::new();
            for item in report.items.into_iter().filter(|item| item.major == place.major) {
                let name = match (&item.caller.consumer, item.caller.others) {
                    (Some(consumer), _) => consumer.to_string(),
                    (None, true) => "others, too many to tell apart".to_owned(),
                    (None, false) => "nobody known: no credentials are demanded".to_owned(),
                };
                let last = Moment::new(item.last, op.now);
                match callers.iter_mut().find(|caller| caller.name == name) {
                    Some(caller) => {
                        caller.calls += item.calls;
                        if caller.last.machine < last.machine {
                            caller.last = last;
                        }
                    }
                    None => callers.push(Caller { name, calls: item.calls, last }),
                }
            }
            callers.sort_by_key(|caller| std::cmp::Reverse(caller.calls));
            Some(callers)
        }
        Err(error) if error.kind == ErrorKind::Forbidden => None,
        Err(error) => return Err(error.into()),
    };
    page(&UndeployPage {
        chrome: Chrome::new(&visitor, Section::Deployments, format!("Undeploy {pipeline}")),
        environment: environment.to_string(),
        pipeline: pipeline.to_string(),
        major: place.major,
        version: running.deployment.version.to_string(),
        paths: running.urls.into_iter().map(|url| url.path).collect(),
        days: DAYS,
        callers,
    })
}

async fn undeploy(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(place): Fields<Place>,
) -> Answer<Response> {
    let environment: EnvironmentName = named(&place.environment)?;
    let pipeline: PipelineName = named(&place.pipeline)?;
    console.app.deployments().undeploy(&visitor.op, &environment, &pipeline, Some(place.major), None).await?;
    Ok(see_other(&format!("/realms/{}/deployments?environment={environment}", visitor.op.realm)))
}
