//! Users: who can sign in at this server. They live in realm `default`.

mod changes;

use std::collections::BTreeSet;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use serde::Deserialize;
use tollgate_app::access::{Op, Permission};
use tollgate_app::errors::ErrorKind;
use tollgate_app::lists::ListRequest;
use tollgate_app::users::{HeldRight, NewUser, UserView};
use tollgate_model::names::{GroupName, RealmName, UserName};

use super::account::SessionRow;
use crate::Console;
use crate::answers::{Answer, page, render};
use crate::chrome::{Chrome, Section};
use crate::forms::{FieldList, Problem, Refusal, Told};
use crate::paths::{encoded, named};
use crate::permitted::may;
use crate::times::Moment;
use crate::visitor::Visitor;

/// Users on a page.
const PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "pages/users/index.html")]
struct UsersPage {
    chrome: Chrome,
    query: String,
    users: Vec<Row>,
    /// Where the next page is.
    next: Option<String>,
    may_create: bool,
}

struct Row {
    name: String,
    mark: (&'static str, &'static str),
    groups: Vec<String>,
    made: Moment,
}

#[derive(Template)]
#[template(path = "pages/users/new.html")]
struct NewPage {
    chrome: Chrome,
    name: String,
    /// `None` for whom it is not to put somebody into groups.
    groups: Option<Vec<GroupChoice>>,
    problem: Problem,
}

/// A group that somebody can be put into.
struct GroupChoice {
    name: String,
    about: String,
    ticked: bool,
    /// Whether it grants more than whoever looks may give.
    locked: bool,
}

#[derive(Template)]
#[template(path = "pages/users/secret.html")]
struct SecretPage {
    chrome: Chrome,
    title: String,
    user: String,
    password: String,
}

#[derive(Template)]
#[template(path = "pages/users/show.html")]
struct UserPage {
    chrome: Chrome,
    name: String,
    made: Moment,
    disabled: Option<Moment>,
    temporary: bool,
    is_self: bool,
    groups: Vec<String>,
    /// Groups of the other realms that they are in.
    elsewhere: Vec<String>,
    /// Groups that they are not in; empty for whom it is not to change groups.
    joinable: Vec<String>,
    /// What they may do: `None` for whom this is not to see.
    held: Option<Vec<HeldRow>>,
    sessions: Vec<SessionRow>,
    may_update: bool,
    may_delete: bool,
    may_group: bool,
    problem: Problem,
}

/// A permission that somebody has.
struct HeldRow {
    permission: &'static str,
    reach: String,
    through: String,
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    q: String,
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct ShowQuery {
    #[serde(default)]
    done: String,
}

#[derive(Deserialize)]
struct UserPath {
    user: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/users", get(index).post(create))
        .route("/realms/{realm}/new-user", get(new))
        .route("/realms/{realm}/users/{user}", get(show))
        .merge(changes::routes())
}

async fn index(State(console): State<Console>, visitor: Visitor, Query(query): Query<ListQuery>) -> Answer {
    let op = &visitor.op;
    let text = query.q.trim();
    let request = ListRequest { limit: Some(PAGE), cursor: query.cursor };
    let found = console.app.users().search(op, text, request).await?;
    page(&UsersPage {
        chrome: Chrome::new(&visitor, Section::Users, "Users"),
        query: text.to_owned(),
        next: found.next.map(|cursor| format!("?q={}&cursor={}", encoded(text), encoded(&cursor))),
        users: found.items.iter().map(|user| Row::new(user, op)).collect(),
        may_create: may(op, Permission::UserCreate),
    })
}

async fn new(State(console): State<Console>, visitor: Visitor) -> Answer {
    visitor.op.demand_server(Permission::UserCreate)?;
    page(&NewPage::new(&console, &visitor, String::new(), &BTreeSet::new()).await?)
}

async fn create(State(console): State<Console>, visitor: Visitor, fields: FieldList) -> Answer<Response> {
    let op = &visitor.op;
    op.demand_server(Permission::UserCreate)?;
    let (name, chosen) = (fields.one("name").trim().to_owned(), fields.all("group"));
    let mut again = NewPage::new(&console, &visitor, name.clone(), &chosen).await?;
    let name = match UserName::parse(&name) {
        Ok(name) => name,
        Err(error) => {
            again.problem = Problem::of("name", error);
            return Ok(render(StatusCode::UNPROCESSABLE_ENTITY, &again)?.into_response());
        }
    };
    let groups = chosen.iter().map(|group| named(group)).collect::<Answer<BTreeSet<GroupName>>>()?;
    match console.app.users().create(op, NewUser { name, password: None, groups }).await {
        Ok(made) => show_password(&visitor, &made.user, made.password.as_ref(), "was made"),
        Err(error) => {
            let (told, refusal) = Told::of(error)?;
            let field = match told.code {
                "already-exists" | "invalid" => "name",
                "rights-exceeded" | "not-found" => "groups",
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
    Path(path): Path<UserPath>,
    Query(query): Query<ShowQuery>,
) -> Answer {
    let mut shown = UserPage::new(&console, &visitor, &named(&path.user)?).await?;
    shown.chrome.notice = visitor.notice(changes::notice(&query.done));
    page(&shown)
}

/// Shows a password that was made up, this once.
fn show_password(
    visitor: &Visitor,
    user: &UserView,
    password: Option<&tollgate_app::Password>,
    what: &str,
) -> Answer<Response> {
    let title = format!("{} {what}", user.name);
    let shown = SecretPage {
        chrome: Chrome::new(visitor, Section::Users, title.clone()),
        title,
        user: user.name.to_string(),
        password: password.map(|it| it.expose_secret().to_owned()).unwrap_or_default(),
    };
    Ok(page(&shown)?.into_response())
}

/// Returns the names of somebody's groups in realm `default`, where users live, and of those in other realms.
fn groups_of(user: &UserView) -> (Vec<String>, Vec<String>) {
    let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
    for (realm, groups) in &user.groups {
        let is_home = *realm == RealmName::default();
        for group in groups {
            if is_home {
                here.push(group.to_string());
            } else {
                elsewhere.push(format!("{group} in realm {realm}"));
            }
        }
    }
    (here, elsewhere)
}

// === impl Row ===

impl Row {
    fn new(user: &UserView, op: &Op) -> Self {
        let groups = user.groups.get(&op.realm).into_iter().flatten();
        Self {
            name: user.name.to_string(),
            mark: mark(user),
            groups: groups.map(ToString::to_string).collect(),
            made: Moment::new(user.created_at, op.now),
        }
    }
}

fn mark(user: &UserView) -> (&'static str, &'static str) {
    match (user.disabled_at, user.password_is_temporary) {
        (Some(_), _) => ("bad", "disabled"),
        (None, true) => ("waived", "temporary password"),
        (None, false) => ("good", "can sign in"),
    }
}

// === impl NewPage ===

impl NewPage {
    async fn new(
        console: &Console,
        visitor: &Visitor,
        name: String,
        chosen: &BTreeSet<String>,
    ) -> Answer<Self> {
        let op = &visitor.op;
        let groups = if may(op, Permission::GroupUpdate) && may(op, Permission::GroupRead) {
            let all = console.app.groups().list(op).await?;
            let roles = super::groups::roles(console, op).await?;
            let choice = |view: &tollgate_app::groups::GroupView| {
                let grants: Vec<_> =
                    view.group.grants.iter().map(|it| format!("{} {}", it.role, it.reach())).collect();
                let name = view.group.name.to_string();
                GroupChoice {
                    ticked: chosen.contains(&name),
                    about: grants.join("; "),
                    locked: !op.rights().covers(&view.group.rights(&roles)),
                    name,
                }
            };
            Some(all.iter().map(choice).collect())
        } else {
            None
        };
        let chrome = Chrome::new(visitor, Section::Users, "New user");
        Ok(Self { chrome, name, groups, problem: Problem::default() })
    }
}

// === impl UserPage ===

impl UserPage {
    async fn new(console: &Console, visitor: &Visitor, name: &UserName) -> Answer<Self> {
        let (op, app) = (&visitor.op, &console.app);
        let user = app.users().get(op, name).await?.value;
        let held = match app.users().rights(op, name).await {
            Ok(rights) => Some(rights.held.iter().map(HeldRow::new).collect()),
            Err(error) if error.kind == ErrorKind::Forbidden => None,
            Err(error) => return Err(error.into()),
        };
        let sessions = app.users().sessions_of(op, name).await?;
        let this = visitor.own.me.token.id;
        let (groups, elsewhere) = groups_of(&user);
        let may_group = may(op, Permission::GroupUpdate) && may(op, Permission::GroupRead);
        let mut joinable = Vec::new();
        if may_group {
            let all = app.groups().list(op).await?;
            joinable.extend(
                all.into_iter().map(|it| it.group.name.to_string()).filter(|it| !groups.contains(it)),
            );
        }
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Users, name.to_string()),
            name: name.to_string(),
            made: Moment::new(user.created_at, op.now),
            disabled: user.disabled_at.map(|at| Moment::new(at, op.now)),
            temporary: user.password_is_temporary,
            is_self: op.actor.user == Some(user.id),
            groups,
            elsewhere,
            joinable,
            held,
            sessions: sessions.into_iter().rev().map(|it| SessionRow::new(it, this, op.now)).collect(),
            may_update: may(op, Permission::UserUpdate),
            may_delete: may(op, Permission::UserDelete),
            may_group,
            problem: Problem::default(),
        })
    }

    /// Says why something was not done to the user.
    fn refuse(mut self, field: &'static str, refusal: Refusal) -> Self {
        self.problem = Problem::new(field, refusal);
        self
    }
}

// === impl HeldRow ===

impl HeldRow {
    fn new(held: &HeldRight) -> Self {
        Self {
            permission: held.permission.as_str(),
            reach: held.reach.to_string(),
            through: format!("{}, as {}", held.group, held.role),
        }
    }
}
