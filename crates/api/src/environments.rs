//! Realms, environments and projects.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_app::access::Permission;
use tollgate_app::change_requests::Proposal;
use tollgate_app::environments::NewEnvironment;
use tollgate_model::environments::{Exposure, Realm};
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::policies::PolicyName;

use crate::Api;
use crate::answers::{Answer, Created, ListView, Tagged};
use crate::change_requests::asked;
use crate::extract::{Ask, Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};
use crate::past::Then;
use crate::problem::Problem;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NamedView {
    name: String,
    created_at: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct EnvironmentView {
    name: String,
    created_at: String,
    /// Stored addresses of its listeners; a process that was started with `--listen` has its own.
    listeners: ListenersView,
    /// The value of each policy there.
    policies: BTreeMap<String, Value>,
}

/// Addresses as `IP:PORT`.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ListenersView {
    /// Of the external listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<String>,
    /// Of the internal listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    internal: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewEnvironmentBody {
    name: EnvironmentName,
    /// The values of `external-api-access` and `internal-api-access` there; the other policies begin strict.
    policies: BTreeMap<String, Value>,
    /// Where it listens; at least one.
    listeners: ListenersView,
    /// Why, for the policy version and the journal.
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReasonQuery {
    /// Why, for the policy version and the journal.
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct Place {
    environment: EnvironmentName,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewRealmBody {
    name: RealmName,
}

pub(crate) fn operations() -> Vec<Operation> {
    let needs = Access::Needs;
    vec![
        Operation::get("/realms", Access::SignedIn, "Lists the realms in which you may do something", realms)
            .answers::<ListView<NamedView>>(),
        Operation::post("/realms", needs(Permission::RealmCreate), "Makes a realm", create_realm)
            .takes::<NewRealmBody>()
            .answers::<NamedView>()
            .creates(),
        Operation::get(
            "/realms/{realm}/environments",
            needs(Permission::EnvironmentRead),
            "Lists the environments",
            list,
        ).of_the_past()
        .answers::<ListView<EnvironmentView>>(),
        Operation::post(
            "/realms/{realm}/environments",
            needs(Permission::EnvironmentCreate),
            "Makes an environment with its listeners, a signing key and a value for every policy",
            create,
        )
        .under_four_eyes()
        .takes::<NewEnvironmentBody>()
        .answers::<EnvironmentView>()
        .creates(),
        Operation::get(
            "/realms/{realm}/environments/{environment}",
            needs(Permission::EnvironmentRead),
            "Returns an environment",
            get,
        ).of_the_past()
        .tagged()
        .answers::<EnvironmentView>(),
        Operation::delete(
            "/realms/{realm}/environments/{environment}",
            needs(Permission::EnvironmentDelete),
            "Deletes an environment where nothing is deployed, with its consumers, credentials, values and keys",
            delete,
        )
        .conditional()
        .under_four_eyes()
        .asks::<ReasonQuery>(),
        Operation::get(
            "/realms/{realm}/projects",
            needs(Permission::PipelineRead),
            "Lists the projects",
            projects,
        ).of_the_past()
        .answers::<ListView<NamedView>>(),
    ]
}

async fn realms(Then(api): Then, Caller(op): Caller) -> Answer<Json<ListView<NamedView>>> {
    Ok(ListView::whole(api.app.realms().list(&op).await?, named))
}

async fn create_realm(
    State(api): State<Api>,
    Caller(op): Caller,
    Body(body): Body<NewRealmBody>,
) -> Answer<Created<NamedView>> {
    Ok(Created(named(api.app.realms().create(&op, body.name).await?)))
}

async fn list(Then(api): Then, Caller(op): Caller) -> Answer<Json<ListView<EnvironmentView>>> {
    Ok(ListView::whole(api.app.environments().list(&op).await?, |view| EnvironmentView::from(&view)))
}

async fn get(Then(api): Then, Caller(op): Caller, In(path): In<Place>) -> Answer<Tagged<EnvironmentView>> {
    let stored = api.app.environments().get(&op, &path.environment).await?;
    Ok(Tagged(EnvironmentView::from(&stored.value), stored.revision))
}

async fn create(
    State(api): State<Api>,
    Caller(op): Caller,
    Body(body): Body<NewEnvironmentBody>,
) -> Answer<Response> {
    let NewEnvironmentBody { name, policies, listeners, reason } = body;
    let policies = policies
        .into_iter()
        .map(|(policy, value)| {
            let policy: PolicyName = policy.parse().map_err(|error| {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", format!("{error}"))
                    .hint("give `external-api-access` and `internal-api-access`")
            })?;
            Ok((policy, value))
        })
        .collect::<Answer<_>>()?;
    let ListenersView { external, internal } = listeners;
    let listeners = [(Exposure::External, external), (Exposure::Internal, internal)];
    let listeners = listeners.into_iter().filter_map(|(exposure, address)| Some((exposure, address?)));
    let input = NewEnvironment { name, policies, listeners: listeners.collect(), reason };
    let reason = input.reason.clone();
    if let Some(response) = asked(&api, &op, Proposal::CreateEnvironment(&input), &reason).await? {
        return Ok(response);
    }
    let made = api.app.environments().create(&op, input).await?;
    Ok(Created(EnvironmentView::from(&made.value)).into_response())
}

async fn delete(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<Place>,
    Ask(query): Ask<ReasonQuery>,
) -> Answer<Response> {
    let name = &path.environment;
    let proposal = Proposal::DeleteEnvironment { name, if_match };
    if let Some(response) = asked(&api, &op, proposal, &query.reason).await? {
        return Ok(response);
    }
    api.app.environments().delete(&op, name, if_match, &query.reason).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl From<&tollgate_app::environments::EnvironmentView> for EnvironmentView {
    fn from(view: &tollgate_app::environments::EnvironmentView) -> Self {
        let environment = &view.environment;
        let address = |exposure| environment.listeners.get(&exposure).map(ToString::to_string);
        Self {
            name: environment.name.to_string(),
            created_at: environment.created_at.to_string(),
            listeners: ListenersView {
                external: address(Exposure::External),
                internal: address(Exposure::Internal),
            },
            policies: view
                .policies
                .iter()
                .map(|(policy, value)| (policy.to_string(), value.clone()))
                .collect(),
        }
    }
}

async fn projects(Then(api): Then, Caller(op): Caller) -> Answer<Json<ListView<NamedView>>> {
    Ok(ListView::whole(api.app.environments().projects(&op).await?, |project| NamedView {
        name: project.name.to_string(),
        created_at: project.created_at.to_string(),
    }))
}

fn named(realm: Realm) -> NamedView {
    NamedView { name: realm.name.to_string(), created_at: realm.created_at.to_string() }
}
