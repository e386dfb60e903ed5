//! Change requests: what one person asks for and another decides, with exactly what it would do.

mod preview;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use jiff::Timestamp;
use serde::Deserialize;
use tollgate_app::access::{Op, Permission};
use tollgate_app::errors::Error;
use tollgate_model::change_requests::{ChangeRequest, RequestState};
use tollgate_model::environments::FourEyes;
use tollgate_model::ids::ChangeRequestId;

use crate::Console;
use crate::answers::{Answer, page, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::{Fields, Problem, Refusal, Told};
use crate::paths::named;
use crate::permitted::may;
use crate::times::Moment;
use crate::visitor::Visitor;
use preview::{DiffView, PreviewView};

/// Most requests of a list.
const SHOWN: usize = 200;

#[derive(Template)]
#[template(path = "pages/change_requests/index.html")]
struct RequestsPage {
    chrome: Chrome,
    waiting: Vec<Row>,
    decided: Vec<Row>,
    /// Whether the realm wants a second person for anything.
    four_eyes: bool,
    /// How many of the decided ones are not shown.
    more: usize,
}

struct Row {
    id: String,
    summary: String,
    author: String,
    is_own: bool,
    at: Moment,
    expires: Moment,
    mark: (&'static str, &'static str),
    by: String,
}

#[derive(Template)]
#[template(path = "pages/change_requests/show.html")]
struct RequestPage {
    chrome: Chrome,
    id: String,
    row: Row,
    reason: String,
    policy_version: String,
    comment: String,
    decided: Option<Moment>,
    /// What it would do today.
    preview: Option<PreviewView>,
    /// Why it could not be approved today.
    obstacle: Option<Refusal>,
    /// What became other in the policies since it was asked for.
    moved: Option<DiffView>,
    may_decide: bool,
    problem: Problem,
}

#[derive(Deserialize)]
struct ShowQuery {
    #[serde(default)]
    done: String,
}

#[derive(Deserialize)]
struct RequestPath {
    id: String,
}

#[derive(Deserialize)]
struct ApproveForm {
    /// What the page that was read rests on.
    base: u64,
    #[serde(default)]
    comment: String,
}

#[derive(Deserialize)]
struct CommentForm {
    #[serde(default)]
    comment: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/change-requests", get(index))
        .route("/realms/{realm}/change-requests/{id}", get(show))
        .route("/realms/{realm}/change-requests/{id}/approve", post(approve))
        .route("/realms/{realm}/change-requests/{id}/reject", post(reject))
        .route("/realms/{realm}/change-requests/{id}/withdraw", post(withdraw))
}

/// Returns where a request that was just asked for is shown.
pub(super) fn asked_path(op: &Op, request: &ChangeRequest) -> String {
    format!("/realms/{}/change-requests/{}?done=asked", op.realm, request.id)
}

/// Returns what the realm wants a second person for, so that pages say it before anything is saved; nothing where whoever
/// looks may not know.
pub(super) async fn four_eyes(console: &Console, op: &Op) -> FourEyes {
    let realm = console.app.realms().get(op).await;
    realm.map(|realm| realm.value.settings.four_eyes).unwrap_or_default()
}

async fn index(State(console): State<Console>, visitor: Visitor) -> Answer {
    let op = &visitor.op;
    let requests = console.app.change_requests().list(op, None).await?;
    let four_eyes = match console.app.realms().get(op).await {
        Ok(realm) => !realm.value.settings.four_eyes.is_off(),
        // Whoever may not read the realm is told nothing of its settings.
        Err(_) => true,
    };
    let (waiting, decided): (Vec<_>, Vec<_>) =
        requests.iter().partition(|it| it.value.state(op.now) == RequestState::Pending);
    page(&RequestsPage {
        chrome: Chrome::new(&visitor, Section::ChangeRequests, "Change requests"),
        waiting: waiting.into_iter().map(|it| Row::new(&it.value, op)).collect(),
        more: decided.len().saturating_sub(SHOWN),
        decided: decided.into_iter().take(SHOWN).map(|it| Row::new(&it.value, op)).collect(),
        four_eyes,
    })
}

async fn show(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<RequestPath>,
    Query(query): Query<ShowQuery>,
) -> Answer {
    let mut shown = RequestPage::new(&console, &visitor, named(&path.id)?).await?;
    shown.chrome.notice = visitor.notice(notice(&query.done, &shown.row));
    page(&shown)
}

/// Says what was just done. What the address says is shown only where it is so.
fn notice(done: &str, row: &Row) -> Option<&'static str> {
    Some(match (done, row.mark.1) {
        ("asked", "waits") if row.is_own => {
            "Asked for. Nothing was changed yet: somebody else has to approve it."
        }
        ("approved", "approved") => "Approved: the change was made.",
        ("rejected", "rejected") => "Rejected: nothing was changed.",
        ("withdrawn", "withdrawn") => "Withdrawn: nothing was changed.",
        _ => return None,
    })
}

async fn approve(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<RequestPath>,
    Fields(form): Fields<ApproveForm>,
) -> Answer<Response> {
    let id = named(&path.id)?;
    let requests = console.app.change_requests();
    let done = requests.approve(&visitor.op, id, form.base, form.comment.trim(), None).await;
    after(&console, &visitor, id, done.map(drop), "approved").await
}

async fn reject(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<RequestPath>,
    Fields(form): Fields<CommentForm>,
) -> Answer<Response> {
    let id = named(&path.id)?;
    let done = console.app.change_requests().reject(&visitor.op, id, form.comment.trim(), None).await;
    after(&console, &visitor, id, done.map(drop), "rejected").await
}

async fn withdraw(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<RequestPath>,
    Fields(form): Fields<CommentForm>,
) -> Answer<Response> {
    let id = named(&path.id)?;
    let done = console.app.change_requests().withdraw(&visitor.op, id, form.comment.trim(), None).await;
    after(&console, &visitor, id, done.map(drop), "withdrawn").await
}

/// Goes back to the request, or says there why nothing was decided, with what it would do by now.
async fn after(
    console: &Console,
    visitor: &Visitor,
    id: ChangeRequestId,
    done: Result<(), Error>,
    what: &str,
) -> Answer<Response> {
    let Err(error) = done else {
        return Ok(see_other(&format!("/realms/{}/change-requests/{id}?done={what}", visitor.op.realm)));
    };
    let (told, refusal) = Told::of(error)?;
    let mut shown = RequestPage::new(console, visitor, id).await?;
    shown.problem = Problem::new("", refusal);
    told.answer(&shown)
}

// === impl Row ===

impl Row {
    fn new(request: &ChangeRequest, op: &Op) -> Self {
        let moment = |at: Timestamp| Moment::new(at, op.now);
        Self {
            id: request.id.to_string(),
            summary: crate::forms::capitalised(&request.change.to_string()),
            author: request.author.name.clone(),
            is_own: op.actor.user == Some(request.author.user),
            at: moment(request.created_at),
            expires: moment(request.expires_at),
            mark: match request.state(op.now) {
                RequestState::Pending => ("waived", "waits"),
                RequestState::Approved => ("good", "approved"),
                RequestState::Rejected => ("bad", "rejected"),
                RequestState::Withdrawn => ("", "withdrawn"),
                RequestState::Expired => ("", "expired"),
            },
            by: request.decision.as_ref().map(|it| it.by.name.clone()).unwrap_or_default(),
        }
    }
}

// === impl RequestPage ===

impl RequestPage {
    async fn new(console: &Console, visitor: &Visitor, id: ChangeRequestId) -> Answer<Self> {
        let op = &visitor.op;
        let shown = console.app.change_requests().get(op, id).await?;
        let request = &shown.request.value;
        let (preview, obstacle) = match shown.today {
            Some(Ok(preview)) => (Some(PreviewView::from(&preview)), None),
            Some(Err(error)) => (None, Some(Refusal::from(error))),
            None => (None, None),
        };
        let row = Row::new(request, op);
        Ok(Self {
            chrome: Chrome::new(visitor, Section::ChangeRequests, "Change request"),
            id: request.id.to_string(),
            reason: request.reason.clone(),
            policy_version: request.policy_version.to_string(),
            comment: request.decision.as_ref().map(|it| it.comment.clone()).unwrap_or_default(),
            decided: request.decision.as_ref().map(|it| Moment::new(it.at, op.now)),
            preview,
            obstacle,
            moved: shown.moved.as_ref().map(DiffView::from),
            may_decide: !row.is_own && may(op, Permission::ChangeRequestApprove),
            row,
            problem: Problem::default(),
        })
    }
}
