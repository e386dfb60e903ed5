//! Changes that need a yes.

use serde_json::Value;

use crate::failure::Failure;

/// Asks for `--yes` where it was not given.
///
/// # Errors
///
/// The failure that says that the policies were not changed, with the impact in its document.
pub(crate) fn demand_yes(yes: bool, impact: &Value) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let failure = Failure::usage("the policies were not changed: a change needs a yes")
        .hint("read the impact above, then repeat the command with --yes");
    let members = impact.as_object().into_iter().flatten();
    Err(members.fold(failure, |failure, (name, value)| failure.with(name, value.clone())))
}
