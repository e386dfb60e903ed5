//! Where the sessions and API tokens of users are stored, by digest; it follows the journal.
//!
//! A token that is not in the index is looked for in what was journaled since the index was made, so that each entry
//! is read once, whatever number of made-up tokens is shown and whatever else is written.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tollgate_credential::keys::KeyDigest;
use tollgate_model::ids::{UserId, UserTokenId};
use tollgate_model::names::{RealmName, UserName};
use tollgate_model::objects::{Kind, Object as _};
use tollgate_model::users::{User, UserToken};
use tollgate_store::{JournalEntry, Stored};

use super::Users;
use crate::errors::Error;

/// Entries read at once.
const BATCH: u32 = 500;

/// How far behind the index may be to catch up entry by entry; from there on it is made anew.
const CATCH_UP: u64 = 5_000;

/// Where to find a token and its user. Either may be gone: read both before believing it.
#[derive(Debug, Clone)]
pub(super) struct KnownToken {
    pub(super) id: UserTokenId,
    pub(super) user: UserName,
}

/// The tokens as of a number of the journal.
#[derive(Default)]
pub(super) struct TokenIndex {
    tokens: Mutex<Tokens>,
    /// Held while the index is renewed: of many that ask at once one reads.
    renewing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Tokens {
    seq: u64,
    names: HashMap<UserId, UserName>,
    by_digest: HashMap<KeyDigest, (UserTokenId, UserId)>,
    /// Keys of stored tokens, which is all that tells of a deleted one.
    digests: HashMap<String, KeyDigest>,
}

// === impl Users ===

impl Users {
    /// Finds where a token is stored.
    pub(super) async fn known_token(&self, digest: KeyDigest) -> Result<Option<KnownToken>, Error> {
        let index = &self.0.0.sign_ins.index;
        if let Some(known) = index.lock().find(&digest) {
            return Ok(Some(known));
        }
        let head = self.0.store().head().await?;
        if index.lock().seq != head {
            self.renew_index(head).await?;
        }
        Ok(index.lock().find(&digest))
    }

    async fn renew_index(&self, head: u64) -> Result<(), Error> {
        let index = &self.0.0.sign_ins.index;
        let _renewing = index.renewing.lock().await;
        let seq = index.lock().seq;
        // The head goes down when the database is restored.
        if seq == 0 || head < seq || head - seq > CATCH_UP {
            let tokens = self.read_tokens(head).await?;
            *index.lock() = tokens;
            return Ok(());
        }
        self.catch_up(head).await
    }

    async fn read_tokens(&self, head: u64) -> Result<Tokens, Error> {
        let realm = RealmName::default();
        let mut tokens = Tokens { seq: head, ..Tokens::default() };
        for Stored { value: user, .. } in self.0.all::<User>(&realm, "").await? {
            tokens.names.insert(user.id, user.name);
        }
        for Stored { value: token, .. } in self.0.all::<UserToken>(&realm, "").await? {
            tokens.insert(&token);
        }
        Ok(tokens)
    }

    async fn catch_up(&self, head: u64) -> Result<(), Error> {
        let index = &self.0.0.sign_ins.index;
        loop {
            let seq = index.lock().seq;
            if seq >= head {
                return Ok(());
            }
            let entries = self.0.store().changes_after(seq, BATCH).await?;
            if entries.is_empty() {
                return Ok(());
            }
            let mut tokens = index.lock();
            for entry in &entries {
                tokens.apply(entry);
            }
        }
    }
}

// === impl TokenIndex ===

impl TokenIndex {
    /// No code panics while it holds the lock, so what a poisoned one guards is whole.
    fn lock(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Tokens ===

impl Tokens {
    fn find(&self, digest: &KeyDigest) -> Option<KnownToken> {
        let (id, user) = self.by_digest.get(digest)?;
        Some(KnownToken { id: *id, user: self.names.get(user)?.clone() })
    }

    fn insert(&mut self, token: &UserToken) {
        if let Ok(digest) = KeyDigest::from_hex(&token.digest) {
            self.by_digest.insert(digest, (token.id, token.user));
            self.digests.insert(token.key(), digest);
        }
    }

    /// Takes in what an entry wrote. What does not read is left out: its token is refused.
    fn apply(&mut self, entry: &JournalEntry) {
        self.seq = entry.seq;
        if entry.realm != RealmName::default() {
            return;
        }
        for mutation in &entry.mutations {
            match (mutation.kind, &mutation.body) {
                (Kind::User, Some(body)) => {
                    if let Ok(user) = serde_json::from_str::<User>(body) {
                        self.names.insert(user.id, user.name);
                    }
                }
                (Kind::User, None) => self.names.retain(|_, name| name.as_str() != mutation.key),
                (Kind::UserToken, Some(body)) => {
                    if let Ok(token) = serde_json::from_str::<UserToken>(body) {
                        self.insert(&token);
                    }
                }
                (Kind::UserToken, None) => {
                    if let Some(digest) = self.digests.remove(&mutation.key) {
                        self.by_digest.remove(&digest);
                    }
                }
                _ => {}
            }
        }
    }
}
