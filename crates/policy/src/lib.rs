//! Decisions: does a pipeline conform, what mends it, what would a policy change do.
//!
//! This is the only place where a verdict is made. Deploy, promote, rollback, the gateway's snapshot, the offline
//! check, conformance, impact and shadow all ask [`Judge`], so that they cannot disagree. Everything here is
//! pure; the moment judged for is an argument.

mod conformance;
mod diff;
mod fixes;
mod impact;
mod judge;
mod known;
mod login_flows;
mod meaning;
mod rules;
mod tokens;

pub use conformance::{Conformance, ConformanceItem, ScopeGap, Standing, conformance, scope_gaps};
pub use diff::{Change, PolicyChange, PolicyDiff, ValueChange, diff};
pub use fixes::{ApplyFixError, apply_fix};
pub use impact::Impact;
pub use judge::{Admission, AdmitError, Judge, Refusal, UnknownEnvironment};
pub use known::{KnownVersion, TriedRule};
pub use login_flows::is_login_flow;
pub use meaning::{Effect, EnvironmentMeaning, Meaning, SettingChange, SwitchChange, Switches, meaning};
pub use rules::{CheckRuleError, check_rule};
