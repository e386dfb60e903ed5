//! Realms, environments and projects.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_app::access::Permission;
use tollgate_model::environments::Realm;
use tollgate_model::names::RealmName;

use crate::Api;
use crate::answers::{Answer, Created, ListView};
use crate::extract::{Body, Caller};
use crate::operations::{Access, Operation};

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
    /// The value of each policy there.
    policies: BTreeMap<String, Value>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewRealmBody {
    name: RealmName,
}

pub(crate) fn operations() -> Vec<Operation> {
    let needs = Access::Needs;
    vec![
        Operation::get("/realms", needs(Permission::RealmRead), "Lists the realms", realms)
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
        )
        .answers::<ListView<EnvironmentView>>(),
        Operation::get(
            "/realms/{realm}/projects",
            needs(Permission::PipelineRead),
            "Lists the projects",
            projects,
        )
        .answers::<ListView<NamedView>>(),
    ]
}

async fn realms(State(api): State<Api>, Caller(op): Caller) -> Answer<Json<ListView<NamedView>>> {
    Ok(ListView::whole(api.app.realms().list(&op).await?, named))
}

async fn create_realm(
    State(api): State<Api>,
    Caller(op): Caller,
    Body(body): Body<NewRealmBody>,
) -> Answer<Created<NamedView>> {
    Ok(Created(named(api.app.realms().create(&op, body.name).await?)))
}

async fn list(State(api): State<Api>, Caller(op): Caller) -> Answer<Json<ListView<EnvironmentView>>> {
    Ok(ListView::whole(api.app.environments().list(&op).await?, |view| EnvironmentView {
        name: view.environment.name.to_string(),
        created_at: view.environment.created_at.to_string(),
        policies: view.policies.iter().map(|(policy, value)| (policy.to_string(), value.clone())).collect(),
    }))
}

async fn projects(State(api): State<Api>, Caller(op): Caller) -> Answer<Json<ListView<NamedView>>> {
    Ok(ListView::whole(api.app.environments().projects(&op).await?, |project| NamedView {
        name: project.name.to_string(),
        created_at: project.created_at.to_string(),
    }))
}

fn named(realm: Realm) -> NamedView {
    NamedView { name: realm.name.to_string(), created_at: realm.created_at.to_string() }
}
