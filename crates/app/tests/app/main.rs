//! Use cases on a real SQLite store, with a clock and randomness that the tests decide.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod administration;
mod agreement;
mod attestations;
mod calls;
mod credentials;
mod dependents;
mod deployments;
mod environments;
mod evidence;
mod follower;
mod four_eyes;
mod four_eyes_attacks;
mod four_eyes_sequences;
mod identify;
mod input;
mod issuers;
mod journal;
mod key_life;
mod past;
mod people;
mod permissions;
mod policy_versions;

mod api_tokens;
mod callers;
mod reach;
mod records;
mod refusals;
mod refused_calls;
mod rule_trials;
mod search;
mod second_factor;
mod sessions;
mod shadow;
mod standings;
mod tokens_of_others;
mod traffic;
mod trials;
mod users;
mod verdicts;
mod waivers;
mod world;
