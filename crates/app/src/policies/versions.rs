//! Versions of the policies: what they differ in, and bringing an earlier one back.

use tollgate_model::environments::Environment;
use tollgate_model::policies::Policies;
use tollgate_model::versions::Version;
use tollgate_policy::PolicyDiff;

use super::PolicyUseCases;
use super::edits::checked;
use crate::access::{Op, Permission};
use crate::errors::Error;

/// Longest reason of a change, in characters.
const MAX_REASON: usize = 1000;

// === impl PolicyUseCases ===

impl PolicyUseCases {
    /// Compares two versions; without `to`, with today's.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such version.
    pub async fn diff(&self, op: &Op, from: Version, to: Option<Version>) -> Result<PolicyDiff, Error> {
        op.demand_anywhere(Permission::PolicyRead)?;
        let before = self.version(op, from).await?.policies;
        let after = match to {
            Some(to) => self.version(op, to).await?.policies,
            None => self.0.current_policies(&op.realm).await?.value,
        };
        Ok(tollgate_policy::diff(&before, &after)?)
    }

    /// Returns today's policies with an earlier version brought back. A custom rule that passed when it was saved and
    /// would not pass now is refused: it would break every pipeline where it is required.
    pub(super) async fn restored(
        &self,
        op: &Op,
        version: Version,
        today: &Policies,
    ) -> Result<Policies, Error> {
        let earlier = self.stored_version(op, version).await?;
        let mut policies = earlier.value.policies;
        // One that was deleted and made again since is another environment of that name.
        for environment in self.0.all::<Environment>(&op.realm, "").await? {
            let name = &environment.value.name;
            if environment.revision > earlier.revision && policies.environments().any(|known| known == name) {
                policies = policies.without_environment(name)?;
            }
        }
        let restored = today.restored(&policies, op.now);
        restored.rules().try_for_each(checked)?;
        Ok(restored)
    }
}

/// Refuses a reason that nobody would read.
pub(crate) fn check_reason(reason: &str) -> Result<(), Error> {
    if reason.chars().count() <= MAX_REASON {
        return Ok(());
    }
    Err(Error::invalid(format!("the reason is longer than {MAX_REASON} characters"))
        .hint("say it shorter, and link to the rest"))
}
