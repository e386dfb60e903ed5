//! Roles: those of the product, and a realm's own.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::access::{Permission, Role};
use tollgate_app::roles::RoleView as Shown;
use tollgate_model::names::RoleName;

use crate::Api;
use crate::answers::{Answer, ListView, Tagged};
use crate::extract::{Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RoleView {
    name: String,
    description: String,
    /// Whether it belongs to the product: it can't be changed or deleted.
    built_in: bool,
    permissions: Vec<Permission>,
}

/// All of a role but its name.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RoleBody {
    /// Who it is for.
    #[serde(default)]
    description: String,
    /// What it allows.
    permissions: BTreeSet<Permission>,
}

#[derive(Deserialize)]
struct RolePath {
    name: RoleName,
}

pub(crate) fn operations() -> Vec<Operation> {
    let needs = Access::Needs;
    vec![
        Operation::get(
            "/realms/{realm}/roles",
            needs(Permission::RoleRead),
            "Lists the roles of the product and the realm's own",
            list,
        )
        .answers::<ListView<RoleView>>(),
        Operation::post(
            "/realms/{realm}/roles",
            needs(Permission::RoleCreate),
            "Makes a role of the realm's own",
            create,
        )
        .takes::<Role>()
        .answers::<RoleView>()
        .creates()
        .tagged(),
        Operation::get("/realms/{realm}/roles/{name}", needs(Permission::RoleRead), "Returns a role", get)
            .tagged()
            .answers::<RoleView>(),
        Operation::put(
            "/realms/{realm}/roles/{name}",
            needs(Permission::RoleUpdate),
            "Makes a role of the realm's own what is given, also when it is not there",
            put,
        )
        .tagged()
        .conditional()
        .takes::<RoleBody>()
        .answers::<RoleView>(),
        Operation::delete(
            "/realms/{realm}/roles/{name}",
            needs(Permission::RoleDelete),
            "Deletes a role that no group grants",
            delete,
        )
        .conditional(),
    ]
}

async fn list(State(api): State<Api>, Caller(op): Caller) -> Answer<Json<ListView<RoleView>>> {
    Ok(ListView::whole(api.app.roles().list(&op).await?, RoleView::from))
}

async fn create(State(api): State<Api>, Caller(op): Caller, Body(role): Body<Role>) -> Answer<Response> {
    Ok(answer(api.app.roles().create(&op, &role).await?, true))
}

async fn get(State(api): State<Api>, Caller(op): Caller, In(path): In<RolePath>) -> Answer<Response> {
    Ok(answer(api.app.roles().get(&op, &path.name).await?, false))
}

async fn put(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<RolePath>,
    Body(body): Body<RoleBody>,
) -> Answer<Response> {
    let role = Role { name: path.name, description: body.description, permissions: body.permissions };
    let (role, is_new) = api.app.roles().put(&op, &role, if_match).await?;
    Ok(answer(role, is_new))
}

async fn delete(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<RolePath>,
) -> Answer<StatusCode> {
    api.app.roles().delete(&op, &path.name, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A role of the product has no revision, and so no ETag.
fn answer(role: Shown, is_new: bool) -> Response {
    let revision = role.revision;
    let view = RoleView::from(role);
    let mut response = match revision {
        Some(revision) => Tagged(view, revision).into_response(),
        None => Json(view).into_response(),
    };
    if is_new {
        *response.status_mut() = StatusCode::CREATED;
    }
    response
}

impl From<Shown> for RoleView {
    fn from(shown: Shown) -> Self {
        let Role { name, description, permissions } = shown.role;
        Self {
            name: name.to_string(),
            description,
            built_in: shown.revision.is_none(),
            permissions: permissions.into_iter().collect(),
        }
    }
}
