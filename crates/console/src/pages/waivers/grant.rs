//! Granting a waiver for what a pipeline breaks.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use jiff::SignedDuration;
use serde::Deserialize;
use tollgate_app::change_requests::Proposal;
use tollgate_app::waivers::{NewWaiver, WaiverEnd};
use tollgate_model::policies::PolicyName;

use super::super::change_requests::{asked_path, four_eyes};
use super::{DAY_HOURS, done};
use crate::Console;
use crate::answers::{Answer, page, refused, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::{Fields, Problem, Told};
use crate::paths::named;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/waivers/new.html")]
struct NewPage {
    chrome: Chrome,
    form: WaiverForm,
    /// The policies that the pipeline breaks there.
    policies: Vec<String>,
    /// Whether it is asked for in place of being made.
    is_asked: bool,
    problem: Problem,
}

#[derive(Deserialize)]
pub(super) struct NewQuery {
    pipeline: String,
    environment: String,
}

#[derive(Deserialize)]
pub(super) struct WaiverForm {
    pipeline: String,
    environment: String,
    #[serde(default)]
    policy: String,
    #[serde(default = "fortnight")]
    days: String,
    #[serde(default)]
    reason: String,
}

fn fortnight() -> String {
    "14".to_owned()
}

pub(super) async fn new(
    State(console): State<Console>,
    visitor: Visitor,
    Query(query): Query<NewQuery>,
) -> Answer {
    let NewQuery { pipeline, environment } = query;
    let form =
        WaiverForm { pipeline, environment, policy: String::new(), days: fortnight(), reason: String::new() };
    page(&NewPage::new(&console, &visitor, form).await?)
}

pub(super) async fn create(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<WaiverForm>,
) -> Answer<Response> {
    let Some(end) = end_after(&form.days) else {
        let mut again = NewPage::new(&console, &visitor, form).await?;
        again.problem = Problem::of("days", "write a number of days");
        return Ok(refused(&again)?.into_response());
    };
    let input = NewWaiver {
        pipeline: named(&form.pipeline)?,
        environment: named(&form.environment)?,
        policy: named::<PolicyName>(&form.policy)?,
        code: None,
        end,
        reason: form.reason.clone(),
        replace: false,
        extends: None,
    };
    let proposal = Proposal::Waiver(&input);
    let made = match console.app.change_requests().ask(&visitor.op, proposal, &form.reason).await {
        Ok(Some(asked)) => return Ok(see_other(&asked_path(&visitor.op, &asked.request.value))),
        Ok(None) => console.app.waivers().create(&visitor.op, input).await.map(drop),
        Err(error) => Err(error),
    };
    match made {
        Ok(()) => Ok(done(&visitor.op, "grant")),
        Err(error) => {
            let (told, refusal) = Told::of(error)?;
            let mut again = NewPage::new(&console, &visitor, form).await?;
            let field = match field_of(told.code, &refusal.message) {
                "" if !again.policies.is_empty()
                    && matches!(told.code, "waiver-unfounded" | "already-waived") =>
                {
                    "policy"
                }
                field => field,
            };
            again.problem = Problem::new(field, refusal);
            told.answer(&again)
        }
    }
}

/// Reads after how many days a waiver ends.
pub(super) fn end_after(days: &str) -> Option<WaiverEnd> {
    let days = days.trim().parse::<u16>().ok()?;
    Some(WaiverEnd::After(SignedDuration::from_hours(DAY_HOURS * i64::from(days))))
}

/// Returns the field that a refusal concerns.
pub(super) fn field_of(code: &str, message: &str) -> &'static str {
    match code {
        "date-passed" | "waiver-too-long" => "days",
        "invalid" if message.to_lowercase().contains("reason") => "reason",
        _ => "",
    }
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
            problem: Problem::default(),
        })
    }
}
