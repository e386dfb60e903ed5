//! Committing changes.

use std::sync::Arc;

use jiff::Timestamp;
use sqlx::Row;

use tollgate_model::hex::hex;
use tollgate_model::names::RealmName;
use tollgate_model::objects::Kind;

use crate::changes::{Change, Committed, Expect, Mutation, RecordedMutation};
use crate::connections::{Lease, SHORT, Unavailable, bounded};
use crate::hashes::{Hash, HashedEntry, from_hex, hash_text, link};
use crate::objects::end_of;
use crate::refusals::{About, Outcome, Refusal, RefusedAttempt};
use crate::store::{Inner, Store};

/// Why a change was not stored, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// An object is not as expected; nothing was stored.
    #[error("{kind} `{key}` is not as expected: expected {expected}, found {}", found_text(*.found))]
    Conflict {
        /// Kind of the object.
        kind: Kind,
        /// Its key.
        key: String,
        /// What was expected.
        expected: Expect,
        /// Its revision, or `None` when there is no such object.
        found: Option<u64>,
    },
    /// A text holds the character U+0000, which no database column takes; nothing was stored.
    #[error("{field} contains the character U+0000")]
    Nul {
        /// Which text.
        field: &'static str,
    },
    /// The store reads as of an entry ([`Store::as_of`]); nothing was stored.
    #[error("the past cannot be changed")]
    Past,
    /// The database failed; nothing was stored.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The connection was lost during the commit itself: the change is stored whole, or not at all. The
    /// journal tells which, once it can be read: look for the request id.
    #[error("it is not known whether the change was stored")]
    Unknown(#[source] Unavailable),
    /// The end of the journal is not readable; nothing was stored.
    #[error("the end of the journal is damaged")]
    Damaged,
}

/// The last entry of the journal.
struct End {
    seq: i64,
    hash: Hash,
}

/// What is appended to the journal.
struct NewEntry<'a> {
    realm: &'a RealmName,
    at: Timestamp,
    actor: &'a str,
    source: &'a str,
    action: &'a str,
    request_id: &'a str,
    reason: &'a str,
    outcome: Outcome,
    about: Option<&'a About>,
    refusal: Option<&'a Refusal>,
    mutations: Vec<RecordedMutation>,
}

// === impl Store ===

impl Store {
    /// Stores a change: checks its guards and expectations, appends one journal entry, writes its objects.
    ///
    /// Cancel-safe: the work goes on in a task of its own when the future is dropped, and ends as a whole.
    ///
    /// # Errors
    ///
    /// [`CommitError`]; nothing is stored on any but [`CommitError::Unknown`].
    pub async fn commit(&self, change: Change) -> Result<Committed, CommitError> {
        if self.pinned.is_some() {
            return Err(CommitError::Past);
        }
        let inner = Arc::clone(&self.inner);
        let task = tokio::spawn(async move { inner.commit(&change).await });
        // The task only fails when it panics or the runtime ends under it.
        task.await.unwrap_or_else(|_| Err(CommitError::Unknown(sqlx::Error::WorkerCrashed.into())))
    }
}

impl Inner {
    async fn commit(&self, change: &Change) -> Result<Committed, CommitError> {
        refuse_nul(change)?;
        let (lease, seq) =
            bounded(SHORT, self.prepare(async |lease, end| write(lease, change, end).await)).await?;
        self.finish(lease, seq).await
    }

    /// Appends entries that write nothing.
    pub(crate) async fn commit_refused(&self, attempts: &[RefusedAttempt]) -> Result<Committed, CommitError> {
        refuse_nul_in(attempts)?;
        let append_all = async |lease: &mut Lease, mut end: End| {
            for attempt in attempts {
                end = append(lease, NewEntry::from(attempt), end).await?;
            }
            Ok(end)
        };
        let (lease, seq) = bounded(SHORT, self.prepare(append_all)).await?;
        self.finish(lease, seq).await
    }

    /// Does everything but the COMMIT.
    async fn prepare(
        &self,
        write: impl AsyncFnOnce(&mut Lease, End) -> Result<End, CommitError>,
    ) -> Result<(Lease, u64), CommitError> {
        let mut lease = Lease::take(&self.writer).await?;
        lease.execute(self.dialect.begin_write()).await?;
        let head = sqlx::query(self.dialect.lock_head()).fetch_one(lease.connection()).await?;
        let (seq, hash): (i64, String) = (head.try_get(0)?, head.try_get(1)?);
        let end = End { seq, hash: from_hex(&hash).ok_or(CommitError::Damaged)? };

        match write(&mut lease, end).await {
            Ok(end) => {
                sqlx::query("UPDATE head SET seq = $1, hash = $2 WHERE id = 1")
                    .bind(end.seq)
                    .bind(hex(&end.hash))
                    .execute(lease.connection())
                    .await?;
                Ok((lease, end.seq.unsigned_abs()))
            }
            Err(conflict @ CommitError::Conflict { .. }) => {
                // An everyday outcome: keep the connection.
                lease.execute("ROLLBACK").await?;
                lease.release();
                Err(conflict)
            }
            Err(error) => Err(error),
        }
    }

    async fn finish(&self, mut lease: Lease, seq: u64) -> Result<Committed, CommitError> {
        match bounded(SHORT, lease.execute("COMMIT")).await {
            Ok(()) => lease.release(),
            Err(error) if self.dialect.refused_commit(&error) => return Err(Unavailable::from(error).into()),
            Err(error) => return Err(CommitError::Unknown(error.into())),
        }
        self.advance(seq);
        Ok(Committed { seq })
    }
}

impl<'a> From<&'a Change> for NewEntry<'a> {
    fn from(change: &'a Change) -> Self {
        let recorded =
            |it: &Mutation| RecordedMutation { kind: it.kind, key: it.key.clone(), body: it.body.clone() };
        Self {
            realm: &change.realm,
            at: change.at,
            actor: &change.actor,
            source: &change.source,
            action: &change.action,
            request_id: &change.request_id,
            reason: &change.reason,
            outcome: Outcome::Done,
            about: None,
            refusal: None,
            mutations: change.mutations.iter().map(recorded).collect(),
        }
    }
}

impl<'a> From<&'a RefusedAttempt> for NewEntry<'a> {
    fn from(attempt: &'a RefusedAttempt) -> Self {
        Self {
            realm: &attempt.realm,
            at: attempt.at,
            actor: &attempt.actor,
            source: &attempt.source,
            action: &attempt.action,
            request_id: &attempt.request_id,
            reason: &attempt.reason,
            outcome: Outcome::Refused,
            about: attempt.about.as_ref(),
            refusal: Some(&attempt.refusal),
            mutations: Vec::new(),
        }
    }
}

impl From<sqlx::Error> for CommitError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

async fn write(lease: &mut Lease, change: &Change, end: End) -> Result<End, CommitError> {
    for guard in &change.guards {
        let realm = guard.realm.as_ref().unwrap_or(&change.realm);
        demand(lease, realm, guard.kind, &guard.key, guard.expect).await?;
    }
    let end = append(lease, NewEntry::from(change), end).await?;
    for mutation in &change.mutations {
        demand(lease, &change.realm, mutation.kind, &mutation.key, mutation.expect).await?;
        write_object(lease, &change.realm, mutation, end.seq).await?;
    }
    Ok(end)
}

async fn demand(
    lease: &mut Lease,
    realm: &RealmName,
    kind: Kind,
    key: &str,
    expected: Expect,
) -> Result<(), CommitError> {
    if expected == Expect::Any {
        return Ok(());
    }
    let newest = match expected {
        Expect::NothingSince(_) => Some(
            "SELECT max(revision) FROM objects WHERE realm = $1 AND kind = $2 AND key >= $3 AND key < $4",
        ),
        Expect::UntouchedSince(_) => Some(
            "SELECT max(seq) FROM journal_objects WHERE realm = $1 AND kind = $2 AND key >= $3 AND key < $4",
        ),
        _ => None,
    };
    let revision: Option<i64> = if let Some(newest) = newest {
        sqlx::query_scalar(newest)
            .bind(realm.as_str())
            .bind(kind.as_str())
            .bind(key)
            .bind(end_of(key))
            .fetch_one(lease.connection())
            .await?
    } else {
        sqlx::query_scalar("SELECT revision FROM objects WHERE realm = $1 AND kind = $2 AND key = $3")
            .bind(realm.as_str())
            .bind(kind.as_str())
            .bind(key)
            .fetch_optional(lease.connection())
            .await?
    };
    let found = revision.map(i64::unsigned_abs);
    if expected.holds(found) {
        Ok(())
    } else {
        Err(CommitError::Conflict { kind, key: key.to_owned(), expected, found })
    }
}

/// Appends a journal entry; returns the end that it makes.
async fn append(lease: &mut Lease, entry: NewEntry<'_>, end: End) -> Result<End, CommitError> {
    let seq = end.seq.checked_add(1).ok_or(CommitError::Damaged)?;
    let NewEntry { realm, at, actor, source, action, request_id, reason, .. } = entry;
    let encode = |error: serde_json::Error| sqlx::Error::Encode(error.into());
    let mutations = serde_json::to_string(&entry.mutations).map_err(encode)?;
    let detail = entry.refusal.map(serde_json::to_string).transpose().map_err(encode)?.unwrap_or_default();
    let (about_kind, about_key) =
        entry.about.map_or(("", ""), |about| (about.kind.as_str(), about.key.as_str()));
    let (at, outcome) = (at.to_string(), entry.outcome.as_str());
    let hashed = HashedEntry {
        realm: realm.as_str(),
        at: &at,
        actor,
        source,
        action,
        request_id,
        reason,
        outcome,
        about_kind,
        about_key,
        detail: &detail,
        mutations_hash: hash_text(&mutations),
    };
    let hash = link(&end.hash, seq.unsigned_abs(), &hashed.content());
    let insert = sqlx::query(
        "INSERT INTO journal (seq, realm, at, actor, source, action, request_id, reason, outcome, about_kind, \
         about_key, detail, mutations, format, previous_hash, hash) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 2, $14, $15)",
    );
    let texts = [
        realm.as_str(),
        &at,
        actor,
        source,
        action,
        request_id,
        reason,
        outcome,
        about_kind,
        about_key,
        &detail,
        &mutations,
    ];
    texts
        .into_iter()
        .fold(insert.bind(seq), |query, text| query.bind(text))
        .bind(hex(&end.hash))
        .bind(hex(&hash))
        .execute(lease.connection())
        .await?;
    Ok(End { seq, hash })
}

async fn write_object(
    lease: &mut Lease,
    realm: &RealmName,
    mutation: &Mutation,
    seq: i64,
) -> Result<(), CommitError> {
    let query = match &mutation.body {
        Some(body) => sqlx::query(
            "INSERT INTO objects (realm, kind, key, revision, body) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (realm, kind, key) DO UPDATE SET revision = excluded.revision, body = excluded.body",
        )
        .bind(realm.as_str())
        .bind(mutation.kind.as_str())
        .bind(mutation.key.as_str())
        .bind(seq)
        .bind(body.as_str()),
        None => sqlx::query("DELETE FROM objects WHERE realm = $1 AND kind = $2 AND key = $3")
            .bind(realm.as_str())
            .bind(mutation.kind.as_str())
            .bind(mutation.key.as_str()),
    };
    query.execute(lease.connection()).await?;
    sqlx::query(
        "INSERT INTO journal_objects (realm, kind, key, seq) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(realm.as_str())
    .bind(mutation.kind.as_str())
    .bind(mutation.key.as_str())
    .bind(seq)
    .execute(lease.connection())
    .await?;
    Ok(())
}

/// Refuses attempts that hold the character U+0000, which no database column takes.
fn refuse_nul_in(attempts: &[RefusedAttempt]) -> Result<(), CommitError> {
    let texts = attempts.iter().flat_map(|it| {
        let about = it.about.as_ref().map_or("", |about| &about.key);
        [
            ("the actor", it.actor.as_str()),
            ("the source", &it.source),
            ("the action", &it.action),
            ("the request id", &it.request_id),
            ("the reason", &it.reason),
            ("a key", about),
        ]
    });
    // What is in the detail is escaped there: it is JSON.
    demand_no_nul(texts)
}

fn refuse_nul(change: &Change) -> Result<(), CommitError> {
    let texts = [
        ("the actor", change.actor.as_str()),
        ("the source", &change.source),
        ("the action", &change.action),
        ("the request id", &change.request_id),
        ("the reason", &change.reason),
    ];
    let keys = change.mutations.iter().map(|it| ("a key", it.key.as_str()));
    let bodies = change.mutations.iter().map(|it| ("an object", it.body.as_deref().unwrap_or_default()));
    let guards = change.guards.iter().map(|it| ("a key", it.key.as_str()));
    demand_no_nul(texts.into_iter().chain(keys).chain(bodies).chain(guards))
}

fn demand_no_nul<'a>(mut texts: impl Iterator<Item = (&'static str, &'a str)>) -> Result<(), CommitError> {
    match texts.find(|(_, text)| text.contains('\0')) {
        Some((field, _)) => Err(CommitError::Nul { field }),
        None => Ok(()),
    }
}

fn found_text(found: Option<u64>) -> String {
    found.map_or_else(|| "none".to_owned(), |revision| format!("revision {revision}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(reason: &str) -> Change {
        Change {
            realm: RealmName::parse("default").unwrap(),
            actor: "ada".into(),
            source: "cli".into(),
            action: "test".into(),
            request_id: "req_1".into(),
            reason: reason.into(),
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            guards: Vec::new(),
            mutations: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_and_later_changes_work() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/full.db", directory.path().display());
        let store = Store::open(&url).await.unwrap();
        store.commit(change("")).await.unwrap();
        let mut lease = Lease::take(&store.inner.writer).await.unwrap();
        // The file may not grow any more; holds for this connection.
        lease.execute("PRAGMA max_page_count = 1").await.unwrap();
        lease.release();

        let large = change(&"x".repeat(1_000_000));
        let error = anyhow::Error::from(store.commit(large.clone()).await.unwrap_err());
        assert!(format!("{error:#}").contains("full"), "{error:#}");
        assert_eq!(store.head().await.unwrap(), 1);
        assert_eq!(store.commit(large).await.unwrap().seq, 2);
        assert_eq!(store.verify_journal().await.unwrap().entries, 2);
    }
}
