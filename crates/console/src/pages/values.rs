//! Globals and accounts: values and secrets that flows read. Those of an account are shown to nobody.
//!
//! A new one is made where there is none of its name; one that is there is changed as it was read. What reads one is told
//! before it goes.

mod accounts;
mod globals;
mod remove;

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use tollgate_model::names::{EnvironmentName, ValueName};

use crate::Console;
use crate::answers::{Answer, see_other};
use crate::paths::named;
use crate::visitor::Visitor;

#[derive(Deserialize)]
struct ListQuery {
    environment: Option<String>,
    /// The one to change.
    change: Option<String>,
    #[serde(default)]
    done: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/globals", get(globals::index).post(globals::set))
        .route("/realms/{realm}/globals/delete", get(remove::global).post(remove::delete_global))
        .route("/realms/{realm}/accounts", get(accounts::index).post(accounts::set))
        .route("/realms/{realm}/accounts/delete", get(remove::account).post(remove::delete_account))
}

/// Reads where a value is that there is.
fn place(environment: &str, name: &str) -> Answer<(EnvironmentName, ValueName)> {
    Ok((named(environment)?, named(name.trim())?))
}

/// Says what was just done.
fn notice(visitor: &Visitor, done: &str) -> Option<String> {
    visitor.notice(match done {
        "set" => Some("Set. Flows read it from their next call on."),
        "delete" => Some("Deleted."),
        _ => None,
    })
}

fn back(visitor: &Visitor, list: &str, environment: &EnvironmentName, done: &str) -> Response {
    see_other(&format!("/realms/{}/{list}?environment={environment}&done={done}", visitor.op.realm))
}
