//! Deploying: the verdict first. Where the policies refuse, the page names the switch and offers to turn it on.

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tollgate_app::deployments::{Deployed, RollbackCandidate};
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_model::deployments::Deployment;
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::versions::Version;

use super::super::overview::reasons;
use crate::Console;
use crate::answers::{Answer, page, render, see_other};
use crate::chrome::{Chrome, Section};
use crate::errors::status_of;
use crate::forms::{Fields, Problem, Refusal, Told};
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/deployments/deploy.html")]
struct DeployPage {
    chrome: Chrome,
    pipeline: String,
    version: String,
    places: Vec<Outlook>,
    problem: Option<Refusal>,
}

/// What a deploy in one environment would get.
struct Outlook {
    environment: String,
    /// What runs there of the same major.
    running: Option<String>,
    asked_for: bool,
    verdict: OutlookVerdict,
    nobody_associated: bool,
}

pub(super) enum OutlookVerdict {
    /// It would be deployed; what is still missing then, and whether nobody is associated.
    Admitted(Vec<String>),
    /// The policies refuse it: messages with what to do, and the version that mending makes, where it can.
    Refused { violations: Vec<(String, String)>, mended: Option<String> },
    /// It fails for another reason.
    Failed(Refusal),
}

/// What a rehearsal showed.
pub(super) struct Verdicts {
    pub(super) verdict: OutlookVerdict,
    /// Whether nobody could call it.
    pub(super) nobody_associated: bool,
}

#[derive(Template)]
#[template(path = "pages/deployments/rollback.html")]
struct RollbackPage {
    chrome: Chrome,
    pipeline: String,
    environment: String,
    candidates: Vec<Candidate>,
    problem: Problem,
}

struct Candidate {
    version: String,
    at: Moment,
    refused: Option<String>,
}

#[derive(Deserialize)]
struct PipelinePath {
    pipeline: String,
}

#[derive(Deserialize)]
struct DeployQuery {
    version: Option<String>,
    #[serde(default)]
    environment: String,
}

#[derive(Deserialize)]
struct RollbackQuery {
    environment: String,
    major: Option<u32>,
}

#[derive(Deserialize)]
struct DeployForm {
    version: String,
    environment: String,
}

#[derive(Deserialize)]
struct MendForm {
    environment: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/pipelines/{pipeline}/deploy", get(show).post(deploy))
        .route("/realms/{realm}/pipelines/{pipeline}/mend", post(mend))
        .route("/realms/{realm}/pipelines/{pipeline}/rollback", get(candidates).post(rollback))
}

async fn show(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<PipelinePath>,
    Query(query): Query<DeployQuery>,
) -> Answer {
    let pipeline: PipelineName = named(&path.pipeline)?;
    let version = query.version.as_deref().map(named::<Version>).transpose()?;
    page(&DeployPage::new(&console, &visitor, &pipeline, version, &query.environment).await?)
}

async fn deploy(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<PipelinePath>,
    Fields(form): Fields<DeployForm>,
) -> Answer<Response> {
    let (pipeline, version): (PipelineName, Version) = (named(&path.pipeline)?, named(&form.version)?);
    let environment: EnvironmentName = named(&form.environment)?;
    let deployed =
        console.app.deployments().deploy(&visitor.op, &environment, &pipeline, Some(version), None).await;
    match deployed {
        Ok(deployed) => Ok(deployed_at(&visitor, &deployed.deployment.deployment)),
        Err(error) => {
            // It was refused since the page was made: it shows by now what the policies say.
            let mut again =
                DeployPage::new(&console, &visitor, &pipeline, Some(version), environment.as_str()).await?;
            let status = status_of(error.kind);
            again.problem = Some(error.into());
            Ok(render(status, &again)?.into_response())
        }
    }
}

async fn mend(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<PipelinePath>,
    Fields(form): Fields<MendForm>,
) -> Answer<Response> {
    let pipeline: PipelineName = named(&path.pipeline)?;
    let environment: EnvironmentName = named(&form.environment)?;
    let saved = console.app.pipelines().mend(&visitor.op, &pipeline, &environment, false).await?;
    let (realm, version) = (&visitor.op.realm, saved.version);
    Ok(see_other(&format!(
        "/realms/{realm}/pipelines/{pipeline}/deploy?version={version}&environment={environment}"
    )))
}

async fn candidates(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<PipelinePath>,
    Query(query): Query<RollbackQuery>,
) -> Answer {
    let (pipeline, environment) = (named(&path.pipeline)?, named(&query.environment)?);
    page(&RollbackPage::new(&console, &visitor, &pipeline, &environment, query.major).await?)
}

async fn rollback(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<PipelinePath>,
    Fields(form): Fields<DeployForm>,
) -> Answer<Response> {
    let (pipeline, version): (PipelineName, Version) = (named(&path.pipeline)?, named(&form.version)?);
    let environment: EnvironmentName = named(&form.environment)?;
    let deployments = console.app.deployments();
    let major = Some(version.major);
    match deployments.rollback(&visitor.op, &environment, &pipeline, major, Some(version)).await {
        Ok(done) => Ok(deployed_at(&visitor, &done.deployment.deployment)),
        Err(error) => {
            // It was refused since the page was made: it shows by now which versions would be.
            let (told, refusal) = Told::of(error)?;
            let mut again = RollbackPage::new(&console, &visitor, &pipeline, &environment, major).await?;
            again.problem = Problem::new("", refusal);
            told.answer(&again)
        }
    }
}

pub(super) fn deployed_at(visitor: &Visitor, deployed: &Deployment) -> Response {
    let (realm, Deployment { environment, id, .. }) = (&visitor.op.realm, deployed);
    see_other(&format!("/realms/{realm}/deployments?environment={environment}&deployed={id}"))
}

// === impl RollbackPage ===

impl RollbackPage {
    async fn new(
        console: &Console,
        visitor: &Visitor,
        pipeline: &PipelineName,
        environment: &EnvironmentName,
        major: Option<u32>,
    ) -> Answer<Self> {
        let op = &visitor.op;
        let candidates =
            console.app.deployments().rollback_candidates(op, environment, pipeline, major).await?;
        let candidate = |RollbackCandidate { version, deployed_at, verdict }: &RollbackCandidate| Candidate {
            version: version.to_string(),
            at: Moment::new(*deployed_at, op.now),
            refused: (!verdict.conforms())
                .then(|| reasons(verdict.violations.iter().map(|it| it.message.as_str()))),
        };
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Deployments, format!("Roll back {pipeline}")),
            pipeline: pipeline.to_string(),
            environment: environment.to_string(),
            candidates: candidates.iter().map(candidate).collect(),
            problem: Problem::default(),
        })
    }
}

// === impl DeployPage ===

impl DeployPage {
    /// Asks what a deploy of a version, the latest when none is named, would get in each environment.
    async fn new(
        console: &Console,
        visitor: &Visitor,
        pipeline: &PipelineName,
        version: Option<Version>,
        asked_for: &str,
    ) -> Answer<Self> {
        let op = &visitor.op;
        let latest = console.app.pipelines().get(op, pipeline).await?.value.latest;
        let version = version.unwrap_or(latest);
        let running = console.app.deployments().list_of(op, pipeline).await?;
        let mut places = Vec::new();
        for environment in console.app.environments().list(op).await? {
            let environment = environment.environment.name;
            let deployments = console.app.deployments();
            let outcome = deployments.deploy_dry_run(op, &environment, pipeline, Some(version), None).await;
            let Verdicts { verdict, nobody_associated } =
                Verdicts::of(console, visitor, pipeline, version, &environment, outcome).await?;
            let same = running
                .iter()
                .map(|view| &view.deployment)
                .find(|it| it.environment == environment && it.version.major == version.major);
            places.push(Outlook {
                running: same.map(|it| it.version.to_string()),
                asked_for: environment.as_str() == asked_for,
                environment: environment.to_string(),
                verdict,
                nobody_associated,
            });
        }
        // What was asked for comes first.
        places.sort_by_key(|place| !place.asked_for);
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Deployments, format!("Deploy {pipeline}")),
            pipeline: pipeline.to_string(),
            version: version.to_string(),
            places,
            problem: None,
        })
    }
}

// === impl Verdicts ===

impl Verdicts {
    /// Takes what a rehearsal of a version showed; where it was refused, with what mending would make.
    pub(super) async fn of(
        console: &Console,
        visitor: &Visitor,
        pipeline: &PipelineName,
        version: Version,
        environment: &EnvironmentName,
        outcome: Result<Deployed, Error>,
    ) -> Answer<Self> {
        let nobody_associated = outcome.as_ref().is_ok_and(|deployed| deployed.nobody_associated);
        let verdict = match outcome {
            Ok(deployed) => OutlookVerdict::Admitted(deployed.reminders),
            Err(error) if error.kind == ErrorKind::Refused => {
                let latest = console.app.pipelines().get(&visitor.op, pipeline).await?.value.latest;
                OutlookVerdict::Refused {
                    mended: mended(console, visitor, pipeline, environment, version == latest).await,
                    violations: violations(&error),
                }
            }
            Err(error) => OutlookVerdict::Failed(error.into()),
        };
        Ok(Self { verdict, nobody_associated })
    }
}

fn violations(error: &Error) -> Vec<(String, String)> {
    error.violations.iter().map(|it| (it.message.clone(), it.advice())).collect()
}

/// Returns the version that mending would make; `None` where it can't be done by itself, or by this visitor.
async fn mended(
    console: &Console,
    visitor: &Visitor,
    pipeline: &PipelineName,
    environment: &EnvironmentName,
    latest: bool,
) -> Option<String> {
    if !latest {
        // The latest version would be mended, and that is another.
        return None;
    }
    let mended = console.app.pipelines().mend(&visitor.op, pipeline, environment, true).await.ok()?;
    Some(mended.version.to_string())
}
