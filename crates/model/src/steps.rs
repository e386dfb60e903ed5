//! Steps: what a flow is made of, as written in a file.
//!
//! A step is a map with one key that names its type, beside which `name` and `failOnError` may stand:
//!
//! ```yaml
//! - http: { method: GET, url: "https://stock.example/items" }
//!   name: ask-stock
//!   failOnError: false
//! ```
//!
//! Texts in which `{{ … }}` may stand are [`serde_json::Value`] or [`String`] here; the `flow` crate compiles
//! them. A condition is one expression without braces.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::{Error as _, Unexpected};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::triggers::{Method, Scope};

mod proxying;

pub use proxying::{Breaker, CallerCredential, PathPart, ProxyStep, Target, UpstreamSettings};

/// One step of a flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What people call the step, in logs and on the console.
    pub name: Option<String>,
    /// When false, an error becomes the message `{ success: false, error, code }` and the flow goes on.
    pub fail_on_error: bool,
    /// What the step does.
    pub kind: StepKind,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StepKind {
    /// Makes the next message.
    Json(serde_json::Value),
    /// Goes on only when a condition holds.
    Assert(AssertStep),
    /// Takes the first branch whose condition holds.
    Choice(ChoiceStep),
    /// Runs steps together, with steps to run when one of them fails.
    Block(BlockStep),
    /// Calls an upstream.
    Http(HttpStep),
    /// Hands the call to an upstream: its body goes there, and the upstream's answer comes back, piece by piece. The last step.
    Proxy(ProxyStep),
    /// Ends the flow with a response.
    Respond(RespondStep),
    /// Writes a line to the log; the message passes unchanged.
    Log(LogStep),
    /// Ends the flow with an error.
    Throw(ThrowStep),
    /// Puts the message into a token and answers `{"status":"logged"}` with it in `Authorization`.
    JwtGenerate(JwtGenerateStep),
    /// Verifies the bearer token of the request and gives `{ dataToken: claims }`.
    JwtDecode(JwtDecodeStep),
}

/// Settings of an `assert` step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AssertStep {
    /// An expression that must give `true`.
    pub condition: String,
    /// Status of the answer when it does not.
    #[serde(default)]
    pub status: ErrorStatus,
    /// What to tell the caller; `{{ … }}` may stand in it.
    #[serde(default = "assertion_failed")]
    pub error: String,
    /// A code for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

fn assertion_failed() -> String {
    "assertion failed".to_owned()
}

/// Settings of a `choice` step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChoiceStep {
    /// The branches, tried in order.
    #[schemars(length(min = 1))]
    pub when: Vec<Branch>,
    /// Runs when no condition holds; without it the message passes unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Vec<Step>>,
}

/// One branch of a `choice`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Branch {
    /// An expression that gives `true` or `false`.
    pub condition: String,
    /// What runs when it gives `true`.
    pub steps: Vec<Step>,
}

/// Settings of a `block` step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlockStep {
    /// What runs.
    pub steps: Vec<Step>,
    /// Runs when a step fails, with the message `{ success: false, error, code }`; its outcome is the block's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<Vec<Step>>,
}

/// Settings of an `http` step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpStep {
    /// Method of the request.
    #[serde(default = "get")]
    pub method: Method,
    /// `http://` or `https://` URL; `{{ … }}` may stand in it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Several URLs in place of one, of which each call takes one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
    /// Request headers; `{{ … }}` may stand in the values.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub headers: IndexMap<String, String>,
    /// Query parameters, added to those of the URL; `{{ … }}` may stand in the values.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub query: IndexMap<String, String>,
    /// Request body: a text goes as it is, anything else as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
    /// Longest wait for a connection, in milliseconds: 1 to 900000.
    #[serde(default = "connect_timeout")]
    pub connect_timeout_ms: crate::triggers::TimeoutMs,
    /// Longest wait for the answer, in milliseconds: 1 to 900000.
    #[serde(default)]
    pub read_timeout_ms: crate::triggers::TimeoutMs,
    /// Longest answer taken, in bytes.
    #[serde(default)]
    pub max_response_bytes: crate::triggers::MaxRequestBytes,
    /// How the upstream is called.
    #[serde(default, skip_serializing_if = "UpstreamSettings::is_default")]
    pub upstream: UpstreamSettings,
}

fn get() -> Method {
    Method::Get
}

fn connect_timeout() -> crate::triggers::TimeoutMs {
    crate::triggers::TimeoutMs::CONNECT
}

/// Settings of a `respond` step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RespondStep {
    /// Status of the response: 200 to 599.
    #[serde(default)]
    pub status: ResponseStatus,
    /// Response headers; `{{ … }}` may stand in the values.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub headers: IndexMap<String, String>,
    /// Response body: a text goes as it is when a content type is set, anything else as JSON; the message when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
}

/// Settings of a `log` step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogStep {
    /// How much it matters.
    #[serde(default)]
    pub level: LogLevel,
    /// What to write; `{{ … }}` may stand in it.
    pub message: String,
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the levels that every log knows")]
pub enum LogLevel {
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

/// Settings of a `throw` step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ThrowStep {
    /// Status of the answer.
    #[serde(default)]
    pub status: ErrorStatus,
    /// What to tell the caller; `{{ … }}` may stand in it.
    pub error: String,
    /// A code for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Settings of a `jwtGenerate` step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtGenerateStep {
    /// Scopes of the token.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// How long the token lives, in milliseconds: 1000 to 31536000000 (365 days).
    pub expires_in_ms: ExpiresInMs,
}

/// Settings of a `jwtDecode` step: none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtDecodeStep {}

/// Status of an error answer: 400 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct ErrorStatus(#[schemars(range(min = 400, max = 599))] u16);

/// Status of a response: 200 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct ResponseStatus(#[schemars(range(min = 200, max = 599))] u16);

/// Life of a token in milliseconds: one second to 365 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct ExpiresInMs(#[schemars(range(min = 1_000, max = 31_536_000_000_i64))] u64);

/// Types of steps, as written in files.
pub const STEP_TYPES: [&str; 11] = [
    "json",
    "assert",
    "choice",
    "block",
    "http",
    "proxy",
    "respond",
    "log",
    "throw",
    "jwtGenerate",
    "jwtDecode",
];

// === impl Step ===

impl Step {
    /// Returns a step without a name that fails on error.
    pub fn new(kind: StepKind) -> Self {
        Self { name: None, fail_on_error: true, kind }
    }

    /// Returns the step's type as written in a file.
    pub fn type_name(&self) -> &'static str {
        match &self.kind {
            StepKind::Json(_) => "json",
            StepKind::Assert(_) => "assert",
            StepKind::Choice(_) => "choice",
            StepKind::Block(_) => "block",
            StepKind::Http(_) => "http",
            StepKind::Proxy(_) => "proxy",
            StepKind::Respond(_) => "respond",
            StepKind::Log(_) => "log",
            StepKind::Throw(_) => "throw",
            StepKind::JwtGenerate(_) => "jwtGenerate",
            StepKind::JwtDecode(_) => "jwtDecode",
        }
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let key = self.type_name();
        match &self.kind {
            StepKind::Json(value) => map.serialize_entry(key, value)?,
            StepKind::Assert(step) => map.serialize_entry(key, step)?,
            StepKind::Choice(step) => map.serialize_entry(key, step)?,
            StepKind::Block(step) => map.serialize_entry(key, step)?,
            StepKind::Http(step) => map.serialize_entry(key, step)?,
            StepKind::Proxy(step) => map.serialize_entry(key, step)?,
            StepKind::Respond(step) => map.serialize_entry(key, step)?,
            StepKind::Log(step) => map.serialize_entry(key, step)?,
            StepKind::Throw(step) => map.serialize_entry(key, step)?,
            StepKind::JwtGenerate(step) => map.serialize_entry(key, step)?,
            StepKind::JwtDecode(step) => map.serialize_entry(key, step)?,
        }
        if let Some(name) = &self.name {
            map.serialize_entry("name", name)?;
        }
        if !self.fail_on_error {
            map.serialize_entry("failOnError", &false)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Step;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a step: a map with one step type as its key, for example `- json: { ok: true }`")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Step, A::Error> {
                let mut name = None;
                let mut fail_on_error = None;
                let mut kind: Option<StepKind> = None;
                while let Some(key) = map.next_key::<String>()? {
                    let found = match key.as_str() {
                        "name" => {
                            name = Some(map.next_value()?);
                            continue;
                        }
                        "failOnError" => {
                            fail_on_error = Some(map.next_value()?);
                            continue;
                        }
                        "json" => StepKind::Json(map.next_value()?),
                        "assert" => StepKind::Assert(map.next_value()?),
                        "choice" => StepKind::Choice(map.next_value()?),
                        "block" => StepKind::Block(map.next_value()?),
                        "http" => StepKind::Http(map.next_value()?),
                        "proxy" => StepKind::Proxy(map.next_value()?),
                        "respond" => StepKind::Respond(map.next_value()?),
                        "log" => StepKind::Log(map.next_value()?),
                        "throw" => StepKind::Throw(map.next_value()?),
                        "jwtGenerate" => StepKind::JwtGenerate(map.next_value()?),
                        "jwtDecode" => StepKind::JwtDecode(map.next_value()?),
                        other => return Err(A::Error::unknown_variant(other, &STEP_TYPES)),
                    };
                    if kind.replace(found).is_some() {
                        return Err(A::Error::custom(format!(
                            "a step has one type, but `{key}` is a second one: begin a new step with `- {key}:`"
                        )));
                    }
                }
                let kind = kind.ok_or_else(|| {
                    A::Error::custom(format!("a step needs a type: one of {}", STEP_TYPES.join(", ")))
                })?;
                Ok(Step { name, fail_on_error: fail_on_error.unwrap_or(true), kind })
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl JsonSchema for Step {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Step".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut properties = serde_json::Map::new();
        let mut add = |key: &str, schema: schemars::Schema| {
            properties.insert(key.to_owned(), schema.into());
        };
        add("json", schemars::json_schema!({ "description": "Makes the next message." }));
        add("assert", generator.subschema_for::<AssertStep>());
        add("choice", generator.subschema_for::<ChoiceStep>());
        add("block", generator.subschema_for::<BlockStep>());
        add("http", generator.subschema_for::<HttpStep>());
        add("proxy", generator.subschema_for::<ProxyStep>());
        add("respond", generator.subschema_for::<RespondStep>());
        add("log", generator.subschema_for::<LogStep>());
        add("throw", generator.subschema_for::<ThrowStep>());
        add("jwtGenerate", generator.subschema_for::<JwtGenerateStep>());
        add("jwtDecode", generator.subschema_for::<JwtDecodeStep>());
        add("name", schemars::json_schema!({ "type": "string" }));
        add("failOnError", schemars::json_schema!({ "type": "boolean", "default": true }));
        let one_of: Vec<_> = STEP_TYPES.iter().map(|key| serde_json::json!({ "required": [key] })).collect();
        schemars::json_schema!({
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
            "oneOf": one_of,
        })
    }
}

// === impl statuses and durations ===

macro_rules! ranged {
    ($name:ident, $inner:ty, $min:literal, $max:literal, $expected:literal) => {
        impl $name {
            /// Returns the number.
            pub fn get(self) -> $inner {
                self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = u64::deserialize(deserializer)?;
                <$inner>::try_from(value)
                    .ok()
                    .filter(|value| ($min..=$max).contains(value))
                    .map(Self)
                    .ok_or_else(|| D::Error::invalid_value(Unexpected::Unsigned(value), &$expected))
            }
        }
    };
}

ranged!(ErrorStatus, u16, 400, 599, "an error status from 400 to 599");
ranged!(ResponseStatus, u16, 200, 599, "a status from 200 to 599");
ranged!(ExpiresInMs, u64, 1_000, 31_536_000_000, "1000 to 31536000000 milliseconds (365 days)");

impl ExpiresInMs {
    /// 24 hours.
    pub const DAY: Self = Self(86_400_000);
    /// 365 days, the longest.
    pub const MAX: Self = Self(31_536_000_000);
}

impl Default for ErrorStatus {
    fn default() -> Self {
        Self(500)
    }
}

impl Default for ResponseStatus {
    fn default() -> Self {
        Self(200)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_reads_back_as_it_was_written() {
        let written = json!([
            { "assert": { "condition": "1 == 1", "status": 401, "error": "no" } },
            { "choice": { "when": [{ "condition": "true", "steps": [{ "json": 1 }] }] } },
            { "jwtGenerate": { "scopes": ["a:b"], "expiresInMs": 1000 }, "name": "token", "failOnError": false }
        ]);
        let steps: Vec<Step> = serde_json::from_value(written.clone()).expect("valid");
        let again: Vec<Step> =
            serde_json::from_value(serde_json::to_value(&steps).expect("serialises")).expect("valid");
        assert_eq!(steps, again);
        assert!(!steps[2].fail_on_error);
    }

    #[test]
    fn a_step_has_exactly_one_type() {
        for (bad, says) in [
            (json!({}), "a step needs a type"),
            (json!({ "name": "x" }), "a step needs a type"),
            (json!({ "json": 1, "log": { "message": "x" } }), "a step has one type"),
            (json!({ "jsn": 1 }), "unknown variant `jsn`"),
            (json!({ "throw": { "error": "x", "status": 200 } }), "an error status from 400 to 599"),
            (json!({ "jwtGenerate": { "expiresInMs": 31_536_000_001_u64 } }), "365 days"),
        ] {
            let error = serde_json::from_value::<Step>(bad).expect_err("refused").to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
