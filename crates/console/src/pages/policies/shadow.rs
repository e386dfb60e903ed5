//! The shadow: policies that are judged beside today's and refuse nothing, what they would have refused, and making them hold.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tollgate_app::change_requests::Proposal;
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::shadow::{PromotionRead, ShadowReport};
use tollgate_model::policies::Policy;

use super::super::change_requests::{asked_path, four_eyes};
use super::impact::ImpactView;
use super::versions::Change;
use super::{save, shown};
use crate::Console;
use crate::answers::{Answer, page, refused, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::{Fields, Problem, Told};
use crate::meanwhile::Meanwhile;
use crate::pages::overview::reasons;
use crate::times::Moment;
use crate::visitor::Visitor;

/// Most refused deploys, and most callers, that the page names.
const NAMED: usize = 20;

#[derive(Template)]
#[template(path = "pages/policies/shadow.html")]
struct ShadowPage {
    chrome: Chrome,
    /// `None` when none runs.
    shadow: Option<ShadowView>,
    /// Why it is to hold, as somebody wrote.
    reason: String,
    problem: Problem,
    meanwhile: Vec<Meanwhile>,
    unconfirmed: bool,
    /// Whether making it hold is asked for.
    is_asked: bool,
}

struct ShadowView {
    begun: Moment,
    by: String,
    reason: String,
    revision: u64,
    policy_version: String,
    proposes: Vec<String>,
    /// The same in one line, for whoever is overtaken.
    read: String,
    impact: Option<ImpactView>,
    judged: usize,
    refused: usize,
    deploys: Vec<Refused>,
    calls: u64,
    lacking: u64,
    called: Vec<(String, u64, u64)>,
}

struct Refused {
    what: String,
    at: Moment,
    by: String,
    why: String,
}

#[derive(Deserialize)]
struct PromoteForm {
    #[serde(default)]
    confirmation: String,
    #[serde(default)]
    reason: String,
    revision: u64,
    version: String,
    /// What it proposed when the form was made.
    #[serde(default)]
    read: String,
}

#[derive(Deserialize)]
struct EndForm {
    revision: u64,
    /// What it proposed when the form was made.
    #[serde(default)]
    read: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/policies/shadow", get(show))
        .route("/realms/{realm}/policies/shadow/promote", post(promote))
        .route("/realms/{realm}/policies/shadow/end", post(end))
}

async fn show(State(console): State<Console>, visitor: Visitor) -> Answer {
    page(&ShadowPage::new(&console, &visitor).await?)
}

async fn promote(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<PromoteForm>,
) -> Answer<Response> {
    let realm = &visitor.op.realm;
    if form.confirmation.trim() != "promote" {
        let mut again = ShadowPage::new(&console, &visitor).await?;
        again.unconfirmed = true;
        again.reason = form.reason;
        if let Some(shown) = &mut again.shadow {
            // Shown again, it is still what was read that is to hold.
            (shown.revision, shown.policy_version, shown.read) = (form.revision, form.version, form.read);
        }
        return Ok(refused(&again)?.into_response());
    }
    let read = PromotionRead { policy_version: form.version.parse().ok(), revision: Some(form.revision) };
    let proposal = Proposal::PromoteShadow(read);
    let PromotionRead { policy_version, revision } = read;
    let saved = match console.app.change_requests().ask(&visitor.op, proposal, &form.reason).await {
        Ok(Some(asked)) => return Ok(see_other(&asked_path(&visitor.op, &asked.request.value))),
        Ok(None) => console.app.shadow().promote(&visitor.op, &form.reason, policy_version, revision).await,
        Err(error) => Err(error),
    };
    match saved {
        Ok(saved) => Ok(see_other(&format!("/realms/{realm}/policies?saved={}", saved.policies.version()))),
        Err(error) => {
            show_again(&console, &visitor, form.reason, (form.read, Some(form.version)), error).await
        }
    }
}

async fn end(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<EndForm>,
) -> Answer<Response> {
    match console.app.shadow().end(&visitor.op, Some(form.revision)).await {
        Ok(()) => Ok(see_other(&format!("/realms/{}/policies/shadow", visitor.op.realm))),
        Err(error) => show_again(&console, &visitor, String::new(), (form.read, None), error).await,
    }
}

/// Shows the shadow as it is by now, and what became of that which was read; of the policies too, where they count.
async fn show_again(
    console: &Console,
    visitor: &Visitor,
    reason: String,
    (read, version): (String, Option<String>),
    error: Error,
) -> Answer<Response> {
    let overtaken = matches!(error.kind, ErrorKind::PreconditionFailed | ErrorKind::NotFound);
    let (told, refusal) = Told::of(error)?;
    let mut again = ShadowPage::new(console, visitor).await?;
    if overtaken {
        let now = again.shadow.as_ref().map_or_else(|| "it has ended".to_owned(), |it| it.read.clone());
        if now != read {
            again.meanwhile.push(Meanwhile { what: "The shadow".to_owned(), then: read, now });
        }
        if let Some(version) = version {
            let changes = save::meanwhile(console, visitor, &version).await?;
            let line = |Change { what, then, now }| Meanwhile { what, then, now };
            again.meanwhile.extend(changes.into_iter().map(line));
        }
    }
    again.reason = reason;
    again.problem = Problem::new("", refusal);
    told.answer(&again)
}

// === impl ShadowPage ===

impl ShadowPage {
    async fn new(console: &Console, visitor: &Visitor) -> Answer<Self> {
        let shadow = match console.app.shadow().report(&visitor.op).await {
            Ok(report) => Some(ShadowView::new(visitor, report.value, report.revision)),
            Err(error) if error.kind == ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let chrome = Chrome::new(visitor, Section::Policies, "Shadow policies");
        Ok(Self {
            chrome,
            shadow,
            reason: String::new(),
            problem: Problem::default(),
            meanwhile: Vec::new(),
            unconfirmed: false,
            is_asked: four_eyes(console, &visitor.op).await.policies,
        })
    }
}

// === impl ShadowView ===

impl ShadowView {
    fn new(visitor: &Visitor, report: ShadowReport, revision: u64) -> Self {
        let now = visitor.op.now;
        let ShadowReport { shadow, policy_version, impact, deploys, callers } = report;
        let changes = shadow.changes.iter().map(proposed);
        let removed = shadow.removed_rules.iter().map(|rule| format!("without rule {rule}"));
        let proposes: Vec<String> = changes.chain(removed).collect();
        Self {
            begun: Moment::new(shadow.created_at, now),
            read: proposes.join("; "),
            proposes,
            by: shadow.created_by,
            reason: shadow.reason,
            revision,
            policy_version: policy_version.to_string(),
            impact: Some(ImpactView::new(&impact)),
            judged: deploys.judged,
            refused: deploys.refused,
            deploys: deploys
                .items
                .iter()
                .take(NAMED)
                .map(|it| Refused {
                    what: format!("{} {} in {}", it.pipeline, it.version, it.environment),
                    at: Moment::new(it.at, now),
                    by: it.actor.clone(),
                    why: reasons(it.violations.iter().map(|violation| violation.message.as_str())),
                })
                .collect(),
            calls: callers.calls,
            lacking: callers.lacking,
            called: callers
                .deployments
                .iter()
                .filter(|it| it.lacking > 0)
                .take(NAMED)
                .map(|it| (format!("{} in {}", it.pipeline, it.environment), it.calls, it.lacking))
                .collect(),
        }
    }
}

/// Says what a policy would be.
fn proposed(policy: &Policy) -> String {
    let values = policy
        .environments()
        .filter_map(|environment| Some(format!("{environment}: {}", shown(&policy.value(environment)?))));
    format!("{} ({})", policy.name(), values.collect::<Vec<_>>().join("; "))
}
