//! What a process remembers of sign-ins: failed attempts, and where known tokens are stored.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tollgate_credential::keys::KeyDigest;
use tollgate_model::ids::UserTokenId;

use crate::errors::{Error, ErrorKind};

/// Attempts of one user from one source within [`WINDOW`].
const ATTEMPTS: u32 = 10;
const WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// Most users and sources remembered; when more come, the oldest window is forgotten.
const REMEMBERED: usize = 10_000;

/// Failed sign-ins and known tokens; in memory only.
#[derive(Default)]
pub struct SignIns {
    attempts: Mutex<HashMap<(String, String), Attempts>>,
    tokens: Mutex<HashMap<KeyDigest, UserTokenId>>,
}

struct Attempts {
    since: Timestamp,
    count: u32,
}

// === impl SignIns ===

impl SignIns {
    /// Counts an attempt before it is made, so that many at once count too.
    pub(super) fn begin(&self, user: &str, source: &str, now: Timestamp) -> Result<(), Error> {
        let mut attempts = lock(&self.attempts);
        if attempts.len() >= REMEMBERED {
            attempts.retain(|_, it| now.duration_since(it.since) < WINDOW);
        }
        if attempts.len() >= REMEMBERED {
            let oldest = attempts.iter().min_by_key(|(_, it)| it.since).map(|(key, _)| key.clone());
            oldest.and_then(|key| attempts.remove(&key));
        }
        let entry = attempts.entry(key(user, source)).or_insert(Attempts { since: now, count: 0 });
        if now.duration_since(entry.since) >= WINDOW {
            *entry = Attempts { since: now, count: 0 };
        }
        if entry.count >= ATTEMPTS {
            return Err(Error::new(ErrorKind::TooMany, "too-many-logins", "too many failed sign-ins")
                .hint("wait five minutes, then try again"));
        }
        entry.count += 1;
        Ok(())
    }

    pub(super) fn succeeded(&self, user: &str, source: &str) {
        lock(&self.attempts).remove(&key(user, source));
    }

    pub(super) fn token_id(&self, digest: &KeyDigest) -> Option<UserTokenId> {
        lock(&self.tokens).get(digest).copied()
    }

    pub(super) fn remember(&self, digest: KeyDigest, id: UserTokenId) {
        let mut tokens = lock(&self.tokens);
        if tokens.len() >= REMEMBERED {
            tokens.clear();
        }
        tokens.insert(digest, id);
    }
}

fn key(user: &str, source: &str) -> (String, String) {
    (user.chars().take(64).collect(), source.chars().take(64).collect())
}

/// No code panics while it holds these locks, so what a poisoned one guards is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
