//! Globals and accounts: values and secrets that flows read. Those of an account are shown to nobody.

use std::collections::BTreeMap;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use tollgate_app::Password;
use tollgate_app::accounts::AccountFields;
use tollgate_model::names::{EnvironmentName, ValueName};

use super::environments::{Switch, kept};
use crate::Console;
use crate::answers::{Answer, page, see_other};
use crate::chrome::{Chrome, Section};
use crate::errors::Failure;
use crate::forms::{Fields, Refusal};
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/values/globals.html")]
struct GlobalsPage {
    chrome: Chrome,
    switch: Switch,
    environment: String,
    globals: Vec<GlobalRow>,
}

struct GlobalRow {
    name: String,
    value: String,
    at: Moment,
}

#[derive(Template)]
#[template(path = "pages/values/accounts.html")]
struct AccountsPage {
    chrome: Chrome,
    switch: Switch,
    environment: String,
    accounts: Vec<AccountRow>,
}

struct AccountRow {
    name: String,
    fields: String,
    at: Moment,
}

#[derive(Deserialize)]
struct ListQuery {
    environment: Option<String>,
}

#[derive(Deserialize)]
struct GlobalForm {
    environment: String,
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct AccountForm {
    environment: String,
    name: String,
    field: String,
    secret: String,
    /// `hash` where flows read its hash only.
    kept_as: String,
}

#[derive(Deserialize)]
struct NameForm {
    environment: String,
    name: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/globals", get(globals).post(set_global))
        .route("/realms/{realm}/globals/delete", post(delete_global))
        .route("/realms/{realm}/accounts", get(accounts).post(set_account))
        .route("/realms/{realm}/accounts/delete", post(delete_account))
}

async fn globals(State(console): State<Console>, visitor: Visitor, Query(query): Query<ListQuery>) -> Answer {
    let op = &visitor.op;
    let (environment, switch) = kept(&console, &visitor, query.environment.as_deref(), "").await?;
    let globals = console.app.globals().list(op, &environment).await?;
    page(&GlobalsPage {
        chrome: Chrome::new(&visitor, Section::Globals, "Globals"),
        switch,
        environment: environment.to_string(),
        globals: globals
            .into_iter()
            .map(|it| GlobalRow {
                name: it.value.name.to_string(),
                value: it.value.value.as_str().map_or_else(|| it.value.value.to_string(), str::to_owned),
                at: Moment::new(it.value.updated_at, op.now),
            })
            .collect(),
    })
}

async fn set_global(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<GlobalForm>,
) -> Answer<Response> {
    let (environment, name) = place(&form.environment, &form.name)?;
    // What is JSON is taken as it; anything else is a text.
    let value = serde_json::from_str(&form.value).unwrap_or_else(|_| form.value.as_str().into());
    console.app.globals().set(&visitor.op, &environment, name, value, None).await?;
    Ok(back(&visitor, "globals", &environment))
}

async fn delete_global(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<NameForm>,
) -> Answer<Response> {
    let (environment, name) = place(&form.environment, &form.name)?;
    console.app.globals().delete(&visitor.op, &environment, &name, None).await?;
    Ok(back(&visitor, "globals", &environment))
}

async fn accounts(
    State(console): State<Console>,
    visitor: Visitor,
    Query(query): Query<ListQuery>,
) -> Answer {
    let op = &visitor.op;
    let (environment, switch) = kept(&console, &visitor, query.environment.as_deref(), "").await?;
    let accounts = console.app.accounts().list(op, &environment).await?;
    page(&AccountsPage {
        chrome: Chrome::new(&visitor, Section::Accounts, "Accounts"),
        switch,
        environment: environment.to_string(),
        accounts: accounts
            .into_iter()
            .map(|it| AccountRow {
                name: it.name.to_string(),
                fields: it.fields.join(", "),
                at: Moment::new(it.updated_at, op.now),
            })
            .collect(),
    })
}

async fn set_account(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<AccountForm>,
) -> Answer<Response> {
    let (environment, name) = place(&form.environment, &form.name)?;
    let secret = Password::parse(&form.secret)
        .map_err(|error| Refusal::of(error).into_failure(http::StatusCode::UNPROCESSABLE_ENTITY))?;
    let field = BTreeMap::from([(form.field.trim().to_owned(), secret)]);
    let fields = if form.kept_as == "hash" {
        AccountFields { hashed: field, ..AccountFields::default() }
    } else {
        AccountFields { plain: field, ..AccountFields::default() }
    };
    console.app.accounts().set(&visitor.op, &environment, name, fields, None).await?;
    Ok(back(&visitor, "accounts", &environment))
}

async fn delete_account(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<NameForm>,
) -> Answer<Response> {
    let (environment, name) = place(&form.environment, &form.name)?;
    console.app.accounts().delete(&visitor.op, &environment, &name, None).await?;
    Ok(back(&visitor, "accounts", &environment))
}

fn place(environment: &str, name: &str) -> Result<(EnvironmentName, ValueName), Failure> {
    Ok((named(environment)?, named(name.trim())?))
}

fn back(visitor: &Visitor, list: &str, environment: &EnvironmentName) -> Response {
    see_other(&format!("/realms/{}/{list}?environment={environment}", visitor.op.realm))
}
