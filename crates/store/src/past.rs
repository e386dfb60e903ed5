//! Reading the state of the past: what the objects were when an entry of the journal was the last one.
//!
//! The journal holds every object as it was written, and `journal_objects` which entries wrote it: the newest entry up to
//! a number says what an object was then. [`Store::as_of`] gives a store that reads so throughout, so that whatever is
//! asked of the present can be asked of the past.

use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use sqlx::Row;

use tollgate_model::names::RealmName;
use tollgate_model::objects::{Kind, Object, StoredObject};

use crate::changes::RecordedMutation;
use crate::connections::Unavailable;
use crate::journal::number;
use crate::objects::{Page, ReadError, RowError, Stored, end_of, parse, text};
use crate::store::{Query, Store};

/// How many rows are asked for at once by their keys or numbers.
const MANY: usize = 100;

/// How far the times of entries may be out of order: a request that came earlier may commit later, and the clocks of
/// several processes differ. An entry whose time is further off had a clock that was wrong.
const OUT_OF_ORDER: SignedDuration = SignedDuration::from_hours(1);

/// Which entry wrote each of some keys last.
static NEWEST_OF_MANY: LazyLock<&'static str> = LazyLock::new(|| {
    many(|index| {
        format!(
            "SELECT key, max(seq) FROM journal_objects \
             WHERE realm = $1 AND kind = $2 AND seq <= $3 AND key = ${} GROUP BY key",
            index + 4
        )
    })
});

/// What some entries wrote.
static ENTRIES_OF_MANY: LazyLock<&'static str> =
    LazyLock::new(|| many(|index| format!("SELECT seq, mutations FROM journal WHERE seq = ${}", index + 1)));

fn many(one: impl Fn(usize) -> String) -> &'static str {
    (0..MANY).map(one).collect::<Vec<_>>().join(" UNION ALL ").leak()
}

/// A key, and the number of the entry that wrote it last.
type Written = (String, u64);

// === impl Store ===

impl Store {
    /// Returns a store that reads as of an entry: objects are what they were when it was the last one, the journal ends
    /// with it, and nothing can be written.
    ///
    /// Side records and counted calls have no history: they are read as they are.
    #[must_use]
    pub fn as_of(&self, seq: u64) -> Self {
        Self { pinned: Some(self.pinned.map_or(seq, |pinned| pinned.min(seq))), ..self.clone() }
    }

    /// Tells whether it reads as of an entry: what has no history is of another time than the objects.
    #[must_use]
    pub fn is_of_the_past(&self) -> bool {
        self.pinned.is_some()
    }

    /// Returns the number of the last entry at or before a time; 0 when there is none.
    ///
    /// Times of entries are those of their requests, which need not be in the order of the numbers. Every entry up to
    /// the time is included, except those that are more than an hour out of order.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unavailable`] when the database does not answer.
    pub async fn seq_at(&self, at: Timestamp) -> Result<u64, ReadError> {
        let query = sqlx::query(
            "SELECT at, seq FROM journal WHERE at_sorted <= $1 AND seq <= $2 \
             ORDER BY at_sorted DESC, seq DESC LIMIT 1",
        )
        .bind(sortable(at))
        .bind(number(self.end()));
        let rows = self.inner.fetch(query).await?;
        let Some(row) = rows.first() else { return Ok(0) };
        let newest = text(row, 0)?;
        let seq: i64 = row.try_get(1).map_err(Unavailable::from)?;
        let from = newest.parse::<Timestamp>().ok().and_then(|at| at.checked_sub(OUT_OF_ORDER).ok());
        let query = sqlx::query(
            "SELECT coalesce(max(seq), 0) FROM journal WHERE at_sorted >= $1 AND at_sorted <= $2 AND seq <= $3",
        )
        .bind(sortable(from.unwrap_or(at)))
        .bind(sortable(at))
        .bind(number(self.end()));
        let rows = self.inner.fetch(query).await?;
        let last: i64 = rows
            .first()
            .ok_or(sqlx::Error::RowNotFound)
            .and_then(|row| row.try_get(0))
            .map_err(Unavailable::from)?;
        Ok(last.max(seq).unsigned_abs())
    }

    /// Returns an object as it was when an entry was the last one, or `None` when there was none of this key. Its
    /// revision is the one of then.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or the object was not a `T`.
    pub async fn get_as_of<T: Object>(
        &self,
        realm: &RealmName,
        key: &str,
        seq: u64,
    ) -> Result<Option<Stored<T>>, ReadError> {
        Ok(self.get_many_as_of(realm, &[key.to_owned()], seq).await?.pop())
    }

    /// Returns the objects of these keys that there were when an entry was the last one, in no particular order.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or an object was not a `T`.
    pub async fn get_many_as_of<T: Object>(
        &self,
        realm: &RealmName,
        keys: &[String],
        seq: u64,
    ) -> Result<Vec<Stored<T>>, ReadError> {
        self.stored_as_of(realm, T::KIND, keys, seq).await?.iter().map(parse).collect()
    }

    /// Returns the objects of a kind that there were when an entry was the last one, whose keys start with a prefix,
    /// ordered by the bytes of their keys.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or an object was not a `T`.
    pub async fn list_as_of<T: Object>(
        &self,
        realm: &RealmName,
        prefix: &str,
        seq: u64,
    ) -> Result<Vec<Stored<T>>, ReadError> {
        self.past(realm, T::KIND, prefix, seq).await?.iter().map(parse).collect()
    }

    /// Returns the objects of these keys that there were when an entry was the last one, as they were stored, in no
    /// particular order.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or an entry does not parse.
    pub async fn stored_as_of(
        &self,
        realm: &RealmName,
        kind: Kind,
        keys: &[String],
        seq: u64,
    ) -> Result<Vec<StoredObject>, ReadError> {
        let known: Vec<&str> = keys.iter().map(String::as_str).filter(|key| !key.contains('\0')).collect();
        let mut found = Vec::with_capacity(known.len());
        for keys in known.chunks(MANY) {
            let mut query = sqlx::query(*NEWEST_OF_MANY)
                .bind(realm.as_str())
                .bind(kind.as_str())
                .bind(number(seq.min(self.end())));
            for index in 0..MANY {
                query = query.bind(keys.get(index).copied().unwrap_or_default());
            }
            let written = self.written(query).await?;
            found.extend(self.bodies(realm, kind, written).await?);
        }
        Ok(found)
    }

    /// Returns the number of the last entry that this store reads.
    pub(crate) fn end(&self) -> u64 {
        self.pinned.unwrap_or(u64::MAX)
    }

    pub(crate) async fn past(
        &self,
        realm: &RealmName,
        kind: Kind,
        prefix: &str,
        seq: u64,
    ) -> Result<Vec<StoredObject>, ReadError> {
        let page = Page { prefix: prefix.to_owned(), after: None, limit: u32::MAX };
        self.past_page(realm, kind, &page, seq).await
    }

    /// Reads one page of what there was.
    pub(crate) async fn past_page(
        &self,
        realm: &RealmName,
        kind: Kind,
        page: &Page,
        seq: u64,
    ) -> Result<Vec<StoredObject>, ReadError> {
        let (prefix, mut after) = (page.prefix.as_str(), page.after.clone().unwrap_or_default());
        if prefix.contains('\0') || after.contains('\0') {
            return Ok(Vec::new());
        }
        let wanted = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        loop {
            let query = sqlx::query(
                "SELECT key, max(seq) FROM journal_objects \
                 WHERE realm = $1 AND kind = $2 AND seq <= $3 AND key >= $4 AND key > $5 AND key < $6 \
                 GROUP BY key ORDER BY key LIMIT $7",
            )
            .bind(realm.as_str())
            .bind(kind.as_str())
            .bind(number(seq.min(self.end())))
            .bind(prefix)
            .bind(after.as_str())
            .bind(end_of(prefix))
            .bind(i64::from(page.limit));
            let written = self.written(query).await?;
            let last = written.len() < wanted;
            let Some((key, _)) = written.last() else { return Ok(found) };
            after.clone_from(key);
            found.extend(self.bodies(realm, kind, written).await?);
            if found.len() >= wanted || last {
                found.truncate(wanted);
                return Ok(found);
            }
        }
    }

    async fn written(&self, query: Query<'_>) -> Result<Vec<Written>, ReadError> {
        let rows = self.inner.fetch(query).await?;
        let read = |row| -> Result<Written, Unavailable> {
            let seq: i64 = sqlx::Row::try_get(row, 1)?;
            Ok((text(row, 0)?, seq.unsigned_abs()))
        };
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// Reads what these entries wrote of these keys; a key that its entry deleted is left out.
    async fn bodies(
        &self,
        realm: &RealmName,
        kind: Kind,
        written: Vec<Written>,
    ) -> Result<Vec<StoredObject>, ReadError> {
        let mut seqs: Vec<u64> = written.iter().map(|(_, seq)| *seq).collect();
        seqs.sort_unstable();
        seqs.dedup();
        let mut bodies: HashMap<Written, Option<String>> = HashMap::with_capacity(written.len());
        for seqs in seqs.chunks(MANY) {
            let mut query = sqlx::query(*ENTRIES_OF_MANY);
            for index in 0..MANY {
                // No entry has the number 0.
                query = query.bind(number(seqs.get(index).copied().unwrap_or_default()));
            }
            for row in &self.inner.fetch(query).await? {
                let seq: i64 = row.try_get(0).map_err(Unavailable::from)?;
                let mutations: Vec<RecordedMutation> =
                    serde_json::from_str(&text(row, 1)?).map_err(|source| RowError {
                        table: "journal",
                        row: seq.to_string(),
                        column: "mutations",
                        source: source.into(),
                    })?;
                let of_kind = mutations.into_iter().filter(|it| it.kind == kind);
                bodies.extend(of_kind.map(|it| ((it.key, seq.unsigned_abs()), it.body)));
            }
        }
        let mut found = Vec::with_capacity(written.len());
        for written in written {
            let body = bodies.remove(&written).ok_or_else(|| RowError {
                table: "journal_objects",
                row: format!("{realm}/{kind}/{}/{}", written.0, written.1),
                column: "seq",
                source: "the entry wrote no such object".into(),
            })?;
            let (key, revision) = written;
            found.extend(body.map(|body| StoredObject { realm: realm.clone(), kind, key, revision, body }));
        }
        Ok(found)
    }
}

/// Writes a time as the column `at_sorted` does.
pub(crate) fn sortable(at: Timestamp) -> String {
    format!("{at:.9}").trim_end_matches('Z').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_sorts_by_all_its_digits() {
        for (at, sorted) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000000"),
            ("2026-01-01T00:00:00.12Z", "2026-01-01T00:00:00.120000000"),
            ("2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00.123456789"),
        ] {
            assert_eq!(sortable(at.parse().unwrap()), sorted);
        }
    }
}
