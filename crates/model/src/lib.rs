//! The words of Tollgate as types: names, pipelines, triggers, consumers, policies, verdicts.
//!
//! This crate does no I/O and reads neither a clock nor a source of randomness. A value of one of its types
//! keeps the rules of that type: it was built by `parse` (or deserialised, which calls `parse`).

pub mod access;
pub mod attestations;
pub mod calls;
pub mod certificates;
pub mod change_requests;
pub mod consumers;
pub mod deployments;
pub mod document;
pub mod environments;
pub mod evidence;
pub mod explanations;
pub mod hex;
pub mod ids;
pub mod issuers;
pub mod keysets;
pub mod names;
pub mod networks;
pub mod next_steps;
pub mod objects;
pub mod pipelines;
pub mod policies;
pub mod recent_calls;
pub mod session_cookies;
pub mod sources;
pub mod steps;
pub mod traffic;
pub mod trials;
pub mod triggers;
pub mod users;
pub mod values;
pub mod verdicts;
pub mod versions;
pub mod waivers;
