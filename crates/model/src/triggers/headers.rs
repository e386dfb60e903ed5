//! Header fields, and what browsers of other origins may do.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::Method;

/// What pages of other origins may do (Fetch standard, CORS protocol).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cors {
    /// Origins such as `https://shop.example`, or `*`.
    #[serde(deserialize_with = "origins")]
    pub allow_origins: Vec<String>,
    /// Methods that pages may use; the trigger's when empty.
    #[serde(default)]
    pub allow_methods: Vec<Method>,
    /// Request headers that pages may send.
    #[serde(default, deserialize_with = "header_names")]
    pub allow_headers: Vec<String>,
    /// Response headers that pages may read.
    #[serde(default, deserialize_with = "header_names")]
    pub expose_headers: Vec<String>,
    /// How long browsers may remember the answer, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u32>,
}

/// Response header fields: valid names and values (RFC 9110 section 5), none that belongs to the connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct HeaderFields(IndexMap<String, String>);

// === impl HeaderFields ===

impl HeaderFields {
    /// Returns the fields in the order written, names in lower case.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Tells whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Header fields that a flow or a trigger may not set: they belong to the connection or to the gateway.
pub const RESERVED_RESPONSE_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-connection",
    "te",
    "tollgate-error",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl<'de> Deserialize<'de> for HeaderFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = IndexMap::new();
        for (name, value) in IndexMap::<String, String>::deserialize(deserializer)? {
            let name = http::HeaderName::try_from(name.as_str())
                .map_err(|_| D::Error::custom(format!("`{name}` is not a header name")))?;
            if RESERVED_RESPONSE_HEADERS.contains(&name.as_str()) {
                return Err(D::Error::custom(format!("header `{name}` is set by the gateway: leave it out")));
            }
            http::HeaderValue::try_from(value.as_str()).map_err(|_| {
                D::Error::custom(format!("the value of header `{name}` holds a forbidden character"))
            })?;
            if fields.insert(name.as_str().to_owned(), value).is_some() {
                return Err(D::Error::custom(format!("header `{name}` is named twice")));
            }
        }
        Ok(Self(fields))
    }
}

// === texts that end up in headers ===

/// Reads a list of texts that each pass a check; what is wrong is said of the list.
fn checked<'de, D: Deserializer<'de>>(
    deserializer: D,
    is_right: fn(&str) -> bool,
    what: &str,
) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    match texts.iter().find(|text| !is_right(text)) {
        Some(wrong) => Err(D::Error::custom(format!("`{}` is not {what}", wrong.escape_debug()))),
        None => Ok(texts),
    }
}

/// A media type (RFC 9110 section 8.3.1): `type/subtype`, parameters behind it.
fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim();
    let token = |part: &str| http::HeaderName::try_from(part).is_ok();
    essence.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
        && http::HeaderValue::try_from(text).is_ok()
}

/// An origin as browsers send it (RFC 6454 section 6.2), or `*`.
fn is_origin(text: &str) -> bool {
    let host = |host: &str| {
        !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase() && !b"/?#@,\\".contains(&b))
    };
    matches!(text, "*" | "null")
        || text.split_once("://").is_some_and(|(scheme, rest)| host(scheme) && host(rest))
}

pub(super) fn media_types<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    checked(deserializer, is_media_type, "a content type: write for example `text/plain` or `text/*`")
}

pub(super) fn media_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    match text {
        Some(wrong) if !is_media_type(&wrong) => Err(D::Error::custom(format!(
            "`{}` is not a content type: write for example `text/xml; charset=utf-8`",
            wrong.escape_debug()
        ))),
        text => Ok(text),
    }
}

fn origins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    checked(
        deserializer,
        is_origin,
        "an origin: write scheme, host and port as browsers send them, for example `https://shop.example`, or `*`",
    )
}

fn header_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    checked(deserializer, |text| http::HeaderName::try_from(text).is_ok(), "a header name")
}
