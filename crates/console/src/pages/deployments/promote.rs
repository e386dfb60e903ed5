//! Promoting: what runs in the one environment and in the other side by side, and the verdict of the other.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Deserialize;
use tollgate_app::Standing;
use tollgate_app::deployments::{DeploymentView, MissingValue};
use tollgate_app::errors::ErrorKind;
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::versions::Version;

use super::deploy::{OutlookVerdict, Verdicts, deployed_at};
use super::mark;
use crate::Console;
use crate::answers::{Answer, page, render};
use crate::chrome::{Chrome, Section};
use crate::errors::status_of;
use crate::forms::{Fields, Refusal};
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/deployments/promote.html")]
struct PromotePage {
    chrome: Chrome,
    pipeline: String,
    major: u32,
    from: String,
    to: String,
    source: Running,
    /// What runs there now.
    target: Option<Running>,
    verdict: OutlookVerdict,
    nobody_associated: bool,
    /// Globals and accounts that the flow reads and that the other environment lacks.
    missing: Vec<String>,
    problem: Option<Refusal>,
}

/// What runs in an environment.
struct Running {
    version: String,
    at: Moment,
    by: String,
    admitted_by: String,
    mark: (&'static str, &'static str),
}

#[derive(Deserialize)]
struct PipelinePath {
    pipeline: String,
}

#[derive(Deserialize)]
struct Promotion {
    from: String,
    to: String,
    major: u32,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/realms/{realm}/pipelines/{pipeline}/promote", get(show).post(promote))
}

async fn show(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<PipelinePath>,
    Query(promotion): Query<Promotion>,
) -> Answer {
    let pipeline: PipelineName = named(&path.pipeline)?;
    page(&PromotePage::new(&console, &visitor, &pipeline, &promotion).await?)
}

async fn promote(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<PipelinePath>,
    Fields(promotion): Fields<Promotion>,
) -> Answer<Response> {
    let pipeline: PipelineName = named(&path.pipeline)?;
    let (from, to): (EnvironmentName, EnvironmentName) = (named(&promotion.from)?, named(&promotion.to)?);
    let deployments = console.app.deployments();
    match deployments.promote(&visitor.op, &pipeline, &from, &to, Some(promotion.major)).await {
        Ok(deployed) => Ok(deployed_at(&visitor, &deployed.deployment.deployment)),
        Err(error) => {
            let mut again = PromotePage::new(&console, &visitor, &pipeline, &promotion).await?;
            let status = status_of(error.kind);
            again.problem = Some(error.into());
            Ok(render(status, &again)?.into_response())
        }
    }
}

// === impl PromotePage ===

impl PromotePage {
    async fn new(
        console: &Console,
        visitor: &Visitor,
        pipeline: &PipelineName,
        promotion: &Promotion,
    ) -> Answer<Self> {
        let op = &visitor.op;
        let (from, to): (EnvironmentName, EnvironmentName) = (named(&promotion.from)?, named(&promotion.to)?);
        let deployments = console.app.deployments();
        let major = Some(promotion.major);
        let source = deployments.get(op, &from, pipeline, major).await?.value;
        let target = match deployments.get(op, &to, pipeline, major).await {
            Ok(target) => Some(target.value),
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Forbidden) => None,
            Err(error) => return Err(error.into()),
        };
        let version = source.deployment.version;
        let outcome = deployments.promote_dry_run(op, pipeline, &from, &to, major).await;
        let Verdicts { verdict, nobody_associated } =
            Verdicts::of(console, visitor, pipeline, version, &to, outcome).await?;
        let missing = missing(console, visitor, pipeline, version, (&from, &to)).await?;
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Deployments, format!("Promote {pipeline}")),
            pipeline: pipeline.to_string(),
            major: promotion.major,
            from: from.to_string(),
            to: to.to_string(),
            source: Running::new(&source, op.now),
            target: target.map(|target| Running::new(&target, op.now)),
            verdict,
            nobody_associated,
            missing,
            problem: None,
        })
    }
}

/// Names the globals and accounts that a promotion would miss; none where the visitor may not read the pipeline.
async fn missing(
    console: &Console,
    visitor: &Visitor,
    pipeline: &PipelineName,
    version: Version,
    (from, to): (&EnvironmentName, &EnvironmentName),
) -> Answer<Vec<String>> {
    let found = console.app.deployments().missing_values(&visitor.op, pipeline, version, from, to).await;
    let named = |it: MissingValue| {
        let maybe = if it.maybe { " (perhaps: the flow computes the name that it reads)" } else { "" };
        format!("{} {}{maybe}", if it.is_account { "account" } else { "global" }, it.name)
    };
    match found {
        Ok(missing) => Ok(missing.into_iter().map(named).collect()),
        Err(error) if matches!(error.kind, ErrorKind::Forbidden | ErrorKind::NotFound) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

// === impl Running ===

impl Running {
    fn new(view: &DeploymentView, now: jiff::Timestamp) -> Self {
        let it = &view.deployment;
        Self {
            version: it.version.to_string(),
            at: Moment::new(it.deployed_at, now),
            by: it.deployed_by.clone(),
            admitted_by: it.policy_version.to_string(),
            mark: mark(Standing::of(&view.verdict)),
        }
    }
}
