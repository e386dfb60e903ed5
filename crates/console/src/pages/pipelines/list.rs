//! The list of pipelines, by project and by a part of the name.

use askama::Template;
use axum::extract::{Query, State};
use serde::Deserialize;
use tollgate_app::lists::ListRequest;
use tollgate_model::names::ProjectName;

use crate::Console;
use crate::answers::{Answer, page};
use crate::chrome::{Chrome, Section};
use crate::paths::{encoded, named};
use crate::visitor::Visitor;

/// Pipelines on a page of the list.
const PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "pages/pipelines/index.html")]
struct PipelinesPage {
    chrome: Chrome,
    projects: Vec<ProjectChoice>,
    /// A part of a name that was looked for.
    text: String,
    /// Whether only some pipelines were asked for.
    narrowed: bool,
    pipelines: Vec<Row>,
    next: Option<String>,
    /// The list without what it was narrowed to, from its beginning; `None` where it begins there.
    first: Option<String>,
}

struct ProjectChoice {
    name: String,
    chosen: bool,
}

struct Row {
    name: String,
    project: String,
    latest: String,
    versions: usize,
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    project: String,
    #[serde(default)]
    q: String,
    cursor: Option<String>,
}

pub(super) async fn index(
    State(console): State<Console>,
    visitor: Visitor,
    Query(query): Query<ListQuery>,
) -> Answer {
    let op = &visitor.op;
    let project =
        Some(query.project.as_str()).filter(|it| !it.is_empty()).map(named::<ProjectName>).transpose()?;
    let text = query.q.trim().to_lowercase();
    let (narrowed, later) = (!query.project.is_empty() || !text.is_empty(), query.cursor.is_some());
    let request = ListRequest { limit: Some(PAGE), cursor: query.cursor };
    let list = console.app.pipelines().search(op, project.as_ref(), &text, request).await?;
    let projects = console.app.environments().projects(op).await?;
    let here = |cursor: Option<&str>| {
        let mut path = format!("?project={}&q={}", encoded(&query.project), encoded(&query.q));
        if let Some(cursor) = cursor {
            path.push_str(&format!("&cursor={}", encoded(cursor)));
        }
        path
    };
    page(&PipelinesPage {
        chrome: Chrome::new(&visitor, Section::Pipelines, "Pipelines"),
        projects: projects
            .into_iter()
            .map(|it| ProjectChoice { chosen: it.name.as_str() == query.project, name: it.name.to_string() })
            .collect(),
        narrowed,
        pipelines: list
            .items
            .iter()
            .map(|head| Row {
                name: head.name.to_string(),
                project: head.project.to_string(),
                latest: head.latest.to_string(),
                versions: head.versions.len(),
            })
            .collect(),
        next: list.next.as_deref().map(|cursor| here(Some(cursor))),
        first: later.then(|| here(None)),
        text: query.q,
    })
}
