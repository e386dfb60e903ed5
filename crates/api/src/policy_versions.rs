//! Versions of the policies: what they differ in, bringing an earlier one back, and taking a custom rule away.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_app::PolicyDiff;
use tollgate_app::access::{Op, Permission};
use tollgate_app::change_requests::Proposal;
use tollgate_app::policies::{PolicyEdit, SavedPolicies};
use tollgate_model::versions::Version;

use crate::Api;
use crate::answers::{Answer, Tagged};
use crate::change_requests::asked;
use crate::extract::{Ask, Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};
use crate::policies::{ImpactAnswer, ImpactView, Named, VersionPath, impact_of, named};
use crate::usage::DaysQuery;

#[derive(Serialize, JsonSchema)]
struct SavedVersionView {
    /// The version that was made.
    version: String,
    #[serde(flatten)]
    impact: ImpactView,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiffView {
    from: String,
    to: String,
    /// Environments that only `to` has values for.
    environments_added: Vec<String>,
    /// Environments that only `from` has values for.
    environments_removed: Vec<String>,
    /// The policies that are not the same: `policy`, `change` (`added`, `removed`, `changed`), and `before` and `after` of
    /// each environment and of each other setting of a custom rule.
    policies: Value,
    /// What the difference means, as in the impact of a change.
    meaning: Value,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DiffQuery {
    /// The version to compare with; without, today's.
    #[schemars(with = "Option<String>")]
    to: Option<Version>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RestoreBody {
    /// Why, for the journal.
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RemoveQuery {
    /// Why, for the journal.
    #[serde(default)]
    reason: String,
}

pub(crate) fn operations() -> Vec<Operation> {
    let (read, update) = (Access::Needs(Permission::PolicyRead), Access::Needs(Permission::PolicyUpdate));
    let mut remove = Operation::delete(
        "/realms/{realm}/policies/{name}",
        update,
        "Removes a custom rule: the next version of the realm's policies",
        remove,
    )
    .tagged()
    .conditional()
    .under_four_eyes()
    .asks::<RemoveQuery>()
    .answers::<SavedVersionView>();
    remove.status = 200;
    vec![
        remove,
        Operation::post(
            "/realms/{realm}/policies/{name}/removal/impact",
            read,
            "Shows what removing a custom rule would mean, and which deployments it would make conform",
            removal_impact,
        )
        .also_needs(Permission::UsageRead)
        .asks::<DaysQuery>()
        .answers::<ImpactAnswer>(),
        Operation::get(
            "/realms/{realm}/policy-versions/{version}/diff",
            read,
            "Compares two versions of the policies",
            diff,
        )
        .asks::<DiffQuery>()
        .answers::<DiffView>(),
        Operation::post(
            "/realms/{realm}/policy-versions/{version}/restore",
            update,
            "Brings an earlier version of the policies back as the next one",
            restore,
        )
        .also_needs(Permission::PolicyRead)
        .tagged()
        .conditional()
        .under_four_eyes()
        .takes::<RestoreBody>()
        .answers::<SavedVersionView>(),
        Operation::post(
            "/realms/{realm}/policy-versions/{version}/restore/impact",
            read,
            "Shows what bringing a version back would mean, and which deployments it would make conform or not",
            restore_impact,
        )
        .also_needs(Permission::UsageRead)
        .asks::<DaysQuery>()
        .answers::<ImpactAnswer>(),
    ]
}

async fn remove(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Named>,
    Ask(query): Ask<RemoveQuery>,
) -> Answer<Response> {
    let edit = PolicyEdit::remove(&named(&path)?)?;
    save(&api, &op, &edit, &query.reason, if_match).await
}

async fn removal_impact(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<Named>,
    Ask(query): Ask<DaysQuery>,
) -> Answer<Json<ImpactAnswer>> {
    impact_of(&api, &op, &PolicyEdit::remove(&named(&path)?)?, &query).await
}

async fn diff(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<VersionPath>,
    Ask(query): Ask<DiffQuery>,
) -> Answer<Json<DiffView>> {
    Ok(Json(DiffView::from(api.app.policies().diff(&op, path.version, query.to).await?)))
}

async fn restore(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<VersionPath>,
    Body(body): Body<RestoreBody>,
) -> Answer<Response> {
    let edit = PolicyEdit::Restore(path.version);
    save(&api, &op, &edit, &body.reason, if_match).await
}

async fn restore_impact(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<VersionPath>,
    Ask(query): Ask<DaysQuery>,
) -> Answer<Json<ImpactAnswer>> {
    impact_of(&api, &op, &PolicyEdit::Restore(path.version), &query).await
}

/// Saves a change, or asks for it.
async fn save(
    api: &Api,
    op: &Op,
    edit: &PolicyEdit,
    reason: &str,
    if_match: Option<u64>,
) -> Answer<Response> {
    if let Some(response) = asked(api, op, Proposal::Policy { edit, if_match }, reason).await? {
        return Ok(response);
    }
    Ok(saved(&api.app.policies().set(op, edit, reason, if_match).await?).into_response())
}

fn saved(saved: &SavedPolicies) -> Tagged<SavedVersionView> {
    let view = SavedVersionView {
        version: saved.policies.version().to_string(),
        impact: ImpactView::from(&saved.impact),
    };
    Tagged(view, saved.revision)
}

impl From<PolicyDiff> for DiffView {
    fn from(diff: PolicyDiff) -> Self {
        let names = |environments: &[_]| environments.iter().map(ToString::to_string).collect();
        Self {
            from: diff.from.to_string(),
            to: diff.to.to_string(),
            environments_added: names(&diff.environments_added),
            environments_removed: names(&diff.environments_removed),
            policies: serde_json::json!(diff.policies),
            meaning: serde_json::json!(diff.meaning),
        }
    }
}
