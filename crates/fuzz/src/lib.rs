//! Fuzz targets: functions of bytes that panic when something does not hold.
//!
//! A target does more than not crash: it compares what the code decides with a second, naive opinion, or with what must
//! hold whatever the input is. The corpus in `corpus/<target>` is replayed, and mutated a bounded number of times, by
//! the tests of this crate. `cargo xtask fuzz TARGET SECONDS` looks further, led by coverage (`fuzz/` in the root of the
//! workspace).

#![expect(clippy::indexing_slicing, reason = "a target that indexes wrongly fails, as it should")]

mod basic;
mod expressions;
mod gateway;
mod keys;
mod mutate;
mod pipelines;
mod tokens;

pub use mutate::Mutator;

/// One target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of its corpus and of its program.
    pub name: &'static str,
    /// What is called with each input.
    pub run: fn(&[u8]),
    /// What inputs are made of; mutations put these in.
    pub words: &'static [&'static str],
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "basic", run: basic::run, words: basic::WORDS },
    Target { name: "expression", run: expressions::run, words: expressions::WORDS },
    Target { name: "key", run: keys::key, words: keys::WORDS },
    Target { name: "leaks", run: keys::leaks, words: keys::WORDS },
    Target { name: "pipeline", run: pipelines::run, words: pipelines::WORDS },
    Target { name: "request", run: gateway::run, words: gateway::WORDS },
    Target { name: "token", run: tokens::run, words: tokens::WORDS },
];

/// Returns a target by name.
///
/// # Panics
///
/// When there is none.
pub fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).expect("a target of this name")
}
