//! Changing a group: members, grants with their reach, description; and deleting it.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde::Deserialize;
use tollgate_app::access::{Extent, Grant};
use tollgate_app::errors::Error;
use tollgate_app::groups::GroupEdit;
use tollgate_model::document::GroupFile;
use tollgate_model::names::{GroupName, RoleName, UserName};

use super::{GroupPage, GroupPath};
use crate::Console;
use crate::answers::{Answer, refused, see_other};
use crate::forms::{FieldList, Fields, Problem, Told};
use crate::meanwhile::Meanwhile;
use crate::paths::named;
use crate::visitor::Visitor;

#[derive(Deserialize)]
struct MemberForm {
    user: String,
}

#[derive(Deserialize)]
struct DescribeForm {
    #[serde(default)]
    description: String,
    /// The description that the form was filled with, for whoever is overtaken.
    #[serde(default)]
    read: String,
    revision: u64,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/groups/{group}/members/add", post(add))
        .route("/realms/{realm}/groups/{group}/members/remove", post(remove))
        .route("/realms/{realm}/groups/{group}/grants/add", post(grant))
        .route("/realms/{realm}/groups/{group}/grants/remove", post(ungrant))
        .route("/realms/{realm}/groups/{group}/describe", post(describe))
        .route("/realms/{realm}/groups/{group}/delete", post(delete))
}

/// Says what was just done.
pub(super) fn notice(done: &str) -> Option<&'static str> {
    Some(match done {
        "create" => "The group was made. It grants nothing and has no members yet.",
        "add" => "They are in the group; it counts from their next request on.",
        "remove" => "They are out of the group; it counts from their next request on.",
        "grant" => "Granted; it counts from the members' next request on.",
        "ungrant" => "Taken away; it counts from the members' next request on.",
        "describe" => "Saved.",
        _ => return None,
    })
}

async fn add(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<GroupPath>,
    Fields(form): Fields<MemberForm>,
) -> Answer<Response> {
    let group = named(&path.group)?;
    let user = match UserName::parse(form.user.trim()) {
        Ok(user) => user,
        Err(error) => return wrong(&console, &visitor, &group, Problem::of("user", error)).await,
    };
    edit(&console, &visitor, &group, &GroupEdit::Add([user].into()), ("add", "user")).await
}

async fn remove(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<GroupPath>,
    Fields(form): Fields<MemberForm>,
) -> Answer<Response> {
    let (group, user) = (named(&path.group)?, named::<UserName>(&form.user)?);
    edit(&console, &visitor, &group, &GroupEdit::Remove([user].into()), ("remove", "members")).await
}

async fn grant(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<GroupPath>,
    fields: FieldList,
) -> Answer<Response> {
    let group = named(&path.group)?;
    match read_grant(&fields) {
        Ok(grant) => edit(&console, &visitor, &group, &GroupEdit::Grant(grant), ("grant", "role")).await,
        Err(problem) => wrong(&console, &visitor, &group, problem).await,
    }
}

async fn ungrant(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<GroupPath>,
    fields: FieldList,
) -> Answer<Response> {
    let group = named(&path.group)?;
    match read_grant(&fields) {
        Ok(grant) => {
            edit(&console, &visitor, &group, &GroupEdit::Ungrant(grant), ("ungrant", "grants")).await
        }
        Err(problem) => wrong(&console, &visitor, &group, problem).await,
    }
}

async fn describe(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<GroupPath>,
    Fields(form): Fields<DescribeForm>,
) -> Answer<Response> {
    let name: GroupName = named(&path.group)?;
    let view = console.app.groups().get(&visitor.op, &name).await?;
    let file = GroupFile {
        name: name.clone(),
        description: form.description.trim().to_owned(),
        members: view.members,
        grants: view.group.grants,
    };
    let Err(error) = console.app.groups().put(&visitor.op, &file, Some(form.revision)).await else {
        return after(&console, &visitor, &name, Ok(()), ("describe", "description")).await;
    };
    let (told, refusal) = Told::of(error)?;
    // What was written stays. Whoever was overtaken saves it over what is told; else it is still what was read.
    let mut shown = GroupPage::new(&console, &visitor, &name).await?;
    if told.code == "precondition-failed" {
        let or_none = |text: &str| if text.is_empty() { "nothing".to_owned() } else { text.to_owned() };
        let (then, now) = (or_none(&form.read), or_none(&shown.description));
        let what = if then == now { "Members or grants" } else { "Description" };
        let (then, now) = if then == now {
            ("as they were shown".to_owned(), "as they stand here".to_owned())
        } else {
            (then, now)
        };
        shown.meanwhile = vec![Meanwhile { what: what.to_owned(), then, now }];
    } else {
        (shown.revision, shown.read) = (form.revision, form.read);
    }
    shown.description = file.description;
    shown.problem = Problem::new("description", refusal);
    told.answer(&shown)
}

async fn delete(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<GroupPath>,
) -> Answer<Response> {
    let name: GroupName = named(&path.group)?;
    match console.app.groups().delete(&visitor.op, &name, None).await {
        Ok(()) => Ok(see_other(&format!("/realms/{}/groups", visitor.op.realm))),
        Err(error) => after(&console, &visitor, &name, Err(error), ("delete", "")).await,
    }
}

async fn edit(
    console: &Console,
    visitor: &Visitor,
    group: &GroupName,
    edit: &GroupEdit,
    what: (&'static str, &'static str),
) -> Answer<Response> {
    let done = console.app.groups().edit(&visitor.op, group, edit, None).await;
    after(console, visitor, group, done.map(drop), what).await
}

/// Goes back to the group, or says there, at a field, why nothing was done.
async fn after(
    console: &Console,
    visitor: &Visitor,
    group: &GroupName,
    done: Result<(), Error>,
    (what, field): (&'static str, &'static str),
) -> Answer<Response> {
    let Err(error) = done else {
        return Ok(see_other(&format!("/realms/{}/groups/{group}?done={what}", visitor.op.realm)));
    };
    let (told, refusal) = Told::of(error)?;
    let mut shown = GroupPage::new(console, visitor, group).await?;
    shown.problem = Problem::new(field, refusal);
    told.answer(&shown)
}

async fn wrong(
    console: &Console,
    visitor: &Visitor,
    group: &GroupName,
    problem: Problem,
) -> Answer<Response> {
    let mut shown = GroupPage::new(console, visitor, group).await?;
    shown.problem = problem;
    Ok(refused(&shown)?.into_response())
}

/// Reads a role and its limits: ticked, or written with commas between them. Without any it reaches everywhere, which is said
/// beside the form.
fn read_grant(fields: &FieldList) -> Result<Grant, Problem> {
    let words = |field: &str| {
        let all = fields.all(field);
        let words = all.iter().flat_map(|text| text.split([',', ' '])).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let role = RoleName::parse(fields.one("role").trim()).map_err(|error| Problem::of("role", error))?;
    let environments = words("environment").iter().map(|word| word.parse()).collect::<Result<Vec<_>, _>>();
    let environments = environments.map_err(|error| Problem::of("environment", error))?;
    let projects = words("project").iter().map(|word| word.parse()).collect::<Result<Vec<_>, _>>();
    let projects = projects.map_err(|error| Problem::of("project", error))?;
    Ok(Grant {
        role,
        environments: Extent::only(environments).unwrap_or_default(),
        projects: Extent::only(projects).unwrap_or_default(),
    })
}
