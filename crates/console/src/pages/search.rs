//! The search over pipelines and consumers: a page, and suggestions while one writes.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::routing::get;
use http::HeaderMap;
use serde::Deserialize;
use tollgate_app::search::Found;

use crate::Console;
use crate::answers::{Answer, page};
use crate::chrome::{Chrome, Section};
use crate::visitor::Visitor;

/// Most results of each kind on the page.
const LIMIT: u32 = 50;
/// Most suggestions of each kind.
const SUGGESTED: u32 = 6;

#[derive(Template)]
#[template(path = "pages/search.html")]
struct SearchPage {
    chrome: Chrome,
    results: Results,
}

/// The results alone, for htmx.
#[derive(Template)]
#[template(path = "parts/search_results.html")]
struct Results {
    realm: String,
    q: String,
    /// A name and its project.
    pipelines: Vec<(String, String)>,
    /// A name and its environment.
    consumers: Vec<(String, String)>,
    more: bool,
}

#[derive(Deserialize)]
struct SearchQuery {
    #[serde(default)]
    q: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/realms/{realm}/search", get(show))
}

async fn show(
    State(console): State<Console>,
    visitor: Visitor,
    headers: HeaderMap,
    Query(query): Query<SearchQuery>,
) -> Answer {
    let suggests = headers.contains_key("hx-request");
    let limit = if suggests { SUGGESTED } else { LIMIT };
    let found = console.app.search().find(&visitor.op, &query.q, limit).await?;
    let results = Results::new(&visitor, query.q, found);
    if suggests {
        return page(&results);
    }
    let mut chrome = Chrome::new(&visitor, Section::Search, "Search");
    chrome.q.clone_from(&results.q);
    page(&SearchPage { chrome, results })
}

// === impl Results ===

impl Results {
    fn new(visitor: &Visitor, q: String, found: Found) -> Self {
        Self {
            realm: visitor.op.realm.to_string(),
            q,
            pipelines: found
                .pipelines
                .into_iter()
                .map(|it| (it.name.to_string(), it.project.to_string()))
                .collect(),
            consumers: found
                .consumers
                .into_iter()
                .map(|it| (it.name.to_string(), it.environment.to_string()))
                .collect(),
            more: found.more,
        }
    }
}
