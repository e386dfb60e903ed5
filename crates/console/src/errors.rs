//! Why there is no page: the one table from use-case errors to statuses and words.

use askama::Template;
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderValue, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::refusals::Refused;
use tollgate_app::users::Duty;

use crate::answers::Page;
use crate::assets;

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
        /// What the journal makes of it.
        refused: Option<Box<Refused>>,
    },
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    status: u16,
    title: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
    style: &'a str,
    icon: &'a str,
}

// === impl Failure ===

impl Failure {
    /// Says something without a hint.
    pub(crate) fn plain(status: StatusCode, message: impl Into<String>) -> Self {
        Self::Shown { status, message: message.into(), hint: None, refused: None }
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
        Self::Shown { status: status_of(error.kind), message: error.message, hint: error.hint, refused }
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
            Self::Shown { status, message, hint, refused } => {
                let page = ErrorPage {
                    status: status.as_u16(),
                    title: title_of(status),
                    message: &message,
                    hint: hint.as_deref(),
                    style: &assets::STYLE.path,
                    icon: &assets::ICON.path,
                };
                let mut response = match crate::answers::render(status, &page) {
                    Ok(page) => Page::into_response(page),
                    Err(_) => (status, message).into_response(),
                };
                if let Some(refused) = refused {
                    response.extensions_mut().insert(*refused);
                }
                response
            }
        }
    }
}
