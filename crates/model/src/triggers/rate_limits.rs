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

impl Limits {
    /// Finds a limit that makes another one pointless, which is then no limit but a mistake: the place of one of the two,
    /// and a sentence. Read versions may have such limits from before this was asked.
    pub fn contradiction(&self) -> Option<(usize, String)> {
        let mut by_length: Vec<(usize, &Limit)> = self.0.iter().enumerate().collect();
        by_length.sort_by_key(|(_, limit)| limit.interval);
        let pairs = by_length.iter().flat_map(|short| by_length.iter().map(move |long| (short, long)));
        let mut pairs = pairs.filter(|((_, short), (_, long))| short.interval < long.interval);
        pairs.find_map(|((at_short, short), (at_long, long))| {
            let (name, longer) = (short.interval.name(), long.interval.name());
            let times = long.interval.seconds() / short.interval.seconds();
            let reachable = u64::from(short.limit.get()).saturating_mul(times);
            if long.limit <= short.limit {
                let message = format!(
                    "{} a {longer} leaves {} a {name} without an effect: let the {longer} have more calls than the \
                     {name}, or leave the {name} out",
                    long.limit, short.limit
                );
                return Some((*at_short, message));
            }
            (u64::from(long.limit.get()) > reachable).then(|| {
                let message = format!(
                    "{} a {name} are {reachable} a {longer}, so that {} a {longer} has no effect: lower it, or leave the \
                     {longer} out",
                    short.limit, long.limit
                );
                (*at_long, message)
            })
        })
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
    /// Returns the name, as it is written in a file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Limits {
        serde_json::from_str(text).expect("limits")
    }

    #[test]
    fn a_limit_without_an_effect_is_found() {
        for (text, at) in [
            (r#"[{"interval":"second","limit":10},{"interval":"minute","limit":10}]"#, Some(0)),
            (r#"[{"interval":"month","limit":5},{"interval":"day","limit":6}]"#, Some(1)),
            (r#"[{"interval":"second","limit":1},{"interval":"minute","limit":61}]"#, Some(1)),
            (
                r#"[{"interval":"second","limit":9},{"interval":"minute","limit":99},{"interval":"month","limit":9999999}]"#,
                Some(2),
            ),
            (r#"[{"interval":"second","limit":1},{"interval":"minute","limit":60}]"#, None),
            (r#"[{"interval":"hour","limit":11},{"interval":"minute","limit":10}]"#, None),
            (r#"[{"interval":"month","limit":1}]"#, None),
            (
                r#"[{"interval":"second","limit":4294967295},{"interval":"month","limit":4294967295}]"#,
                Some(0),
            ),
        ] {
            assert_eq!(limits(text).contradiction().map(|(at, _)| at), at, "{text}");
        }
        let (_, words) = limits(r#"[{"interval":"second","limit":2},{"interval":"minute","limit":121}]"#)
            .contradiction()
            .expect("a contradiction");
        assert_eq!(
            words,
            "2 a second are 120 a minute, so that 121 a minute has no effect: lower it, or leave the minute out"
        );
    }
}
