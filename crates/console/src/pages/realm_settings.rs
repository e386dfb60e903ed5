//! What a realm decided about itself: four eyes, the second factor, how long waivers last.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;
use tollgate_app::access::Permission;
use tollgate_app::change_requests::Proposal;
use tollgate_app::errors::Error;
use tollgate_model::environments::{FourEyes, RealmSettings, SecondFactorRule, WaiverDays};
use tollgate_model::names::RealmName;

use super::change_requests::asked_path;
use crate::Console;
use crate::answers::{Answer, page, refused, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::{Fields, Problem, Refusal, Told};
use crate::permitted::may;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/realm_settings.html")]
struct SettingsPage {
    chrome: Chrome,
    revision: u64,
    days: String,
    four_eyes: FourEyes,
    required: bool,
    reason: String,
    /// Whether users live in this realm, so that a second factor can be demanded of them.
    is_home: bool,
    /// Whether a change is asked for in place of being saved.
    is_asked: bool,
    may_update: bool,
    problem: Problem,
}

#[derive(Deserialize)]
struct ShowQuery {
    #[serde(default)]
    done: String,
}

#[derive(Deserialize)]
struct SettingsForm {
    revision: u64,
    #[serde(default)]
    days: String,
    four_eyes_policies: Option<String>,
    four_eyes_waivers: Option<String>,
    second_factor: Option<String>,
    #[serde(default)]
    reason: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/realms/{realm}/settings", get(show).post(save))
}

async fn show(State(console): State<Console>, visitor: Visitor, Query(query): Query<ShowQuery>) -> Answer {
    let mut shown = SettingsPage::new(&console, &visitor).await?;
    shown.chrome.notice = visitor.notice((query.done == "saved").then_some("Saved."));
    page(&shown)
}

async fn save(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<SettingsForm>,
) -> Answer<Response> {
    let op = &visitor.op;
    let mut again = SettingsPage::new(&console, &visitor).await?;
    let before = console.app.realms().get(op).await?.value.settings;
    let settings = form.settings(before);
    again.fill(&form);
    let settings = match settings {
        Ok(settings) => settings,
        Err(problem) => {
            again.problem = problem;
            return Ok(refused(&again)?.into_response());
        }
    };
    let (reason, if_match) = (form.reason.trim(), Some(form.revision));
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
        Err(error) => again.refuse(error),
    }
}

// === impl SettingsForm ===

impl SettingsForm {
    /// Returns the settings of the form; those that it does not show are kept.
    fn settings(&self, before: RealmSettings) -> Result<RealmSettings, Problem> {
        let days: Option<WaiverDays> =
            self.days.trim().parse::<u64>().ok().and_then(|days| serde_json::from_value(json!(days)).ok());
        let Some(max_waiver_days) = days else {
            let hint = Some("Write 1 to 365 days".to_owned());
            let refusal = Refusal::saying("A waiver cannot last that long", hint);
            return Err(Problem::new("days", refusal));
        };
        let second_factor = match self.second_factor {
            Some(_) => SecondFactorRule::Required,
            None => SecondFactorRule::Optional,
        };
        let four_eyes = FourEyes {
            policies: self.four_eyes_policies.is_some(),
            waivers: self.four_eyes_waivers.is_some(),
        };
        Ok(RealmSettings { max_waiver_days, four_eyes, second_factor, ..before })
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
            days: settings.max_waiver_days.get().to_string(),
            four_eyes: settings.four_eyes,
            required: settings.second_factor == SecondFactorRule::Required,
            reason: String::new(),
            is_home: op.realm == RealmName::default(),
            is_asked: !settings.four_eyes.is_off(),
            may_update: may(op, Permission::RealmUpdate),
            problem: Problem::default(),
        })
    }

    /// Shows what was sent in place of what holds.
    fn fill(&mut self, form: &SettingsForm) {
        self.days.clone_from(&form.days);
        self.four_eyes.policies = form.four_eyes_policies.is_some();
        self.four_eyes.waivers = form.four_eyes_waivers.is_some();
        self.required = form.second_factor.is_some();
        self.reason.clone_from(&form.reason);
    }

    fn refuse(mut self, error: Error) -> Answer<Response> {
        let (told, refusal) = Told::of(error)?;
        let field = match told.code {
            "second-factor-missing" => "second_factor",
            "invalid" if refusal.message.contains("second factor") => "second_factor",
            "invalid" if refusal.message.contains("reason") => "reason",
            _ => "",
        };
        self.problem = Problem::new(field, refusal);
        told.answer(&self)
    }
}
