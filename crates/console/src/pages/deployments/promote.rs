//! Promoting: what runs in the one environment and in the other side by side, and the verdict of the other.

use std::collections::BTreeSet;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Deserialize;
use tollgate_app::Standing;
use tollgate_app::deployments::DeploymentView;
use tollgate_app::errors::{Error, ErrorKind};
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
    /// Globals and accounts that the flow names and that the other environment lacks.
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

/// Finds the globals and accounts that one environment has and the other lacks, of those whose names stand in the
/// pipeline; none where the visitor may not read them.
async fn missing(
    console: &Console,
    visitor: &Visitor,
    pipeline: &PipelineName,
    version: Version,
    (from, to): (&EnvironmentName, &EnvironmentName),
) -> Answer<Vec<String>> {
    let (app, op) = (&console.app, &visitor.op);
    let names = |found: Result<Vec<String>, Error>| match found {
        Ok(names) => Ok(Some(names.into_iter().collect::<BTreeSet<String>>())),
        Err(error) if error.kind == ErrorKind::Forbidden => Ok(None),
        Err(error) => Err(error),
    };
    let globals = async |environment| {
        let found = app.globals().list(op, environment).await;
        names(found.map(|all| all.into_iter().map(|it| it.value.name.to_string()).collect()))
    };
    let accounts = async |environment| {
        let found = app.accounts().list(op, environment).await;
        names(found.map(|all| all.into_iter().map(|it| it.name.to_string()).collect()))
    };
    let saved = match app.pipelines().version(op, pipeline, version).await {
        Ok(saved) => saved,
        Err(error) if error.kind == ErrorKind::Forbidden || error.kind == ErrorKind::NotFound => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error.into()),
    };
    let text = serde_json::to_string(&saved.version.pipeline.steps).unwrap_or_default();
    let mut missing = Vec::new();
    for (what, here, there) in [
        ("global", globals(from).await?, globals(to).await?),
        ("account", accounts(from).await?, accounts(to).await?),
    ] {
        if let (Some(here), Some(there)) = (here, there) {
            let lacking = here.difference(&there).filter(|name| is_named(&text, what, name));
            missing.extend(lacking.map(|name| format!("{what} {name}")));
        }
    }
    Ok(missing)
}

/// Tells whether a text of expressions names a global or an account, in either way of writing it.
fn is_named(text: &str, what: &str, name: &str) -> bool {
    let bare = format!("{what}s.{name}");
    let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    text.match_indices(&bare).any(|(at, found)| text.get(at + found.len()..).is_some_and(is_end))
        || [format!("{what}s[\\\"{name}\\\"]"), format!("{what}s['{name}']")]
            .iter()
            .any(|it| text.contains(it))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_either_way_of_writing_it_and_not_within_another() {
        let text = r#"[{"json":{"a":"{{ globals.rate }}","b":"{{ globals[\"portal-user\"] }}"}}]"#;
        assert!(is_named(text, "global", "rate") && is_named(text, "global", "portal-user"));
        assert!(!is_named(text, "global", "rat") && !is_named(text, "account", "rate"));
        assert!(!is_named(r#"["{{ globals.rate-limit }}"]"#, "global", "rate"));
    }
}
