//! Roles: sets of permissions as a grid. Those of the product never change; a realm has its own beside them.

use std::collections::BTreeSet;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tollgate_app::access::{Op, Permission, Place, Role};
use tollgate_app::roles::RoleView;
use tollgate_model::names::RoleName;

use super::grid::Grid;
use crate::Console;
use crate::answers::{Answer, page, refused, see_other};
use crate::chrome::{Chrome, Section};
use crate::errors::Failure;
use crate::forms::{FieldList, Problem, Told, capitalised};
use crate::meanwhile::Meanwhile;
use crate::paths::named;
use crate::permitted::may;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/roles/index.html")]
struct RolesPage {
    chrome: Chrome,
    own: Vec<Row>,
    system: Vec<Row>,
    may_create: bool,
}

struct Row {
    name: String,
    description: String,
    permissions: usize,
}

#[derive(Template)]
#[template(path = "pages/roles/show.html")]
struct RolePage {
    chrome: Chrome,
    name: String,
    description: String,
    /// `None` for a role that is being made.
    revision: Option<u64>,
    /// Whether it belongs to the product.
    is_system: bool,
    is_new: bool,
    editable: bool,
    may_delete: bool,
    may_create: bool,
    grid: Grid,
    /// The role that the form was filled with, for whoever is overtaken.
    read: String,
    problem: Problem,
    meanwhile: Vec<Meanwhile>,
}

#[derive(Deserialize)]
struct RolePath {
    role: String,
}

#[derive(Deserialize)]
struct NewQuery {
    /// A role to begin with.
    #[serde(default)]
    from: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/roles", get(index).post(create))
        .route("/realms/{realm}/new-role", get(new))
        .route("/realms/{realm}/roles/{role}", get(show).post(save))
        .route("/realms/{realm}/roles/{role}/delete", post(delete))
}

async fn index(State(console): State<Console>, visitor: Visitor) -> Answer {
    let roles = console.app.roles().list(&visitor.op).await?;
    let (system, own): (Vec<_>, Vec<_>) = roles.iter().partition(|view| view.revision.is_none());
    page(&RolesPage {
        chrome: Chrome::new(&visitor, Section::Roles, "Roles"),
        own: own.into_iter().map(Row::new).collect(),
        system: system.into_iter().map(Row::new).collect(),
        may_create: may(&visitor.op, Permission::RoleCreate),
    })
}

async fn new(State(console): State<Console>, visitor: Visitor, Query(query): Query<NewQuery>) -> Answer {
    let op = &visitor.op;
    op.demand(Permission::RoleCreate)?;
    let from = match RoleName::parse(&query.from) {
        Ok(name) => console.app.roles().get(op, &name).await?.role.permissions,
        Err(_) => BTreeSet::new(),
    };
    // What cannot be given is not taken over.
    let permissions = from.into_iter().filter(|permission| held(op, *permission)).collect();
    page(&RolePage::new_role(&visitor, String::new(), String::new(), &permissions))
}

async fn create(State(console): State<Console>, visitor: Visitor, fields: FieldList) -> Answer<Response> {
    let name = fields.one("name").trim().to_owned();
    let (description, permissions) = read(&fields)?;
    let mut again = RolePage::new_role(&visitor, name.clone(), description.clone(), &permissions);
    let name = match RoleName::parse(&name) {
        Ok(name) => name,
        Err(error) => {
            again.problem = Problem::of("name", error);
            return Ok(refused(&again)?.into_response());
        }
    };
    let role = Role { name, description, permissions };
    match console.app.roles().create(&visitor.op, &role).await {
        Ok(_) => Ok(see_other(&format!("/realms/{}/roles", visitor.op.realm))),
        Err(error) => {
            let (told, refusal) = Told::of(error)?;
            again.problem = Problem::new(field_of(told.code, &refusal.message), refusal);
            told.answer(&again)
        }
    }
}

async fn show(State(console): State<Console>, visitor: Visitor, Path(path): Path<RolePath>) -> Answer {
    let view = console.app.roles().get(&visitor.op, &named(&path.role)?).await?;
    page(&RolePage::of(&visitor, view))
}

async fn save(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<RolePath>,
    fields: FieldList,
) -> Answer<Response> {
    let name: RoleName = named(&path.role)?;
    let revision = fields.one("revision").parse().ok();
    let (description, permissions) = read(&fields)?;
    let role = Role { name: name.clone(), description, permissions };
    match console.app.roles().put(&visitor.op, &role, revision).await {
        Ok(_) => Ok(see_other(&format!("/realms/{}/roles", visitor.op.realm))),
        Err(error) => {
            let (told, refusal) = Told::of(error)?;
            // What was ticked stays ticked; of a role that somebody else changed, the next attempt is of what it is now,
            // and of any other it is still of what was read.
            let stored = console.app.roles().get(&visitor.op, &name).await?;
            let overtaken = told.code == "precondition-failed";
            let again_of = if overtaken { stored.revision } else { revision };
            let now = told_of(&stored.role);
            let mut again = RolePage::of(&visitor, RoleView { role, revision: again_of });
            if overtaken {
                again.meanwhile = Meanwhile::of_fields(fields.one("read"), &now, &NAMES);
                again.read = now.to_string();
            } else {
                again.read = fields.one("read").to_owned();
            }
            again.problem = Problem::new(field_of(told.code, &refusal.message), refusal);
            told.answer(&again)
        }
    }
}

async fn delete(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<RolePath>,
) -> Answer<Response> {
    let name: RoleName = named(&path.role)?;
    match console.app.roles().delete(&visitor.op, &name, None).await {
        Ok(()) => Ok(see_other(&format!("/realms/{}/roles", visitor.op.realm))),
        Err(error) => {
            let (told, refusal) = Told::of(error)?;
            let view = console.app.roles().get(&visitor.op, &name).await?;
            let mut again = RolePage::of(&visitor, view);
            again.problem = Problem::new("", refusal);
            told.answer(&again)
        }
    }
}

fn read(fields: &FieldList) -> Answer<(String, BTreeSet<Permission>)> {
    let permissions = fields.all("permission");
    let parse = |name: &String| {
        Permission::parse(name).map_err(|error| Failure::plain(StatusCode::BAD_REQUEST, error.to_string()))
    };
    let permissions = permissions.iter().map(parse).collect::<Answer<_>>()?;
    Ok((fields.one("description").trim().to_owned(), permissions))
}

/// What a lost update is told of: JSON pointers, and what the form calls them.
const NAMES: [(&str, &str); 2] = [("/description", "Description"), ("/permissions", "Permissions")];

/// Writes a role for whoever is overtaken.
fn told_of(role: &Role) -> Value {
    let permissions: Vec<&str> = role.permissions.iter().map(|it| it.as_str()).collect();
    json!({ "description": role.description, "permissions": permissions })
}

fn field_of(code: &str, message: &str) -> &'static str {
    match code {
        "already-exists" | "role-built-in" => "name",
        "rights-exceeded" => "permissions",
        "invalid" if message.contains("permissions") => "permissions",
        "invalid" if message.contains("description") => "description",
        _ => "",
    }
}

/// Tells whether somebody has a permission in the whole realm, so that they can put it into a role.
fn held(op: &Op, permission: Permission) -> bool {
    op.may(permission, Place::REALM)
}

/// Begins the descriptions of the product's roles as sentences; people's own words stay as they are.
fn described(description: String, is_system: bool) -> String {
    if is_system { capitalised(&description) } else { description }
}

// === impl Row ===

impl Row {
    fn new(view: &RoleView) -> Self {
        Self {
            name: view.role.name.to_string(),
            description: described(view.role.description.clone(), view.revision.is_none()),
            permissions: view.role.permissions.len(),
        }
    }
}

// === impl RolePage ===

impl RolePage {
    fn of(visitor: &Visitor, view: RoleView) -> Self {
        let op = &visitor.op;
        let RoleView { role, revision } = view;
        let is_system = revision.is_none();
        // Whoever changes a role must have all of it.
        let read = told_of(&role).to_string();
        let has_all = role.permissions.iter().all(|permission| held(op, *permission));
        let editable = !is_system && has_all && may(op, Permission::RoleUpdate);
        Self {
            chrome: Chrome::new(visitor, Section::Roles, role.name.to_string()),
            name: role.name.to_string(),
            description: described(role.description, is_system),
            revision,
            is_system,
            is_new: false,
            editable,
            may_delete: !is_system && has_all && may(op, Permission::RoleDelete),
            may_create: may(op, Permission::RoleCreate),
            read,
            meanwhile: Vec::new(),
            grid: Grid::new(|it| role.permissions.contains(&it), |it| held(op, it)),
            problem: Problem::default(),
        }
    }

    fn new_role(
        visitor: &Visitor,
        name: String,
        description: String,
        permissions: &BTreeSet<Permission>,
    ) -> Self {
        let op = &visitor.op;
        Self {
            chrome: Chrome::new(visitor, Section::Roles, "New role"),
            name,
            description,
            revision: None,
            is_system: false,
            is_new: true,
            editable: true,
            may_delete: false,
            may_create: false,
            read: String::new(),
            meanwhile: Vec::new(),
            grid: Grid::new(|it| permissions.contains(&it), |it| held(op, it)),
            problem: Problem::default(),
        }
    }
}
