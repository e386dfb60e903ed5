//! The `proxy` step, and how upstreams are called, which it shares with the `http` step.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

use crate::triggers::TimeoutMs;

/// Settings of a `proxy` step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProxyStep {
    /// `http://` or `https://` URL; `{{ … }}` may stand in it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Several URLs in place of one, of which each call takes one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
    /// What of the call's path is put behind that of the URL.
    #[serde(default)]
    pub path: PathPart,
    /// Whether the upstream gets the call's query, without the parameter `apikey`.
    #[serde(default = "yes")]
    pub query: bool,
    /// Request headers, in place of the caller's with these names; `{{ … }}` may stand in the values.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub headers: IndexMap<String, String>,
    /// Request headers of the caller that the upstream does not get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop_headers: Vec<String>,
    /// Response headers, in place of the upstream's with these names; `{{ … }}` may stand in the values.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub response_headers: IndexMap<String, String>,
    /// Response headers of the upstream that the caller does not get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop_response_headers: Vec<String>,
    /// Credentials of the caller that the upstream gets; none unless they are named here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pass_on: Vec<CallerCredential>,
    /// Longest wait for a connection, in milliseconds: 1 to 900000.
    #[serde(default = "super::connect_timeout")]
    pub connect_timeout_ms: TimeoutMs,
    /// Longest wait for the answer to begin, since the last piece of the request was taken, in milliseconds: 1 to 900000.
    #[serde(default)]
    pub response_timeout_ms: TimeoutMs,
    /// Longest pause between two pieces of the answer, in milliseconds: 1 to 900000.
    #[serde(default)]
    pub idle_timeout_ms: TimeoutMs,
    /// How the upstream is called.
    #[serde(default, skip_serializing_if = "UpstreamSettings::is_default")]
    pub upstream: UpstreamSettings,
}

/// One of several URLs that a step can call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// `http://` or `https://` URL; `{{ … }}` may stand in it.
    pub url: String,
    /// Its share of the calls, as a part of the sum of all weights: 1 to 100.
    #[serde(default)]
    pub weight: Weight,
}

/// What of a call's path goes to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PathPart {
    /// What the `*` of the route matched; nothing where the route has none.
    #[default]
    Rest,
    /// The path without `/pipeline/{realm}/v{major}`.
    Route,
    /// The path as it is.
    Whole,
}

/// What callers show of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CallerCredential {
    /// The header `apikey`.
    ApiKey,
    /// The header `Authorization`.
    Authorization,
    /// The header `Cookie`, without the session of the console.
    Cookies,
}

/// How an upstream is called, when it works and when it does not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UpstreamSettings {
    /// How often a call that failed is tried again, 0 to 3: of any method while nothing was sent, else of idempotent ones
    /// (RFC 9110 section 9.2.2). At most a fifth of the calls, and ten, are retries.
    pub retries: Retries,
    /// When calls are refused without being tried.
    pub breaker: Breaker,
    /// Most calls at once; further ones are answered 503.
    pub max_concurrent: MaxConcurrent,
    /// Speaks HTTP/2 to `http://` URLs, too. Under TLS it is negotiated.
    pub http2: bool,
    /// Certificates in PEM that alone are trusted, in place of the system's; `{{ … }}` of globals and accounts may stand in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_certificates: Option<String>,
}

/// When calls of a target are refused without being tried: after so many failures in a row, for so long. Then one call
/// tries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Breaker {
    /// Failures in a row: no connection, no answer in time, or status 502, 503 or 504; or answers in a row that broke off. 1 to 1000.
    pub failures: Failures,
    /// How long, in milliseconds: 1 to 900000.
    pub open_ms: TimeoutMs,
}

macro_rules! ranged {
    ($(#[$doc:meta])* $name:ident($inner:ty) = $default:literal, $min:literal, $max:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(#[schemars(range(min = $min, max = $max))] $inner);

        impl $name {
            /// Returns the number.
            pub fn get(self) -> $inner {
                self.0
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self($default)
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

ranged!(
    /// A target's share of the calls: 1 to 100.
    Weight(u32) = 1, 1, 100, "a weight from 1 to 100"
);
ranged!(
    /// How often a call is tried again: 0 to 3.
    Retries(u32) = 0, 0, 3, "0 to 3 retries"
);
ranged!(
    /// Failures in a row: 1 to 1000.
    Failures(u32) = 10, 1, 1_000, "1 to 1000 failures"
);
ranged!(
    /// Calls at once: 1 to 10000.
    MaxConcurrent(u32) = 1_000, 1, 10_000, "1 to 10000 calls"
);

fn yes() -> bool {
    true
}

/// Most targets of a step.
const MAX_TARGETS: usize = 32;

/// Returns the URLs of a step with their weights.
fn urls<'a>(url: &'a str, targets: &'a [Target]) -> Result<Vec<(&'a str, u32)>, &'static str> {
    match (url.is_empty(), targets) {
        (false, []) => Ok(vec![(url, 1)]),
        (true, []) => Err("the step calls nothing: write `url`, or `targets` with a `url` each"),
        (false, _) => Err("write `url` or `targets`, not both"),
        (true, targets) if targets.len() > MAX_TARGETS => Err("a step has at most 32 targets"),
        (true, targets) => Ok(targets.iter().map(|it| (it.url.as_str(), it.weight.get())).collect()),
    }
}

// === impl ProxyStep ===

impl ProxyStep {
    /// Returns the URLs with their weights.
    ///
    /// # Errors
    ///
    /// A sentence when there is none, or both one and several.
    pub fn urls(&self) -> Result<Vec<(&str, u32)>, &'static str> {
        urls(&self.url, &self.targets)
    }
}

impl super::HttpStep {
    /// Returns the URLs with their weights.
    ///
    /// # Errors
    ///
    /// A sentence when there is none, or both one and several.
    pub fn urls(&self) -> Result<Vec<(&str, u32)>, &'static str> {
        urls(&self.url, &self.targets)
    }
}

// === impl UpstreamSettings ===

impl UpstreamSettings {
    /// Tells whether nothing was set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

// === impl Breaker ===

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: Failures::default(), open_ms: TimeoutMs::CONNECT }
    }
}

// === impl CallerCredential ===

impl CallerCredential {
    /// Returns the name of the header, in lower case.
    pub fn header(self) -> &'static str {
        match self {
            Self::ApiKey => "apikey",
            Self::Authorization => "authorization",
            Self::Cookies => "cookie",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_calls_one_url_or_several() {
        let urls = |step: serde_json::Value| -> Result<Vec<(String, u32)>, String> {
            let step: ProxyStep = serde_json::from_value(step).map_err(|error| error.to_string())?;
            Ok(step.urls()?.into_iter().map(|(url, weight)| (url.to_owned(), weight)).collect())
        };
        let (a, b) = ("https://a.example/", "https://b.example/");
        assert_eq!(urls(json!({ "url": a })), Ok(vec![(a.to_owned(), 1)]));
        assert_eq!(
            urls(json!({ "targets": [{ "url": a, "weight": 3 }, { "url": b }] })),
            Ok(vec![(a.to_owned(), 3), (b.to_owned(), 1)])
        );
        for bad in [
            json!({}),
            json!({ "url": a, "targets": [{ "url": b }] }),
            json!({ "targets": [{ "url": a, "weight": 0 }] }),
            json!({ "url": a, "upstream": { "retries": 4 } }),
            json!({ "url": a, "insecure": true }),
        ] {
            assert!(urls(bad.clone()).is_err(), "{bad}");
        }
    }
}
