//! Groups: who holds which roles in a realm, and where.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::access::{Grant, Permission};
use tollgate_app::groups::{GroupEdit, GroupView as Group};
use tollgate_model::document::GroupFile;
use tollgate_model::names::{GroupName, UserName};

use crate::Api;
use crate::answers::{Answer, ListView, Tagged};
use crate::extract::{Body, Caller, IfMatch, In};
use crate::operations::{Access, Operation};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct GroupView {
    name: String,
    description: String,
    /// Names of its members.
    members: Vec<String>,
    grants: Vec<GrantView>,
}

/// A role, and where it is held.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct GrantView {
    #[serde(flatten)]
    grant: Grant,
    /// Permissions of the role of which these limits leave nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    without_effect: Vec<Permission>,
}

/// All of a group but its name.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupBody {
    /// Who is in it, and what for.
    #[serde(default)]
    description: String,
    /// Names of its members.
    #[serde(default)]
    members: BTreeSet<UserName>,
    /// What its members hold.
    #[serde(default)]
    grants: BTreeSet<Grant>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MembersBody {
    /// Names of users.
    members: BTreeSet<UserName>,
}

#[derive(Deserialize)]
struct GroupPath {
    name: GroupName,
}

pub(crate) fn operations() -> Vec<Operation> {
    let needs = Access::Needs;
    let update = needs(Permission::GroupUpdate);
    vec![
        Operation::get("/realms/{realm}/groups", needs(Permission::GroupRead), "Lists the groups", list)
            .answers::<ListView<GroupView>>(),
        Operation::post("/realms/{realm}/groups", needs(Permission::GroupCreate), "Makes a group", create)
            .takes::<GroupFile>()
            .answers::<GroupView>()
            .creates()
            .tagged(),
        Operation::get("/realms/{realm}/groups/{name}", needs(Permission::GroupRead), "Returns a group", get)
            .tagged()
            .answers::<GroupView>(),
        Operation::put(
            "/realms/{realm}/groups/{name}",
            update,
            "Makes a group what is given, also when it is not there",
            put,
        )
        .tagged()
        .conditional()
        .takes::<GroupBody>()
        .answers::<GroupView>(),
        Operation::delete(
            "/realms/{realm}/groups/{name}",
            needs(Permission::GroupDelete),
            "Deletes a group: its members lose what it grants",
            delete,
        )
        .conditional(),
        edit("/realms/{realm}/groups/{name}/add", "Puts users into a group", add).takes::<MembersBody>(),
        edit("/realms/{realm}/groups/{name}/remove", "Takes users out of a group", remove)
            .takes::<MembersBody>(),
        edit("/realms/{realm}/groups/{name}/grant", "Grants a role to a group", grant).takes::<Grant>(),
        edit("/realms/{realm}/groups/{name}/ungrant", "Takes a grant away from a group", ungrant)
            .takes::<Grant>(),
    ]
}

fn edit<T: 'static>(
    path: &'static str,
    summary: &'static str,
    handler: impl axum::handler::Handler<T, Api>,
) -> Operation {
    Operation::post(path, Access::Needs(Permission::GroupUpdate), summary, handler)
        .tagged()
        .conditional()
        .answers::<GroupView>()
}

async fn list(State(api): State<Api>, Caller(op): Caller) -> Answer<Json<ListView<GroupView>>> {
    Ok(ListView::whole(api.app.groups().list(&op).await?, GroupView::from))
}

async fn create(State(api): State<Api>, Caller(op): Caller, Body(file): Body<GroupFile>) -> Answer<Response> {
    Ok(answer(api.app.groups().create(&op, &file).await?, true))
}

async fn get(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<GroupPath>,
) -> Answer<Tagged<GroupView>> {
    Ok(tagged(api.app.groups().get(&op, &path.name).await?))
}

async fn put(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<GroupPath>,
    Body(body): Body<GroupBody>,
) -> Answer<Response> {
    let GroupBody { description, members, grants } = body;
    let file = GroupFile { name: path.name, description, members, grants };
    let (group, is_new) = api.app.groups().put(&op, &file, if_match).await?;
    Ok(answer(group, is_new))
}

async fn delete(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<GroupPath>,
) -> Answer<StatusCode> {
    api.app.groups().delete(&op, &path.name, if_match).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn add(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<GroupPath>,
    Body(body): Body<MembersBody>,
) -> Answer<Tagged<GroupView>> {
    let edit = GroupEdit::Add(body.members);
    Ok(tagged(api.app.groups().edit(&op, &path.name, &edit, if_match).await?))
}

async fn remove(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<GroupPath>,
    Body(body): Body<MembersBody>,
) -> Answer<Tagged<GroupView>> {
    let edit = GroupEdit::Remove(body.members);
    Ok(tagged(api.app.groups().edit(&op, &path.name, &edit, if_match).await?))
}

async fn grant(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<GroupPath>,
    Body(grant): Body<Grant>,
) -> Answer<Tagged<GroupView>> {
    let edit = GroupEdit::Grant(grant);
    Ok(tagged(api.app.groups().edit(&op, &path.name, &edit, if_match).await?))
}

async fn ungrant(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    In(path): In<GroupPath>,
    Body(grant): Body<Grant>,
) -> Answer<Tagged<GroupView>> {
    let edit = GroupEdit::Ungrant(grant);
    Ok(tagged(api.app.groups().edit(&op, &path.name, &edit, if_match).await?))
}

fn tagged(group: Group) -> Tagged<GroupView> {
    let revision = group.revision;
    Tagged(GroupView::from(group), revision)
}

fn answer(group: Group, is_new: bool) -> Response {
    let mut response = tagged(group).into_response();
    if is_new {
        *response.status_mut() = StatusCode::CREATED;
    }
    response
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        Self {
            name: group.group.name.to_string(),
            description: group.group.description,
            members: group.members.iter().map(ToString::to_string).collect(),
            grants: group
                .grants
                .into_iter()
                .map(|(grant, without_effect)| GrantView { grant, without_effect })
                .collect(),
        }
    }
}
