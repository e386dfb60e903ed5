//! Waivers: violations that pass until a date, and ending them.

use std::collections::BTreeSet;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use jiff::SignedDuration;
use serde::Deserialize;
use tollgate_app::change_requests::Proposal;
use tollgate_app::errors::ErrorKind;
use tollgate_app::waivers::{NewWaiver, WaiverEnd, WaiverFilter};
use tollgate_model::ids::WaiverId;
use tollgate_model::policies::PolicyName;

use super::change_requests::{asked_path, four_eyes};
use crate::Console;
use crate::answers::{Answer, page, render, see_other};
use crate::chrome::{Chrome, Section};
use crate::errors::status_of;
use crate::forms::{Fields, Refusal};
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

const DAY_HOURS: i64 = 24;

#[derive(Template)]
#[template(path = "pages/waivers/index.html")]
struct WaiversPage {
    chrome: Chrome,
    waivers: Vec<Row>,
}

struct Row {
    id: String,
    pipeline: String,
    environment: String,
    policy: String,
    code: &'static str,
    until: Moment,
    reason: String,
    by: String,
}

#[derive(Template)]
#[template(path = "pages/waivers/new.html")]
struct NewPage {
    chrome: Chrome,
    form: WaiverForm,
    /// The policies that the pipeline breaks there.
    policies: Vec<String>,
    /// Whether it is asked for in place of being made.
    is_asked: bool,
    problem: Option<Refusal>,
}

#[derive(Deserialize)]
struct NewQuery {
    pipeline: String,
    environment: String,
}

#[derive(Deserialize)]
struct WaiverForm {
    pipeline: String,
    environment: String,
    #[serde(default)]
    policy: String,
    #[serde(default = "fortnight")]
    days: u16,
    #[serde(default)]
    reason: String,
}

fn fortnight() -> u16 {
    14
}

#[derive(Deserialize)]
struct EndForm {
    id: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/waivers", get(index).post(create))
        .route("/realms/{realm}/waivers/new", get(new))
        .route("/realms/{realm}/waivers/end", post(end))
}

async fn index(State(console): State<Console>, visitor: Visitor) -> Answer {
    let waivers = console.app.waivers().list(&visitor.op, &WaiverFilter::default()).await?;
    page(&WaiversPage {
        chrome: Chrome::new(&visitor, Section::Waivers, "Waivers"),
        waivers: waivers
            .into_iter()
            .map(|it| Row {
                id: it.value.id.to_string(),
                pipeline: it.value.pipeline.to_string(),
                environment: it.value.environment.to_string(),
                policy: it.value.policy.to_string(),
                code: it.value.code.as_str(),
                until: Moment::new(it.value.until, visitor.op.now),
                reason: it.value.reason,
                by: it.value.created_by,
            })
            .collect(),
    })
}

async fn new(State(console): State<Console>, visitor: Visitor, Query(query): Query<NewQuery>) -> Answer {
    let NewQuery { pipeline, environment } = query;
    let form =
        WaiverForm { pipeline, environment, policy: String::new(), days: fortnight(), reason: String::new() };
    page(&NewPage::new(&console, &visitor, form).await?)
}

async fn create(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<WaiverForm>,
) -> Answer<Response> {
    let input = NewWaiver {
        pipeline: named(&form.pipeline)?,
        environment: named(&form.environment)?,
        policy: named::<PolicyName>(&form.policy)?,
        code: None,
        end: WaiverEnd::After(SignedDuration::from_hours(DAY_HOURS * i64::from(form.days))),
        reason: form.reason.clone(),
        replace: false,
    };
    let proposal = Proposal::Waiver(&input);
    let made = match console.app.change_requests().ask(&visitor.op, proposal, &form.reason).await {
        Ok(Some(asked)) => return Ok(see_other(&asked_path(&visitor.op, &asked.request.value))),
        Ok(None) => console.app.waivers().create(&visitor.op, input).await.map(drop),
        Err(error) => Err(error),
    };
    match made {
        Ok(()) => Ok(see_other(&format!("/realms/{}/waivers", visitor.op.realm))),
        Err(error) if matches!(error.kind, ErrorKind::Invalid | ErrorKind::Conflict) => {
            let status = status_of(error.kind);
            let mut again = NewPage::new(&console, &visitor, form).await?;
            again.problem = Some(error.into());
            Ok(render(status, &again)?.into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn end(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<EndForm>,
) -> Answer<Response> {
    console.app.waivers().end(&visitor.op, named::<WaiverId>(&form.id)?, None).await?;
    Ok(see_other(&format!("/realms/{}/waivers", visitor.op.realm)))
}

// === impl NewPage ===

impl NewPage {
    async fn new(console: &Console, visitor: &Visitor, form: WaiverForm) -> Answer<Self> {
        let environment = named(&form.environment)?;
        let pipeline = named(&form.pipeline)?;
        let items = console.app.conformance().of_pipeline(&visitor.op, &environment, &pipeline).await?;
        let broken: BTreeSet<String> = items
            .iter()
            .flat_map(|item| &item.violations)
            .map(|violation| violation.policy.to_string())
            .collect();
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Waivers, "New waiver"),
            form,
            policies: broken.into_iter().collect(),
            is_asked: four_eyes(console, &visitor.op).await.waivers,
            problem: None,
        })
    }
}
