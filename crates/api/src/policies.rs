//! Policies: values, versions, impact, conformance.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollgate_app::Standing;
use tollgate_app::access::{Op, Permission};
use tollgate_app::calls::Days;
use tollgate_app::change_requests::Proposal;
use tollgate_app::conformance::ConformanceFilter;
use tollgate_app::lists::ListRequest;
use tollgate_app::policies::{PolicyEdit, PolicyImpact, PolicyValues};
use tollgate_model::names::EnvironmentName;
use tollgate_model::policies::{Policies, Policy, PolicyName, PolicyVersion, RuleFix};
use tollgate_model::versions::Version;

use crate::Api;
use crate::answers::{Answer, ListView, Tagged};
use crate::change_requests::asked;
use crate::extract::{Ask, Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};
use crate::past::Then;
use crate::problem::Problem;
use crate::usage::{CallersView, DaysQuery};

#[derive(Serialize, JsonSchema)]
pub(crate) struct PolicyView {
    name: String,
    /// The version of the realm's policies.
    version: String,
    /// The value in each environment.
    environments: BTreeMap<String, Value>,
    /// The condition, of a custom rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<String>,
    /// What developers are told, of a custom rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// What mends it, of a custom rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<RuleFix>,
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
    #[serde(flatten)]
    impact: ImpactView,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct ImpactView {
    /// What the change means: `effect` (`none`, `weakens`, `tightens`, `both`), and per environment the combinations of
    /// switches that are judged otherwise, and the settings that change.
    meaning: Value,
    /// What it does to running deployments, per environment: `fallsOut`, `comesIn`, `unchanged`, `notConformant`, and
    /// `enforcedFrom`: from when on calls to those that do not conform are refused, `null` where they never are.
    impact: Vec<Value>,
}

#[derive(Serialize, JsonSchema)]
pub(crate) struct ImpactAnswer {
    #[serde(flatten)]
    impact: ImpactView,
    /// Who called the deployments that would stop conforming, and how many of these calls lacked what would be demanded.
    callers: CallersView,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct VersionItem {
    version: String,
    created_at: String,
    created_by: String,
    reason: String,
    /// Who approved it, where the realm wanted a second person.
    #[serde(skip_serializing_if = "Option::is_none")]
    approved_by: Option<String>,
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
    /// Per environment: `deployments`, `conformant`, `waived`, `notConformant` count all of it; `items` and `scopeGaps` are
    /// those of the deployments on this page.
    environments: Vec<Value>,
    /// `cursor` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// New values of a policy.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeBody {
    /// The value in each environment; what it can be depends on the policy.
    environments: BTreeMap<EnvironmentName, Value>,
    /// Keeps the value of environments that are not named, and of a custom rule whatever is not given; otherwise each
    /// must be.
    #[serde(default)]
    partial: bool,
    /// The condition of a custom rule.
    condition: Option<String>,
    /// What developers are told whose pipeline breaks a custom rule.
    message: Option<String>,
    /// What mends a pipeline that breaks a custom rule.
    fix: Option<RuleFix>,
    /// Why, for the journal.
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConformanceQuery {
    /// Only this environment.
    environment: Option<EnvironmentName>,
    /// Only deployments that stand so.
    standing: Option<StandingQuery>,
    /// Only login flows.
    #[serde(default)]
    login_flows: bool,
    /// Only deployments of pipelines whose names hold this.
    #[serde(default)]
    name: String,
    /// How many deployments at most: 1 to 500.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
enum StandingQuery {
    Conformant,
    Waived,
    NotConformant,
}

#[derive(Deserialize)]
pub(crate) struct Named {
    name: String,
}

#[derive(Deserialize)]
pub(crate) struct VersionPath {
    pub(crate) version: Version,
}

pub(crate) fn operations() -> Vec<Operation> {
    let (read, update) = (Access::Needs(Permission::PolicyRead), Access::Needs(Permission::PolicyUpdate));
    vec![
        Operation::get("/realms/{realm}/policies", read, "Lists the policies", list)
            .of_the_past()
            .tagged()
            .answers::<PoliciesView>(),
        Operation::get("/realms/{realm}/policies/{name}", read, "Returns a policy", get)
            .of_the_past()
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
        .under_four_eyes()
        .takes::<ChangeBody>()
        .answers::<SavedView>(),
        Operation::post(
            "/realms/{realm}/policies/{name}/impact",
            read,
            "Shows which deployments a change would make conform or not, and who calls them",
            impact,
        )
        .also_needs(Permission::UsageRead)
        .asks::<DaysQuery>()
        .takes::<ChangeBody>()
        .answers::<ImpactAnswer>(),
        Operation::get(
            "/realms/{realm}/policy-versions",
            read,
            "Lists the versions of the policies, newest first",
            versions,
        )
        .of_the_past()
        .answers::<ListView<VersionItem>>(),
        Operation::get(
            "/realms/{realm}/policy-versions/{version}",
            read,
            "Returns a version of the policies",
            version,
        )
        .of_the_past()
        .answers::<VersionView>(),
        Operation::get(
            "/realms/{realm}/conformance",
            read,
            "Shows which running deployments conform today, a page of them",
            conformance,
        )
        .of_the_past()
        .asks::<ConformanceQuery>()
        .answers::<ConformanceView>(),
    ]
}

async fn list(Then(api): Then, Caller(op): Caller) -> Answer<Tagged<PoliciesView>> {
    let stored = api.app.policies().get(&op).await?;
    let items = views(&stored.value);
    Ok(Tagged(PoliciesView { version: stored.value.version().to_string(), items }, stored.revision))
}

async fn get(Then(api): Then, Caller(op): Caller, In(path): In<Named>) -> Answer<Tagged<PolicyView>> {
    let stored = api.app.policies().get(&op).await?;
    Ok(Tagged(view(&stored.value, &named(&path)?)?, stored.revision))
}

async fn set(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Named>,
    Body(body): Body<ChangeBody>,
) -> Answer<Response> {
    let (values, reason) = values(&path, body)?;
    let name = values.policy.clone();
    let edit = PolicyEdit::Set(values);
    let proposal = Proposal::Policy { edit: &edit, if_match };
    if let Some(response) = asked(&api, &op, proposal, &reason).await? {
        return Ok(response);
    }
    let saved = api.app.policies().set(&op, &edit, &reason, if_match).await?;
    let impact = ImpactView::from(&saved.impact);
    let view = SavedView { policy: view(&saved.policies, &name)?, impact };
    Ok(Tagged(view, saved.revision).into_response())
}

async fn impact(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<Named>,
    Ask(query): Ask<DaysQuery>,
    Body(body): Body<ChangeBody>,
) -> Answer<Json<ImpactAnswer>> {
    let (values, _) = values(&path, body)?;
    impact_of(&api, &op, &PolicyEdit::Set(values), &query).await
}

/// Tells what a change would mean and do, and whom it concerns.
pub(crate) async fn impact_of(
    api: &Api,
    op: &Op,
    edit: &PolicyEdit,
    query: &DaysQuery,
) -> Answer<Json<ImpactAnswer>> {
    let days = Days::parse(query.days)?;
    let impact = api.app.policies().impact(op, edit).await?;
    let callers = api.app.calls().of_impact(op, &impact.environments, days).await?;
    Ok(Json(ImpactAnswer { impact: ImpactView::from(&impact), callers: CallersView::from(&callers) }))
}

async fn versions(Then(api): Then, Caller(op): Caller) -> Answer<Json<ListView<VersionItem>>> {
    Ok(ListView::whole(api.app.policies().versions(&op).await?, |version| item(&version)))
}

async fn version(
    Then(api): Then,
    Caller(op): Caller,
    In(path): In<VersionPath>,
) -> Answer<Json<VersionView>> {
    let version = api.app.policies().version(&op, path.version).await?;
    Ok(Json(VersionView { item: item(&version), policies: views(&version.policies) }))
}

async fn conformance(
    Then(api): Then,
    Caller(op): Caller,
    Ask(query): Ask<ConformanceQuery>,
) -> Answer<Json<ConformanceView>> {
    let ConformanceQuery { environment, standing, login_flows, name, limit, cursor } = query;
    let standing = standing.map(|standing| match standing {
        StandingQuery::Conformant => Standing::Conformant,
        StandingQuery::Waived => Standing::Waived,
        StandingQuery::NotConformant => Standing::NotConformant,
    });
    let filter = ConformanceFilter { standing, login_flows, name };
    let request = ListRequest { limit, cursor };
    let report = api.app.conformance().report(&op, environment.as_ref(), &filter, request).await?;
    Ok(Json(ConformanceView {
        policy_version: report.policy_version.to_string(),
        environments: report.environments.iter().map(|environment| json!(environment)).collect(),
        next: report.next,
    }))
}

pub(crate) fn values(path: &Named, body: ChangeBody) -> Answer<(PolicyValues, String)> {
    let ChangeBody { environments, partial, condition, message, fix, reason } = body;
    Ok((PolicyValues { policy: named(path)?, environments, partial, condition, message, fix }, reason))
}

pub(crate) fn named(path: &Named) -> Answer<PolicyName> {
    path.name.parse().map_err(|error| Problem::new(StatusCode::NOT_FOUND, "not-found", format!("{error}")))
}

fn views(policies: &Policies) -> Vec<PolicyView> {
    policies.policies().map(|policy| policy_view(policies, policy)).collect()
}

fn view(policies: &Policies, name: &PolicyName) -> Answer<PolicyView> {
    let policy = policies.policy(name).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "not-found", format!("there is no policy `{name}`"))
    })?;
    Ok(policy_view(policies, policy))
}

pub(crate) fn policy_view(policies: &Policies, policy: &Policy) -> PolicyView {
    let rule = match policy {
        Policy::Rule(rule) => Some(rule),
        _ => None,
    };
    PolicyView {
        name: policy.name().to_string(),
        version: policies.version().to_string(),
        environments: policy
            .environments()
            .filter_map(|name| Some((name.to_string(), policy.value(name)?)))
            .collect(),
        condition: rule.map(|rule| rule.condition.clone()),
        message: rule.map(|rule| rule.message.clone()),
        fix: rule.and_then(|rule| rule.fix.clone()),
    }
}

impl From<&PolicyImpact> for ImpactView {
    fn from(impact: &PolicyImpact) -> Self {
        Self {
            meaning: json!(impact.meaning),
            impact: impact.environments.iter().map(|impact| json!(impact)).collect(),
        }
    }
}

fn item(version: &PolicyVersion) -> VersionItem {
    VersionItem {
        version: version.policies.version().to_string(),
        created_at: version.created_at.to_string(),
        created_by: version.created_by.clone(),
        reason: version.reason.clone(),
        approved_by: version.approved_by.clone(),
    }
}
