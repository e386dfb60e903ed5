//! Keys of a consumer: made or brought, shown once, rotated with an overlap, revoked at once.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tollgate_app::errors::ErrorKind;
use tollgate_app::keys::{NewKey, ShownKey};
use tollgate_model::ids::KeyId;
use tollgate_model::names::CredentialName;

use super::{
    ConsumerPath, Filled, MadePage, ShownSecret, consumer_path, example_url, place, show_again, show_wrong,
};
use crate::Console;
use crate::answers::{Answer, page, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::{Fields, Problem, Refusal};
use crate::paths::named;
use crate::visitor::Visitor;

const HOUR_SECONDS: u32 = 3_600;
const DAY_HOURS: i64 = 24;

#[derive(Deserialize)]
struct KeyPath {
    environment: String,
    consumer: String,
    key: String,
}

#[derive(Deserialize)]
struct NewKeyForm {
    name: String,
    /// After how many days it stops working by itself; empty for never.
    #[serde(default)]
    days: String,
    /// A key of another system, to be taken over.
    #[serde(default)]
    secret: String,
}

#[derive(Deserialize)]
struct RotateForm {
    /// How long both work, in hours.
    #[serde(default)]
    overlap_hours: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/consumers/{environment}/{consumer}/keys", post(create))
        .route("/realms/{realm}/consumers/{environment}/{consumer}/keys/import", post(import))
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
    let input = match form.input(visitor.op.now, "key-name", "days") {
        Ok(input) => input,
        Err(problem) => return show_wrong(&console, &visitor, &path, form.filled(), problem).await,
    };
    match console.app.keys().create(&visitor.op, &environment, &consumer, input).await {
        Ok(shown) => {
            show_once(&console, &visitor, &path, &shown, format!("A key of {consumer} was made")).await
        }
        Err(error) => {
            let field = if error.kind == ErrorKind::Invalid { "days" } else { "key-name" };
            show_again(&console, &visitor, &path, form.filled(), field, error).await
        }
    }
}

async fn import(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<ConsumerPath>,
    Fields(form): Fields<NewKeyForm>,
) -> Answer<Response> {
    let (environment, consumer) = place(&path)?;
    // The secret is not shown again: it has to be pasted once more.
    let filled = |form: NewKeyForm| Filled { import_name: form.name, ..Filled::default() };
    let input = match form.input(visitor.op.now, "import-name", "import-secret") {
        Ok(input) => input,
        Err(problem) => return show_wrong(&console, &visitor, &path, filled(form), problem).await,
    };
    let secret = form.secret.trim();
    match console.app.keys().import(&visitor.op, &environment, &consumer, input, secret).await {
        Ok(_) => Ok(see_other(&consumer_path(&visitor.op, &environment, &consumer))),
        Err(error) => show_again(&console, &visitor, &path, filled(form), "import-secret", error).await,
    }
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
    let filled =
        Filled { rotated: key.to_string(), overlap: form.overlap_hours.clone(), ..Filled::default() };
    let Ok(hours) = form.overlap_hours.trim().parse::<u16>() else {
        let problem = Problem::of("overlap", "write a number of hours, 0 for none");
        return show_wrong(&console, &visitor, &path, filled, problem).await;
    };
    let overlap_seconds = u32::from(hours) * HOUR_SECONDS;
    match console.app.keys().rotate(&visitor.op, &environment, key, overlap_seconds, None).await {
        Ok(shown) => {
            show_once(&console, &visitor, &path, &shown, format!("A key of {consumer} was rotated")).await
        }
        Err(error) => {
            // One that was rotated or revoked meanwhile has no form any more.
            let field = if error.kind == ErrorKind::Invalid { "overlap" } else { "" };
            show_again(&console, &visitor, &path, filled, field, error).await
        }
    }
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

async fn show_once(
    console: &Console,
    visitor: &Visitor,
    path: &ConsumerPath,
    shown: &ShownKey,
    title: String,
) -> Answer<Response> {
    let (environment, consumer) = place(path)?;
    // Whoever makes keys may not be allowed to read consumers.
    let pipelines = match console.app.consumers().get(&visitor.op, &environment, &consumer).await {
        Ok(consumer) => consumer.value.pipelines,
        Err(_) => std::collections::BTreeSet::new(),
    };
    let url = example_url(console, &visitor.op, &environment, &pipelines).await;
    let secret = shown.plain.as_ref().map(|plain| ShownSecret::Key {
        environment: environment.to_string(),
        key: plain.expose_secret().to_owned(),
        url,
    });
    let made = MadePage {
        chrome: Chrome::new(visitor, Section::Consumers, title.clone()),
        title,
        back: consumer_path(&visitor.op, &environment, &consumer),
        secrets: secret.into_iter().collect(),
    };
    Ok(page(&made)?.into_response())
}

// === impl NewKeyForm ===

impl NewKeyForm {
    fn input(&self, now: Timestamp, name_at: &'static str, days_at: &'static str) -> Result<NewKey, Problem> {
        let name = CredentialName::parse(self.name.trim()).map_err(|error| Problem::of(name_at, error))?;
        let expires_at = end_after(&self.days, now).map_err(|refusal| Problem::new(days_at, refusal))?;
        Ok(NewKey { name, expires_at })
    }

    fn filled(self) -> Filled {
        Filled { key_name: self.name, days: self.days, ..Filled::default() }
    }
}

/// Reads after how many days a credential ends; nothing for never.
pub(super) fn end_after(days: &str, now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
    let days = days.trim();
    if days.is_empty() {
        return Ok(None);
    }
    let days: i64 = days.parse().map_err(|_| Refusal::of("write a number of days, or nothing"))?;
    let end = now.checked_add(SignedDuration::from_hours(days.saturating_mul(DAY_HOURS)));
    end.map(Some).map_err(|_| Refusal::of("these are too many days"))
}
