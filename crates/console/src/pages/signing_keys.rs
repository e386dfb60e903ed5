//! The keys that sign the tokens of an environment.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use tollgate_model::keysets::SigningKeyState;
use tollgate_model::names::EnvironmentName;

use super::environments::{Tab, chosen};
use crate::Console;
use crate::answers::{Answer, page, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::Fields;
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

const HOUR_SECONDS: u32 = 3_600;

#[derive(Template)]
#[template(path = "pages/signing_keys.html")]
struct SigningKeysPage {
    chrome: Chrome,
    tabs: Vec<Tab>,
    environment: String,
    keys: Vec<Row>,
}

struct Row {
    kid: String,
    algorithm: String,
    mark: (&'static str, &'static str),
    /// Until when it verifies, or since when it does not.
    moment: Option<Moment>,
    made: Moment,
    revocable: bool,
}

#[derive(Deserialize)]
struct ListQuery {
    environment: Option<String>,
}

#[derive(Deserialize)]
struct RotateForm {
    environment: String,
    /// How long tokens of the old key are taken still, in hours.
    overlap_hours: u16,
}

#[derive(Deserialize)]
struct RevokeForm {
    environment: String,
    kid: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/signing-keys", get(index))
        .route("/realms/{realm}/signing-keys/rotate", post(rotate))
        .route("/realms/{realm}/signing-keys/revoke", post(revoke))
}

async fn index(State(console): State<Console>, visitor: Visitor, Query(query): Query<ListQuery>) -> Answer {
    let op = &visitor.op;
    let (environment, tabs) = chosen(&console, op, query.environment.as_deref()).await?;
    let keys = console.app.signing_keys().list(op, &environment).await?;
    let rows = keys.iter().rev().map(|key| {
        let (mark, at) = match key.state {
            SigningKeyState::Active => (("good", "signs"), None),
            SigningKeyState::Retiring { until } if until <= op.now => (("", "retired"), Some(until)),
            SigningKeyState::Retiring { until } => (("waived", "verifies until"), Some(until)),
            SigningKeyState::Revoked { at } => (("bad", "revoked"), Some(at)),
        };
        Row {
            kid: key.kid.clone(),
            algorithm: key.algorithm.to_string(),
            mark,
            moment: at.map(|at| Moment::new(at, op.now)),
            made: Moment::new(key.created_at, op.now),
            revocable: !matches!(key.state, SigningKeyState::Revoked { .. }),
        }
    });
    page(&SigningKeysPage {
        chrome: Chrome::new(&visitor, Section::SigningKeys, "Signing keys"),
        tabs,
        environment: environment.to_string(),
        keys: rows.collect(),
    })
}

async fn rotate(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<RotateForm>,
) -> Answer<Response> {
    let environment: EnvironmentName = named(&form.environment)?;
    let overlap_seconds = u32::from(form.overlap_hours) * HOUR_SECONDS;
    console.app.signing_keys().rotate(&visitor.op, &environment, None, overlap_seconds).await?;
    Ok(back(&visitor, &environment))
}

async fn revoke(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<RevokeForm>,
) -> Answer<Response> {
    let environment: EnvironmentName = named(&form.environment)?;
    console.app.signing_keys().revoke(&visitor.op, &environment, &form.kid).await?;
    Ok(back(&visitor, &environment))
}

fn back(visitor: &Visitor, environment: &EnvironmentName) -> Response {
    see_other(&format!("/realms/{}/signing-keys?environment={environment}", visitor.op.realm))
}
