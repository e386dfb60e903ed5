//! Extending a waiver: another takes its place, and of no other. What somebody ended meanwhile does not come back.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use tollgate_app::change_requests::Proposal;
use tollgate_app::errors::ErrorKind;
use tollgate_app::waivers::NewWaiver;
use tollgate_model::ids::WaiverId;
use tollgate_model::waivers::Waiver;

use super::super::change_requests::{asked_path, four_eyes};
use super::grant::{end_after, field_of};
use super::{WaiversPage, done};
use crate::Console;
use crate::answers::{Answer, page, refused, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::{Fields, Problem, Told};
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/waivers/extend.html")]
struct ExtendPage {
    chrome: Chrome,
    form: ExtendForm,
    pipeline: String,
    environment: String,
    policy: String,
    code: &'static str,
    until: Moment,
    /// How long a waiver of this realm lasts at most, in days; nothing for whom that is not to see.
    most: Option<u16>,
    /// Whether it is asked for in place of being done.
    is_asked: bool,
    problem: Problem,
}

#[derive(Deserialize)]
pub(super) struct ExtendQuery {
    id: String,
}

#[derive(Deserialize)]
pub(super) struct ExtendForm {
    id: String,
    #[serde(default)]
    days: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn show(
    State(console): State<Console>,
    visitor: Visitor,
    Query(query): Query<ExtendQuery>,
) -> Answer {
    let waiver = console.app.waivers().get(&visitor.op, named(&query.id)?).await?.value;
    let form = ExtendForm { id: query.id, days: "14".to_owned(), reason: waiver.reason.clone() };
    page(&ExtendPage::new(&console, &visitor, &waiver, form).await)
}

pub(super) async fn extend(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<ExtendForm>,
) -> Answer<Response> {
    let op = &visitor.op;
    let id: WaiverId = named(&form.id)?;
    let waiver = match console.app.waivers().get(op, id).await {
        Ok(waiver) => waiver.value,
        Err(error) if error.kind == ErrorKind::NotFound => return gone(&console, &visitor, error).await,
        Err(error) => return Err(error.into()),
    };
    let Some(end) = end_after(&form.days) else {
        let mut again = ExtendPage::new(&console, &visitor, &waiver, form).await;
        again.problem = Problem::of("days", "write a number of days");
        return Ok(refused(&again)?.into_response());
    };
    let input = NewWaiver {
        pipeline: waiver.pipeline.clone(),
        environment: waiver.environment.clone(),
        policy: waiver.policy.clone(),
        code: Some(waiver.code),
        end,
        reason: form.reason.clone(),
        replace: true,
        extends: Some(id),
    };
    let made = match console.app.change_requests().ask(op, Proposal::Waiver(&input), &form.reason).await {
        Ok(Some(asked)) => return Ok(see_other(&asked_path(op, &asked.request.value))),
        Ok(None) => console.app.waivers().create(op, input).await.map(drop),
        Err(error) => Err(error),
    };
    match made {
        Ok(()) => Ok(done(op, "extend")),
        Err(error) if error.kind == ErrorKind::PreconditionFailed => gone(&console, &visitor, error).await,
        Err(error) => {
            let (told, refusal) = Told::of(error)?;
            let mut again = ExtendPage::new(&console, &visitor, &waiver, form).await;
            again.problem = Problem::new(field_of(told.code, &refusal.message), refusal);
            told.answer(&again)
        }
    }
}

/// Shows which waivers there are by now, since the one to extend is not there any more.
async fn gone(console: &Console, visitor: &Visitor, error: tollgate_app::errors::Error) -> Answer<Response> {
    let (told, refusal) = Told::of(error)?;
    let mut list = WaiversPage::new(console, visitor).await?;
    list.problem = Problem::new("", refusal);
    told.answer(&list)
}

// === impl ExtendPage ===

impl ExtendPage {
    async fn new(console: &Console, visitor: &Visitor, waiver: &Waiver, form: ExtendForm) -> Self {
        let op = &visitor.op;
        let realm = console.app.realms().get(op).await.ok();
        Self {
            chrome: Chrome::new(visitor, Section::Waivers, "Extend a waiver"),
            form,
            pipeline: waiver.pipeline.to_string(),
            environment: waiver.environment.to_string(),
            policy: waiver.policy.to_string(),
            code: waiver.code.as_str(),
            until: Moment::new(waiver.until, op.now),
            most: realm.map(|realm| realm.value.settings.max_waiver_days.get()),
            is_asked: four_eyes(console, op).await.waivers,
            problem: Problem::default(),
        }
    }
}
