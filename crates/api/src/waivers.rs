//! Waivers: violations that do not count until a date.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::Stored;
use tollgate_app::access::Permission;
use tollgate_app::change_requests::Proposal;
use tollgate_app::waivers::{NewWaiver, WaiverEnd, WaiverFilter};
use tollgate_model::ids::WaiverId;
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::policies::PolicyName;
use tollgate_model::verdicts::ViolationCode;
use tollgate_model::waivers::Waiver;

use crate::Api;
use crate::answers::{Answer, ListView, Tagged};
use crate::change_requests::asked;
use crate::extract::{Ask, Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};
use crate::past::Then;
use crate::problem::Problem;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct WaiverView {
    id: String,
    pipeline: String,
    environment: String,
    policy: String,
    /// Which violation of the policy.
    code: ViolationCode,
    /// When the violation counts again.
    until: String,
    /// `active`, or `ended` once `until` has come.
    state: &'static str,
    reason: String,
    created_at: String,
    created_by: String,
    /// Who approved it, where the realm wanted a second person.
    #[serde(skip_serializing_if = "Option::is_none")]
    approved_by: Option<String>,
}

/// A violation to waive, and until when: one of `until` and `forSeconds`.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewWaiverBody {
    /// Whose violation.
    pipeline: PipelineName,
    /// Where.
    environment: EnvironmentName,
    /// Of which policy.
    policy: PolicyName,
    /// Which violation of it; can be left out when there is one only.
    code: Option<ViolationCode>,
    /// When the violation counts again.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    until: Option<Timestamp>,
    /// So many seconds from now, by the server's clock.
    for_seconds: Option<u64>,
    /// Why: 1 to 500 characters.
    reason: String,
    /// Whether it takes the place of one that lets the same violation pass. Needs the permission `waiver:end`, too.
    #[serde(default)]
    replace: bool,
    /// The id of the waiver that it takes the place of, and of no other: 412 when that was ended or replaced meanwhile. Says
    /// `replace`, too.
    #[schemars(with = "Option<String>")]
    extends: Option<WaiverId>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only this environment's.
    environment: Option<EnvironmentName>,
    /// Only this pipeline's.
    pipeline: Option<PipelineName>,
    /// Whether those that ended are listed too.
    #[serde(default)]
    all: bool,
    /// Taken for the sake of clients that page every list; this one is always whole.
    #[serde(rename = "limit")]
    _limit: Option<u32>,
}

#[derive(Deserialize)]
struct Named {
    id: WaiverId,
}

pub(crate) fn operations() -> Vec<Operation> {
    let needs = Access::Needs;
    vec![
        Operation::get("/realms/{realm}/waivers", needs(Permission::WaiverRead), "Lists the waivers", list)
            .of_the_past()
            .asks::<ListQuery>()
            .answers::<ListView<WaiverView>>(),
        Operation::post(
            "/realms/{realm}/waivers",
            needs(Permission::WaiverCreate),
            "Waives a violation of a pipeline in an environment until a date",
            create,
        )
        .tagged()
        .under_four_eyes()
        .takes::<NewWaiverBody>()
        .answers::<WaiverView>()
        .creates(),
        Operation::get(
            "/realms/{realm}/waivers/{id}",
            needs(Permission::WaiverRead),
            "Returns a waiver",
            get,
        )
        .of_the_past()
        .tagged()
        .answers::<WaiverView>(),
        Operation::delete(
            "/realms/{realm}/waivers/{id}",
            needs(Permission::WaiverEnd),
            "Ends a waiver before its time",
            end,
        )
        .conditional(),
    ]
}

async fn list(
    Then(api): Then,
    Caller(op): Caller,
    Ask(query): Ask<ListQuery>,
) -> Answer<Json<ListView<WaiverView>>> {
    let ListQuery { environment, pipeline, all, .. } = query;
    let filter = WaiverFilter { environment, pipeline, ended: all };
    let waivers = api.app.waivers().list(&op, &filter).await?;
    Ok(ListView::whole(waivers, |stored| WaiverView::new(stored.value, op.now)))
}

async fn create(
    State(api): State<Api>,
    Caller(op): Caller,
    Body(body): Body<NewWaiverBody>,
) -> Answer<Response> {
    let NewWaiverBody { pipeline, environment, policy, code, until, for_seconds, reason, replace, extends } =
        body;
    let end = match (until, for_seconds) {
        (Some(until), None) => WaiverEnd::At(until),
        (None, Some(seconds)) => {
            WaiverEnd::After(SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)))
        }
        (until, _) => {
            let what = if until.is_some() { "a waiver has one end" } else { "a waiver needs an end" };
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "waiver-without-end", what)
                .hint("send one of `until`, such as \"2030-01-31T00:00:00Z\", and `forSeconds`"));
        }
    };
    let input = NewWaiver { pipeline, environment, policy, code, end, reason, replace, extends };
    let asked_reason = input.reason.clone();
    if let Some(response) = asked(&api, &op, Proposal::Waiver(&input), &asked_reason).await? {
        return Ok(response);
    }
    let Stored { value, revision } = api.app.waivers().create(&op, input).await?;
    Ok((StatusCode::CREATED, Tagged(WaiverView::new(value, op.now), revision)).into_response())
}

async fn get(Then(api): Then, Caller(op): Caller, In(path): In<Named>) -> Answer<Tagged<WaiverView>> {
    let stored = api.app.waivers().get(&op, path.id).await?;
    Ok(Tagged(WaiverView::new(stored.value, op.now), stored.revision))
}

async fn end(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Named>,
) -> Answer<StatusCode> {
    api.app.waivers().end(&op, path.id, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

// === impl WaiverView ===

impl WaiverView {
    fn new(waiver: Waiver, now: Timestamp) -> Self {
        Self {
            id: waiver.id.to_string(),
            pipeline: waiver.pipeline.to_string(),
            environment: waiver.environment.to_string(),
            policy: waiver.policy.to_string(),
            code: waiver.code,
            until: waiver.until.to_string(),
            state: if now < waiver.until { "active" } else { "ended" },
            reason: waiver.reason,
            created_at: waiver.created_at.to_string(),
            created_by: waiver.created_by,
            approved_by: waiver.approved_by,
        }
    }
}
