//! What pages of other origins may do (Fetch standard, section "CORS protocol").
//!
//! Answers to preflights say what is allowed and nothing else: they need no credentials and start no flow. Credentials
//! mode (`Access-Control-Allow-Credentials`) is never allowed: callers send keys and tokens in headers, not in cookies.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tollgate_model::triggers::{Cors, Method};

use crate::payload::Payload;
use crate::problem::Answer;

/// Headers that the gateway adds and pages may always read.
const ALWAYS_EXPOSED: &str = "x-request-id, tollgate-error";

/// Tells whether a request asks what is allowed.
pub(crate) fn is_preflight(method: &http::Method, headers: &HeaderMap) -> bool {
    *method == http::Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Answers a preflight. A page of an origin that is not allowed gets an answer without permissions.
pub(crate) fn preflight(cors: &Cors, origin: Option<&HeaderValue>, offered: &[Method]) -> Answer {
    let mut answer = Response::new(Payload::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(
        VARY,
        HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers"),
    );
    if let Some(allowed) = origin.and_then(|origin| allowed_origin(cors, origin)) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        let methods = if cors.allow_methods.is_empty() { offered } else { &cors.allow_methods };
        let methods: Vec<_> = methods.iter().map(|method| method.as_str()).collect();
        insert(headers, ACCESS_CONTROL_ALLOW_METHODS, &methods.join(", "));
        if !cors.allow_headers.is_empty() {
            insert(headers, ACCESS_CONTROL_ALLOW_HEADERS, &cors.allow_headers.join(", "));
        }
        if let Some(seconds) = cors.max_age_seconds {
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(seconds));
        }
    }
    answer
}

/// Lets pages read an answer, an error too.
pub(crate) fn permit_reading(cors: &Cors, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    headers.append(VARY, HeaderValue::from_static("origin"));
    if let Some(allowed) = origin.and_then(|origin| allowed_origin(cors, origin)) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        let own = cors.expose_headers.iter().map(String::as_str);
        let exposed: Vec<_> = own.chain([ALWAYS_EXPOSED]).collect();
        insert(headers, ACCESS_CONTROL_EXPOSE_HEADERS, &exposed.join(", "));
    }
}

fn allowed_origin(cors: &Cors, origin: &HeaderValue) -> Option<HeaderValue> {
    if cors.allow_origins.iter().any(|allowed| allowed == "*") {
        return Some(HeaderValue::from_static("*"));
    }
    cors.allow_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> Cors {
        Cors {
            allow_origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            allow_methods: Vec::new(),
            allow_headers: vec!["apikey".to_owned(), "authorization".to_owned()],
            expose_headers: Vec::new(),
            max_age_seconds: Some(600),
        }
    }

    #[test]
    fn a_preflight_of_an_allowed_origin_says_what_is_allowed() {
        let origin = HeaderValue::from_static("https://shop.example");
        let answer = preflight(&cors(&["https://shop.example"]), Some(&origin), &[Method::Get, Method::Post]);
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let headers = answer.headers();
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://shop.example");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "GET, POST");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], "apikey, authorization");
        assert_eq!(headers[ACCESS_CONTROL_MAX_AGE], "600");
    }

    #[test]
    fn an_origin_matches_whole_or_not_at_all() {
        for origin in
            ["https://shop.example.evil.example", "https://shop.exampl", "http://shop.example", "null"]
        {
            let origin = HeaderValue::from_static(origin);
            let answer = preflight(&cors(&["https://shop.example"]), Some(&origin), &[Method::Get]);
            assert!(!answer.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{origin:?}");
            let mut headers = HeaderMap::new();
            permit_reading(&cors(&["https://shop.example"]), Some(&origin), &mut headers);
            assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "{origin:?}");
            assert_eq!(headers[VARY], "origin", "caches must keep the answers of origins apart");
        }
    }
}
