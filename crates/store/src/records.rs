//! Side records: last uses of keys and tokens, sources of sign-ins, runs of the scheduler, answers kept for idempotency,
//! calls that were refused, checkpoints.
//!
//! They are not journaled, and nothing decides about a call by them.

use jiff::Timestamp;
use sqlx::Row;

use tollgate_model::names::RealmName;

use crate::connections::{Lease, SHORT, Unavailable, bounded};
use crate::objects::end_of;
use crate::store::{Inner, Query, Store};

/// A collection of side records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordTable {
    /// When a credential was last used.
    LastUse,
    /// From where users signed in before.
    KnownSources,
    /// Runs of scheduled deployments.
    SchedulerRuns,
    /// Answers to requests with an idempotency key.
    Idempotency,
    /// Signed checkpoints of the journal, in realm `default`.
    Checkpoints,
    /// Calls that gateways refused.
    Refusals,
    /// How many refused calls were not kept, by minute and process.
    DroppedRefusals,
    /// What each gateway says of itself, in realm `default`.
    Gateways,
}

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// The realm that it belongs to.
    pub realm: RealmName,
    /// Its key.
    pub key: String,
    /// Its content.
    pub body: String,
    /// When it may be deleted, if it may.
    pub expires_at: Option<Timestamp>,
}

/// A side record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: String,
    /// Its content.
    pub body: String,
}

// === impl RecordTable ===

impl RecordTable {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::LastUse => "last-use",
            Self::KnownSources => "known-sources",
            Self::SchedulerRuns => "scheduler-runs",
            Self::Idempotency => "idempotency",
            Self::Checkpoints => "checkpoints",
            Self::Refusals => "refusals",
            Self::DroppedRefusals => "dropped-refusals",
            Self::Gateways => "gateways",
        }
    }
}

/// Writes a record, in place of one of the same key.
const PUT: &str = "INSERT INTO records (collection, realm, key, body, expires_at) VALUES ($1, $2, $3, $4, $5) \
                   ON CONFLICT (collection, realm, key) \
                   DO UPDATE SET body = excluded.body, expires_at = excluded.expires_at";

// === impl Store ===

impl Store {
    /// Writes a record, in place of one of the same key.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails; the record may be written or not.
    pub async fn put_record(
        &self,
        table: RecordTable,
        realm: &RealmName,
        key: &str,
        body: &str,
        expires_at: Option<Timestamp>,
    ) -> Result<(), Unavailable> {
        let query = sqlx::query(PUT);
        self.inner.write_record(bind(query, table, realm, key).bind(body).bind(millis(expires_at))).await?;
        Ok(())
    }

    /// Writes records in one transaction, each in place of one of the same key.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails; all are written or none, and they can be handed over again.
    pub async fn put_records(&self, table: RecordTable, records: &[NewRecord]) -> Result<(), Unavailable> {
        bounded(SHORT, async {
            let mut lease = Lease::take(&self.inner.writer).await?;
            lease.execute(self.inner.dialect.begin_write()).await?;
            for record in records {
                let query = bind(sqlx::query(PUT), table, &record.realm, &record.key);
                let query = query.bind(record.body.as_str()).bind(millis(record.expires_at));
                query.execute(lease.connection()).await?;
            }
            lease.execute("COMMIT").await?;
            lease.release();
            Ok(())
        })
        .await
    }

    /// Writes a record unless there is one of the same key, expired or not; tells whether it did.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails; the record may be written or not.
    pub async fn insert_record_if_absent(
        &self,
        table: RecordTable,
        realm: &RealmName,
        key: &str,
        body: &str,
        expires_at: Option<Timestamp>,
    ) -> Result<bool, Unavailable> {
        let query = sqlx::query(
            "INSERT INTO records (collection, realm, key, body, expires_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (collection, realm, key) DO NOTHING",
        );
        let query = bind(query, table, realm, key).bind(body).bind(millis(expires_at));
        Ok(self.inner.write_record(query).await? == 1)
    }

    /// Returns a record's content, until it is deleted.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails.
    pub async fn get_record(
        &self,
        table: RecordTable,
        realm: &RealmName,
        key: &str,
    ) -> Result<Option<String>, Unavailable> {
        let query = sqlx::query("SELECT body FROM records WHERE collection = $1 AND realm = $2 AND key = $3");
        let rows = self.inner.fetch(bind(query, table, realm, key)).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
    }

    /// Returns records whose keys start with a prefix, the highest key first: the newest first where keys
    /// end in a time.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails.
    pub async fn list_records(
        &self,
        table: RecordTable,
        realm: &RealmName,
        prefix: &str,
        limit: u32,
    ) -> Result<Vec<Record>, Unavailable> {
        let query = sqlx::query(
            "SELECT key, body FROM records WHERE collection = $1 AND realm = $2 AND key >= $3 \
             AND key < $4 ORDER BY key DESC LIMIT $5",
        );
        let query = bind(query, table, realm, prefix).bind(end_of(prefix)).bind(i64::from(limit));
        let rows = self.inner.fetch(query).await?;
        rows.iter().map(|row| Ok(Record { key: row.try_get(0)?, body: row.try_get(1)? })).collect()
    }

    /// Returns records whose keys are below one, the highest key first.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails.
    pub async fn list_records_below(
        &self,
        table: RecordTable,
        realm: &RealmName,
        key: &str,
        limit: u32,
    ) -> Result<Vec<Record>, Unavailable> {
        let query = sqlx::query(
            "SELECT key, body FROM records WHERE collection = $1 AND realm = $2 AND key < $3 \
             ORDER BY key DESC LIMIT $4",
        );
        let rows = self.inner.fetch(bind(query, table, realm, key).bind(i64::from(limit))).await?;
        rows.iter().map(|row| Ok(Record { key: row.try_get(0)?, body: row.try_get(1)? })).collect()
    }

    /// Deletes the records that have expired; returns how many.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails.
    pub async fn delete_expired_records(&self, now: Timestamp) -> Result<u64, Unavailable> {
        self.inner
            .write_record(
                sqlx::query("DELETE FROM records WHERE expires_at <= $1").bind(now.as_millisecond()),
            )
            .await
    }
}

impl Inner {
    async fn write_record(&self, query: Query<'_>) -> Result<u64, Unavailable> {
        bounded(SHORT, async {
            let mut lease = Lease::take(&self.writer).await?;
            let done = query.execute(lease.connection()).await?;
            lease.release();
            Ok(done.rows_affected())
        })
        .await
    }
}

fn bind<'q>(query: Query<'q>, table: RecordTable, realm: &'q RealmName, key: &'q str) -> Query<'q> {
    query.bind(table.as_str()).bind(realm.as_str()).bind(key)
}

fn millis(expires_at: Option<Timestamp>) -> i64 {
    expires_at.map_or(i64::MAX, Timestamp::as_millisecond)
}
