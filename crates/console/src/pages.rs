//! The pages.

mod account;
mod audit;
mod calls;
mod change_requests;
mod consumers;
mod dependents;
mod deployments;
mod environments;
mod explain;
mod grid;
mod groups;
mod issuers;
mod overview;
mod pipelines;
mod policies;
mod realm_settings;
mod realms;
mod roles;
mod search;
mod sign_in;
mod signing_keys;
mod tokens;
mod traffic;
mod users;
mod values;
mod waivers;

use axum::Router;
use axum::extract::State;
use axum::response::Redirect;
use axum::routing::get;
use tollgate_app::users::RealmRights;

use crate::Console;
use crate::answers::Answer;
use crate::visitor::Visitor;

pub(crate) fn routes() -> Router<Console> {
    Router::new()
        .route("/", get(home))
        .merge(sign_in::routes())
        .merge(account::routes())
        .merge(users::routes())
        .merge(groups::routes())
        .merge(roles::routes())
        .merge(environments::routes())
        .merge(realm_settings::routes())
        .merge(tokens::routes())
        .merge(realms::routes())
        .merge(audit::routes())
        .merge(change_requests::routes())
        .merge(overview::routes())
        .merge(pipelines::routes())
        .merge(deployments::routes())
        .merge(policies::routes())
        .merge(consumers::routes())
        .merge(values::routes())
        .merge(issuers::routes())
        .merge(waivers::routes())
        .merge(signing_keys::routes())
        .merge(traffic::routes())
        .merge(calls::routes())
        .merge(explain::routes())
        .merge(search::routes())
}

/// Leads to the first page that somebody may open: in the realm that they were in last, else in realm `default`, else in
/// the first where they may do something.
async fn home(State(console): State<Console>, visitor: Visitor) -> Answer<Redirect> {
    let op = &visitor.own.op;
    let realms = console.app.users().own_rights(op).await?;
    let order = |it: &&RealmRights| (Some(&it.realm) != visitor.last_realm.as_ref(), it.realm != op.realm);
    let first = realms.iter().filter(|it| realms::is_theirs(it)).min_by_key(order);
    match first {
        Some(first) if first.realm != op.realm => {
            let entered = console.app.realms().enter(op, first.realm.clone()).await?;
            Ok(Redirect::to(&crate::chrome::home(&entered)))
        }
        _ => Ok(Redirect::to(&crate::chrome::home(op))),
    }
}
