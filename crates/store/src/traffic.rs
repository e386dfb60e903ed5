//! What became of calls, summed up by minute, later by longer steps.
//!
//! It is written like counted calls ([`crate::calls`]): several gateways add to the same rows, by batches that are stored
//! once. What is old is folded: the minutes of a step, as of an hour, become its first minute.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName, RealmName};
use tollgate_model::traffic::{CountedTraffic, Measure, TrafficCaller};

use crate::calls::{OTHERS, begin_batch};
use crate::connections::{Lease, SHORT, Unavailable, bounded};
use crate::objects::{ReadError, RowError, text};
use crate::store::{Inner, Store};

/// Minutes that are folded in one transaction: six hours.
const FOLDED_AT_ONCE: i64 = 6 * 60;

/// Traffic that is stored together, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficBatch {
    /// Names it; no other batch has the same.
    pub id: String,
    /// When it was put together.
    pub at: Timestamp,
    /// How many calls of each.
    pub rows: Vec<(CountedTraffic, u64)>,
}

/// Which traffic to sum up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficFilter<'a> {
    /// From this minute since 1970 on.
    pub since_minute: i64,
    /// Before this one.
    pub until_minute: i64,
    /// Only in this environment.
    pub environment: Option<&'a EnvironmentName>,
    /// Only to these pipelines; to all, when there are none.
    pub pipelines: &'a [PipelineName],
    /// Only of this consumer.
    pub consumer: Option<&'a ConsumerName>,
}

/// What sums of traffic are told apart by, besides the environment and what is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrafficGrouping {
    /// By pipeline and major.
    pub pipelines: bool,
    /// By who called.
    pub callers: bool,
    /// By so many minutes.
    pub step_minutes: Option<u32>,
}

/// A sum of traffic. What it is not told apart by is that of one of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficSum {
    /// For what; its minute is the first of a step.
    pub of: CountedTraffic,
    /// How many calls.
    pub calls: u64,
}

// === impl Store ===

impl Store {
    /// Adds the traffic of a batch, unless it was stored already.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails; the batch is stored whole or not at all, and can be handed over again.
    pub async fn add_traffic(&self, batch: &TrafficBatch) -> Result<(), Unavailable> {
        bounded(SHORT, self.inner.add_traffic(batch)).await
    }

    /// Sums up the traffic of a realm.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or a row does not parse.
    pub async fn sum_traffic(
        &self,
        realm: &RealmName,
        filter: &TrafficFilter<'_>,
        grouping: TrafficGrouping,
    ) -> Result<Vec<TrafficSum>, ReadError> {
        let (sql, names) = sum_of(filter, grouping);
        let mut query = sqlx::query(AssertSqlSafe(sql))
            .bind(realm.as_str())
            .bind(filter.since_minute)
            .bind(filter.until_minute);
        for name in names {
            query = query.bind(name);
        }
        self.inner.fetch(query).await?.iter().map(|row| read_sum(realm, row)).collect()
    }

    /// Puts the minutes before one, rounded down to its step, together by steps, counted from 1970. Cut off, it goes on where
    /// it was. Of several processes that do so at once, those that come late fail and change nothing.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails.
    pub async fn fold_traffic_before(&self, minute: i64, step_minutes: u32) -> Result<(), Unavailable> {
        let step = i64::from(step_minutes.max(1));
        let before = minute - minute.rem_euclid(step);
        while let Some(first) = self.first_unfolded(before, step).await? {
            let until = (first - first.rem_euclid(step) + FOLDED_AT_ONCE.max(step)).min(before);
            bounded(SHORT, self.inner.fold_traffic(until, step)).await?;
        }
        Ok(())
    }

    /// Deletes the traffic before a minute since 1970; returns how many rows.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails.
    pub async fn delete_traffic_before(&self, minute: i64) -> Result<u64, Unavailable> {
        bounded(SHORT, async {
            let mut lease = Lease::take(&self.inner.writer).await?;
            let query = sqlx::query("DELETE FROM traffic WHERE minute < $1").bind(minute);
            let done = query.execute(lease.connection()).await?;
            lease.release();
            Ok(done.rows_affected())
        })
        .await
    }

    async fn first_unfolded(&self, before: i64, step: i64) -> Result<Option<i64>, Unavailable> {
        let query = sqlx::query(AssertSqlSafe(format!(
            "SELECT minute FROM traffic WHERE minute < $1 AND minute % {step} <> 0 ORDER BY minute LIMIT 1",
        )));
        let rows = self.inner.fetch(query.bind(before)).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
    }
}

// === impl Inner ===

impl Inner {
    async fn add_traffic(&self, batch: &TrafficBatch) -> Result<(), Unavailable> {
        // In one order, so that two processes do not wait for each other.
        let mut rows: Vec<_> = batch.rows.iter().collect();
        rows.sort();
        let mut lease = Lease::take(&self.writer).await?;
        lease.execute(self.dialect.begin_write()).await?;
        let is_new = begin_batch(&mut lease, "traffic", &batch.id, batch.at).await?;
        for (of, calls) in rows.into_iter().filter(|_| is_new) {
            let (pipeline, major) =
                of.pipeline.as_ref().map_or(("", 0), |(name, major)| (name.as_str(), *major));
            let consumer = match &of.caller {
                TrafficCaller::Unknown => "",
                TrafficCaller::Consumer(name) => name.as_str(),
                TrafficCaller::Others => OTHERS,
            };
            sqlx::query(
                "INSERT INTO traffic (realm, environment, pipeline, major, consumer, minute, measure, calls) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                 ON CONFLICT (realm, environment, pipeline, major, consumer, minute, measure) \
                 DO UPDATE SET calls = traffic.calls + excluded.calls",
            )
            .bind(of.realm.as_str())
            .bind(of.environment.as_str())
            .bind(pipeline)
            .bind(i64::from(major))
            .bind(consumer)
            .bind(of.minute)
            .bind(of.measure.to_string())
            .bind(i64::try_from(*calls).unwrap_or(i64::MAX))
            .execute(lease.connection())
            .await?;
        }
        lease.execute("COMMIT").await?;
        lease.release();
        Ok(())
    }

    /// Folds what lies before a minute that begins a step.
    async fn fold_traffic(&self, before: i64, step: i64) -> Result<(), Unavailable> {
        let mut lease = Lease::take(&self.writer).await?;
        // What is deleted is what was added up: a gateway may add to these rows meanwhile, and another process fold them.
        lease.execute(self.dialect.begin_rewrite()).await?;
        sqlx::query(AssertSqlSafe(format!(
            "INSERT INTO traffic (realm, environment, pipeline, major, consumer, minute, measure, calls) \
             SELECT realm, environment, pipeline, major, consumer, minute - minute % {step}, measure, \
             CAST(SUM(calls) AS BIGINT) FROM traffic WHERE minute < $1 AND minute % {step} <> 0 \
             GROUP BY realm, environment, pipeline, major, consumer, minute - minute % {step}, measure \
             ON CONFLICT (realm, environment, pipeline, major, consumer, minute, measure) \
             DO UPDATE SET calls = traffic.calls + excluded.calls",
        )))
        .bind(before)
        .execute(lease.connection())
        .await?;
        let delete = format!("DELETE FROM traffic WHERE minute < $1 AND minute % {step} <> 0");
        sqlx::query(AssertSqlSafe(delete)).bind(before).execute(lease.connection()).await?;
        lease.execute("COMMIT").await?;
        lease.release();
        Ok(())
    }
}

/// Returns the query of a sum, and the names that are bound behind realm and minutes. Of what is not told apart the least is
/// taken. Only what is asked for stands in it, so that a database finds the calls to a pipeline by its key.
fn sum_of<'a>(filter: &TrafficFilter<'a>, grouping: TrafficGrouping) -> (String, Vec<&'a str>) {
    let TrafficGrouping { pipelines, callers, step_minutes } = grouping;
    let (mut columns, mut groups) = (vec!["environment".to_owned()], vec!["environment".to_owned()]);
    let mut column = |expression: String, apart: bool| {
        if apart {
            groups.push(expression.clone());
            columns.push(expression);
        } else {
            columns.push(format!("MIN({expression})"));
        }
    };
    column("pipeline".to_owned(), pipelines);
    column("major".to_owned(), pipelines);
    column("consumer".to_owned(), callers);
    let step = step_minutes.unwrap_or(1).max(1);
    column(format!("minute - minute % {step}"), step_minutes.is_some());
    column("measure".to_owned(), true);
    let (mut conditions, mut names) = (String::new(), Vec::new());
    let mut only = |column: &str, of: &[&'a str]| {
        let places: Vec<String> = (1..=of.len()).map(|n| format!("${}", 3 + names.len() + n)).collect();
        if !places.is_empty() {
            conditions.push_str(&format!(" AND {column} IN ({})", places.join(", ")));
        }
        names.extend_from_slice(of);
    };
    only("environment", filter.environment.map(EnvironmentName::as_str).as_slice());
    only("pipeline", &filter.pipelines.iter().map(PipelineName::as_str).collect::<Vec<_>>());
    only("consumer", filter.consumer.map(ConsumerName::as_str).as_slice());
    let (columns, groups) = (columns.join(", "), groups.join(", "));
    let sql = format!(
        "SELECT {columns}, CAST(SUM(calls) AS BIGINT) FROM traffic \
         WHERE realm = $1 AND minute >= $2 AND minute < $3{conditions} \
         GROUP BY {groups} ORDER BY {groups}"
    );
    (sql, names)
}

fn read_sum(realm: &RealmName, row: &AnyRow) -> Result<TrafficSum, ReadError> {
    let (environment, pipeline, consumer) = (text(row, 0)?, text(row, 1)?, text(row, 3)?);
    let measure = text(row, 5)?;
    let number =
        |index| row.try_get::<i64, _>(index).map_err(|error| ReadError::from(Unavailable::from(error)));
    let (major, minute, calls) = (number(2)?, number(4)?, number(6)?);
    let place = format!("{realm}/{environment}/{pipeline}/{major}/{consumer}/{minute}/{measure}");
    let error = |column, source: Box<dyn std::error::Error + Send + Sync>| RowError {
        table: "traffic",
        row: place.clone(),
        column,
        source,
    };
    let major = u32::try_from(major).map_err(|source| error("major", source.into()))?;
    let of = CountedTraffic {
        realm: realm.clone(),
        environment: EnvironmentName::parse(&environment)
            .map_err(|source| error("environment", source.into()))?,
        pipeline: match pipeline.as_str() {
            "" => None,
            name => {
                let name = PipelineName::parse(name).map_err(|source| error("pipeline", source.into()))?;
                Some((name, major))
            }
        },
        minute,
        caller: match consumer.as_str() {
            "" => TrafficCaller::Unknown,
            OTHERS => TrafficCaller::Others,
            name => TrafficCaller::Consumer(
                ConsumerName::parse(name).map_err(|source| error("consumer", source.into()))?,
            ),
        },
        measure: measure.parse::<Measure>().map_err(|source| error("measure", source.into()))?,
    };
    Ok(TrafficSum { of, calls: u64::try_from(calls).map_err(|source| error("calls", source.into()))? })
}
