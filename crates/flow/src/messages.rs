//! The first message of a flow, and what else it knows of its call.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tollgate_model::policies::SensitiveFields;
use zeroize::Zeroizing;

/// One call, as a flow sees it.
pub struct Call {
    /// The first message.
    pub message: Message,
    /// Claims of the caller's token.
    pub claims: Option<Map<String, Value>>,
    /// Who calls.
    pub consumer: Option<CallConsumer>,
    /// Where it comes from: the connection's address, or what trusted proxies tell of the caller's. A schedule has none.
    pub client: Option<IpAddr>,
    /// What runs where.
    pub metadata: CallMetadata,
    /// The caller's bearer token, for `jwtDecode`.
    pub bearer: Option<Zeroizing<String>>,
    /// Fields that are not logged, besides the pipeline's own.
    pub sensitive_fields: Arc<SensitiveFields>,
}

/// The first message; credentials are not among its headers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    /// The body: parsed when it is JSON, else text, else base64; null when it is a form of several parts.
    pub body: Value,
    /// Fields of a form, urlencoded or of several parts; null without one.
    pub form: Value,
    /// Header fields, names in lower case.
    pub headers: Map<String, Value>,
    /// Parameters of query and route.
    pub query_and_path: Map<String, Value>,
    /// The method.
    pub method: String,
    /// The content type; empty without one.
    pub content_type: String,
    /// The path.
    pub path: String,
}

/// The consumer that calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallConsumer {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// Whoever sent a call, as `client` in expressions; most flows do not ask, and for those nothing is made.
#[derive(Debug, Default)]
pub(crate) struct Client {
    address: Option<IpAddr>,
    value: OnceLock<Value>,
}

/// What runs where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallMetadata {
    /// The realm.
    pub realm: String,
    /// The environment.
    pub environment: String,
    /// The pipeline.
    pub pipeline: String,
    /// Its version.
    pub version: String,
    /// This run.
    pub execution_id: String,
    /// This request.
    pub request_id: String,
}

/// Why a body was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseBodyError {
    /// It says that it is JSON and is not.
    #[error("the body is not the JSON that its content type says it is")]
    Json,
    /// It is a form with too many fields, each of which takes many times the bytes that it came in.
    #[error("the form has too many fields: 10000 at most")]
    Fields,
}

/// Most fields of a urlencoded form.
const MAX_FIELDS: usize = 10_000;

/// Reads a body by its content type into `(body, form)`.
///
/// `application/json` and `…+json` are parsed; a urlencoded form gives its text and its fields; any other body is its
/// text, or base64 when it is no UTF-8. An empty body is null.
///
/// # Errors
///
/// [`ParseBodyError`], by variant.
pub fn parse_body(content_type: &str, bytes: &[u8]) -> Result<(Value, Value), ParseBodyError> {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if bytes.is_empty() {
        return Ok((Value::Null, Value::Null));
    }
    if essence == "application/json" || essence.ends_with("+json") {
        return serde_json::from_slice(bytes)
            .map(|body| (body, Value::Null))
            .map_err(|_| ParseBodyError::Json);
    }
    let body = match std::str::from_utf8(bytes) {
        Ok(text) => Value::String(text.to_owned()),
        Err(_) => Value::String(STANDARD.encode(bytes)),
    };
    if essence != "application/x-www-form-urlencoded" {
        return Ok((body, Value::Null));
    }
    if bytes.split(|byte| *byte == b'&').nth(MAX_FIELDS).is_some() {
        return Err(ParseBodyError::Fields);
    }
    let mut form = Map::new();
    for (name, value) in form_urlencoded::parse(bytes) {
        add_parameter(&mut form, &name, value.into_owned());
    }
    Ok((body, Value::Object(form)))
}

/// Adds a parameter; one that comes again becomes a list.
pub(crate) fn add_parameter(parameters: &mut Map<String, Value>, name: &str, value: String) {
    match parameters.get_mut(name) {
        None => {
            parameters.insert(name.to_owned(), Value::String(value));
        }
        Some(Value::Array(values)) => values.push(Value::String(value)),
        Some(first) => *first = Value::Array(vec![first.take(), Value::String(value)]),
    }
}

// === impl Message ===

impl Message {
    /// Adds the parameters of a query string.
    pub fn add_query(&mut self, query: &str) {
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            add_parameter(&mut self.query_and_path, &name, value.into_owned());
        }
    }

    pub(crate) fn into_value(self) -> Value {
        json!({
            "body": self.body, "form": self.form, "headers": self.headers, "queryAndPath": self.query_and_path,
            "method": self.method, "contentType": self.content_type, "path": self.path,
        })
    }
}

// === impl Call ===

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

// === impl Client ===

impl Client {
    /// The fields that it has.
    pub(crate) const FIELDS: [&'static str; 1] = ["address"];

    pub(crate) fn new(address: Option<IpAddr>) -> Self {
        Self { address, value: OnceLock::new() }
    }

    /// Returns it as expressions read it; null when nobody called.
    pub(crate) fn value(&self) -> &Value {
        let make = || self.address.map_or(Value::Null, |address| json!({ "address": address.to_string() }));
        self.value.get_or_init(make)
    }
}

// === impl CallMetadata ===

impl CallMetadata {
    pub(crate) fn to_value(&self) -> Value {
        json!({
            "realm": self.realm, "environment": self.environment, "pipeline": self.pipeline, "version": self.version,
            "execution": self.execution_id, "request": self.request_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_by_its_content_type() {
        let read = |content_type: &str, bytes: &[u8]| parse_body(content_type, bytes);
        assert_eq!(read("application/json", b"{\"a\":1}"), Ok((json!({ "a": 1 }), Value::Null)));
        assert_eq!(read("application/problem+JSON; charset=utf-8", b"[1]"), Ok((json!([1]), Value::Null)));
        assert_eq!(read("application/json", b"{"), Err(ParseBodyError::Json));
        assert_eq!(read("application/json", b""), Ok((Value::Null, Value::Null)));
        assert_eq!(read("text/xml", b"<a/>"), Ok((json!("<a/>"), Value::Null)));
        assert_eq!(read("image/png", b"\xff\xd8"), Ok((json!("/9g="), Value::Null)));
        let many = "a&".repeat(MAX_FIELDS);
        assert_eq!(read("application/x-www-form-urlencoded", many.as_bytes()), Err(ParseBodyError::Fields));
        let (_, form) = read("application/x-www-form-urlencoded", b"a=1&b=x+y&a=2").expect("a form");
        assert_eq!(form, json!({ "a": ["1", "2"], "b": "x y" }));
    }
}
