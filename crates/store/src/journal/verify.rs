//! Proving that nobody rewrote the journal: its chain of hashes, what stands beside it, and that the current objects are
//! what it adds up to.
//!
//! Whoever can write the database can also compute a new chain, or take entries off its end with all that they wrote. The
//! hash of an entry, noted elsewhere ([`JournalReport::head_hash`], [`Store::hash_at`]), is what such a chain cannot
//! match.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;
use sqlx::any::AnyRow;

use tollgate_model::names::RealmName;
use tollgate_model::objects::Kind;

use super::{JournalRow, number, read, select_entries};
use crate::changes::JournalEntry;
use crate::connections::{LONG, Lease, Unavailable, bounded};
use crate::hashes::{Hash, from_hex, link, link_format_1};
use crate::lookups::{handle_of, owner_of};
use crate::objects::{ReadError, read_object};
use crate::past::sortable;
use crate::refusals::Outcome;
use crate::store::Store;

/// How many rows are read at a time while verifying.
const BATCH: i64 = 500;

/// What was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalReport {
    /// How many entries there are.
    pub entries: u64,
    /// Hash of the last one; zeros when there is none.
    pub head_hash: Hash,
}

/// Why the journal could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyJournalError {
    /// It was tampered with or damaged.
    #[error("journal entry {seq}: {what}")]
    Broken {
        /// The first entry that is wrong.
        seq: u64,
        /// What is wrong with it.
        what: String,
    },
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The chain so far, and the objects that its entries add up to.
#[derive(Default)]
struct Chain {
    seq: u64,
    hash: Hash,
    objects: BTreeMap<(RealmName, Kind, String), (u64, String)>,
    /// What the entries wrote since the last [`Chain::compare_listed`]: number, realm, kind and key.
    written: BTreeSet<(u64, String, String, String)>,
}

// === impl Store ===

impl Store {
    /// Recomputes the whole chain, and checks that replaying it gives the current objects, and that the entries of an
    /// object can be found: that nobody hid one from [`Store::journal`] with a filter.
    ///
    /// # Errors
    ///
    /// [`VerifyJournalError::Broken`] with the first entry that is wrong.
    pub async fn verify_journal(&self) -> Result<JournalReport, VerifyJournalError> {
        bounded(LONG, self.verify()).await
    }

    async fn verify(&self) -> Result<JournalReport, VerifyJournalError> {
        let mut lease = Lease::take(&self.inner.reader).await?;
        lease.execute(self.inner.dialect.begin_read()).await?;
        let mut chain = Chain::default();
        loop {
            let rows = sqlx::query(select_entries!("WHERE seq > $1 ORDER BY seq LIMIT $2"))
                .bind(number(chain.seq))
                .bind(BATCH)
                .fetch_all(lease.connection())
                .await?;
            if rows.is_empty() {
                break;
            }
            let before = chain.seq;
            for row in &rows {
                chain.append(row)?;
            }
            let listed =
                sqlx::query("SELECT seq, realm, kind, key FROM journal_objects WHERE seq > $1 AND seq <= $2")
                    .bind(number(before))
                    .bind(number(chain.seq))
                    .fetch_all(lease.connection())
                    .await?;
            chain.compare_listed(&listed)?;
        }
        self.demand_nothing_outside(&mut lease, &chain).await?;
        let head =
            sqlx::query("SELECT seq, hash FROM head WHERE id = 1").fetch_optional(lease.connection()).await?;
        chain.compare_head(head.as_ref())?;
        let objects = sqlx::query("SELECT realm, kind, key, revision, body, owner, handle FROM objects")
            .fetch_all(lease.connection())
            .await?;
        lease.execute("COMMIT").await?;
        lease.release();
        chain.compare(&objects)
    }

    /// Makes sure that nothing stands before the first entry or after the last one, where the chain does not look.
    async fn demand_nothing_outside(
        &self,
        lease: &mut Lease,
        chain: &Chain,
    ) -> Result<(), VerifyJournalError> {
        let before: Option<i64> = sqlx::query_scalar("SELECT min(seq) FROM journal WHERE seq < 1")
            .fetch_one(lease.connection())
            .await?;
        if let Some(seq) = before {
            return Err(broken(1, &format!("there is an entry before it, with the number {seq}")));
        }
        let listed: Option<i64> =
            sqlx::query_scalar("SELECT min(seq) FROM journal_objects WHERE seq < 1 OR seq > $1")
                .bind(number(chain.seq))
                .fetch_one(lease.connection())
                .await?;
        match listed {
            Some(seq) => {
                let seq = u64::try_from(seq).unwrap_or_default();
                Err(broken(seq, "it is listed for an object, and there is no such entry"))
            }
            None => Ok(()),
        }
    }
}

impl From<sqlx::Error> for VerifyJournalError {
    fn from(error: sqlx::Error) -> Self {
        Self::Read(Unavailable::from(error).into())
    }
}

// === impl Chain ===

impl Chain {
    fn append(&mut self, row: &AnyRow) -> Result<(), VerifyJournalError> {
        let expected = self.seq + 1;
        let JournalRow { entry, mutations, sorted } = match read(row) {
            Ok(read) => read,
            Err(ReadError::Row(error)) => return Err(broken(expected, &error.to_string())),
            Err(ReadError::Unavailable(error)) if error.is_of_a_value() => {
                return Err(broken(expected, "a column of it holds no text or no number"));
            }
            Err(error) => return Err(error.into()),
        };
        if entry.seq != expected {
            return Err(broken(expected, "it is missing"));
        }
        if entry.previous_hash != self.hash {
            return Err(broken(entry.seq, "it does not continue the entry before it"));
        }
        if Some(entry.hash) != hash_of(&entry, &mutations) {
            return Err(broken(entry.seq, "it was changed after it was written"));
        }
        if sorted != sortable(entry.at) {
            return Err(broken(entry.seq, "it is found at another time than its own"));
        }
        for mutation in entry.mutations {
            let (realm, kind) = (entry.realm.to_string(), mutation.kind.to_string());
            self.written.insert((entry.seq, realm, kind, mutation.key.clone()));
            let object = (entry.realm.clone(), mutation.kind, mutation.key);
            match mutation.body {
                Some(body) => self.objects.insert(object, (entry.seq, body)),
                None => self.objects.remove(&object),
            };
        }
        (self.seq, self.hash) = (entry.seq, entry.hash);
        Ok(())
    }

    /// Compares the end of the journal with where it is said to be.
    fn compare_head(&self, row: Option<&AnyRow>) -> Result<(), VerifyJournalError> {
        let Some(row) = row else { return Err(broken(self.seq, "that it is the last one is noted nowhere")) };
        let (seq, hash): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        match u64::try_from(seq) {
            Ok(seq) if seq > self.seq => Err(broken(self.seq + 1, "it is missing, and all after it")),
            Ok(seq) if seq < self.seq => {
                Err(broken(seq + 1, "it stands after what is noted as the last one"))
            }
            Ok(_) if from_hex(&hash) == Some(self.hash) => Ok(()),
            _ => Err(broken(self.seq, "it is not the one that is noted as the last one")),
        }
    }

    /// Compares the list of what entries wrote with what they say.
    fn compare_listed(&mut self, rows: &[AnyRow]) -> Result<(), VerifyJournalError> {
        let mut listed = BTreeSet::new();
        for row in rows {
            let (seq, realm, kind, key): (i64, String, String, String) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            listed.insert((seq.unsigned_abs(), realm, kind, key));
        }
        let written = std::mem::take(&mut self.written);
        match written.symmetric_difference(&listed).next() {
            None => Ok(()),
            Some(wrong @ (seq, realm, kind, key)) => {
                let object = format!("{kind} `{key}` of realm `{realm}`");
                let what = if listed.contains(wrong) {
                    format!("it is listed for {object}, which it did not write")
                } else {
                    format!("it wrote {object} and is not listed for it")
                };
                Err(broken(*seq, &what))
            }
        }
    }

    fn compare(mut self, rows: &[AnyRow]) -> Result<JournalReport, VerifyJournalError> {
        let mut unreadable = None;
        for row in rows {
            let object = match read_object(row) {
                Ok(object) => object,
                Err(ReadError::Row(error)) => {
                    // What an entry wrote and this row was is missed below.
                    unreadable.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let name = format!("{} `{}` of realm `{}`", object.kind, object.key, object.realm);
            let found_by: (Option<String>, Option<String>) = (row.try_get(5)?, row.try_get(6)?);
            let finds_it = found_by == (owner_of(&object), handle_of(&object));
            match self.objects.remove(&(object.realm, object.kind, object.key)) {
                None => {
                    return Err(broken(object.revision, &format!("it did not write {name}, which is there")));
                }
                Some((seq, body)) if seq != object.revision || body != object.body => {
                    return Err(broken(seq, &format!("{name} is not what it wrote")));
                }
                Some((seq, _)) if !finds_it => {
                    return Err(broken(seq, &format!("{name} is found as that of another")));
                }
                Some(_) => {}
            }
        }
        let gone = self.objects.iter().min_by_key(|(_, (seq, _))| *seq);
        match (gone, unreadable) {
            (Some(((realm, kind, key), (seq, _))), _) => {
                Err(broken(*seq, &format!("{kind} `{key}` of realm `{realm}`, which it wrote, is gone")))
            }
            (None, Some(error)) => Err(broken(self.seq, &format!("no entry up to it wrote this: {error}"))),
            (None, None) => Ok(JournalReport { entries: self.seq, head_hash: self.hash }),
        }
    }
}

fn broken(seq: u64, what: &str) -> VerifyJournalError {
    VerifyJournalError::Broken { seq, what: what.to_owned() }
}

/// Computes the hash of an entry anew; `None` when no entry of its format says what it says.
fn hash_of(entry: &JournalEntry, mutations: &str) -> Option<Hash> {
    match entry.format {
        1 => {
            let written_then =
                entry.outcome == Outcome::Done && entry.about.is_none() && entry.detail.is_empty();
            let at = entry.at.to_string();
            let texts = [
                entry.realm.as_str(),
                &at,
                &entry.actor,
                &entry.source,
                &entry.action,
                &entry.request_id,
                &entry.reason,
                mutations,
            ];
            written_then.then(|| link_format_1(&entry.previous_hash, entry.seq, texts))
        }
        2 => Some(link(&entry.previous_hash, entry.seq, &entry.content_hash())),
        _ => None,
    }
}
