//! What holds for every request: which names it may use for us, its id, and the headers of every answer.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use serde_json::{Map, Value};
use tollgate_model::ids::RequestId;

use crate::Api;
use crate::problem::Problem;

/// Headers of every answer. Nothing here is for a cache, a frame or a script of another origin.
const SECURITY_HEADERS: [(&str, &str); 6] = [
    ("cache-control", "no-store"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
];

/// Guards every request.
pub(crate) async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let id = match api.app.system_op() {
        Ok(op) => op.request_id,
        Err(error) => return Problem::from(error).into_response(),
    };
    request.extensions_mut().insert(id);
    let mut response = if names_us(&api.settings.allowed_hosts, request.headers(), request.uri()) {
        next.run(request).await
    } else {
        let detail = "this server is not reached under that host name";
        Problem::new(StatusCode::MISDIRECTED_REQUEST, "host-not-allowed", detail)
            .hint("use localhost or the address, or start the server with --console-host NAME")
            .into_response()
    };
    if response.headers().contains_key("tollgate-error") {
        response = with_request_id(response, id).await;
    }
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert("x-request-id", id);
    }
    response
}

/// Puts the request's id into a problem document, for whoever reports it.
async fn with_request_id(response: Response, id: RequestId) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let bytes = match serde_json::from_slice::<Map<String, Value>>(&bytes) {
        Ok(mut problem) => {
            problem.insert("requestId".to_owned(), id.to_string().into());
            Value::Object(problem).to_string().into()
        }
        Err(_) => bytes,
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(bytes))
}

/// Tells whether the request names us by an address, `localhost` or an allowed name.
///
/// A page that makes its own name resolve to this address (DNS rebinding) is refused: a browser sends that name.
pub fn names_us(allowed_hosts: &[String], headers: &HeaderMap, uri: &Uri) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()),
        (None, None) => uri.authority().cloned(),
        _ => None,
    };
    let Some(host) = host else { return false };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok()
        || allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
}

/// Answers what no operation answers.
pub(crate) async fn unknown_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", "there is no such operation")
        .hint("GET /api/v1/openapi.json lists them")
}

/// Answers a method that an operation's path does not offer.
pub(crate) async fn unknown_method(method: Method) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        format!("{method} is not offered here"),
    )
}
