//! Making, changing and deleting an issuer, and having its keys fetched anew.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde::Deserialize;
use tollgate_app::access::{Op, Permission, Place};
use tollgate_app::errors::ErrorKind;
use tollgate_model::names::{EnvironmentName, IssuerName};

use super::form::{IssuerForm, NAMES};
use super::{IssuerPage, IssuerPath, NewPage, place};
use crate::Console;
use crate::answers::{Answer, refused, see_other};
use crate::forms::{FieldList, Fields, Problem, Told};
use crate::meanwhile::Meanwhile;
use crate::paths::named;
use crate::visitor::Visitor;

#[derive(Deserialize)]
struct DeleteForm {
    revision: u64,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/issuers/{environment}/{issuer}/refresh", post(refresh))
        .route("/realms/{realm}/issuers/{environment}/{issuer}/delete", post(delete))
}

/// Says what was just done.
pub(super) fn notice(done: &str) -> Option<&'static str> {
    Some(match done {
        "create" => {
            "The issuer was set. Gateways fetch its keys now; a pipeline takes its tokens once it lists it."
        }
        "save" => "Saved. It counts from the next call on.",
        "refresh" => "Every gateway fetches its keys now.",
        _ => return None,
    })
}

pub(super) async fn create(
    State(console): State<Console>,
    visitor: Visitor,
    fields: FieldList,
) -> Answer<Response> {
    let op = &visitor.op;
    let environment: EnvironmentName = named(fields.one("environment"))?;
    op.demand_in(Permission::IssuerUpdate, Place::environment(&environment))?;
    let mut again = NewPage::new(&visitor, &environment, IssuerForm::sent(&fields));
    let name = IssuerName::parse(&again.form.name).map_err(|error| Problem::of("name", error));
    let (name, settings) = match name.and_then(|name| Ok((name, again.form.settings()?))) {
        Ok(read) => read,
        Err(problem) => {
            again.problem = problem;
            return Ok(refused(&again)?.into_response());
        }
    };
    match console.app.issuers().create(op, &environment, name.clone(), settings).await {
        Ok(_) => Ok(see_other(&format!("{}?done=create", path_of(op, &environment, &name)))),
        Err(error) => {
            let (told, refusal) = Told::of(error)?;
            // Everything about its settings was checked: what is left is its name.
            again.problem = Problem::new("name", refusal);
            told.answer(&again)
        }
    }
}

pub(super) async fn save(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<IssuerPath>,
    fields: FieldList,
) -> Answer<Response> {
    let op = &visitor.op;
    let (environment, name) = place(&path)?;
    op.demand_in(Permission::IssuerUpdate, Place::environment(&environment))?;
    let mut again = IssuerPage::new(&console, &visitor, &environment, &name).await?;
    again.form = IssuerForm::sent(&fields);
    let settings = match again.form.settings() {
        Ok(settings) => settings,
        Err(problem) => {
            // It is still what was read that is changed.
            again.problem = problem;
            again.read = fields.one("read").to_owned();
            again.revision = fields.one("revision").parse().unwrap_or_default();
            return Ok(refused(&again)?.into_response());
        }
    };
    let revision = fields.one("revision").parse().unwrap_or_default();
    match console.app.issuers().set(op, &environment, &name, settings, Some(revision)).await {
        Ok(_) => Ok(see_other(&format!("{}?done=save", path_of(op, &environment, &name)))),
        Err(error) => {
            if error.kind == ErrorKind::PreconditionFailed {
                let now = serde_json::from_str(&again.read).unwrap_or_default();
                again.meanwhile = Meanwhile::of_fields(fields.one("read"), &now, &NAMES);
            }
            let (told, refusal) = Told::of(error)?;
            again.problem = Problem::new("", refusal);
            told.answer(&again)
        }
    }
}

async fn refresh(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<IssuerPath>,
) -> Answer<Response> {
    let (environment, name) = place(&path)?;
    console.app.issuers().refresh(&visitor.op, &environment, &name).await?;
    Ok(see_other(&format!("{}?done=refresh", path_of(&visitor.op, &environment, &name))))
}

async fn delete(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<IssuerPath>,
    Fields(form): Fields<DeleteForm>,
) -> Answer<Response> {
    let op = &visitor.op;
    let (environment, name) = place(&path)?;
    match console.app.issuers().delete(op, &environment, &name, Some(form.revision)).await {
        Ok(()) => {
            Ok(see_other(&format!("/realms/{}/issuers?environment={environment}&done=delete", op.realm)))
        }
        Err(error) => {
            let (told, refusal) = Told::of(error)?;
            let mut again = IssuerPage::new(&console, &visitor, &environment, &name).await?;
            again.problem = Problem::new("delete", refusal);
            told.answer(&again)
        }
    }
}

fn path_of(op: &Op, environment: &EnvironmentName, name: &IssuerName) -> String {
    format!("/realms/{}/issuers/{environment}/{name}", op.realm)
}
