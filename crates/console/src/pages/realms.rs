//! The realms that somebody may do something in, and the way from one to another.

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Redirect;
use axum::routing::get;
use tollgate_app::access::Permission;
use tollgate_app::users::RealmRights;

use crate::Console;
use crate::answers::{Answer, page};
use crate::chrome::{Chrome, Section};
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/realms.html")]
struct RealmsPage {
    chrome: Chrome,
    realms: Vec<Row>,
}

struct Row {
    name: String,
    groups: Vec<String>,
    here: bool,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/realms/{realm}", get(enter)).route("/realms/{realm}/realms", get(index))
}

/// Tells whether somebody may do more in a realm than look after their own account.
pub(super) fn is_theirs(it: &RealmRights) -> bool {
    it.rights.iter().any(|(it, _)| it != Permission::UserTokenManage)
}

/// Leads to the first page of a realm that somebody may open.
async fn enter(visitor: Visitor) -> Redirect {
    Redirect::to(&crate::chrome::home(&visitor.op))
}

async fn index(State(console): State<Console>, visitor: Visitor) -> Answer {
    let realms = console.app.users().own_rights(&visitor.own.op).await?;
    let row = |it: &RealmRights| Row {
        name: it.realm.to_string(),
        groups: it.groups.iter().map(ToString::to_string).collect(),
        here: it.realm == visitor.op.realm,
    };
    page(&RealmsPage {
        chrome: Chrome::new(&visitor, Section::Realms, "Realms"),
        realms: realms.iter().filter(|it| is_theirs(it)).map(row).collect(),
    })
}
