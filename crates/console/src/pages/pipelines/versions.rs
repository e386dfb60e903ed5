//! The versions of a pipeline: who saved which when, how each stands, and what changed between any two.

use askama::Template;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use tollgate_app::Standing;
use tollgate_model::names::PipelineName;
use tollgate_model::versions::Version;

use super::{PipelinePath, as_file};
use crate::Console;
use crate::answers::{Answer, page};
use crate::chrome::{Chrome, Section};
use crate::differences::{self, DiffLine};
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/pipelines/versions.html")]
struct VersionsPage {
    chrome: Chrome,
    name: String,
    versions: Vec<Row>,
    from: String,
    to: String,
    lines: Vec<DiffLine>,
}

struct Row {
    version: String,
    at: Moment,
    by: String,
    login_flow: bool,
    /// Environments that would refuse it today.
    refused: Vec<String>,
    is_from: bool,
    is_to: bool,
    /// The version before it, which it is compared with most often.
    previous: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Compared {
    from: Option<String>,
    to: Option<String>,
}

pub(super) async fn versions(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<PipelinePath>,
    Query(query): Query<Compared>,
) -> Answer {
    let op = &visitor.op;
    let name: PipelineName = named(&path.pipeline)?;
    let judged = console.app.pipelines().versions(op, &name).await?;
    let numbers: Vec<Version> = judged.iter().map(|it| it.version.version).collect();
    let wanted = |given: &Option<String>| given.as_deref().map(named::<Version>).transpose();
    let latest = numbers.last().copied().unwrap_or(Version::FIRST);
    let to = wanted(&query.to)?.unwrap_or(latest);
    let before = |version: Version| numbers.iter().rev().copied().find(|it| *it < version);
    let from = wanted(&query.from)?.or_else(|| before(to)).unwrap_or(to);
    let file = async |version: Version| -> Answer<String> {
        Ok(as_file(&console.app.pipelines().version(op, &name, version).await?.version.pipeline))
    };
    let lines = differences::lines(&file(from).await?, &file(to).await?);
    let rows = judged.iter().rev().map(|it| Row {
        version: it.version.version.to_string(),
        at: Moment::new(it.version.created_at, op.now),
        by: it.version.created_by.clone(),
        login_flow: it.version.login_flow,
        refused: it
            .verdicts
            .iter()
            .filter(|verdict| Standing::of(verdict) == Standing::NotConformant)
            .map(|verdict| verdict.environment.to_string())
            .collect(),
        is_from: it.version.version == from,
        is_to: it.version.version == to,
        previous: before(it.version.version).map(|version| version.to_string()),
    });
    page(&VersionsPage {
        chrome: Chrome::new(&visitor, Section::Pipelines, format!("Versions of {name}")),
        name: name.to_string(),
        versions: rows.collect(),
        from: from.to_string(),
        to: to.to_string(),
        lines,
    })
}
