//! From where each user signed in before: there the failures of others do not hold them up.
//!
//! A side record, written after a sign-in alone, so that nobody writes it without a password. It is read by the name
//! that was given, whether there is such a user or not, so that both take the same time.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tollgate_model::names::{RealmName, UserName};
use tollgate_store::RecordTable;

use super::Users;
use super::back_off::source_of;
use crate::access::Op;
use crate::errors::Error;

/// Most sources remembered of a user: those of the latest sign-ins.
const REMEMBERED: usize = 20;
/// How long a source is remembered after the last sign-in from it.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How old an entry gets before it is written again.
const FRESH: SignedDuration = SignedDuration::from_hours(24);

#[derive(Default, Serialize, Deserialize)]
struct KnownSources {
    sources: Vec<KnownSource>,
}

#[derive(Serialize, Deserialize)]
struct KnownSource {
    source: String,
    at: Timestamp,
}

// === impl Users ===

impl Users {
    /// Tells whether a user signed in from the source of an operation before.
    pub(super) async fn is_known_source(&self, op: &Op, user: &UserName) -> Result<bool, Error> {
        let source = source_of(&op.source);
        let known = self.known_sources(user).await?;
        Ok(known.sources.iter().any(|it| it.source == source && op.now.duration_since(it.at) < KEPT))
    }

    /// Remembers from where a user signed in. The sign-in stands when that fails.
    pub(super) async fn remember_source(&self, op: &Op, user: &UserName) {
        if let Err(error) = self.try_remember_source(op, user).await {
            tracing::warn!(%error, "the source of a sign-in could not be remembered");
        }
    }

    async fn try_remember_source(&self, op: &Op, user: &UserName) -> Result<(), Error> {
        let source = source_of(&op.source);
        let mut known = self.known_sources(user).await?;
        let is_fresh = |it: &KnownSource| it.source == source && op.now.duration_since(it.at) < FRESH;
        if known.sources.iter().any(is_fresh) {
            return Ok(());
        }
        known.sources.retain(|it| it.source != source && op.now.duration_since(it.at) < KEPT);
        known.sources.push(KnownSource { source, at: op.now });
        let too_many = known.sources.len().saturating_sub(REMEMBERED);
        known.sources.drain(..too_many);
        let body = serde_json::to_string(&known).map_err(Error::internal)?;
        let expires_at = op.now.checked_add(KEPT).map_err(Error::internal)?;
        let store = self.0.store();
        store.delete_expired_records(op.now).await.map_err(Error::unavailable)?;
        store
            .put_record(
                RecordTable::KnownSources,
                &RealmName::default(),
                user.as_str(),
                &body,
                Some(expires_at),
            )
            .await
            .map_err(Error::unavailable)
    }

    async fn known_sources(&self, user: &UserName) -> Result<KnownSources, Error> {
        let record = self
            .0
            .store()
            .get_record(RecordTable::KnownSources, &RealmName::default(), user.as_str())
            .await
            .map_err(Error::unavailable)?;
        // A record that does not read is none: it will be written anew.
        Ok(record.and_then(|body| serde_json::from_str(&body).ok()).unwrap_or_default())
    }
}
