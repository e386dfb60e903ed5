//! How often each caller may call.

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// How often each caller may call, in several intervals at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// Whose calls are counted together.
    #[serde(default)]
    pub by: RateLimitBy,
    /// The limits; a call must fit all of them.
    pub limits: Limits,
}

/// Whose calls a rate limit counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RateLimitBy {
    /// All calls of one consumer.
    #[default]
    Consumer,
    /// All calls with one API key or Basic Auth credential.
    Credential,
}

/// One to five limits, none with the interval of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("minItems" = 1, "maxItems" = 5))]
pub struct Limits(Vec<Limit>);

/// So many calls per interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limit {
    /// The interval.
    pub interval: Interval,
    /// Calls per interval, at least 1.
    pub limit: std::num::NonZeroU32,
}

/// An interval of a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Interval {
    /// 1 second.
    Second,
    /// 60 seconds.
    Minute,
    /// 3600 seconds.
    Hour,
    /// 86400 seconds.
    Day,
    /// 30 days.
    Month,
}

// === impl Limits ===

impl Limits {
    /// Returns the limits in the order written.
    pub fn as_slice(&self) -> &[Limit] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limits = Vec::<Limit>::deserialize(deserializer)?;
        let mut intervals: Vec<_> = limits.iter().map(|limit| limit.interval).collect();
        intervals.sort_unstable();
        intervals.dedup();
        if limits.is_empty() {
            return Err(D::Error::custom("no limit is given: write at least one { interval, limit }"));
        }
        if intervals.len() != limits.len() {
            return Err(D::Error::custom("an interval has two limits: give each interval one"));
        }
        Ok(Self(limits))
    }
}

// === impl Interval ===

impl Interval {
    /// Returns the length in seconds.
    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Month => 30 * 86_400,
        }
    }
}
