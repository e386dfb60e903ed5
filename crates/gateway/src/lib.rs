//! The data plane.
#![expect(dead_code, reason = "wip")]
mod body;
mod bounded;
mod cors;
mod problem;
mod rate_limits;
mod request;
mod usage;
