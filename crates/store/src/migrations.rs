//! The schema, by forward-only steps.
//!
//! All pending steps run in one transaction under a lock, so that processes that open a new database together
//! do not collide, and a step that fails leaves the schema as it was.

use aws_lc_rs::digest::{SHA256, digest};
use sqlx::{AnyPool, AssertSqlSafe, Row};

use crate::connections::Lease;
use crate::dialect::Dialect;
use tollgate_model::hex::hex;

const MIGRATIONS: &[(i64, &str)] = &[
    (1, include_str!("../migrations/0001_journal_and_objects.sql")),
    (2, include_str!("../migrations/0002_records.sql")),
    (3, include_str!("../migrations/0003_journal_objects_by_entry.sql")),
    (4, include_str!("../migrations/0004_calls.sql")),
    (5, include_str!("../migrations/0005_journal_by_time.sql")),
    (6, include_str!("../migrations/0006_journal_outcomes.sql")),
    (7, include_str!("../migrations/0007_journal_filters.sql")),
    (8, include_str!("../migrations/0008_traffic.sql")),
    (9, include_str!("../migrations/0009_objects_by_owner_and_handle.sql")),
];

/// Why the schema could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A newer Tollgate has used this database.
    #[error(
        "the database has schema version {found}, and this version of Tollgate knows up to {known}: use a newer one"
    )]
    TooNew {
        /// The database's version.
        found: i64,
        /// The newest known version.
        known: i64,
    },
    /// A step that ran is not the step of that number in this binary.
    #[error("schema version {version} of the database was made by another build of Tollgate")]
    Changed {
        /// The step.
        version: i64,
    },
    /// The database failed.
    #[error("the schema could not be brought up to date")]
    Database(#[from] sqlx::Error),
}

/// Brings the schema up to date.
pub(crate) async fn migrate(writer: &AnyPool, dialect: Dialect) -> Result<(), MigrateError> {
    let mut lease = Lease::take(writer).await?;
    lease.execute(dialect.begin_write()).await?;
    lease.execute(dialect.lock_schema()).await?;
    lease
        .execute("CREATE TABLE IF NOT EXISTS migrations (version BIGINT NOT NULL PRIMARY KEY, checksum TEXT NOT NULL)")
        .await?;
    let rows = sqlx::query("SELECT version, checksum FROM migrations ORDER BY version")
        .fetch_all(lease.connection())
        .await?;
    let known = MIGRATIONS.last().map_or(0, |(version, _)| *version);
    let mut done = 0;
    for row in rows {
        let (version, checksum): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        match MIGRATIONS.iter().find(|(known, _)| *known == version) {
            None => return Err(MigrateError::TooNew { found: version, known }),
            Some((_, sql)) if checksum_of(sql) != checksum => return Err(MigrateError::Changed { version }),
            Some(_) => done = version,
        }
    }
    for (version, sql) in MIGRATIONS.iter().filter(|(version, _)| *version > done) {
        sqlx::raw_sql(AssertSqlSafe(dialect.schema(sql))).execute(lease.connection()).await?;
        sqlx::query("INSERT INTO migrations (version, checksum) VALUES ($1, $2)")
            .bind(*version)
            .bind(checksum_of(sql))
            .execute(lease.connection())
            .await?;
    }
    lease.execute("COMMIT").await?;
    lease.release();
    Ok(())
}

fn checksum_of(sql: &str) -> String {
    hex(digest(&SHA256, sql.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_run_in_the_order_of_their_numbers() {
        let numbers: Vec<_> = MIGRATIONS.iter().map(|(version, _)| *version).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    }
}
