//! Where the API tokens of users are stored, by digest; made from the store and replaced as a whole.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tollgate_credential::keys::KeyDigest;
use tollgate_model::ids::UserTokenId;
use tollgate_model::names::UserName;

/// Where to find a token and its user. Either may be gone: read both before believing it.
#[derive(Debug, Clone)]
pub(super) struct KnownToken {
    pub(super) id: UserTokenId,
    pub(super) user: UserName,
}

/// The tokens as of a number of the journal.
#[derive(Default)]
pub(super) struct TokenIndex(Mutex<Tokens>);

#[derive(Default)]
struct Tokens {
    seq: u64,
    by_digest: HashMap<KeyDigest, KnownToken>,
}

// === impl TokenIndex ===

impl TokenIndex {
    pub(super) fn find(&self, digest: &KeyDigest) -> Option<KnownToken> {
        self.lock().by_digest.get(digest).cloned()
    }

    /// Tells whether it was made of what is stored as of `head`. A head may go down when the database is restored.
    pub(super) fn is_as_of(&self, head: u64) -> bool {
        self.lock().seq == head
    }

    /// Takes what was read after `seq` was the head.
    pub(super) fn replace(&self, seq: u64, by_digest: HashMap<KeyDigest, KnownToken>) {
        *self.lock() = Tokens { seq, by_digest };
    }

    /// No code panics while it holds the lock, so what a poisoned one guards is whole.
    fn lock(&self) -> MutexGuard<'_, Tokens> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
