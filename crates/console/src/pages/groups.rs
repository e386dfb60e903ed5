//! Groups: who holds which roles in the realm, and where.

mod changes;

use std::collections::BTreeSet;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde::Deserialize;
use tollgate_app::access::{Grant, Op, Permission, Reach, Rights, Role, Roles};
use tollgate_app::groups::GroupView;
use tollgate_app::lists::ListRequest;
use tollgate_model::document::GroupFile;
use tollgate_model::names::GroupName;

use super::environments::environments;
use crate::Console;
use crate::answers::{Answer, page, refused, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::{Fields, Problem, Told};
use crate::meanwhile::Meanwhile;
use crate::paths::named;
use crate::permitted::may;
use crate::visitor::Visitor;

/// Most users that are suggested as members; others are written.
const SUGGESTED: u32 = 200;

#[derive(Template)]
#[template(path = "pages/groups/index.html")]
struct GroupsPage {
    chrome: Chrome,
    groups: Vec<Row>,
    may_create: bool,
}

struct Row {
    name: String,
    description: String,
    members: usize,
    grants: Vec<String>,
}

#[derive(Template)]
#[template(path = "pages/groups/new.html")]
struct NewPage {
    chrome: Chrome,
    name: String,
    description: String,
    problem: Problem,
}

#[derive(Template)]
#[template(path = "pages/groups/show.html")]
struct GroupPage {
    chrome: Chrome,
    name: String,
    description: String,
    revision: u64,
    /// The description that the form was filled with, for whoever is overtaken.
    read: String,
    members: Vec<String>,
    grants: Vec<GrantRow>,
    /// Users who are not in it; empty for whom users are not to see, who write a name.
    users: Vec<String>,
    roles: Vec<RoleChoice>,
    environments: Vec<String>,
    projects: Vec<String>,
    may_update: bool,
    may_delete: bool,
    may_see_users: bool,
    /// Whether it is the group that the realm began with.
    is_first: bool,
    problem: Problem,
    meanwhile: Vec<Meanwhile>,
}

/// A grant as it is shown.
struct GrantRow {
    role: String,
    reach: String,
    environments: String,
    projects: String,
    /// Permissions of the role of which the limits leave nothing.
    without_effect: Vec<&'static str>,
}

/// A role that can be granted.
struct RoleChoice {
    name: String,
    about: String,
    /// Whether whoever looks has not all of it in the whole realm.
    exceeds: bool,
}

#[derive(Deserialize)]
struct GroupPath {
    group: String,
}

#[derive(Deserialize)]
struct ShowQuery {
    #[serde(default)]
    done: String,
}

#[derive(Deserialize)]
struct NewForm {
    name: String,
    #[serde(default)]
    description: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/groups", get(index).post(create))
        .route("/realms/{realm}/new-group", get(new))
        .route("/realms/{realm}/groups/{group}", get(show))
        .merge(changes::routes())
}

async fn index(State(console): State<Console>, visitor: Visitor) -> Answer {
    let groups = console.app.groups().list(&visitor.op).await?;
    page(&GroupsPage {
        chrome: Chrome::new(&visitor, Section::Groups, "Groups"),
        groups: groups.iter().map(Row::new).collect(),
        may_create: may(&visitor.op, Permission::GroupCreate),
    })
}

async fn new(visitor: Visitor) -> Answer {
    visitor.op.demand(Permission::GroupCreate)?;
    page(&NewPage::new(&visitor, NewForm { name: String::new(), description: String::new() }))
}

async fn create(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<NewForm>,
) -> Answer<Response> {
    let name = GroupName::parse(form.name.trim());
    let mut again = NewPage::new(&visitor, form);
    let name = match name {
        Ok(name) => name,
        Err(error) => {
            again.problem = Problem::of("name", error);
            return Ok(refused(&again)?.into_response());
        }
    };
    let file = GroupFile {
        name: name.clone(),
        description: again.description.clone(),
        members: BTreeSet::new(),
        grants: BTreeSet::new(),
    };
    match console.app.groups().create(&visitor.op, &file).await {
        Ok(_) => Ok(see_other(&format!("/realms/{}/groups/{name}?done=create", visitor.op.realm))),
        Err(error) => {
            let (told, refusal) = Told::of(error)?;
            let field = match told.code {
                "already-exists" => "name",
                "invalid" if refusal.message.contains("description") => "description",
                _ => "",
            };
            again.problem = Problem::new(field, refusal);
            told.answer(&again)
        }
    }
}

async fn show(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<GroupPath>,
    Query(query): Query<ShowQuery>,
) -> Answer {
    let mut shown = GroupPage::new(&console, &visitor, &named(&path.group)?).await?;
    shown.chrome.notice = visitor.notice(changes::notice(&query.done));
    page(&shown)
}

/// Returns the roles of the realm, as far as whoever looks may read them: those of the product are no secret.
pub(super) async fn roles(console: &Console, op: &Op) -> Answer<Roles> {
    if !may(op, Permission::RoleRead) {
        return Ok(Roles::default());
    }
    let all = console.app.roles().list(op).await?;
    Ok(Roles::new(all.into_iter().map(|view| view.role).filter(|role| !Role::is_system(&role.name))))
}

// === impl Row ===

impl Row {
    fn new(view: &GroupView) -> Self {
        Self {
            name: view.group.name.to_string(),
            description: view.group.description.clone(),
            members: view.members.len(),
            grants: view.group.grants.iter().map(|it| format!("{} {}", it.role, it.reach())).collect(),
        }
    }
}

// === impl NewPage ===

impl NewPage {
    fn new(visitor: &Visitor, form: NewForm) -> Self {
        Self {
            chrome: Chrome::new(visitor, Section::Groups, "New group"),
            name: form.name.trim().to_owned(),
            description: form.description.trim().to_owned(),
            problem: Problem::default(),
        }
    }
}

// === impl GroupPage ===

impl GroupPage {
    async fn new(console: &Console, visitor: &Visitor, name: &GroupName) -> Answer<Self> {
        let (op, app) = (&visitor.op, &console.app);
        let view = app.groups().get(op, name).await?;
        let members: Vec<String> = view.members.iter().map(ToString::to_string).collect();
        // Users live in realm `default`; whoever manages another realm may read them there or not.
        let home = &visitor.own.op;
        let may_see_users = may(home, Permission::UserRead);
        let mut users = Vec::new();
        if may_see_users {
            let some = ListRequest { limit: Some(SUGGESTED), cursor: None };
            let some = app.users().search(home, "", some).await?;
            users.extend(
                some.items.into_iter().map(|it| it.name.to_string()).filter(|it| !members.contains(it)),
            );
        }
        let choice = |role: &Role| {
            let whole = Rights::of(role.permissions.iter().copied(), &Reach::EVERYTHING);
            RoleChoice {
                name: role.name.to_string(),
                about: role.description.clone(),
                exceeds: !op.rights().covers(&whole),
            }
        };
        let names = |result: Answer<Vec<String>>| result.unwrap_or_default();
        let environments = environments(console, op).await;
        let projects = app.environments().projects(op).await.unwrap_or_default();
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Groups, name.to_string()),
            name: name.to_string(),
            description: view.group.description.clone(),
            revision: view.revision,
            read: view.group.description.clone(),
            members,
            grants: view.grants.iter().map(GrantRow::new).collect(),
            users,
            roles: roles(console, op).await?.iter().map(choice).collect(),
            environments: names(environments.map(|all| all.iter().map(ToString::to_string).collect())),
            projects: projects.into_iter().map(|it| it.name.to_string()).collect(),
            may_update: may(op, Permission::GroupUpdate),
            may_delete: may(op, Permission::GroupDelete),
            may_see_users,
            is_first: *name == GroupName::administrators(),
            problem: Problem::default(),
            meanwhile: Vec::new(),
        })
    }
}

// === impl GrantRow ===

impl GrantRow {
    fn new((grant, without_effect): &(Grant, Vec<Permission>)) -> Self {
        fn words<N: ToString>(names: impl Iterator<Item = N>) -> String {
            names.map(|it| it.to_string()).collect::<Vec<_>>().join(",")
        }
        Self {
            role: grant.role.to_string(),
            reach: grant.reach().to_string(),
            environments: words(grant.environments.names()),
            projects: words(grant.projects.names()),
            without_effect: without_effect.iter().map(|it| it.as_str()).collect(),
        }
    }
}
