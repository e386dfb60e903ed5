//! What a realm decided about itself: four eyes, the second factor, how long waivers last, which special networks flows may
//! call, and what pages of other origins may do.

mod form;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Deserialize;
use tollgate_app::access::Permission;
use tollgate_app::change_requests::Proposal;
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_model::names::RealmName;

use self::form::{NAMES, SettingsForm, told};
use super::change_requests::asked_path;
use crate::Console;
use crate::answers::{Answer, page, refused, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::{FieldList, Problem, Told};
use crate::meanwhile::Meanwhile;
use crate::permitted::may;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/realm_settings.html")]
struct SettingsPage {
    chrome: Chrome,
    revision: u64,
    /// The settings that the form was filled with, for whoever is overtaken.
    read: String,
    form: SettingsForm,
    reason: String,
    /// Whether users live in this realm, so that a second factor can be demanded of them.
    is_home: bool,
    /// Whether a change is asked for in place of being saved.
    is_asked: bool,
    may_update: bool,
    problem: Problem,
    meanwhile: Vec<Meanwhile>,
}

#[derive(Deserialize)]
struct ShowQuery {
    #[serde(default)]
    done: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/realms/{realm}/settings", get(show).post(save))
}

async fn show(State(console): State<Console>, visitor: Visitor, Query(query): Query<ShowQuery>) -> Answer {
    let mut shown = SettingsPage::new(&console, &visitor).await?;
    shown.chrome.notice = visitor.notice((query.done == "saved").then_some("Saved."));
    page(&shown)
}

async fn save(State(console): State<Console>, visitor: Visitor, fields: FieldList) -> Answer<Response> {
    let op = &visitor.op;
    op.demand(Permission::RealmUpdate)?;
    let mut again = SettingsPage::new(&console, &visitor).await?;
    let before = console.app.realms().get(op).await?.value.settings;
    let revision = fields.one("revision").parse().unwrap_or_default();
    again.form = SettingsForm::sent(&fields, &before);
    again.reason = fields.one("reason").to_owned();
    let settings = match again.form.settings() {
        Ok(settings) => settings,
        Err(problem) => {
            // It is still what was read that is changed.
            again.revision = revision;
            again.read = fields.one("read").to_owned();
            again.problem = problem;
            return Ok(refused(&again)?.into_response());
        }
    };
    let (reason, if_match) = (again.reason.trim(), Some(revision));
    let proposal = Proposal::Settings { settings: &settings, if_match };
    let saved = match console.app.change_requests().ask(op, proposal, reason).await {
        Ok(Some(asked)) => return Ok(see_other(&asked_path(op, &asked.request.value))),
        Ok(None) => {
            console.app.realms().update_because(op, settings.clone(), reason, if_match).await.map(drop)
        }
        Err(error) => Err(error),
    };
    match saved {
        Ok(()) => Ok(see_other(&format!("/realms/{}/settings?done=saved", op.realm))),
        Err(error) => {
            if error.kind == ErrorKind::PreconditionFailed {
                let now = serde_json::from_str(&again.read).unwrap_or_default();
                again.meanwhile = Meanwhile::of_fields(fields.one("read"), &now, &NAMES);
            } else {
                again.revision = revision;
                again.read = fields.one("read").to_owned();
            }
            again.refuse(error)
        }
    }
}

// === impl SettingsPage ===

impl SettingsPage {
    async fn new(console: &Console, visitor: &Visitor) -> Answer<Self> {
        let op = &visitor.op;
        let realm = console.app.realms().get(op).await?;
        let settings = realm.value.settings;
        Ok(Self {
            chrome: Chrome::new(visitor, Section::RealmSettings, "Realm settings"),
            revision: realm.revision,
            read: told(&settings).to_string(),
            form: SettingsForm::of(&settings),
            reason: String::new(),
            is_home: op.realm == RealmName::default(),
            is_asked: !settings.four_eyes.is_off(),
            may_update: may(op, Permission::RealmUpdate),
            problem: Problem::default(),
            meanwhile: Vec::new(),
        })
    }

    fn refuse(mut self, error: Error) -> Answer<Response> {
        let (told, refusal) = Told::of(error)?;
        let field = match told.code {
            "second-factor-missing" => "second_factor",
            "invalid" if refusal.message.contains("second factor") => "second_factor",
            "invalid" if refusal.message.contains("reason") => "reason",
            "invalid" if refusal.message.contains("networks") => "allow_upstreams",
            _ => "",
        };
        self.problem = Problem::new(field, refusal);
        told.answer(&self)
    }
}
