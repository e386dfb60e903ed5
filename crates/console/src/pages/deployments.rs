//! Deployments: what runs where, and changing it with the verdict in sight.

mod deploy;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use tollgate_app::Standing;
use tollgate_app::deployments::DeploymentView;
use tollgate_model::environments::Exposure;
use tollgate_model::names::{EnvironmentName, PipelineName};

use super::overview::reasons;
use crate::Console;
use crate::answers::{Answer, page, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::Fields;
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/deployments/index.html")]
struct DeploymentsPage {
    chrome: Chrome,
    environments: Vec<Environment>,
}

struct Environment {
    name: String,
    /// The other environments, to promote to.
    others: Vec<String>,
    deployments: Vec<Card>,
}

struct Card {
    pipeline: String,
    major: u32,
    version: String,
    at: Moment,
    by: String,
    admitted_by: String,
    mark: (&'static str, &'static str),
    reasons: String,
    urls: Vec<String>,
    /// Names the place of its URL on the page.
    id: String,
}

#[derive(Deserialize)]
struct ListQuery {
    deployed: Option<String>,
}

#[derive(Deserialize)]
struct UndeployForm {
    environment: String,
    pipeline: String,
    major: u32,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/deployments", get(index))
        .route("/realms/{realm}/deployments/undeploy", post(undeploy))
        .merge(deploy::routes())
}

async fn index(State(console): State<Console>, visitor: Visitor, Query(query): Query<ListQuery>) -> Answer {
    let op = &visitor.op;
    let environments = console.app.environments().list(op).await?;
    let names: Vec<String> = environments.iter().map(|it| it.environment.name.to_string()).collect();
    let running = console.app.deployments().list(op, None).await?;
    let mut chrome = Chrome::new(&visitor, Section::Deployments, "Deployments");
    chrome.notice = query.deployed.and_then(|id| {
        let view = running.iter().find(|it| it.deployment.id.to_string() == id)?;
        let of = &view.deployment;
        Some(format!("{} {} runs in {}.", of.pipeline, of.version, of.environment))
    });
    let cards = |environment: &str| {
        let here = running.iter().filter(|it| it.deployment.environment.as_str() == environment);
        here.map(|it| Card::new(it, op.now)).collect()
    };
    page(&DeploymentsPage {
        environments: names
            .iter()
            .map(|name| Environment {
                deployments: cards(name),
                others: names.iter().filter(|other| *other != name).cloned().collect(),
                name: name.clone(),
            })
            .collect(),
        chrome,
    })
}

async fn undeploy(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<UndeployForm>,
) -> Answer<Response> {
    let environment: EnvironmentName = named(&form.environment)?;
    let pipeline: PipelineName = named(&form.pipeline)?;
    console.app.deployments().undeploy(&visitor.op, &environment, &pipeline, Some(form.major), None).await?;
    Ok(see_other(&format!("/realms/{}/deployments", visitor.op.realm)))
}

// === impl Card ===

impl Card {
    fn new(view: &DeploymentView, now: jiff::Timestamp) -> Self {
        let DeploymentView { deployment, verdict, urls, .. } = view;
        let url = |url: &tollgate_app::deployments::DeploymentUrl| match url.exposure {
            Exposure::External => url.path.clone(),
            Exposure::Internal => format!("{} (internal)", url.path),
        };
        Self {
            pipeline: deployment.pipeline.to_string(),
            major: deployment.version.major,
            version: deployment.version.to_string(),
            at: Moment::new(deployment.deployed_at, now),
            by: deployment.deployed_by.clone(),
            admitted_by: deployment.policy_version.to_string(),
            mark: match Standing::of(verdict) {
                Standing::Conformant => ("good", "conforms"),
                Standing::Waived => ("waived", "by waiver"),
                Standing::NotConformant => ("bad", "does not conform"),
            },
            reasons: reasons(verdict.violations.iter().map(|it| it.message.as_str())),
            urls: urls.iter().map(url).collect(),
            id: deployment.id.to_string(),
        }
    }
}
