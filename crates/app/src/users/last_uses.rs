//! When sessions and API tokens were last used: a side record, written at most once a minute for each, and never
//! waited for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tollgate_model::ids::UserTokenId;
use tollgate_model::names::RealmName;
use tollgate_model::users::UserToken;
use tollgate_store::RecordTable;

use super::Users;
use crate::errors::Error;

/// How often the last use of one token is written.
const WRITTEN_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// Most tokens remembered; beyond, all are forgotten and read again.
const REMEMBERED: usize = 50_000;

/// The last uses that this process saw.
#[derive(Default)]
pub(super) struct LastUses(Mutex<HashMap<UserTokenId, LastUse>>);

#[derive(Clone, Copy)]
struct LastUse {
    /// Invariant: it never goes back.
    at: Timestamp,
    written: Timestamp,
}

// === impl LastUses ===

impl LastUses {
    /// Takes in a use; tells whether it is to be written.
    fn note(&self, id: UserTokenId, now: Timestamp) -> bool {
        let mut uses = self.lock();
        if uses.len() >= REMEMBERED && !uses.contains_key(&id) {
            uses.clear();
        }
        let Some(last) = uses.get_mut(&id) else {
            uses.insert(id, LastUse { at: now, written: now });
            return true;
        };
        last.at = last.at.max(now);
        let due = last.at.duration_since(last.written) >= WRITTEN_EVERY;
        if due {
            last.written = last.at;
        }
        due
    }

    fn get(&self, id: UserTokenId) -> Option<Timestamp> {
        self.lock().get(&id).map(|last| last.at)
    }

    /// No code panics while it holds the lock, so what a poisoned one guards is whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<UserTokenId, LastUse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Users ===

impl Users {
    /// Takes in that a token was used, and writes it down beside the request.
    pub(super) fn note_use(&self, token: &UserToken, now: Timestamp) {
        if !self.0.0.sign_ins.last_uses.note(token.id, now) {
            return;
        }
        let (store, id, expires_at) = (self.0.store().clone(), token.id.to_string(), token.expires_at);
        tokio::spawn(async move {
            let (realm, body) = (RealmName::default(), now.to_string());
            if let Err(error) = store.put_record(RecordTable::LastUse, &realm, &id, &body, expires_at).await {
                tracing::warn!(%error, "the last use of a token could not be written down");
            }
        });
    }

    /// Returns when a token was last used, by what this process saw and any process wrote; about to a minute.
    pub(super) async fn last_use(&self, id: UserTokenId) -> Result<Option<Timestamp>, Error> {
        let record = self
            .0
            .store()
            .get_record(RecordTable::LastUse, &RealmName::default(), &id.to_string())
            .await
            .map_err(Error::unavailable)?;
        self.latest(id, record.as_deref())
    }

    /// Returns when each of these tokens was last used, as [`Users::last_use`] does of one.
    pub(super) async fn last_uses(
        &self,
        ids: impl Iterator<Item = UserTokenId>,
    ) -> Result<HashMap<UserTokenId, Timestamp>, Error> {
        let ids: Vec<UserTokenId> = ids.collect();
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let records = self.0.store().get_records(RecordTable::LastUse, &RealmName::default(), &names).await;
        let records = records.map_err(Error::unavailable)?;
        let mut uses = HashMap::with_capacity(ids.len());
        for (id, name) in ids.into_iter().zip(names) {
            let latest = self.latest(id, records.get(&name).map(String::as_str))?;
            uses.extend(latest.map(|at| (id, at)));
        }
        Ok(uses)
    }

    /// Returns the later of what was written of a token's use and what this process saw.
    fn latest(&self, id: UserTokenId, written: Option<&str>) -> Result<Option<Timestamp>, Error> {
        let written = written.map(|text| text.parse().map_err(Error::internal)).transpose()?;
        Ok(written.max(self.0.0.sign_ins.last_uses.get(id)))
    }

    /// Tells whether a session was not used for longer than it may.
    pub(super) async fn is_idle(&self, token: &UserToken, now: Timestamp) -> Result<bool, Error> {
        let Some(seconds) = token.session.as_ref().and_then(|session| session.idle_seconds) else {
            return Ok(false);
        };
        let over = |last: Timestamp| now.duration_since(last) >= SignedDuration::from_secs(seconds.into());
        let seen = self.0.0.sign_ins.last_uses.get(token.id).unwrap_or(token.created_at);
        if !over(seen) {
            return Ok(false);
        }
        // Another process may have seen it since.
        Ok(over(self.last_use(token.id).await?.unwrap_or(seen)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_use_is_written_once_a_minute_and_its_time_never_goes_back() {
        let uses = LastUses::default();
        let at = |seconds| Timestamp::from_second(seconds).expect("in range");
        let id = UserTokenId::new(at(0), [1; 10]);
        let written = (0..180).filter(|second| uses.note(id, at(1_000 + second))).count();
        assert_eq!(written, 3);
        assert!(!uses.note(id, at(0)), "the clock was set back");
        assert_eq!(uses.get(id), Some(at(1_179)));
    }
}
