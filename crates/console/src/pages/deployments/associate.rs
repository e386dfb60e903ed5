//! Choosing who may call a pipeline where nobody may yet: the consumers of the environment, to be ticked.

use std::collections::BTreeSet;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Deserialize;
use tollgate_app::lists::ListRequest;
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName};
use tollgate_model::versions::Version;

use crate::Console;
use crate::answers::{Answer, page, refused, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::{FieldList, Refusal};
use crate::paths::named;
use crate::visitor::Visitor;

/// Most consumers that are offered.
const OFFERED: u32 = 200;

#[derive(Template)]
#[template(path = "pages/deployments/associate.html")]
struct AssociatePage {
    chrome: Chrome,
    pipeline: String,
    environment: String,
    version: String,
    consumers: Vec<Offered>,
    more: bool,
    problem: Option<Refusal>,
}

struct Offered {
    name: String,
    description: String,
    /// Whether it may call already.
    associated: bool,
}

#[derive(Deserialize)]
struct PipelinePath {
    pipeline: String,
}

#[derive(Deserialize)]
struct Where {
    environment: String,
    #[serde(default)]
    version: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/realms/{realm}/pipelines/{pipeline}/associate", get(show).post(associate))
}

async fn show(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<PipelinePath>,
    Query(at): Query<Where>,
) -> Answer {
    let (pipeline, environment) = (named(&path.pipeline)?, named(&at.environment)?);
    page(&AssociatePage::new(&console, &visitor, &pipeline, &environment, &at.version).await?)
}

/// Associates each consumer that was ticked.
async fn associate(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<PipelinePath>,
    fields: FieldList,
) -> Answer<Response> {
    let pipeline: PipelineName = named(&path.pipeline)?;
    let environment: EnvironmentName = named(fields.one("environment"))?;
    let version = fields.one("version").to_owned();
    let ticked = fields.all("consumer");
    let ticked = ticked.iter().map(|name| named(name)).collect::<Answer<BTreeSet<ConsumerName>>>()?;
    if ticked.is_empty() {
        let mut again = AssociatePage::new(&console, &visitor, &pipeline, &environment, &version).await?;
        again.problem = Some(Refusal::saying(
            "Nobody is ticked",
            Some("Tick who may call it, or make a new consumer".to_owned()),
        ));
        return Ok(refused(&again)?.into_response());
    }
    for consumer in &ticked {
        let with = BTreeSet::from([pipeline.clone()]);
        console.app.consumers().associate(&visitor.op, &environment, consumer, with, None).await?;
    }
    let version = version.parse::<Version>().map(|version| format!("&version={version}")).unwrap_or_default();
    let realm = &visitor.op.realm;
    Ok(see_other(&format!("/realms/{realm}/pipelines/{pipeline}/deploy?environment={environment}{version}")))
}

// === impl AssociatePage ===

impl AssociatePage {
    async fn new(
        console: &Console,
        visitor: &Visitor,
        pipeline: &PipelineName,
        environment: &EnvironmentName,
        version: &str,
    ) -> Answer<Self> {
        let op = &visitor.op;
        // Nobody is to be associated with a name that is made up.
        console.app.pipelines().get(op, pipeline).await?;
        let request = ListRequest { limit: Some(OFFERED), cursor: None };
        let consumers = console.app.consumers().list(op, environment, request).await?;
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Deployments, format!("Who may call {pipeline}")),
            pipeline: pipeline.to_string(),
            environment: environment.to_string(),
            version: version.parse::<Version>().map(|version| version.to_string()).unwrap_or_default(),
            more: consumers.next.is_some(),
            consumers: consumers
                .items
                .into_iter()
                .map(|it| Offered {
                    associated: it.pipelines.contains(pipeline),
                    name: it.name.to_string(),
                    description: it.description,
                })
                .collect(),
            problem: None,
        })
    }
}
