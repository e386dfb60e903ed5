//! How keys end by themselves: when nobody uses them any more, or at their time.

use jiff::SignedDuration;
use tollgate_model::consumers::CredentialState;
use tollgate_model::ids::KeyId;
use tollgate_model::names::{CredentialName, EnvironmentName};

use super::{Keys, ShownKey};
use crate::access::{Op, Permission, Place};
use crate::changes::{Draft, expect};
use crate::credentials::overlap_end;
use crate::errors::Error;

/// The shortest time without calls after which a key ends: what gateways counted must be written by then.
const MIN_UNUSED_SECONDS: u32 = 60;

/// How late a call may be written: gateways write every five seconds.
const WRITTEN_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// How long an old key works beside its successor, where its calls decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UntilUnused {
    /// It ends when it had no call for so long.
    pub unused_seconds: u32,
    /// It ends after so long in any case.
    pub at_latest_seconds: u32,
}

// === impl Keys ===

impl Keys {
    /// Issues a successor; the old key works beside it until it had no call for a time, and no longer than a bound.
    ///
    /// # Errors
    ///
    /// As [`Keys::rotate`]; [`crate::errors::ErrorKind::Invalid`] for a time under a minute, or over the bound.
    pub async fn rotate_until_unused(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        id: KeyId,
        until: UntilUnused,
        name: Option<CredentialName>,
    ) -> Result<ShownKey, Error> {
        op.demand_in(Permission::ApiKeyCreate, Place::environment(environment))?;
        let UntilUnused { unused_seconds, at_latest_seconds } = until;
        if unused_seconds < MIN_UNUSED_SECONDS || unused_seconds > at_latest_seconds {
            return Err(Error::invalid(
                "a key ends when it was unused for a minute or more, before its hard stop",
            )
            .hint("for example: unused for 7 days, at the latest after 30"));
        }
        let ends_at = overlap_end(op.now, at_latest_seconds)?;
        self.replace(op, environment, id, ends_at, Some(unused_seconds), name).await
    }

    /// Ends a key that was rotated until it is unused, if it is by now; tells whether it did.
    ///
    /// Its last call counts as written by the gateways, which is at most ten seconds late; so it ends ten seconds after its
    /// time, and no call is overlooked.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn retire_if_unused(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        id: KeyId,
    ) -> Result<bool, Error> {
        op.demand_in(Permission::ApiKeyRevoke, Place::environment(environment))?;
        let mut stored = self.find(op, environment, id).await?;
        let key = &mut stored.value;
        let (Some(unused_seconds), CredentialState::Active) = (key.retire_unused_seconds, key.state(op.now))
        else {
            return Ok(false);
        };
        let last_used = self.0.last_used(id).await?;
        let since = last_used.max(key.rotated_at).unwrap_or(key.created_at);
        let unused = SignedDuration::from_secs(unused_seconds.into());
        if op.now.duration_since(since) < unused + WRITTEN_AFTER {
            return Ok(false);
        }
        key.expires_at = Some(op.now);
        let reason = match last_used {
            Some(at) => format!("its last call was at {at}"),
            None => "it had no call".to_owned(),
        };
        let mut draft = Draft::new(op, "api-key.retire").reason(reason);
        draft.put(&stored.value, expect(&stored, None))?;
        // When somebody else wrote it meanwhile, the next look decides.
        Ok(self.0.commit_decided(op, draft).await?.is_some())
    }
}
