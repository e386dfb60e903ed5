//! The journal: reading it, and proving that nobody rewrote it.
//!
//! An entry's hash is SHA-256 over, in this order: the bytes `tollgate-journal-1`; the previous entry's hash
//! (32 bytes; zeros before the first entry); the number (8 bytes, big-endian); then realm, time, actor,
//! source, action, request id, reason and mutations, each as its length in bytes (8 bytes, big-endian) and
//! its UTF-8. The time is RFC 3339 in UTC and the mutations are JSON, both exactly as stored. Lengths come
//! first, so no two entries have the same encoding.
//!
//! Whoever can write the database can also compute a new chain. The hash of the last entry, noted elsewhere
//! ([`JournalReport::head_hash`]), is what such a chain cannot match.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{Context, SHA256};
use jiff::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;

use tollgate_model::names::RealmName;
use tollgate_model::objects::Kind;

use crate::changes::JournalEntry;
use crate::connections::{LONG, Lease, Unavailable, bounded};
use crate::objects::{ReadError, RowError, read_object, text};
use crate::store::Store;

/// Which entries of a realm's journal to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalFilter {
    /// Only entries that wrote an object of this kind.
    pub kind: Option<Kind>,
    /// Only entries that wrote an object of this key; needs `kind`.
    pub key: Option<String>,
    /// Only entries with a higher number.
    pub after: Option<u64>,
    /// Only entries with a lower number.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: u32,
    /// The highest number first.
    pub newest_first: bool,
}

/// What was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalReport {
    /// How many entries there are.
    pub entries: u64,
    /// Hash of the last one; zeros when there is none.
    pub head_hash: [u8; 32],
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

/// Columns of the journal, as [`read_entry`] takes them.
macro_rules! select_entries {
    ($rest:literal) => {
        concat!(
            "SELECT seq, realm, at, actor, source, action, request_id, reason, mutations, previous_hash, hash ",
            "FROM journal ",
            $rest
        )
    };
}

macro_rules! select_filtered {
    ($order:literal) => {
        concat!(
            select_entries!("WHERE realm = $1 AND seq > $2 AND seq < $3 "),
            "AND ($4 = '' OR EXISTS (SELECT 1 FROM journal_objects o WHERE o.realm = journal.realm ",
            "AND o.kind = $4 AND ($5 = '' OR o.key = $5) AND o.seq = journal.seq)) ORDER BY seq ",
            $order,
            " LIMIT $6"
        )
    };
}

/// How many rows are read at a time while verifying.
const BATCH: i64 = 500;

// === impl Store ===

impl Store {
    /// Returns the entries of all realms after a number, in order: the change feed.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or an entry does not parse.
    pub async fn changes_after(&self, seq: u64, limit: u32) -> Result<Vec<JournalEntry>, ReadError> {
        let query = sqlx::query(select_entries!("WHERE seq > $1 ORDER BY seq LIMIT $2"))
            .bind(number(seq))
            .bind(i64::from(limit));
        let rows = self.inner.fetch(query).await?;
        let entries: Vec<_> =
            rows.iter().map(|row| Ok(read_entry(row)?.0)).collect::<Result<_, ReadError>>()?;
        if let Some(last) = entries.last() {
            self.inner.advance(last.seq);
        }
        Ok(entries)
    }

    /// Returns entries of one realm.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or an entry does not parse.
    pub async fn journal(
        &self,
        realm: &RealmName,
        filter: &JournalFilter,
    ) -> Result<Vec<JournalEntry>, ReadError> {
        let key = filter.key.as_deref().unwrap_or_default();
        if key.contains('\0') {
            return Ok(Vec::new());
        }
        let sql = if filter.newest_first { select_filtered!("DESC") } else { select_filtered!("ASC") };
        let query = sqlx::query(sql)
            .bind(realm.as_str())
            .bind(number(filter.after.unwrap_or(0)))
            .bind(number(filter.before.unwrap_or(u64::MAX)))
            .bind(filter.kind.map_or("", Kind::as_str))
            .bind(key)
            .bind(i64::from(filter.limit));
        self.inner.fetch(query).await?.iter().map(|row| Ok(read_entry(row)?.0)).collect()
    }

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
        let head =
            sqlx::query("SELECT seq, hash FROM head WHERE id = 1").fetch_one(lease.connection()).await?;
        let (seq, hash): (i64, String) = (head.try_get(0)?, head.try_get(1)?);
        if seq.unsigned_abs() != chain.seq || from_hex(&hash) != Some(chain.hash) {
            return Err(broken(chain.seq, "it is not the last one: entries after it are missing"));
        }
        let objects = sqlx::query("SELECT realm, kind, key, revision, body FROM objects")
            .fetch_all(lease.connection())
            .await?;
        lease.execute("COMMIT").await?;
        lease.release();
        chain.compare(&objects)
    }
}

impl From<sqlx::Error> for VerifyJournalError {
    fn from(error: sqlx::Error) -> Self {
        Self::Read(Unavailable::from(error).into())
    }
}

/// The chain so far, and the objects that its entries add up to.
#[derive(Default)]
struct Chain {
    seq: u64,
    hash: [u8; 32],
    objects: BTreeMap<(RealmName, Kind, String), (u64, String)>,
    /// What the entries wrote since the last [`Chain::compare_listed`]: number, realm, kind and key.
    written: BTreeSet<(u64, String, String, String)>,
}

impl Chain {
    fn append(&mut self, row: &AnyRow) -> Result<(), VerifyJournalError> {
        let expected = self.seq + 1;
        let (entry, mutations) = match read_entry(row) {
            Ok(read) => read,
            Err(ReadError::Row(error)) => return Err(broken(expected, &error.to_string())),
            Err(error) => return Err(error.into()),
        };
        if entry.seq != expected {
            return Err(broken(expected, "it is missing"));
        }
        if entry.previous_hash != self.hash {
            return Err(broken(entry.seq, "it does not continue the entry before it"));
        }
        if entry.hash != hash_of(&entry, &mutations) {
            return Err(broken(entry.seq, "it was changed after it was written"));
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
            match self.objects.remove(&(object.realm, object.kind, object.key)) {
                None => {
                    return Err(broken(object.revision, &format!("it did not write {name}, which is there")));
                }
                Some((seq, body)) if seq != object.revision || body != object.body => {
                    return Err(broken(seq, &format!("{name} is not what it wrote")));
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

/// Returns the hash of an entry whose other fields are set; the module says over what.
pub(crate) fn hash_of(entry: &JournalEntry, mutations: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(b"tollgate-journal-1");
    context.update(&entry.previous_hash);
    context.update(&entry.seq.to_be_bytes());
    let at = entry.at.to_string();
    for field in [
        entry.realm.as_str(),
        &at,
        &entry.actor,
        &entry.source,
        &entry.action,
        &entry.request_id,
        &entry.reason,
        mutations,
    ] {
        context.update(&(field.len() as u64).to_be_bytes());
        context.update(field.as_bytes());
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Reads a row of [`select_entries`]; also returns the mutations as stored.
fn read_entry(row: &AnyRow) -> Result<(JournalEntry, String), ReadError> {
    let seq: i64 = row.try_get(0).map_err(Unavailable::from)?;
    let error = |column, source: Box<dyn std::error::Error + Send + Sync>| RowError {
        table: "journal",
        row: seq.to_string(),
        column,
        source,
    };
    let hash = |index, column| -> Result<[u8; 32], ReadError> {
        Ok(from_hex(&text(row, index)?).ok_or_else(|| error(column, "not 64 hexadecimal digits".into()))?)
    };
    let at = text(row, 2)?;
    let time: Timestamp = at.parse().map_err(|source: jiff::Error| error("at", source.into()))?;
    if time.to_string() != at {
        // Another spelling of the same time would not show in the hash.
        return Err(error("at", "not in the form that was written".into()).into());
    }
    let mutations = text(row, 8)?;
    let entry = JournalEntry {
        seq: u64::try_from(seq).map_err(|source| error("seq", source.into()))?,
        realm: RealmName::parse(&text(row, 1)?).map_err(|source| error("realm", source.into()))?,
        at: time,
        actor: text(row, 3)?,
        source: text(row, 4)?,
        action: text(row, 5)?,
        request_id: text(row, 6)?,
        reason: text(row, 7)?,
        mutations: serde_json::from_str(&mutations).map_err(|source| error("mutations", source.into()))?,
        previous_hash: hash(9, "previous_hash")?,
        hash: hash(10, "hash")?,
    };
    Ok((entry, mutations))
}

/// Returns a number as the databases take it; none is higher than theirs.
fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |c: u8| char::from(c).to_digit(16).filter(|_| !c.is_ascii_uppercase());
        *byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
    }
    Some(bytes)
}
