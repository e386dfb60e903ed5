//! What handlers take from a request; whatever does not fit is refused as a problem.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use tollgate_app::access::Op;

use crate::Api;
use crate::problem::Problem;

/// Longest wait for a whole body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Who calls; put there by the guard of the operation.
pub(crate) struct Caller(pub(crate) Op);

/// Parameters of the path.
pub(crate) struct In<T>(pub(crate) T);

/// Parameters of the query.
pub(crate) struct Ask<T>(pub(crate) T);

/// The body: JSON.
pub(crate) struct Body<T>(pub(crate) T);

/// The body: JSON, or nothing.
pub(crate) struct Optional<T>(pub(crate) T);

/// The revision that the caller read: `If-Match: "7"`. `*` and absence are `None`.
pub(crate) struct IfMatch(pub(crate) Option<u64>);

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        parts.extensions.get::<Op>().cloned().map(Self).ok_or_else(Problem::unauthenticated)
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for In<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        Path::<T>::from_request_parts(parts, api).await.map(|path| Self(path.0)).map_err(|rejection| {
            // The reason is ours; axum only puts its own words in front of it.
            let reason = rejection.body_text();
            let reason = reason.strip_prefix("Invalid URL: ").unwrap_or(&reason);
            Problem::new(StatusCode::NOT_FOUND, "not-found", reason)
        })
    }
}

impl<T: DeserializeOwned> FromRequestParts<Api> for Ask<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        Query::<T>::from_request_parts(parts, api).await.map(|query| Self(query.0)).map_err(|rejection| {
            let reason = rejection.body_text();
            let reason = reason.strip_prefix("Failed to deserialize query string: ").unwrap_or(&reason);
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "query-invalid", reason)
        })
    }
}

impl<T: DeserializeOwned> FromRequest<Api> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(not_json());
        }
        parse(&read(request, api).await?).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<Api> for Optional<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let json = is_json(request.headers());
        let bytes = read(request, api).await?;
        match (bytes.is_empty(), json) {
            (true, _) => Ok(Self(T::default())),
            (false, true) => parse(&bytes).map(Self),
            (false, false) => Err(not_json()),
        }
    }
}

impl FromRequestParts<Api> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(Self(None)) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let revision =
            text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
        match revision {
            Some(revision) => Ok(Self(Some(revision))),
            None => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "if-match-invalid",
                "If-Match is no ETag of this API",
            )
            .hint("send the ETag of the answer that you read, quotes included")),
        }
    }
}

fn not_json() -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type-unsupported", "the body must be JSON")
        .hint("send `Content-Type: application/json`")
}

fn parse<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        let status = if error.is_data() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::BAD_REQUEST };
        Problem::new(
            status,
            "body-invalid",
            format!("the body is not what this operation takes: {}", without_values(&error.to_string())),
        )
        .hint("GET /api/v1/openapi.json shows what it takes")
    })
}

/// Takes the value out of a message about a wrong type: it may be a secret in the wrong place.
fn without_values(message: &str) -> String {
    match (message.strip_prefix("invalid type: "), message.split_once(", expected ")) {
        (Some(found), Some((_, expected))) => {
            let kind = found.split([' ', ',']).next().unwrap_or_default();
            format!("found {kind}, expected {expected}")
        }
        _ => message.to_owned(),
    }
}

/// Reads a whole body, within the limits of size and time.
pub(crate) async fn read(request: Request, api: &Api) -> Result<Bytes, Problem> {
    let read = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, api)).await.map_err(|_| {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", "the body did not arrive in time")
    })?;
    read.map_err(|rejection| {
        let code = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            "request-too-large"
        } else {
            "body-unreadable"
        };
        Problem::new(rejection.status(), code, rejection.body_text())
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    essence.eq_ignore_ascii_case("application/json")
}
