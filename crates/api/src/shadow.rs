//! Shadow policies: a proposed change that runs alongside and refuses nothing.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_app::access::Permission;
use tollgate_app::change_requests::Proposal;
use tollgate_app::policies::PolicyImpact;
use tollgate_app::shadow::{PromotionRead, ShadowReport};
use tollgate_model::names::RuleName;
use tollgate_model::policies::{PolicyName, ShadowPolicies};
use tollgate_model::versions::Version;

use crate::Api;
use crate::answers::{Answer, Tagged};
use crate::change_requests::asked;
use crate::extract::{Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};
use crate::policies::{ChangeBody, ImpactView, Named, PolicyView, policy_view, values};
use crate::usage::CallersView;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ShadowView {
    /// Since when it runs.
    since: String,
    created_by: String,
    reason: String,
    /// The policies as they would be, those that it changes.
    changes: Vec<PolicyView>,
    /// The custom rules that it takes away.
    removed_rules: Vec<String>,
    #[serde(flatten)]
    impact: ImpactView,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ShadowReportView {
    #[serde(flatten)]
    shadow: ShadowView,
    /// The version of the policies that hold today.
    policy_version: String,
    /// Deploys since it began: `judged`, `refused`, `unjudged`, `complete`, and in `items` those that it would have
    /// refused, with violations.
    deploys: Value,
    /// Calls since it began to running deployments that it does not admit.
    callers: CallersView,
}

#[derive(Serialize, JsonSchema)]
struct PromotedView {
    /// The version of the realm's policies now.
    version: String,
    #[serde(flatten)]
    impact: ImpactView,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReasonBody {
    /// Why, for the journal.
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PromoteBody {
    /// Why, for the journal; the shadow's own reason, when empty.
    #[serde(default)]
    reason: String,
    /// The version of the policies that was read: 412 when they have changed since.
    #[schemars(with = "Option<String>")]
    policy_version: Option<Version>,
}

#[derive(Deserialize)]
struct RulePath {
    name: RuleName,
}

pub(crate) fn operations() -> Vec<Operation> {
    let (read, update) = (Access::Needs(Permission::PolicyRead), Access::Needs(Permission::PolicyUpdate));
    vec![
        Operation::get(
            "/realms/{realm}/shadow",
            read,
            "Shows what the shadow policies would do, and what they would have refused since they began",
            get,
        )
        .also_needs(Permission::UsageRead)
        .tagged()
        .answers::<ShadowReportView>(),
        Operation::put(
            "/realms/{realm}/shadow/policies/{name}",
            update,
            "Proposes a policy: it runs alongside and refuses nothing",
            set,
        )
        .tagged()
        .conditional()
        .takes::<ChangeBody>()
        .answers::<ShadowView>(),
        Operation::post(
            "/realms/{realm}/shadow/policies/{name}/remove",
            update,
            "Proposes to take a custom rule away",
            remove_rule,
        )
        .tagged()
        .conditional()
        .takes::<ReasonBody>()
        .answers::<ShadowView>(),
        Operation::post(
            "/realms/{realm}/shadow/promote",
            update,
            "Saves the shadow policies as the next version of the realm's policies, and ends them",
            promote,
        )
        .conditional()
        .under_four_eyes()
        .takes::<PromoteBody>()
        .answers::<PromotedView>(),
        Operation::delete("/realms/{realm}/shadow", update, "Ends the shadow policies", end).conditional(),
    ]
}

async fn get(State(api): State<Api>, Caller(op): Caller) -> Answer<Tagged<ShadowReportView>> {
    let stored = api.app.shadow().report(&op).await?;
    let ShadowReport { shadow, policy_version, impact, deploys, callers } = stored.value;
    let view = ShadowReportView {
        shadow: view(&shadow, &impact),
        policy_version: policy_version.to_string(),
        deploys: json!(deploys),
        callers: CallersView::from(&callers),
    };
    Ok(Tagged(view, stored.revision))
}

async fn set(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Named>,
    Body(body): Body<ChangeBody>,
) -> Answer<Tagged<ShadowView>> {
    let (values, reason) = values(&path, body)?;
    let set = api.app.shadow().set(&op, &values, &reason, if_match).await?;
    Ok(Tagged(view(&set.shadow, &set.impact), set.revision))
}

async fn remove_rule(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<RulePath>,
    Body(body): Body<ReasonBody>,
) -> Answer<Tagged<ShadowView>> {
    let set = api.app.shadow().remove_rule(&op, &path.name, &body.reason, if_match).await?;
    Ok(Tagged(view(&set.shadow, &set.impact), set.revision))
}

async fn promote(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    Body(body): Body<PromoteBody>,
) -> Answer<Response> {
    let PromoteBody { reason, policy_version } = body;
    let read = PromotionRead { policy_version, revision: if_match };
    if let Some(response) = asked(&api, &op, Proposal::PromoteShadow(read), &reason).await? {
        return Ok(response);
    }
    let saved = api.app.shadow().promote(&op, &reason, policy_version, if_match).await?;
    let view = PromotedView {
        version: saved.policies.version().to_string(),
        impact: ImpactView::from(&saved.impact),
    };
    Ok(Json(view).into_response())
}

async fn end(State(api): State<Api>, Caller(op): Caller, IfMatch(if_match): IfMatch) -> Answer<StatusCode> {
    api.app.shadow().end(&op, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(shadow: &ShadowPolicies, impact: &PolicyImpact) -> ShadowView {
    let changed = |name: &PolicyName| shadow.changes.iter().any(|policy| policy.name() == *name);
    ShadowView {
        since: shadow.created_at.to_string(),
        created_by: shadow.created_by.clone(),
        reason: shadow.reason.clone(),
        changes: impact
            .proposed
            .policies()
            .filter(|policy| changed(&policy.name()))
            .map(|policy| policy_view(&impact.proposed, policy))
            .collect(),
        removed_rules: shadow.removed_rules.iter().map(ToString::to_string).collect(),
        impact: ImpactView::from(impact),
    }
}
