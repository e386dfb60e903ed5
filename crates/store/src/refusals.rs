//! Refused attempts, as the journal keeps them: entries that write nothing.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use tollgate_model::names::RealmName;
use tollgate_model::objects::Kind;

use crate::changes::Committed;
use crate::commits::CommitError;
use crate::store::Store;

/// What became of what somebody wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused, and nothing was changed.
    Refused,
}

/// The object that an attempt was aimed at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct About {
    /// Its kind.
    pub kind: Kind,
    /// Its key, or what is known of it; may be empty.
    pub key: String,
}

/// An attempt that was refused, or several of the same that are told as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedAttempt {
    /// In which realm.
    pub realm: RealmName,
    /// Who: a user's name, or `nobody` where it is not known.
    pub actor: String,
    /// From where.
    pub source: String,
    /// What, as `noun.verb`; the action that the journal names when it is done.
    pub action: String,
    /// The request; of several the first.
    pub request_id: String,
    /// Why it was refused, in words; may be empty.
    pub reason: String,
    /// When it is recorded.
    pub at: Timestamp,
    /// What it was aimed at, where that is known and the same for all.
    pub about: Option<About>,
    /// What the refusal was.
    pub refusal: Refusal,
}

/// What a refusal was; the detail of its entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// Code of the problem that was answered.
    pub code: String,
    /// How it was asked for: method and path of the operation, without what stands in for names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// In which environment, where that is known and the same for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// How many attempts this entry stands for.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u64,
    /// When the first of them was, when the entry was written later than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_at: Option<Timestamp>,
    /// When the last of them was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// From how many sources they came, when these are not told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<u64>,
    /// Whether there were more sources than could be counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_sources: bool,
}

fn one() -> u64 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_one(count: &u64) -> bool {
    *count == 1
}

// === impl Outcome ===

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 2] = [Self::Done, Self::Refused];

    /// Returns the word for it in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }

    /// Returns the outcome that a word stands for.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }
}

// === impl Refusal ===

impl Refusal {
    /// Makes the refusal of one attempt.
    pub fn new(code: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            operation: String::new(),
            environment: None,
            count: 1,
            first_at: None,
            last_at: None,
            sources: None,
            more_sources: false,
        }
    }
}

// === impl Store ===

impl Store {
    /// Appends entries for refused attempts to the journal, all of them or none, and writes nothing else.
    ///
    /// Cancel-safe as [`Store::commit`] is. Returns the last entry; `None` when there were no attempts.
    ///
    /// # Errors
    ///
    /// [`CommitError`]; nothing is stored on any but [`CommitError::Unknown`].
    pub async fn journal_refused(
        &self,
        attempts: Vec<RefusedAttempt>,
    ) -> Result<Option<Committed>, CommitError> {
        if attempts.is_empty() {
            return Ok(None);
        }
        if self.pinned.is_some() {
            return Err(CommitError::Past);
        }
        let inner = Arc::clone(&self.inner);
        let task = tokio::spawn(async move { inner.commit_refused(&attempts).await });
        // The task only fails when it panics or the runtime ends under it.
        let committed =
            task.await.unwrap_or_else(|_| Err(CommitError::Unknown(sqlx::Error::WorkerCrashed.into())))?;
        Ok(Some(committed))
    }
}
