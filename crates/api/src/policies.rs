//! Policies: values, versions, impact, conformance.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_app::access::Permission;
use tollgate_app::policies::PolicyChange;
use tollgate_model::names::EnvironmentName;
use tollgate_model::policies::{AccessRequirement, Policies, PolicyName, PolicyVersion};
use tollgate_model::versions::Version;

use crate::Api;
use crate::answers::{Answer, ListView, Tagged};
use crate::extract::{Ask, Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};
use crate::problem::Problem;

#[derive(Serialize, JsonSchema)]
struct PolicyView {
    name: String,
    /// The version of the realm's policies.
    version: String,
    /// The value in each environment.
    environments: BTreeMap<String, String>,
}

#[derive(Serialize, JsonSchema)]
struct PoliciesView {
    /// The version of the realm's policies.
    version: String,
    items: Vec<PolicyView>,
}

#[derive(Serialize, JsonSchema)]
struct SavedView {
    #[serde(flatten)]
    policy: PolicyView,
    /// What the change does to running deployments, per environment.
    impact: Vec<Value>,
}

#[derive(Serialize, JsonSchema)]
struct ImpactView {
    /// Per environment: `fallsOut`, `comesIn`, `unchanged`.
    impact: Vec<Value>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct VersionItem {
    version: String,
    created_at: String,
    created_by: String,
    reason: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct VersionView {
    #[serde(flatten)]
    item: VersionItem,
    policies: Vec<PolicyView>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConformanceView {
    policy_version: String,
    /// Per environment: `deployments`, `conformant`, `notConformant`, `items`.
    environments: Vec<Value>,
}

/// New values of a policy.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    environments: BTreeMap<EnvironmentName, AccessRequirement>,
    /// Keeps the value of environments that are not named; otherwise each must be.
    #[serde(default)]
    partial: bool,
    /// Why, for the journal.
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConformanceQuery {
    /// Only this environment.
    environment: Option<EnvironmentName>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct VersionPath {
    version: Version,
}

pub(crate) fn operations() -> Vec<Operation> {
    let (read, update) = (Access::Needs(Permission::PolicyRead), Access::Needs(Permission::PolicyUpdate));
    vec![
        Operation::get("/realms/{realm}/policies", read, "Lists the policies", list)
            .tagged()
            .answers::<PoliciesView>(),
        Operation::get("/realms/{realm}/policies/{name}", read, "Returns a policy", get)
            .tagged()
            .answers::<PolicyView>(),
        Operation::put(
            "/realms/{realm}/policies/{name}",
            update,
            "Saves a policy: the next version of the realm's policies",
            set,
        )
        .tagged()
        .conditional()
        .takes::<ChangeBody>()
        .answers::<SavedView>(),
        Operation::post(
            "/realms/{realm}/policies/{name}/impact",
            read,
            "Shows which deployments a change would make conform or not",
            impact,
        )
        .takes::<ChangeBody>()
        .answers::<ImpactView>(),
        Operation::get(
            "/realms/{realm}/policy-versions",
            read,
            "Lists the versions of the policies, newest first",
            versions,
        )
        .answers::<ListView<VersionItem>>(),
        Operation::get(
            "/realms/{realm}/policy-versions/{version}",
            read,
            "Returns a version of the policies",
            version,
        )
        .answers::<VersionView>(),
        Operation::get(
            "/realms/{realm}/conformance",
            read,
            "Shows which running deployments conform today",
            conformance,
        )
        .asks::<ConformanceQuery>()
        .answers::<ConformanceView>(),
    ]
}

async fn list(State(api): State<Api>, Caller(op): Caller) -> Answer<Tagged<PoliciesView>> {
    let stored = api.app.policies().get(&op).await?;
    let items = PolicyName::ALL.into_iter().map(|name| view(&stored.value, name)).collect();
    Ok(Tagged(PoliciesView { version: stored.value.version().to_string(), items }, stored.revision))
}

async fn get(State(api): State<Api>, Caller(op): Caller, In(path): In<Named>) -> Answer<Tagged<PolicyView>> {
    let name = named(&path)?;
    let stored = api.app.policies().get(&op).await?;
    Ok(Tagged(view(&stored.value, name), stored.revision))
}

async fn set(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Named>,
    Body(body): Body<ChangeBody>,
) -> Answer<Tagged<SavedView>> {
    let (change, reason) = change(&path, body)?;
    let saved = api.app.policies().set(&op, &change, &reason, if_match).await?;
    let impact = saved.impact.iter().map(|impact| json!(impact)).collect();
    Ok(Tagged(SavedView { policy: view(&saved.policies, change.policy), impact }, saved.revision))
}

async fn impact(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<Named>,
    Body(body): Body<ChangeBody>,
) -> Answer<Json<ImpactView>> {
    let (change, _) = change(&path, body)?;
    let impact = api.app.policies().impact(&op, &change).await?;
    Ok(Json(ImpactView { impact: impact.iter().map(|impact| json!(impact)).collect() }))
}

async fn versions(State(api): State<Api>, Caller(op): Caller) -> Answer<Json<ListView<VersionItem>>> {
    Ok(ListView::whole(api.app.policies().versions(&op).await?, |version| item(&version)))
}

async fn version(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<VersionPath>,
) -> Answer<Json<VersionView>> {
    let version = api.app.policies().version(&op, path.version).await?;
    let policies = PolicyName::ALL.into_iter().map(|name| view(&version.policies, name)).collect();
    Ok(Json(VersionView { item: item(&version), policies }))
}

async fn conformance(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(query): Ask<ConformanceQuery>,
) -> Answer<Json<ConformanceView>> {
    let report = api.app.conformance().report(&op, query.environment.as_ref()).await?;
    Ok(Json(ConformanceView {
        policy_version: report.policy_version.to_string(),
        environments: report.environments.iter().map(|environment| json!(environment)).collect(),
    }))
}

fn change(path: &Named, body: ChangeBody) -> Answer<(PolicyChange, String)> {
    let ChangeBody { environments, partial, reason } = body;
    Ok((PolicyChange { policy: named(path)?, environments, partial }, reason))
}

fn named(path: &Named) -> Answer<PolicyName> {
    path.name.parse().map_err(|error| Problem::new(StatusCode::NOT_FOUND, "not-found", format!("{error}")))
}

fn view(policies: &Policies, name: PolicyName) -> PolicyView {
    PolicyView {
        name: name.to_string(),
        version: policies.version().to_string(),
        environments: policies
            .values(name)
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
    }
}

fn item(version: &PolicyVersion) -> VersionItem {
    VersionItem {
        version: version.policies.version().to_string(),
        created_at: version.created_at.to_string(),
        created_by: version.created_by.clone(),
        reason: version.reason.clone(),
    }
}
