//! Trials: a flow that is run on a sample message, for somebody who looks at every step.

use std::net::{IpAddr, Ipv4Addr};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A message as a call would bring it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SampleMessage {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// Parameters of query and route: texts, or lists of them.
    pub query_and_path: Map<String, Value>,
    /// Header fields; those that carry credentials are left out, as in a call.
    pub headers: IndexMap<String, String>,
    /// The content type.
    pub content_type: String,
    /// The body: any JSON.
    pub body: Value,
    /// Claims of the caller's token, as if it had been verified; without them `jwtDecode` finds no token.
    pub claims: Option<Map<String, Value>>,
    /// Name of the consumer that would call; `null` for a call without one.
    pub consumer: Option<String>,
    /// Address of the caller, as `client.address`; `null` as in a scheduled run, which nobody called.
    pub client_address: Option<IpAddr>,
}

/// The address of a caller that nobody has: one for documentation (RFC 5737).
const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// What a trial did. Account values are masked in all of it, and sensitive fields hidden.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrialReport {
    /// The steps that ran, in the order in which they began.
    pub steps: Vec<TriedStep>,
    /// What a caller would get.
    pub answer: TriedAnswer,
    /// Upstreams that were called, for real.
    pub upstream_calls: u32,
    /// How long all of it took, in microseconds.
    pub micros: u64,
}

/// A step that ran.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriedStep {
    /// JSON pointer (RFC 6901) of the step in the pipeline.
    pub pointer: String,
    /// Its name, or its pointer.
    pub label: String,
    /// The message before.
    pub input: Shown,
    /// The message after; null when the step ended the flow or failed.
    pub output: Option<Shown>,
    /// The branch that it took, by its pointer in the pipeline; `none` when no condition held.
    pub branch: Option<String>,
    /// Why it failed.
    pub error: Option<StepFault>,
    /// Lines that it wrote to the log; of a trial they go nowhere else.
    pub logged: Vec<String>,
    /// How long it took, in microseconds, with the steps in it.
    pub micros: u64,
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepFault {
    /// The status that a caller would get.
    pub status: u16,
    /// The code.
    pub code: String,
    /// What a caller would be told.
    pub message: String,
    /// What the log would be told.
    pub detail: String,
    /// Whether the flow went on: `failOnError: false`.
    pub went_on: bool,
}

/// What a caller would get.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TriedAnswer {
    /// The status.
    pub status: u16,
    /// The code of the error, when the flow failed.
    pub code: Option<String>,
    /// Header fields that the flow sets. A token is never among them: `Bearer ***` stands in its place.
    pub headers: Vec<(String, String)>,
    /// The body; null when the flow failed.
    pub body: Option<Shown>,
}

/// A value as far as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Shown {
    /// The value, long texts and what is too much in it replaced by words in brackets.
    pub value: Value,
    /// Whether something of it is not shown because it is too long.
    pub cut: bool,
}

impl Default for SampleMessage {
    fn default() -> Self {
        Self {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            query_and_path: Map::new(),
            headers: IndexMap::new(),
            content_type: String::new(),
            body: Value::Null,
            claims: None,
            consumer: Some("sample".to_owned()),
            client_address: Some(NOBODY.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_says_only_what_matters() {
        let sample: SampleMessage =
            serde_json::from_str(r#"{ "method": "POST", "body": { "a": 1 } }"#).expect("a sample");
        assert_eq!((sample.method.as_str(), sample.consumer.as_deref()), ("POST", Some("sample")));
        assert_eq!(sample.client_address, Some(NOBODY.into()));
        for wrong in [r#"{ "bdoy": 1 }"#, r#"{ "clientAddress": "shop.example" }"#] {
            assert!(serde_json::from_str::<SampleMessage>(wrong).is_err(), "{wrong}");
        }
    }
}
