//! Signing in and out.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use tollgate_app::errors::ErrorKind;
use tollgate_model::users::SESSION_COOKIE;

use crate::Console;
use crate::answers::{Answer, page, render, see_other};
use crate::assets;
use crate::errors::status_of;
use crate::forms::{Fields, Refusal};
use crate::visitor::{Stranger, Visitor};

#[derive(Template)]
#[template(path = "pages/sign_in.html")]
struct SignInPage<'a> {
    user: &'a str,
    back: &'a str,
    problem: Option<Refusal>,
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
    match console.app.users().sign_in(&op, &form.user, &form.password, "browser").await {
        Ok((_, shown)) => {
            let mut response = see_other(own_path(&form.back));
            set_cookie(&console, &headers, &mut response, shown.plain.expose_secret(), "")?;
            Ok(response)
        }
        Err(error) if matches!(error.kind, ErrorKind::Unauthenticated | ErrorKind::TooMany) => {
            let status = status_of(error.kind);
            let page = SignInPage::new(&form.user, &form.back, Some(error.into()));
            Ok(render(status, &page)?.into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn sign_out(State(console): State<Console>, visitor: Visitor, headers: HeaderMap) -> Answer<Response> {
    console.app.users().delete_token(&visitor.op, visitor.session.id).await?;
    let mut response = see_other("/sign-in");
    set_cookie(&console, &headers, &mut response, "", "; Max-Age=0")?;
    Ok(response)
}

impl<'a> SignInPage<'a> {
    fn new(user: &'a str, back: &'a str, problem: Option<Refusal>) -> Self {
        Self { user, back, problem, style: &assets::STYLE.path, icon: &assets::ICON.path }
    }
}

/// Returns a path of ours, and the overview in place of anything else: a link must not send somebody who just signed in
/// to another site.
fn own_path(path: &str) -> &str {
    let ours = path.starts_with("/realms/")
        && !path.contains("//")
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if ours { path } else { "/" }
}

fn set_cookie(
    console: &Console,
    headers: &HeaderMap,
    response: &mut Response,
    value: &str,
    more: &str,
) -> Answer<()> {
    // A proxy that adds TLS stands between: the browser says itself how it came.
    let over_tls =
        headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let secure = if console.settings.secure_cookies || over_tls { "; Secure" } else { "" };
    let text = format!("{SESSION_COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{more}");
    let mut header = HeaderValue::try_from(text).map_err(|_| {
        crate::errors::Failure::plain(http::StatusCode::INTERNAL_SERVER_ERROR, "the cookie could not be made")
    })?;
    header.set_sensitive(true);
    response.headers_mut().insert(header::SET_COOKIE, header);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_site() {
        assert_eq!(own_path("/realms/default/policies?a=b"), "/realms/default/policies?a=b");
        for path in
            ["//evil.example", "https://evil.example", "/\\evil.example", "/realms//evil.example", "", "/x"]
        {
            assert_eq!(own_path(path), "/");
        }
    }
}
