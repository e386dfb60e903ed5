//! Decisions: does a pipeline conform, what mends it, what would a policy change do.
//!
//! This is the only place where a verdict is made. Deploy, promote, rollback, the offline check, conformance and
//! impact all call [`judge`], so that they cannot disagree. Everything here is pure.

mod conformance;
mod login_flows;
mod verdicts;

pub use conformance::{Conformance, ConformanceItem, Impact, conformance, impact};
pub use login_flows::is_login_flow;
pub use verdicts::{
    Admission, AdmitError, ApplyFixError, Refusal, UnknownEnvironment, admit, apply_fix, judge,
};
