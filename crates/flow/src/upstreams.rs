//! The `http` step: what is sent to an upstream. The caller's own credentials are never passed on.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value, json};
use tollgate_model::steps::HttpStep;

use crate::compile::method;
use crate::expressions::{EvaluateError, Scope};
use crate::host::{UpstreamRequest, UpstreamResponse};
use crate::messages::parse_body;
use crate::targets::Targets;
use crate::templates::{Template, TemplateError, TextTemplate};

/// Request headers that belong to the connection.
pub(crate) const RESERVED: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A compiled `http` step.
#[derive(Debug)]
pub(crate) struct HttpRequest {
    method: Method,
    targets: Targets,
    headers: Vec<(HeaderName, TextTemplate)>,
    query: Vec<(String, TextTemplate)>,
    body: Option<Template>,
    read_timeout: Duration,
    max_response_bytes: u64,
}

/// Why a request could not be made from the message. Holds no data of the call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeRequestError {
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    #[error("a value in the URL is `.` or `..`, empty, or no text or number")]
    UrlValue,
    #[error("the URL is none that can be called")]
    Url,
    #[error("header `{0}` would hold a character that headers cannot carry")]
    HeaderValue(HeaderName),
}

// === impl HttpRequest ===

impl HttpRequest {
    pub(crate) fn compile(step: &HttpStep) -> Result<Self, TemplateError> {
        let at = |pointer: &str| {
            let pointer = pointer.to_owned();
            move |message: String| (pointer, message)
        };
        let targets = Targets::compile(step.urls(), step.connect_timeout_ms, &step.upstream)?;
        let headers = step
            .headers
            .iter()
            .map(|(name, value)| {
                let pointer = format!("/headers/{name}");
                let parsed = HeaderName::try_from(name.as_str())
                    .map_err(|_| (pointer.clone(), format!("`{name}` is not a header name")))?;
                if RESERVED.contains(&parsed.as_str()) {
                    return Err((pointer, format!("header `{parsed}` is set by the gateway: leave it out")));
                }
                Ok((parsed, TextTemplate::parse(value).map_err(at(&pointer))?))
            })
            .collect::<Result<_, _>>()?;
        let query = step
            .query
            .iter()
            .map(|(name, value)| {
                Ok((name.clone(), TextTemplate::parse(value).map_err(at(&format!("/query/{name}")))?))
            })
            .collect::<Result<_, TemplateError>>()?;
        let body = match &step.body {
            Some(body) => {
                Some(Template::parse(body).map_err(|(below, message)| (format!("/body{below}"), message))?)
            }
            None => None,
        };
        Ok(Self {
            method: method(step.method),
            targets,
            headers,
            query,
            body,
            read_timeout: Duration::from_millis(step.read_timeout_ms.get().into()),
            max_response_bytes: step.max_response_bytes.get(),
        })
    }

    pub(crate) fn make(&self, scope: &Scope<'_>) -> Result<UpstreamRequest, MakeRequestError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let value = HeaderValue::from_str(&value.text(scope)?)
                .map_err(|_| MakeRequestError::HeaderValue(name.clone()))?;
            headers.append(name.clone(), value);
        }
        let body = match &self.body {
            None => Bytes::new(),
            Some(body) => {
                let (bytes, content_type) = match body.evaluate(scope)? {
                    Value::String(text) => (Bytes::from(text), "text/plain; charset=utf-8"),
                    value => (Bytes::from(value.to_string()), "application/json"),
                };
                headers.entry(http::header::CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
                bytes
            }
        };
        let mut query = String::new();
        for (name, value) in &self.query {
            if !query.is_empty() {
                query.push('&');
            }
            let value = value.text(scope)?;
            query.extend(form_urlencoded::byte_serialize(name.as_bytes()));
            query.push('=');
            query.extend(form_urlencoded::byte_serialize(value.as_bytes()));
        }
        Ok(UpstreamRequest {
            method: self.method.clone(),
            call: self.targets.make(scope, &query)?,
            headers,
            body,
            read_timeout: self.read_timeout,
            max_response_bytes: self.max_response_bytes,
        })
    }
}

/// Turns an upstream's answer into the next message: `{ status, headers, body }`.
///
/// A body that claims to be JSON and is none stays text.
pub(crate) fn message(response: &UpstreamResponse) -> Value {
    let header = |name| {
        response.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default()
    };
    let content_type = header(http::header::CONTENT_TYPE);
    let body = parse_body(content_type, &response.body)
        .or_else(|_| parse_body("", &response.body))
        .map(|(body, _)| body)
        .unwrap_or_default();
    let mut headers = Map::new();
    for (name, value) in &response.headers {
        if let Ok(value) = value.to_str() {
            crate::messages::add_parameter(&mut headers, name.as_str(), value.to_owned());
        }
    }
    json!({ "status": response.status, "headers": headers, "body": body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::values::Values;

    fn make(step: Value, message: &Value) -> Result<UpstreamRequest, String> {
        let globals =
            json!({ "base": "https://stock.example/api/" }).as_object().cloned().unwrap_or_default();
        let (values, null) = (Values::new(globals, Vec::new()), Value::Null);
        let scope = Scope {
            message,
            values: &values,
            claims: &null,
            consumer: &null,
            client: &crate::messages::Client::default(),
            metadata: &null,
            budget: &Budget::new(1 << 20),
        };
        let step: HttpStep = serde_json::from_value(step).expect("a step");
        let request = HttpRequest::compile(&step).map_err(|(at, message)| format!("{at}: {message}"))?;
        request.make(&scope).map_err(|error| error.to_string())
    }

    #[test]
    fn what_comes_from_a_message_stays_in_its_place() {
        let step = json!({ "url": "https://stock.example/items/{{ message.id }}?x={{ message.x }}",
            "query": { "q r": "{{ message.x }}" }, "headers": { "x-id": "{{ message.id }}" } });
        let request = make(step, &json!({ "id": "a/../b?c#d@evil", "x": "1&y=2" })).expect("made");
        assert_eq!(
            request.call.urls[0].to_string(),
            "https://stock.example/items/a%2F..%2Fb%3Fc%23d%40evil?x=1%26y%3D2&q+r=1%26y%3D2"
        );
        let based =
            make(json!({ "url": "{{ globals.base }}/{{ message.id }}" }), &json!({ "id": 7 })).expect("made");
        assert_eq!(based.call.urls[0].to_string(), "https://stock.example/api/7");
    }

    #[test]
    fn a_value_cannot_climb_the_path_or_add_a_header() {
        for id in [json!(".."), json!("."), json!(""), json!({ "a": 1 }), json!(null)] {
            assert!(
                make(json!({ "url": "https://a.example/{{ message.id }}" }), &json!({ "id": id })).is_err(),
                "{id}"
            );
        }
        let step = json!({ "url": "https://a.example/", "headers": { "x-id": "{{ message.id }}" } });
        assert!(make(step, &json!({ "id": "1\r\nauthorization: Bearer x" })).is_err());
    }

    #[test]
    fn a_host_that_a_caller_could_choose_is_refused_when_the_pipeline_is_saved() {
        for url in [
            "{{ message.body.url }}",
            "https://{{ message.host }}/",
            "https://a.example{{ message.x }}",
            "//a.example/",
            "file:///etc/passwd",
            "https://",
            "https://user@a.example/",
            "https://a.example:99999/",
            "https://:80/",
            "https://a.example:/",
            "https://exämple/",
            "https://a.example/a b",
            "{{ globals.base }}{{ message.x }}",
            "{{ globals.base + message.x }}",
            "",
        ] {
            let error = make(json!({ "url": url }), &json!({})).expect_err(url);
            assert!(error.starts_with("/url: "), "{url}: {error}");
        }
        assert!(
            make(json!({ "url": "https://a.example/", "headers": { "host": "b" } }), &json!({})).is_err()
        );
    }
}
