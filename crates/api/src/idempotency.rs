//! `Idempotency-Key`: a repeated creation gets the answer of the first one.

use aws_lc_rs::digest::{Context, SHA256};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use tollgate_app::access::Op;
use tollgate_app::idempotency::RepeatableRequest;
use tollgate_model::hex::hex;

use crate::Api;
use crate::access::Me;
use crate::extract;
use crate::problem::Problem;

/// A kept answer.
#[derive(Serialize, Deserialize)]
struct Kept {
    status: u16,
    body: String,
    #[serde(default)]
    etag: Option<String>,
}

/// Does a request once, however often it is sent with the same key.
pub(crate) async fn repeat(State(api): State<Api>, request: Request, next: Next) -> Response {
    match repeat_inner(&api, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn repeat_inner(api: &Api, request: Request, next: Next) -> Result<Response, Problem> {
    let Some(key) = request.headers().get("idempotency-key") else { return Ok(next.run(request).await) };
    let key = key.to_str().unwrap_or_default().to_owned();
    if key.is_empty() || key.len() > 255 {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "idempotency-key-invalid",
            "Idempotency-Key is 1 to 255 visible characters",
        ));
    }
    let op = request.extensions().get::<Op>().cloned().ok_or_else(Problem::unauthenticated)?;
    let (parts, body) = request.into_parts();
    let bytes = extract::read(Request::from_parts(parts.clone(), body), api).await?;
    // What one token was answered is not for another of the same user, which may be good for less.
    let shown = request_token(&parts.extensions);
    let mut digest = Context::new(&SHA256);
    let uri = parts.uri.to_string();
    for part in
        [shown.as_bytes(), b" ", parts.method.as_str().as_bytes(), b" ", uri.as_bytes(), b"\n", &bytes]
    {
        digest.update(part);
    }
    let digest = hex(digest.finish().as_ref());
    let repeatable = RepeatableRequest { key, digest };
    if let Some(kept) = api.app.idempotency().begin(&op, &repeatable).await? {
        return replay(&kept);
    }
    // In a task of its own: a caller that hangs up must not leave the key in use.
    let api = api.clone();
    let work = async move {
        finish(&api, &op, &repeatable, next.run(Request::from_parts(parts, Body::from(bytes))).await).await
    };
    tokio::spawn(work).await.map_err(|_| internal("the request could not be finished"))?
}

fn request_token(extensions: &http::Extensions) -> String {
    extensions.get::<Me>().map(|me| me.0.token.id.to_string()).unwrap_or_default()
}

/// Keeps an answer, and gives it on.
async fn finish(
    api: &Api,
    op: &Op,
    repeatable: &RepeatableRequest,
    response: Response,
) -> Result<Response, Problem> {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.map_err(|_| internal("the answer could not be read"))?.to_bytes();
    let etag = parts.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
    let kept = parts.status.is_success().then(|| Kept {
        status: parts.status.as_u16(),
        body: String::from_utf8_lossy(&bytes).into_owned(),
        etag,
    });
    let kept = kept.and_then(|kept| serde_json::to_string(&kept).ok());
    // What was done is done: an answer that shows a new key must not be lost because it could not be kept. A repetition
    // finds the idempotency key in use and does nothing again.
    if let Err(error) = api.app.idempotency().finish(op, repeatable, kept.as_deref()).await {
        tracing::warn!(request_id = %op.request_id, %error, "an answer could not be kept for repetitions");
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

fn internal(detail: &str) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", detail)
}

fn replay(kept: &str) -> Result<Response, Problem> {
    let broken = || internal("the kept answer could not be read");
    let kept: Kept = serde_json::from_str(kept).map_err(|_| broken())?;
    let status = StatusCode::from_u16(kept.status).map_err(|_| broken())?;
    let mut response = (status, kept.body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(etag) = kept.etag {
        let etag = HeaderValue::try_from(etag).map_err(|_| broken())?;
        response.headers_mut().insert(header::ETAG, etag);
    }
    response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    Ok(response)
}
