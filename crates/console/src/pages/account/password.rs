//! Changing one's own password.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use serde::Deserialize;
use tollgate_app::users::{Duty, NewPassword};

use super::{Alone, BackQuery};
use crate::Console;
use crate::answers::{Answer, page, render, see_other};
use crate::forms::{Fields, Problem, Refusal, Told};
use crate::paths::own_path;
use crate::visitor::SignedIn;
use axum::response::IntoResponse as _;

#[derive(Template)]
#[template(path = "pages/account/password.html")]
struct PasswordPage<'a> {
    alone: Alone,
    back: &'a str,
    /// Whether the password is a temporary one.
    is_duty: bool,
    problem: Problem,
}

/// Has no `Debug`: it holds passwords.
#[derive(Deserialize)]
struct PasswordForm {
    #[serde(default)]
    back: String,
    current: String,
    new: String,
    again: String,
    /// Present where API tokens are to end, too.
    end_api_tokens: Option<String>,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/account/password", get(show).post(change))
}

async fn show(signed_in: SignedIn, Query(query): Query<BackQuery>) -> Answer {
    page(&PasswordPage::new(&signed_in, &query.back))
}

async fn change(
    State(console): State<Console>,
    signed_in: SignedIn,
    Fields(form): Fields<PasswordForm>,
) -> Answer<Response> {
    let mut again = PasswordPage::new(&signed_in, &form.back);
    if form.new != form.again {
        let message = "The two do not match".to_owned();
        again.problem = Problem::new("again", Refusal::saying(message, Some("Write it twice".to_owned())));
        return Ok(render(StatusCode::UNPROCESSABLE_ENTITY, &again)?.into_response());
    }
    let change =
        NewPassword { current: &form.current, new: &form.new, end_api_tokens: form.end_api_tokens.is_some() };
    let SignedIn { op, me } = &signed_in;
    match console.app.users().change_password(op, me, &change).await {
        Ok(_) => Ok(see_other(own_path(&form.back))),
        Err(error) => {
            let (told, refusal) = Told::of(error)?;
            again.problem = match told.code {
                "confirmation-failed" => Problem::new(
                    "current",
                    Refusal { message: "That is not your password".to_owned(), ..refusal },
                ),
                "password-weak" => Problem::new("new", refusal),
                _ => Problem::new("", refusal),
            };
            told.answer(&again)
        }
    }
}

// === impl PasswordPage ===

impl<'a> PasswordPage<'a> {
    fn new(signed_in: &SignedIn, back: &'a str) -> Self {
        let is_duty = signed_in.me.duty == Some(Duty::ChangePassword);
        let title = if is_duty { "Choose your own password" } else { "Change your password" };
        Self { alone: Alone::new(signed_in, title, back), back, is_duty, problem: Problem::default() }
    }
}
