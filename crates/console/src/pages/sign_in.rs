//! Signing in and out.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use tollgate_app::errors::ErrorKind;
use tollgate_app::refusals::Refused;
use tollgate_app::users::SignIn;
use tollgate_model::session_cookies::SessionCookie;
use tollgate_model::users::SessionClient;

use crate::Console;
use crate::answers::{Answer, page, render, see_other};
use crate::assets;
use crate::errors::status_of;
use crate::forms::{Fields, Refusal};
use crate::paths::{own_path, without_claims};
use crate::visitor::{SignedIn, Stranger, session_token};

#[derive(Template)]
#[template(path = "pages/sign_in.html")]
struct SignInPage<'a> {
    user: &'a str,
    back: &'a str,
    problem: Option<Refusal>,
    /// How long is to be waited, when there were too many attempts.
    wait: Option<String>,
    style: &'a str,
    icon: &'a str,
}

#[derive(Deserialize)]
struct SignInQuery {
    #[serde(default)]
    back: String,
}

#[derive(Deserialize)]
struct SignInForm {
    user: String,
    password: String,
    /// Of the second factor; left empty by those who have none.
    #[serde(default)]
    code: String,
    #[serde(default)]
    back: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/sign-in", get(show).post(sign_in)).route("/sign-out", post(sign_out))
}

async fn show(Query(query): Query<SignInQuery>) -> Answer {
    page(&SignInPage::new("", &query.back, None))
}

async fn sign_in(
    State(console): State<Console>,
    Stranger(op): Stranger,
    headers: HeaderMap,
    Fields(form): Fields<SignInForm>,
) -> Answer<Response> {
    let code = form.code.trim();
    let shown = SignIn {
        user: &form.user,
        password: &form.password,
        code: (!code.is_empty()).then_some(code),
        name: "browser",
        client: SessionClient::Browser,
        user_agent: headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()),
        replaces: session_token(&console, &headers)?,
    };
    match console.app.users().sign_in(&op, &shown).await {
        Ok(signed_in) => {
            let mut response = see_other(without_claims(own_path(&form.back)));
            let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
            let cookie = SessionCookie::for_browser(origin, console.settings.secure_cookies);
            set_cookie(&mut response, cookie.set(signed_in.token.plain.expose_secret()))?;
            Ok(response)
        }
        Err(error) if matches!(error.kind, ErrorKind::Unauthenticated | ErrorKind::TooMany) => {
            let (status, wait, refused) =
                (status_of(error.kind), error.retry_after_seconds, Refused::from(&error));
            let mut page = SignInPage::new(&form.user, &form.back, Some(error.into()));
            page.wait = wait.map(about);
            let mut response = render(status, &page)?.into_response();
            if let Some(seconds) = wait {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            response.extensions_mut().insert(refused);
            Ok(response)
        }
        Err(error) => Err(error.into()),
    }
}

async fn sign_out(State(console): State<Console>, SignedIn { op, me }: SignedIn) -> Answer<Response> {
    console.app.users().sign_out(&op, &me).await?;
    let mut response = see_other("/sign-in");
    for cookie in SessionCookie::ALL {
        set_cookie(&mut response, cookie.clear())?;
    }
    Ok(response)
}

impl<'a> SignInPage<'a> {
    fn new(user: &'a str, back: &'a str, problem: Option<Refusal>) -> Self {
        Self { user, back, problem, wait: None, style: &assets::STYLE.path, icon: &assets::ICON.path }
    }
}

/// Says how long something takes, as people do.
fn about(seconds: u16) -> String {
    match (seconds, seconds.div_ceil(60)) {
        (0..=1, _) => "a second".to_owned(),
        (2..=90, _) => format!("{seconds} seconds"),
        (_, minutes) => format!("{minutes} minutes"),
    }
}

fn set_cookie(response: &mut Response, cookie: String) -> Answer<()> {
    let mut header = HeaderValue::try_from(cookie).map_err(|_| {
        crate::errors::Failure::plain(http::StatusCode::INTERNAL_SERVER_ERROR, "the cookie could not be made")
    })?;
    header.set_sensitive(true);
    response.headers_mut().append(header::SET_COOKIE, header);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_seconds_or_minutes_and_never_too_short() {
        let told: Vec<_> = [1, 59, 90, 91, 900].into_iter().map(about).collect();
        assert_eq!(told, ["a second", "59 seconds", "90 seconds", "2 minutes", "15 minutes"]);
    }
}
