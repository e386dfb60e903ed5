//! Refusals: the one table from use-case errors to statuses, as RFC 9457 problem details.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::refusals::Refused;
use tollgate_model::next_steps::NextStep;

use crate::next_steps;

/// A refusal.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    pub(crate) hint: Option<String>,
    /// The step that the hint speaks of.
    pub(crate) next: Option<Box<NextStep>>,
    /// After how many seconds it makes sense to try again.
    pub(crate) retry_after_seconds: Option<u16>,
    /// Further members of the problem document.
    pub(crate) more: Box<Map<String, Value>>,
    /// What the journal makes of it.
    pub(crate) refused: Option<Box<Refused>>,
}

// === impl Problem ===

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let refused = kind_of(status)
            .map(|kind| Box::new(Refused { kind, code, about: None, journaled: false, concealed: false }));
        Self {
            status,
            code,
            detail: detail.into(),
            hint: None,
            next: None,
            retry_after_seconds: None,
            more: Box::default(),
            refused,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn unauthenticated() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "this needs an API token, and there is none or it is not good",
        )
        .hint("send `Authorization: Bearer tgu_…`")
    }
}

fn status_of(kind: ErrorKind) -> StatusCode {
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

/// Returns the kind of refusal that a status of ours is; `None` for those that are no refusals of an attempt.
fn kind_of(status: StatusCode) -> Option<ErrorKind> {
    match status {
        StatusCode::UNAUTHORIZED => Some(ErrorKind::Unauthenticated),
        StatusCode::FORBIDDEN => Some(ErrorKind::Forbidden),
        StatusCode::CONFLICT => Some(ErrorKind::Conflict),
        StatusCode::PRECONDITION_FAILED => Some(ErrorKind::PreconditionFailed),
        StatusCode::TOO_MANY_REQUESTS => Some(ErrorKind::TooMany),
        _ => None,
    }
}

fn title_of(status: StatusCode, code: &str) -> &'static str {
    match (code, status) {
        ("policy-refused", _) => "Refused by policy",
        (_, StatusCode::UNPROCESSABLE_ENTITY) => "Not valid",
        _ => status.canonical_reason().unwrap_or("Error"),
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        if let Some(fault) = error.fault() {
            tracing::error!(code = error.code, "{fault}");
        }
        let refused = Some(Box::new(Refused::from(&error)));
        let mut more = Map::new();
        if !error.violations.is_empty() {
            more.insert("violations".to_owned(), json!(error.violations));
        }
        if !error.places.is_empty() {
            let places = error.places.iter().map(|place| {
                json!({ "pointer": place.pointer, "line": place.line, "column": place.column, "message": place.message,
                    "hint": place.hint })
            });
            more.insert("errors".to_owned(), places.collect());
        }
        Self {
            status: status_of(error.kind),
            code: error.code,
            detail: error.message,
            hint: error.hint.map(String::from),
            next: error.next,
            retry_after_seconds: error.retry_after_seconds,
            more: Box::new(more),
            refused,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = Map::from_iter([
            ("type".to_owned(), format!("urn:tollgate:error:{}", self.code).into()),
            ("title".to_owned(), title_of(self.status, self.code).into()),
            ("status".to_owned(), self.status.as_u16().into()),
            ("code".to_owned(), self.code.into()),
            ("detail".to_owned(), self.detail.into()),
        ]);
        body.extend(self.hint.map(|hint| ("hint".to_owned(), hint.into())));
        body.extend(self.next.map(|step| ("next".to_owned(), next_steps::view(&step))));
        body.extend(*self.more);
        let mut response = (self.status, Value::Object(body).to_string()).into_response();
        if let Some(refused) = self.refused {
            response.extensions_mut().insert(*refused);
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert("tollgate-error", HeaderValue::from_static(self.code));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
