//! Calls that gateways counted, summed up by minute.
//!
//! They are not journaled, and nothing decides about a call by them. Several gateways add to the same rows. A batch
//! carries an id, which is kept for a day: whoever does not know whether a batch was stored hands it over again, and
//! nothing is counted twice.
//!
//! Column `api_key` holds the id of whichever credential told who called; the prefix of the id says of which kind it is.

use jiff::{SignedDuration, Timestamp};
use sqlx::Row;
use sqlx::any::AnyRow;

use tollgate_model::calls::{CountedCaller, CountedCalls, ShownCredentials};
use tollgate_model::ids::CredentialId;
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName, RealmName};

use crate::connections::{Lease, SHORT, Unavailable, bounded};
use crate::objects::{ReadError, RowError, text};
use crate::store::{Inner, Store};

/// Counted calls that are stored together, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallBatch {
    /// Names it; no other batch has the same.
    pub id: String,
    /// When it was put together.
    pub at: Timestamp,
    /// How many calls of each.
    pub calls: Vec<(CountedCalls, u64)>,
}

/// Which counted calls to sum up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFilter<'a> {
    /// From this minute since 1970 on.
    pub since_minute: i64,
    /// Only in this environment.
    pub environment: Option<&'a EnvironmentName>,
    /// Only to this pipeline.
    pub pipeline: Option<&'a PipelineName>,
}

/// Calls to one deployment of one caller with the same credentials, whenever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallSum {
    /// For what; with the minute of the last of them.
    pub of: CountedCalls,
    /// How many.
    pub calls: u64,
}

/// The consumer of [`CountedCaller::Others`]; no consumer has such a name.
pub(crate) const OTHERS: &str = "*";

/// How long the id of a batch is kept.
const BATCH_KEPT: SignedDuration = SignedDuration::from_hours(24);

// === impl Store ===

impl Store {
    /// Adds the calls of a batch to what was counted, unless it was stored already.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails; the batch is stored whole or not at all, and can be handed over again.
    pub async fn add_calls(&self, batch: &CallBatch) -> Result<(), Unavailable> {
        bounded(SHORT, self.inner.add_calls(batch)).await
    }

    /// Sums up the calls of a realm, by deployment, caller and credentials.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or a row does not parse.
    pub async fn sum_calls(
        &self,
        realm: &RealmName,
        filter: &CallFilter<'_>,
    ) -> Result<Vec<CallSum>, ReadError> {
        let query = sqlx::query(
            "SELECT environment, pipeline, major, consumer, api_key, credentials, \
             CAST(SUM(calls) AS BIGINT), MAX(minute) FROM calls \
             WHERE realm = $1 AND minute >= $2 AND ($3 = '' OR environment = $3) AND ($4 = '' OR pipeline = $4) \
             GROUP BY environment, pipeline, major, consumer, api_key, credentials \
             ORDER BY environment, pipeline, major, consumer, api_key, credentials",
        )
        .bind(realm.as_str())
        .bind(filter.since_minute)
        .bind(filter.environment.map_or("", EnvironmentName::as_str))
        .bind(filter.pipeline.map_or("", PipelineName::as_str));
        self.inner.fetch(query).await?.iter().map(|row| read_sum(realm, row)).collect()
    }

    /// Deletes what was counted before a minute since 1970; returns how many rows.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails.
    pub async fn delete_calls_before(&self, minute: i64) -> Result<u64, Unavailable> {
        bounded(SHORT, async {
            let mut lease = Lease::take(&self.inner.writer).await?;
            let query = sqlx::query("DELETE FROM calls WHERE minute < $1").bind(minute);
            let done = query.execute(lease.connection()).await?;
            lease.release();
            Ok(done.rows_affected())
        })
        .await
    }
}

// === impl Inner ===

impl Inner {
    async fn add_calls(&self, batch: &CallBatch) -> Result<(), Unavailable> {
        // Two processes that add to the same rows take them in the same order, so that neither waits for the other.
        let mut calls: Vec<_> = batch.calls.iter().collect();
        calls.sort();
        let mut lease = Lease::take(&self.writer).await?;
        lease.execute(self.dialect.begin_write()).await?;
        let is_new = begin_batch(&mut lease, "calls", &batch.id, batch.at).await?;
        for (of, count) in calls.into_iter().filter(|_| is_new) {
            let (consumer, credential) = match &of.caller {
                CountedCaller::Unknown => ("", String::new()),
                CountedCaller::Consumer(name, credential) => {
                    (name.as_str(), credential.map(|id| id.to_string()).unwrap_or_default())
                }
                CountedCaller::Others => (OTHERS, String::new()),
            };
            sqlx::query(
                "INSERT INTO calls \
                 (realm, environment, pipeline, major, minute, consumer, api_key, credentials, calls) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                 ON CONFLICT (realm, environment, pipeline, major, minute, consumer, api_key, credentials) \
                 DO UPDATE SET calls = calls.calls + excluded.calls",
            )
            .bind(of.realm.as_str())
            .bind(of.environment.as_str())
            .bind(of.pipeline.as_str())
            .bind(i64::from(of.major))
            .bind(of.minute)
            .bind(consumer)
            .bind(credential)
            .bind(of.credentials.to_string())
            .bind(i64::try_from(*count).unwrap_or(i64::MAX))
            .execute(lease.connection())
            .await?;
        }
        lease.execute("COMMIT").await?;
        lease.release();
        Ok(())
    }
}

/// Remembers a batch in the transaction that stores it; tells whether it is new.
pub(crate) async fn begin_batch(
    lease: &mut Lease,
    collection: &str,
    id: &str,
    at: Timestamp,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO records (collection, realm, key, body, expires_at) VALUES ($1, '', $2, '', $3) \
         ON CONFLICT (collection, realm, key) DO NOTHING",
    );
    let query = query.bind(collection).bind(id).bind((at + BATCH_KEPT).as_millisecond());
    Ok(query.execute(lease.connection()).await?.rows_affected() == 1)
}

fn read_sum(realm: &RealmName, row: &AnyRow) -> Result<CallSum, ReadError> {
    let (environment, pipeline, consumer, key) = (text(row, 0)?, text(row, 1)?, text(row, 3)?, text(row, 4)?);
    let credentials = text(row, 5)?;
    let number =
        |index| row.try_get::<i64, _>(index).map_err(|error| ReadError::from(Unavailable::from(error)));
    let (major, calls, minute) = (number(2)?, number(6)?, number(7)?);
    let place = format!("{realm}/{environment}/{pipeline}/{major}/{consumer}/{key}/{credentials}");
    let error = |column, source: Box<dyn std::error::Error + Send + Sync>| RowError {
        table: "calls",
        row: place.clone(),
        column,
        source,
    };
    let caller = match (consumer.as_str(), key.as_str()) {
        ("", _) => CountedCaller::Unknown,
        (OTHERS, _) => CountedCaller::Others,
        (name, key) => CountedCaller::Consumer(
            ConsumerName::parse(name).map_err(|source| error("consumer", source.into()))?,
            (!key.is_empty())
                .then(|| CredentialId::parse(key))
                .transpose()
                .map_err(|source| error("api_key", source.into()))?,
        ),
    };
    let of = CountedCalls {
        realm: realm.clone(),
        environment: EnvironmentName::parse(&environment)
            .map_err(|source| error("environment", source.into()))?,
        pipeline: PipelineName::parse(&pipeline).map_err(|source| error("pipeline", source.into()))?,
        major: u32::try_from(major).map_err(|source| error("major", source.into()))?,
        minute,
        caller,
        credentials: credentials
            .parse::<ShownCredentials>()
            .map_err(|source| error("credentials", source.into()))?,
    };
    Ok(CallSum { of, calls: u64::try_from(calls).map_err(|source| error("calls", source.into()))? })
}
