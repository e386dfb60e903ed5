//! Who watches the checks of a call being made.
//!
//! Calls and explanations go through the same checks, so that they cannot disagree. A call watches nothing: the compiler
//! leaves of its watcher nothing behind, and the words of an explanation are never made for it.

use tollgate_model::explanations::Check;

/// Somebody who is told of the checks that a call passes.
pub(crate) trait Watch: Send {
    /// Whether the call is only asked about: then nothing is charged, counted or noted for it.
    const REHEARSAL: bool;

    /// Is told that a check was passed; the words are made only for somebody who listens.
    fn passed(&mut self, check: Check, words: impl FnOnce() -> Option<String>);
}

/// The watcher of a call.
pub(crate) struct Unwatched;

/// The watcher of an explanation: remembers what was passed.
#[derive(Default)]
pub(crate) struct Rehearsal {
    pub(crate) passed: Vec<(Check, Option<String>)>,
}

// === impl Unwatched ===

impl Watch for Unwatched {
    const REHEARSAL: bool = false;

    #[inline(always)]
    fn passed(&mut self, _: Check, _: impl FnOnce() -> Option<String>) {}
}

// === impl Rehearsal ===

impl Watch for Rehearsal {
    const REHEARSAL: bool = true;

    fn passed(&mut self, check: Check, words: impl FnOnce() -> Option<String>) {
        self.passed.push((check, words()));
    }
}
