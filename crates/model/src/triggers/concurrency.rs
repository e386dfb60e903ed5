//! How many calls run at once.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TimeoutMs;

/// How many calls run at once, of all callers together, in each gateway process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Concurrency {
    /// Calls whose flow runs, at least 1.
    pub limit: NonZeroU32,
    /// Further calls that wait for a place; those beyond it are answered 503 at once.
    #[serde(default)]
    pub queue: u32,
    /// Longest wait for a place, in milliseconds.
    #[serde(default = "TimeoutMs::one_second")]
    pub queue_timeout_ms: TimeoutMs,
}
