//! Change requests: what one person asks for and another decides.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_app::Stored;
use tollgate_app::access::{Op, Permission};
use tollgate_app::change_requests::{AskedChange, Preview, Proposal, ShownChange};
use tollgate_app::errors::Error;
use tollgate_model::change_requests::{ChangeRequest, RequestState};
use tollgate_model::environments::RealmSettings;
use tollgate_model::ids::ChangeRequestId;

use crate::Api;
use crate::answers::{Answer, ListView, Tagged};
use crate::extract::{Ask, Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};
use crate::policies::ImpactView;
use crate::policy_versions::DiffView;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RequestView {
    id: String,
    state: RequestState,
    /// What was asked for, in words.
    summary: String,
    /// What was asked for: `type` (`setPolicy`, `removeRule`, `restorePolicies`, `promoteShadow`, `createEnvironment`,
    /// `deleteEnvironment`, `createWaiver`, `setRealmSettings`) and what belongs to it.
    change: Value,
    reason: String,
    author: PersonView,
    created_at: String,
    /// From when on it can't be approved any more.
    expires_at: String,
    /// The newest revision of what it was based on when it was asked for.
    base: u64,
    /// The version of the policies then.
    policy_version: String,
    /// What became of it: `null` while nobody decided.
    decision: Option<DecisionView>,
}

#[derive(Serialize, JsonSchema)]
struct PersonView {
    /// The id of the user, which stays the same.
    user: String,
    /// Their name then.
    name: String,
}

#[derive(Serialize, JsonSchema)]
struct DecisionView {
    /// `approved`, `rejected` or `withdrawn`.
    outcome: &'static str,
    by: PersonView,
    at: String,
    comment: String,
}

/// What a change would do as of now.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct PreviewView {
    /// The newest revision of what it rests on now: whoever approves it sends this as `base`.
    current_base: u64,
    /// The policies before and after, when it changes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<DiffView>,
    #[serde(flatten)]
    impact: Option<ImpactView>,
    /// The realm's settings before and after, when it changes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<SettingsChangeView>,
}

#[derive(Serialize, JsonSchema)]
struct SettingsChangeView {
    before: RealmSettings,
    after: RealmSettings,
}

/// A change that was asked for: somebody else must approve it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AskedView {
    change_request: RequestView,
    #[serde(flatten)]
    preview: PreviewView,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ShownView {
    #[serde(flatten)]
    request: RequestView,
    #[serde(flatten)]
    preview: Option<PreviewView>,
    /// Why approving it now would be refused: `code`, `detail`, `hint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    obstacle: Option<Value>,
    /// What became other in the policies since it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    moved: Option<DiffView>,
}

#[derive(Serialize, JsonSchema)]
struct ApprovedView {
    #[serde(flatten)]
    request: RequestView,
    #[serde(flatten)]
    preview: PreviewView,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only requests in this state.
    state: Option<RequestState>,
    /// Taken for the sake of clients that page every list; this one is always whole.
    #[serde(rename = "limit")]
    _limit: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ApproveBody {
    /// `currentBase` of the answer that was read: 412 when the change rests on something else by now.
    base: u64,
    /// Why, for the journal.
    #[serde(default)]
    comment: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CommentBody {
    /// Why, for the journal.
    #[serde(default)]
    comment: String,
}

#[derive(Deserialize)]
struct Named {
    id: ChangeRequestId,
}

pub(crate) fn operations() -> Vec<Operation> {
    let read = Access::Needs(Permission::ChangeRequestRead);
    let decide = Access::Needs(Permission::ChangeRequestApprove);
    vec![
        Operation::get("/realms/{realm}/change-requests", read, "Lists the change requests, newest first", list)
            .asks::<ListQuery>()
            .answers::<ListView<RequestView>>(),
        Operation::get(
            "/realms/{realm}/change-requests/{id}",
            read,
            "Returns a change request, with what it would do today",
            get,
        )
        .also_needs(Permission::PolicyRead)
        .tagged()
        .answers::<ShownView>(),
        Operation::post(
            "/realms/{realm}/change-requests/{id}/approve",
            decide,
            "Approves what somebody else asked for, and makes the change; needs the permission of the change, too",
            approve,
        )
        .tagged()
        .conditional()
        .takes::<ApproveBody>()
        .answers::<ApprovedView>(),
        Operation::post(
            "/realms/{realm}/change-requests/{id}/reject",
            decide,
            "Rejects what somebody else asked for",
            reject,
        )
        .tagged()
        .conditional()
        .takes::<CommentBody>()
        .answers::<RequestView>(),
        Operation::post(
            "/realms/{realm}/change-requests/{id}/withdraw",
            read,
            "Takes one's own change request back",
            withdraw,
        )
        .tagged()
        .conditional()
        .takes::<CommentBody>()
        .answers::<RequestView>(),
    ]
}

/// Asks for a change where the realm wants a second person for it, and answers 202; `None` where the change is to be made
/// at once.
pub(crate) async fn asked(
    api: &Api,
    op: &Op,
    proposal: Proposal<'_>,
    reason: &str,
) -> Answer<Option<Response>> {
    let asked = api.app.change_requests().ask(op, proposal, reason).await?;
    Ok(asked.map(|AskedChange { request, preview, .. }| {
        let location = format!("/api/v1/realms/{}/change-requests/{}", op.realm, request.value.id);
        let view = AskedView {
            change_request: RequestView::new(&request.value, op.now),
            preview: PreviewView::from(&preview),
        };
        let mut response = (StatusCode::ACCEPTED, Json(view)).into_response();
        if let Ok(location) = HeaderValue::try_from(location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }))
}

async fn list(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(query): Ask<ListQuery>,
) -> Answer<Json<ListView<RequestView>>> {
    let requests = api.app.change_requests().list(&op, query.state).await?;
    Ok(ListView::whole(requests, |stored| RequestView::new(&stored.value, op.now)))
}

async fn get(State(api): State<Api>, Caller(op): Caller, In(path): In<Named>) -> Answer<Tagged<ShownView>> {
    let ShownChange { request, today, moved } = api.app.change_requests().get(&op, path.id).await?;
    let (preview, obstacle) = match today {
        Some(Ok(preview)) => (Some(PreviewView::from(&preview)), None),
        Some(Err(error)) => (None, Some(obstacle(&error))),
        None => (None, None),
    };
    let view = ShownView {
        request: RequestView::new(&request.value, op.now),
        preview,
        obstacle,
        moved: moved.map(DiffView::from),
    };
    Ok(Tagged(view, request.revision))
}

async fn approve(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Named>,
    Body(body): Body<ApproveBody>,
) -> Answer<Tagged<ApprovedView>> {
    let requests = api.app.change_requests();
    let approved = requests.approve(&op, path.id, body.base, &body.comment, if_match).await?;
    let view = ApprovedView {
        request: RequestView::new(&approved.request.value, op.now),
        preview: PreviewView::from(&approved.preview),
    };
    Ok(Tagged(view, approved.request.revision))
}

async fn reject(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Named>,
    Body(body): Body<CommentBody>,
) -> Answer<Tagged<RequestView>> {
    let request = api.app.change_requests().reject(&op, path.id, &body.comment, if_match).await?;
    Ok(tagged(&request, op.now))
}

async fn withdraw(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Named>,
    Body(body): Body<CommentBody>,
) -> Answer<Tagged<RequestView>> {
    let request = api.app.change_requests().withdraw(&op, path.id, &body.comment, if_match).await?;
    Ok(tagged(&request, op.now))
}

fn tagged(request: &Stored<ChangeRequest>, now: Timestamp) -> Tagged<RequestView> {
    Tagged(RequestView::new(&request.value, now), request.revision)
}

fn obstacle(error: &Error) -> Value {
    json!({ "code": error.code, "detail": error.message, "hint": error.hint })
}

// === impl RequestView ===

impl RequestView {
    fn new(request: &ChangeRequest, now: Timestamp) -> Self {
        let person = |person: &tollgate_model::change_requests::Person| PersonView {
            user: person.user.to_string(),
            name: person.name.clone(),
        };
        Self {
            id: request.id.to_string(),
            state: request.state(now),
            summary: request.change.to_string(),
            change: json!(request.change),
            reason: request.reason.clone(),
            author: person(&request.author),
            created_at: request.created_at.to_string(),
            expires_at: request.expires_at.to_string(),
            base: request.base,
            policy_version: request.policy_version.to_string(),
            decision: request.decision.as_ref().map(|decision| DecisionView {
                outcome: decision.outcome.as_str(),
                by: person(&decision.by),
                at: decision.at.to_string(),
                comment: decision.comment.clone(),
            }),
        }
    }
}

impl From<&Preview> for PreviewView {
    fn from(preview: &Preview) -> Self {
        let Preview { base, diff, impact, settings } = preview;
        Self {
            current_base: *base,
            diff: diff.clone().map(DiffView::from),
            impact: impact.as_ref().map(ImpactView::from),
            settings: settings.clone().map(|(before, after)| SettingsChangeView { before, after }),
        }
    }
}
