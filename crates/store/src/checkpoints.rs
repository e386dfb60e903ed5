//! Checkpoints of the journal: where its chain is at a number, and the signed texts that say where it was.
//!
//! A checkpoint is a side record: what it proves is proved by its signature, not by standing in the database.

use std::collections::BTreeMap;

use sqlx::Row;

use tollgate_model::names::RealmName;

use crate::connections::{LONG, Lease, Unavailable, bounded};
use crate::hashes::from_hex;
use crate::objects::{ReadError, RowError};
use crate::records::{Record, RecordTable};
use crate::store::Store;

/// How many checkpoints are read at a time.
const BATCH: i64 = 1000;

// === impl Store ===

impl Store {
    /// Returns the number and the hash of the last journal entry; 0 and zeros when there is none.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or the end of the journal is damaged.
    pub async fn head_hash(&self) -> Result<(u64, [u8; 32]), ReadError> {
        let rows = self.inner.fetch(sqlx::query("SELECT seq, hash FROM head WHERE id = 1")).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound).map_err(Unavailable::from)?;
        let (seq, hash): (i64, String) =
            (row.try_get(0).map_err(Unavailable::from)?, row.try_get(1).map_err(Unavailable::from)?);
        Ok((seq.unsigned_abs(), from_hex(&hash).ok_or_else(|| damaged("head", 1))?))
    }

    /// Returns the hashes of journal entries that there are, as they are stored: only [`Store::verify_journal`] tells
    /// whether they are right.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or a hash is none.
    pub async fn hashes_at(
        &self,
        seqs: impl IntoIterator<Item = u64> + Send,
    ) -> Result<BTreeMap<u64, [u8; 32]>, ReadError> {
        let rows = bounded(LONG, async {
            let mut lease = Lease::take(&self.inner.reader).await?;
            let mut rows = Vec::new();
            for seq in seqs.into_iter().filter_map(|seq| i64::try_from(seq).ok()) {
                let hash: Option<String> = sqlx::query_scalar("SELECT hash FROM journal WHERE seq = $1")
                    .bind(seq)
                    .fetch_optional(lease.connection())
                    .await?;
                rows.extend(hash.map(|hash| (seq, hash)));
            }
            lease.release();
            Ok::<_, sqlx::Error>(rows)
        })
        .await
        .map_err(Unavailable::from)?;
        let read = |(seq, hash): (i64, String)| {
            Ok((seq.unsigned_abs(), from_hex(&hash).ok_or_else(|| damaged("journal", seq))?))
        };
        rows.into_iter().map(read).collect()
    }

    /// Keeps a checkpoint, unless there is one of this key; tells whether it did. Keys begin with the number of entries
    /// so that they sort by it.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails; the checkpoint may be kept or not.
    pub async fn keep_checkpoint(&self, key: &str, note: &str) -> Result<bool, Unavailable> {
        self.insert_record_if_absent(RecordTable::Checkpoints, &RealmName::default(), key, note, None).await
    }

    /// Returns the checkpoint with the highest key.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails.
    pub async fn newest_checkpoint(&self) -> Result<Option<Record>, Unavailable> {
        let mut newest = self.list_records(RecordTable::Checkpoints, &RealmName::default(), "", 1).await?;
        Ok(newest.pop())
    }

    /// Returns every checkpoint, in the order of their keys.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails.
    pub async fn checkpoints(&self) -> Result<Vec<Record>, Unavailable> {
        let realm = RealmName::default();
        let mut all: Vec<Record> = Vec::new();
        loop {
            let after = all.last().map(|record| record.key.clone()).unwrap_or_default();
            let query = sqlx::query(
                "SELECT key, body FROM records WHERE collection = $1 AND realm = $2 AND key > $3 \
                 ORDER BY key LIMIT $4",
            )
            .bind(RecordTable::Checkpoints.as_str())
            .bind(realm.as_str())
            .bind(after.as_str())
            .bind(BATCH);
            let rows = self.inner.fetch(query).await?;
            for row in &rows {
                all.push(Record { key: row.try_get(0)?, body: row.try_get(1)? });
            }
            if rows.is_empty() {
                return Ok(all);
            }
        }
    }
}

fn damaged(table: &'static str, row: i64) -> RowError {
    RowError { table, row: row.to_string(), column: "hash", source: "not 64 hexadecimal digits".into() }
}
