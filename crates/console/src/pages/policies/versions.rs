//! Versions of the policies: who changed what and why, and bringing one back.

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use tollgate_app::PolicyDiff;
use tollgate_app::policies::PolicyEdit;
use tollgate_model::versions::Version;

use super::super::change_requests::four_eyes;
use super::impact::ImpactView;
use super::save::{self, Outcome};
use super::shown;
use crate::Console;
use crate::answers::{Answer, page, refused, render};
use crate::chrome::{Chrome, Section};
use crate::forms::{Fields, Refusal};
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/policies/versions.html")]
struct VersionsPage {
    chrome: Chrome,
    versions: Vec<Row>,
}

struct Row {
    version: String,
    at: Moment,
    by: String,
    reason: String,
    current: bool,
}

#[derive(Template)]
#[template(path = "pages/policies/version.html")]
struct VersionPage {
    chrome: Chrome,
    version: String,
    today: String,
    at: Moment,
    by: String,
    reason: String,
    /// What differs today.
    changes: Vec<Change>,
    /// What restoring would do; `None` for the current one, or for whom that is not to ask.
    impact: Option<ImpactView>,
    revision: u64,
    /// The version that the form goes over.
    read: String,
    problem: Option<Refusal>,
    /// What somebody else changed since.
    meanwhile: Vec<Change>,
    unconfirmed: bool,
    /// Whether restoring it is asked for in place of being done.
    is_asked: bool,
}

/// A value that differs.
pub(super) struct Change {
    pub(super) what: String,
    pub(super) then: String,
    pub(super) now: String,
}

#[derive(Deserialize)]
struct VersionPath {
    version: String,
}

#[derive(Deserialize)]
struct RestoreForm {
    confirmation: String,
    revision: u64,
    /// The version that was today's when the form was made.
    #[serde(default)]
    today: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/policy-versions", get(index))
        .route("/realms/{realm}/policy-versions/{version}", get(show).post(restore))
}

async fn index(State(console): State<Console>, visitor: Visitor) -> Answer {
    let versions = console.app.policies().versions(&visitor.op).await?;
    let row = |(index, it): (usize, tollgate_model::policies::PolicyVersion)| Row {
        version: it.policies.version().to_string(),
        at: Moment::new(it.created_at, visitor.op.now),
        by: it.created_by,
        reason: it.reason,
        current: index == 0,
    };
    page(&VersionsPage {
        chrome: Chrome::new(&visitor, Section::Policies, "Policy versions"),
        versions: versions.into_iter().enumerate().map(row).collect(),
    })
}

async fn show(State(console): State<Console>, visitor: Visitor, Path(path): Path<VersionPath>) -> Answer {
    page(&VersionPage::new(&console, &visitor, named(&path.version)?).await?)
}

async fn restore(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<VersionPath>,
    Fields(form): Fields<RestoreForm>,
) -> Answer<Response> {
    let version: Version = named(&path.version)?;
    if form.confirmation.trim() != version.to_string() {
        let mut again = VersionPage::new(&console, &visitor, version).await?;
        again.unconfirmed = true;
        // Shown again, it is still what was read that is gone over.
        (again.revision, again.read) = (form.revision, form.today);
        return Ok(refused(&again)?.into_response());
    }
    let edit = PolicyEdit::Restore(version);
    let reason = format!("version {version} restored");
    match save::save(&console, &visitor, &edit, &reason, form.revision).await? {
        Outcome::Done(response) => Ok(response),
        Outcome::Again(status, problem) => {
            let mut again = VersionPage::new(&console, &visitor, version).await?;
            if status == StatusCode::PRECONDITION_FAILED {
                again.meanwhile = save::meanwhile(&console, &visitor, &form.today).await?;
            }
            again.problem = Some(problem);
            Ok(render(status, &again)?.into_response())
        }
    }
}

// === impl VersionPage ===

impl VersionPage {
    async fn new(console: &Console, visitor: &Visitor, version: Version) -> Answer<Self> {
        let (op, policies) = (&visitor.op, console.app.policies());
        let saved = policies.version(op, version).await?;
        let today = policies.get(op).await?;
        let diff = policies.diff(op, version, None).await?;
        let impact = if version == today.value.version() {
            None
        } else {
            policies.impact(op, &PolicyEdit::Restore(version)).await.ok()
        };
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Policies, format!("Policy version {version}")),
            version: version.to_string(),
            today: today.value.version().to_string(),
            at: Moment::new(saved.created_at, op.now),
            by: saved.created_by,
            reason: saved.reason,
            changes: changes(&diff),
            impact: impact.as_ref().map(ImpactView::new),
            revision: today.revision,
            read: today.value.version().to_string(),
            problem: None,
            meanwhile: Vec::new(),
            unconfirmed: false,
            is_asked: four_eyes(console, op).await.policies,
        })
    }
}

/// Lists what two versions differ in.
pub(super) fn changes(diff: &PolicyDiff) -> Vec<Change> {
    let text = |value: &Value| if value.is_null() { "nothing".to_owned() } else { shown(value) };
    let mut changes = Vec::new();
    for policy in &diff.policies {
        for it in &policy.environments {
            changes.push(Change {
                what: format!("{} in {}", policy.policy, it.name),
                then: text(&it.before),
                now: text(&it.after),
            });
        }
        for it in &policy.settings {
            changes.push(Change {
                what: format!("{} of {}", it.name, policy.policy),
                then: text(&it.before),
                now: text(&it.after),
            });
        }
    }
    changes
}
