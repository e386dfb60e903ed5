//! The keys that sign the tokens of an environment.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tollgate_app::errors::ErrorKind;
use tollgate_model::keysets::{Algorithm, SigningKeyState};
use tollgate_model::names::EnvironmentName;

use super::environments::{Switch, kept};
use crate::Console;
use crate::answers::{Answer, page, refused, render, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::{Fields, Problem, Refusal, Told};
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

const HOUR_SECONDS: u32 = 3_600;

#[derive(Template)]
#[template(path = "pages/signing_keys.html")]
struct SigningKeysPage {
    chrome: Chrome,
    switch: Switch,
    environment: String,
    keys: Vec<Row>,
    /// Where the public keys are published.
    jwks: String,
    algorithms: [&'static str; 4],
    filled: Filled,
    problem: Option<Refusal>,
    /// What is wrong with how long both keys are to count.
    at_overlap: Problem,
    /// What was just done.
    inspected: Option<Inspected>,
}

/// What somebody wrote that was refused.
#[derive(Default)]
struct Filled {
    jti: String,
    overlap: String,
    algorithm: String,
}

/// What a token says, and whether it is taken.
struct Inspected {
    claims: String,
    /// Why it would be refused; `None` when it would be taken.
    refused: Option<String>,
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
    #[serde(default)]
    overlap_hours: String,
    /// The algorithm of the new key; empty for that of the old one.
    #[serde(default)]
    algorithm: String,
}

#[derive(Deserialize)]
struct RevokeForm {
    environment: String,
    kid: String,
}

#[derive(Deserialize)]
struct RevokeTokenForm {
    environment: String,
    jti: String,
}

#[derive(Deserialize)]
struct InspectForm {
    environment: String,
    token: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/signing-keys", get(index))
        .route("/realms/{realm}/signing-keys/rotate", post(rotate))
        .route("/realms/{realm}/signing-keys/revoke", post(revoke))
        .route("/realms/{realm}/signing-keys/revoke-token", post(revoke_token))
        .route("/realms/{realm}/signing-keys/inspect", post(inspect))
}

async fn index(State(console): State<Console>, visitor: Visitor, Query(query): Query<ListQuery>) -> Answer {
    page(&SigningKeysPage::new(&console, &visitor, query.environment.as_deref()).await?)
}

// === impl SigningKeysPage ===

impl SigningKeysPage {
    async fn new(console: &Console, visitor: &Visitor, environment: Option<&str>) -> Answer<Self> {
        let op = &visitor.op;
        let (environment, switch) = kept(console, visitor, environment, "").await?;
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
        let gateway = console.settings.gateways.get(environment.as_str());
        Ok(Self {
            chrome: Chrome::new(visitor, Section::SigningKeys, "Signing keys"),
            switch,
            environment: environment.to_string(),
            keys: rows.collect(),
            jwks: gateway.map(|gateway| format!("{gateway}/.well-known/jwks.json")).unwrap_or_default(),
            algorithms: ["ES256", "EdDSA", "RS256", "HS256"],
            filled: Filled::default(),
            problem: None,
            at_overlap: Problem::default(),
            inspected: None,
        })
    }
}

async fn rotate(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<RotateForm>,
) -> Answer<Response> {
    let environment: EnvironmentName = named(&form.environment)?;
    let algorithm = match form.algorithm.as_str() {
        "" => None,
        written => Some(named::<Algorithm>(written)?),
    };
    let rotated = match form.overlap_hours.trim().parse::<u16>() {
        Ok(hours) => {
            let overlap_seconds = u32::from(hours) * HOUR_SECONDS;
            let keys = console.app.signing_keys();
            keys.rotate(&visitor.op, &environment, algorithm, overlap_seconds).await.map_err(Some)
        }
        Err(_) => Err(None),
    };
    let error = match rotated {
        Ok(_) => return Ok(back(&visitor, &environment)),
        Err(error) => error,
    };
    let mut again = SigningKeysPage::new(&console, &visitor, Some(environment.as_str())).await?;
    again.filled = Filled { overlap: form.overlap_hours, algorithm: form.algorithm, ..Filled::default() };
    match error {
        Some(error) => {
            let (told, refusal) = Told::of(error)?;
            again.at_overlap = Problem::new("overlap", refusal);
            told.answer(&again)
        }
        None => {
            again.at_overlap = Problem::of("overlap", "write a number of hours, 0 for none");
            Ok(refused(&again)?.into_response())
        }
    }
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

/// Revokes one token by its id.
async fn revoke_token(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<RevokeTokenForm>,
) -> Answer<Response> {
    let environment: EnvironmentName = named(&form.environment)?;
    let jti = form.jti.trim();
    match console.app.signing_keys().revoke_token(&visitor.op, &environment, jti, None).await {
        Ok(_) => {
            Ok(see_other(&format!("/realms/{}/signing-keys?environment={environment}", visitor.op.realm)))
        }
        Err(error) if matches!(error.kind, ErrorKind::Invalid | ErrorKind::Conflict) => {
            let (status, problem) = Refusal::with_status(error);
            let mut again = SigningKeysPage::new(&console, &visitor, Some(environment.as_str())).await?;
            again.filled = Filled { jti: form.jti, ..Filled::default() };
            again.problem = Some(problem);
            Ok(render(status, &again)?.into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// Tells what a token says, and whether it is taken. The token stands in no address and is not shown again.
async fn inspect(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<InspectForm>,
) -> Answer<Response> {
    let environment: EnvironmentName = named(&form.environment)?;
    let mut again = SigningKeysPage::new(&console, &visitor, Some(environment.as_str())).await?;
    match console.app.signing_keys().inspect(&visitor.op, &environment, form.token.trim()).await {
        Ok(token) => {
            again.inspected = Some(Inspected {
                claims: serde_json::to_string_pretty(&token.claims).unwrap_or_default(),
                refused: token.refused,
            });
            Ok(page(&again)?.into_response())
        }
        Err(error) if error.kind == ErrorKind::Invalid => {
            let (status, problem) = Refusal::with_status(error);
            again.problem = Some(problem);
            Ok(render(status, &again)?.into_response())
        }
        Err(error) => Err(error.into()),
    }
}

fn back(visitor: &Visitor, environment: &EnvironmentName) -> Response {
    see_other(&format!("/realms/{}/signing-keys?environment={environment}", visitor.op.realm))
}
