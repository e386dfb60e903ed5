//! Basic Auth credentials of a consumer, and the tokens that were issued to it.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde::Deserialize;
use tollgate_model::ids::BasicAuthId;

use super::{ConsumerPath, Filled, MadePage, ShownSecret, consumer_path, place, show_again};
use crate::Console;
use crate::answers::{Answer, page, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::Fields;
use crate::paths::named;
use crate::visitor::Visitor;

#[derive(Deserialize)]
struct LoginPath {
    environment: String,
    consumer: String,
    login: String,
}

#[derive(Deserialize)]
struct NewLoginForm {
    username: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/consumers/{environment}/{consumer}/logins", post(create))
        .route("/realms/{realm}/consumers/{environment}/{consumer}/logins/{login}/revoke", post(revoke))
        .route("/realms/{realm}/consumers/{environment}/{consumer}/revoke-tokens", post(revoke_tokens))
}

async fn create(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<ConsumerPath>,
    Fields(form): Fields<NewLoginForm>,
) -> Answer<Response> {
    let (environment, consumer) = place(&path)?;
    let username = form.username.trim();
    let made = console.app.basic_auth().create(&visitor.op, &environment, &consumer, username, None).await;
    let made = match made {
        Ok(made) => made,
        Err(error) => {
            let filled = Filled { username: form.username, ..Filled::default() };
            return show_again(&console, &visitor, &path, filled, "username", error).await;
        }
    };
    let title = format!("A password for {username} was made");
    let secret = made.password.map(|password| {
        let (password, user) = (password.expose_secret().to_owned(), username.to_owned());
        ShownSecret::Login { environment: environment.to_string(), user, password, url: String::new() }
    });
    let consumer_now = console.app.consumers().get(&visitor.op, &environment, &consumer).await?.value;
    let url = super::example_url(&console, &visitor.op, &environment, &consumer_now.pipelines).await;
    let made = MadePage {
        chrome: Chrome::new(&visitor, Section::Consumers, title.clone()),
        title,
        back: consumer_path(&visitor.op, &environment, &consumer),
        secrets: secret.into_iter().map(|secret| secret.at(&url)).collect(),
    };
    Ok(page(&made)?.into_response())
}

async fn revoke(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<LoginPath>,
) -> Answer<Response> {
    let login: BasicAuthId = named(&path.login)?;
    let path = ConsumerPath { environment: path.environment, consumer: path.consumer };
    let (environment, consumer) = place(&path)?;
    console.app.basic_auth().revoke(&visitor.op, &environment, login).await?;
    Ok(see_other(&consumer_path(&visitor.op, &environment, &consumer)))
}

async fn revoke_tokens(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<ConsumerPath>,
) -> Answer<Response> {
    let (environment, consumer) = place(&path)?;
    console.app.consumers().revoke_tokens(&visitor.op, &environment, &consumer, None).await?;
    Ok(see_other(&consumer_path(&visitor.op, &environment, &consumer)))
}
