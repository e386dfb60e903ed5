//! Why there is no page: the one table from use-case errors to statuses and words.

use askama::Template;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderValue, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::refusals::Refused;
use tollgate_app::users::Duty;

use crate::answers::Page;
use crate::assets;
use crate::forms::{Refusal, capitalised};
use crate::next_steps::{Link, link};
use crate::paths::realm_in;

/// Why there is no page.
pub(crate) enum Failure {
    /// Nobody has signed in: the browser is sent to do so, and back afterwards.
    SignIn {
        /// Where to come back to.
        back: String,
        /// Whether a part of a page was asked for: then the whole page has to go.
        htmx: bool,
        /// What the journal makes of a session that is not good.
        refused: Option<Refused>,
    },
    /// Somebody has to do something before all else: the browser is sent to do it, and back afterwards.
    First {
        /// What they have to do.
        duty: Duty,
        /// Where to come back to.
        back: String,
        /// Whether a part of a page was asked for.
        htmx: bool,
        /// What the journal makes of what was tried in place of it.
        refused: Option<Refused>,
    },
    /// Anything else, shown on a page of its own.
    Shown {
        /// The status.
        status: StatusCode,
        /// What happened.
        message: String,
        /// What to do next.
        hint: Option<String>,
        /// The page on which the hint is followed.
        next: Option<Link>,
        /// What the journal makes of it.
        refused: Option<Box<Refused>>,
    },
}

/// What is told of a failure, on the page that it came from ([`crate::told_back`]) or on one of its own ([`show`]).
#[derive(Clone)]
pub(crate) struct Said {
    message: String,
    hint: Option<String>,
    next: Option<Link>,
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    status: u16,
    title: &'a str,
    message: &'a str,
    hint: Option<String>,
    /// A path, and what stands on the link to it.
    next: Option<(String, &'a str)>,
    style: &'a str,
    icon: &'a str,
}

// === impl Said ===

impl From<Said> for Refusal {
    fn from(Said { message, hint, next }: Said) -> Self {
        Self { message: capitalised(&message), hint: hint.as_deref().map(capitalised), next }
    }
}

// === impl Failure ===

impl Failure {
    /// Says something without a hint.
    pub(crate) fn plain(status: StatusCode, message: impl Into<String>) -> Self {
        Self::Shown { status, message: message.into(), hint: None, next: None, refused: None }
    }
}

/// Returns the status of a use case's error.
pub(crate) fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        ErrorKind::Invalid | ErrorKind::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::TooMany => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn title_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::FORBIDDEN => "Not permitted",
        StatusCode::SERVICE_UNAVAILABLE => "Out of reach",
        StatusCode::TOO_MANY_REQUESTS => "Too many attempts",
        status if status.is_server_error() => "Something went wrong",
        _ => "That did not work",
    }
}

/// Makes pages of what went wrong, with links into the realm that was asked for.
pub(crate) async fn show(request: Request, next: Next) -> Response {
    let realm = realm_in(request.uri().path()).unwrap_or_default();
    let mut response = next.run(request).await;
    let Some(said) = response.extensions_mut().remove::<Said>() else { return response };
    let status = response.status();
    let page = ErrorPage {
        status: status.as_u16(),
        title: title_of(status),
        message: &capitalised(&said.message),
        hint: said.hint.as_deref().map(capitalised),
        next: said.next.map(|link| (format!("/realms/{realm}/{}", link.end), link.label)),
        style: &assets::STYLE.path,
        icon: &assets::ICON.path,
    };
    let (parts, _) = response.into_parts();
    let page = match crate::answers::render(status, &page) {
        Ok(page) => Page::into_response(page),
        Err(_) => (status, said.message).into_response(),
    };
    let (of_page, body) = page.into_parts();
    let mut response = Response::from_parts(parts, body);
    response.headers_mut().extend(of_page.headers);
    response
}

/// Writes what only the log is told.
pub(crate) fn log(error: &Error) {
    if let Some(fault) = error.fault() {
        tracing::error!(code = error.code, "{fault}");
    }
}

/// Sends the browser to another page, from which it comes back.
fn elsewhere(path: &str, back: &str, htmx: bool, refused: Option<Refused>) -> Response {
    let path = format!("{path}?back={}", utf8_percent_encode(back, NON_ALPHANUMERIC));
    let mut response = if htmx {
        let mut response = StatusCode::UNAUTHORIZED.into_response();
        if let Ok(value) = HeaderValue::try_from(path) {
            response.headers_mut().insert("hx-redirect", value);
        }
        response
    } else {
        Redirect::to(&path).into_response()
    };
    if let Some(refused) = refused {
        response.extensions_mut().insert(refused);
    }
    response
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        log(&error);
        let refused = Some(Box::new(Refused::from(&error)));
        Self::Shown {
            status: status_of(error.kind),
            message: error.message,
            hint: error.hint.map(String::from),
            next: error.next.as_deref().and_then(link),
            refused,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::SignIn { back, htmx, refused } => elsewhere("/sign-in", &back, htmx, refused),
            Self::First { duty: Duty::ChangePassword, back, htmx, refused } => {
                elsewhere("/account/password", &back, htmx, refused)
            }
            Self::First { duty: Duty::EnrolSecondFactor, back, htmx, refused } => {
                elsewhere("/account/second-factor", &back, htmx, refused)
            }
            Self::Shown { status, message, hint, next, refused } => {
                let mut response = status.into_response();
                response.extensions_mut().insert(Said { message, hint, next });
                if let Some(refused) = refused {
                    response.extensions_mut().insert(*refused);
                }
                response
            }
        }
    }
}
