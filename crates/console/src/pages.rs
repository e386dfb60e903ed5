//! The pages.

mod account;
mod audit;
mod change_requests;
mod consumers;
mod deployments;
mod environments;
mod grid;
mod groups;
mod overview;
mod pipelines;
mod policies;
mod realm_settings;
mod roles;
mod sign_in;
mod signing_keys;
mod users;
mod values;
mod waivers;

use axum::Router;
use axum::extract::State;
use axum::response::Redirect;
use axum::routing::get;

use crate::Console;
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
        .merge(audit::routes())
        .merge(change_requests::routes())
        .merge(overview::routes())
        .merge(pipelines::routes())
        .merge(deployments::routes())
        .merge(policies::routes())
        .merge(consumers::routes())
        .merge(values::routes())
        .merge(waivers::routes())
        .merge(signing_keys::routes())
}

async fn home(State(_): State<Console>, visitor: Visitor) -> Redirect {
    Redirect::to(&format!("/realms/{}/overview", visitor.op.realm))
}
