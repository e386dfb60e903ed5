//! What a process remembers of sign-ins: failed attempts, and where tokens are stored.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::token_index::TokenIndex;
use crate::errors::{Error, ErrorKind};

/// Attempts of one user from one source within [`WINDOW`].
const ATTEMPTS: u32 = 10;
const WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// Most users and sources remembered; when more come, the oldest window is forgotten.
const REMEMBERED: usize = 10_000;

/// Failed sign-ins and known tokens; in memory only, so each process counts for itself.
#[derive(Default)]
pub struct SignIns {
    attempts: Mutex<HashMap<(String, String), Attempts>>,
    pub(super) index: TokenIndex,
}

struct Attempts {
    since: Timestamp,
    count: u32,
}

// === impl SignIns ===

impl SignIns {
    /// Counts an attempt before it is made, so that many at once count too.
    pub(super) fn begin(&self, user: &str, source: &str, now: Timestamp) -> Result<(), Error> {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if attempts.len() >= REMEMBERED {
            attempts.retain(|_, it| now.duration_since(it.since) < WINDOW);
        }
        if attempts.len() >= REMEMBERED {
            let oldest = attempts.iter().min_by_key(|(_, it)| it.since).map(|(key, _)| key.clone());
            oldest.and_then(|key| attempts.remove(&key));
        }
        let entry = attempts.entry(key(user, source)).or_insert(Attempts { since: now, count: 0 });
        // A clock that was set back must not make the wait longer. The count stays: `now` is when a request came, and
        // requests may come here in another order.
        entry.since = entry.since.min(now);
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
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(user, source));
    }
}

fn key(user: &str, source: &str) -> (String, String) {
    (user.chars().take(64).collect(), source.chars().take(64).collect())
}
