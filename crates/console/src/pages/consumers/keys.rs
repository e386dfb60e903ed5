//! Keys of a consumer: made and shown once, rotated with an overlap, revoked at once.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde::Deserialize;
use tollgate_app::keys::{NewKey, ShownKey};
use tollgate_model::ids::KeyId;
use tollgate_model::names::CredentialName;

use super::{ConsumerPath, MadePage, ShownKeyView, consumer_path, place};
use crate::Console;
use crate::answers::{Answer, page, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::Fields;
use crate::paths::named;
use crate::visitor::Visitor;

const HOUR_SECONDS: u32 = 3_600;

#[derive(Deserialize)]
struct KeyPath {
    environment: String,
    consumer: String,
    key: String,
}

#[derive(Deserialize)]
struct NewKeyForm {
    name: String,
}

#[derive(Deserialize)]
struct RotateForm {
    /// How long both work, in hours.
    overlap_hours: u16,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/consumers/{environment}/{consumer}/keys", post(create))
        .route("/realms/{realm}/consumers/{environment}/{consumer}/keys/{key}/rotate", post(rotate))
        .route("/realms/{realm}/consumers/{environment}/{consumer}/keys/{key}/revoke", post(revoke))
}

async fn create(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<ConsumerPath>,
    Fields(form): Fields<NewKeyForm>,
) -> Answer<Response> {
    let (environment, consumer) = place(&path)?;
    let input = NewKey { name: named::<CredentialName>(form.name.trim())?, expires_at: None };
    let shown = console.app.keys().create(&visitor.op, &environment, &consumer, input).await?;
    show_once(&visitor, &path, &shown, format!("A key of {consumer} was made"))
}

async fn rotate(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<KeyPath>,
    Fields(form): Fields<RotateForm>,
) -> Answer<Response> {
    let key: KeyId = named(&path.key)?;
    let path = ConsumerPath { environment: path.environment, consumer: path.consumer };
    let (environment, consumer) = place(&path)?;
    let overlap_seconds = u32::from(form.overlap_hours) * HOUR_SECONDS;
    let shown = console.app.keys().rotate(&visitor.op, &environment, key, overlap_seconds, None).await?;
    show_once(&visitor, &path, &shown, format!("A key of {consumer} was rotated"))
}

async fn revoke(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<KeyPath>,
) -> Answer<Response> {
    let key: KeyId = named(&path.key)?;
    let path = ConsumerPath { environment: path.environment, consumer: path.consumer };
    let (environment, consumer) = place(&path)?;
    console.app.keys().revoke(&visitor.op, &environment, key).await?;
    Ok(see_other(&consumer_path(&visitor.op, &environment, &consumer)))
}

fn show_once(visitor: &Visitor, path: &ConsumerPath, shown: &ShownKey, title: String) -> Answer<Response> {
    let (environment, consumer) = place(path)?;
    let key = shown.plain.as_ref().map(|plain| ShownKeyView {
        environment: environment.to_string(),
        key: plain.expose_secret().to_owned(),
    });
    let made = MadePage {
        chrome: Chrome::new(visitor, Section::Consumers, title.clone()),
        title,
        back: consumer_path(&visitor.op, &environment, &consumer),
        keys: key.into_iter().collect(),
    };
    Ok(page(&made)?.into_response())
}
