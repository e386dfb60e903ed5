//! Answers kept so that a repeated request is not done twice.
//!
//! An answer may show a new secret, so it is sealed under the master key.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tollgate_snapshot::contexts;
use tollgate_store::RecordTable;

use crate::App;
use crate::access::Op;
use crate::errors::{Error, ErrorKind};

/// How long an answer is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

/// The answers kept for repeated requests.
pub struct Answers(pub(crate) App);

/// A request with an idempotency key.
#[derive(Debug, Clone)]
pub struct RepeatableRequest {
    /// The key that the caller chose; unique per actor.
    pub key: String,
    /// A digest of method, path and body.
    pub digest: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    digest: String,
    expires_at: Timestamp,
    /// Sealed; `None` while the first request runs.
    answer: Option<String>,
}

// === impl Answers ===

impl Answers {
    /// Begins a request: returns the answer of an earlier one, or `None` when this one is to be done.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] with code `idempotency-key-reused` when the key came with another request before;
    /// [`ErrorKind::Conflict`] while the earlier request still runs.
    pub async fn begin(&self, op: &Op, request: &RepeatableRequest) -> Result<Option<String>, Error> {
        let key = record_key(op, request);
        let store = self.0.store();
        store.delete_expired_records(op.now).await.map_err(Error::unavailable)?;
        let expires_at = op.now.checked_add(KEPT).map_err(Error::internal)?;
        let kept = Kept { digest: request.digest.clone(), expires_at, answer: None };
        let body = serde_json::to_string(&kept).map_err(Error::internal)?;
        let table = RecordTable::Idempotency;
        let first = store
            .insert_record_if_absent(table, &op.realm, &key, &body, Some(expires_at))
            .await
            .map_err(Error::unavailable)?;
        if first {
            return Ok(None);
        }
        let found = store.get_record(table, &op.realm, &key).await.map_err(Error::unavailable)?;
        let running = || {
            Error::conflict(
                "idempotency-key-in-use",
                "a request with this idempotency key is still being answered",
            )
            .hint("repeat it in a moment")
        };
        let kept: Kept = serde_json::from_str(&found.ok_or_else(running)?).map_err(Error::internal)?;
        if kept.digest != request.digest {
            let message = "this idempotency key came with another request before";
            return Err(Error::new(ErrorKind::Invalid, "idempotency-key-reused", message)
                .hint("choose a new key for a new request"));
        }
        let sealed = kept.answer.ok_or_else(running)?;
        let plain = self.0.0.master.open(&place(op, request), &sealed).map_err(Error::internal)?;
        String::from_utf8(plain.to_vec()).map(Some).map_err(Error::internal)
    }

    /// Keeps the answer of a request, sealed: it may show a secret. `None` gives the key free, after a failure.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`].
    pub async fn finish(
        &self,
        op: &Op,
        request: &RepeatableRequest,
        answer: Option<&str>,
    ) -> Result<(), Error> {
        let key = record_key(op, request);
        let expires_at = match answer {
            Some(_) => op.now.checked_add(KEPT).map_err(Error::internal)?,
            // Free at once, whatever the clock of the next request shows.
            None => Timestamp::UNIX_EPOCH,
        };
        let sealed = answer
            .map(|answer| self.0.0.master.seal(&place(op, request), answer.as_bytes(), self.0.random()))
            .transpose()?;
        let kept = Kept { digest: request.digest.clone(), expires_at, answer: sealed };
        let body = serde_json::to_string(&kept).map_err(Error::internal)?;
        let table = RecordTable::Idempotency;
        self.0
            .store()
            .put_record(table, &op.realm, &key, &body, Some(expires_at))
            .await
            .map_err(Error::unavailable)
    }
}

/// Returns the place to which an answer is sealed.
fn place(op: &Op, request: &RepeatableRequest) -> String {
    contexts::kept_answer(&op.realm, &owner(op), &request.key)
}

fn record_key(op: &Op, request: &RepeatableRequest) -> String {
    format!("{}/{}", owner(op), request.key)
}

/// Returns whose an answer is: a user's id, because the next user of their name must not get it.
fn owner(op: &Op) -> String {
    op.actor.user.map_or_else(|| op.actor.name.clone(), |user| user.to_string())
}
