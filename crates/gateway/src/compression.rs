//! Compressed answers: for callers that take them, where that gives nothing away.
//!
//! What is encrypted hides what is said, and not how much. Of an answer that holds a secret next to something that whoever
//! asks can choose, the length after compression tells whether the two are alike, and so the secret, letter by letter
//! (BREACH). So answers of pipelines that demand credentials, or to calls that show some though none are demanded (a
//! `proxy` step may pass cookies on), are not compressed unless their authors say that they can be, and answers that hand
//! out credentials never are.

use std::convert::Infallible;

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, COOKIE,
    ETAG, SET_COOKIE, VARY,
};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use http_body::Body as _;
use tollgate_snapshot::Endpoint;
use tower_http::CompressionLevel;
use tower_http::compression::Compression;
use tower_service::Service as _;

use crate::payload::Payload;
use crate::problem::{Answer, TOLLGATE_ERROR};
use crate::request::API_KEY;

/// Shorter answers are as long when they are compressed, or longer.
const MIN_BYTES: u64 = 860;

/// Compresses an answer if that is allowed, wanted and worth it.
pub(crate) async fn compress(endpoint: &Endpoint, request: &Parts, answer: Answer) -> Answer {
    if !is_on(endpoint) || request.method == Method::HEAD || !is_fit(&answer) {
        return answer;
    }
    let is_taken = endpoint.trigger.compress.is_some() || !shows_credentials(&request.headers);
    let Some(accepted) = request.headers.get(ACCEPT_ENCODING).filter(|_| is_taken) else {
        let mut answer = answer;
        answer.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
        return answer;
    };
    Box::pin(compress_for(accepted, answer)).await
}

/// Compresses an answer as its caller takes it.
async fn compress_for(accepted: &HeaderValue, answer: Answer) -> Answer {
    let mut request = Request::new(());
    request.headers_mut().insert(ACCEPT_ENCODING, accepted.clone());
    let mut answer = Some(answer);
    let inner = tower::service_fn(move |_: Request<()>| {
        let answer = answer.take().unwrap_or_default();
        async move { Ok::<_, Infallible>(answer) }
    });
    let always = |_: StatusCode, _: Version, _: &HeaderMap, _: &Extensions| true;
    let mut compression = Compression::new(inner).quality(CompressionLevel::Fastest).compress_when(always);
    let Ok(answer) = compression.call(request).await;
    let (mut parts, body) = answer.into_parts();
    if !parts.headers.contains_key(CONTENT_ENCODING) {
        return Answer::from_parts(parts, Payload::stream(body));
    }
    // Other bytes than those that the tag stands for, of the same meaning (RFC 9110 section 8.8.1).
    if let Some(tag) = parts.headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"))
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        parts.headers.insert(ETAG, weak);
    }
    Answer::from_parts(parts, Payload::stream(body))
}

fn is_on(endpoint: &Endpoint) -> bool {
    let trigger = &endpoint.trigger;
    !endpoint.login_flow && trigger.compress.unwrap_or_else(|| !trigger.demands_credentials())
}

/// Tells whether a caller shows who it is, demanded or not: what a flow or an upstream makes of that is for it alone.
fn shows_credentials(headers: &HeaderMap) -> bool {
    [&AUTHORIZATION, &COOKIE, &API_KEY].iter().any(|name| headers.contains_key(*name))
}

/// Tells whether an answer can be compressed, whoever asks.
fn is_fit(answer: &Answer) -> bool {
    let headers = answer.headers();
    // What is coded already, or a part, keeps its bytes and its tag.
    let is_coded = headers.contains_key(CONTENT_ENCODING) || headers.contains_key(CONTENT_RANGE);
    let has_body = !matches!(
        answer.status(),
        StatusCode::NO_CONTENT
            | StatusCode::RESET_CONTENT
            | StatusCode::PARTIAL_CONTENT
            | StatusCode::NOT_MODIFIED
    );
    let is_long = answer.body().size_hint().exact().is_none_or(|length| length >= MIN_BYTES);
    let is_secret = [&AUTHORIZATION, &SET_COOKIE, &TOLLGATE_ERROR].iter().any(|it| headers.contains_key(*it));
    let values = headers.get_all(CACHE_CONTROL).iter();
    let mut directives = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let is_fixed = directives.any(|it| it.trim_ascii().eq_ignore_ascii_case(b"no-transform"));
    has_body && !is_coded && is_long && !is_secret && !is_fixed && is_text(headers.get(CONTENT_TYPE))
}

/// Tells whether a content type shrinks. Streams of events do, and would wait for each other.
fn is_text(content_type: Option<&HeaderValue>) -> bool {
    let Some(Ok(content_type)) = content_type.map(HeaderValue::to_str) else { return false };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.split_once('/') {
        Some(("text", kind)) => kind != "event-stream",
        Some(("application", kind)) => {
            matches!(kind, "json" | "xml" | "javascript" | "wasm" | "yaml" | "graphql")
                || kind.ends_with("+json")
                || kind.ends_with("+xml")
        }
        Some(("image", kind)) => kind == "svg+xml",
        _ => false,
    }
}
