//! Borrowed connections and how long they may take.

use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool};

use crate::dialect::{Dialect, Role};

/// How long a short operation may take, the wait for a connection included.
pub(crate) const SHORT: Duration = Duration::from_secs(10);
/// How long reading everything may take.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// The database did not do what was asked: it cannot be reached, is full, or is too slow.
#[derive(Debug, thiserror::Error)]
#[error("the store is unavailable")]
pub struct Unavailable(#[from] sqlx::Error);

impl Unavailable {
    /// Tells whether the database answered, with a value that is not of the column's type.
    pub(crate) fn is_of_a_value(&self) -> bool {
        matches!(self.0, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))
    }
}

/// A connection that is closed when it is dropped, unless it was given back with [`Lease::release`].
///
/// A connection whose user failed, ran out of time or was cancelled may be in the middle of a transaction or
/// of an answer, or hang for good. Closing it rolls back and frees its place in the pool at once.
pub(crate) struct Lease(Option<PoolConnection<Any>>);

// === impl Lease ===

impl Lease {
    pub(crate) async fn take(pool: &AnyPool) -> Result<Self, sqlx::Error> {
        Ok(Self(Some(pool.acquire().await?)))
    }

    /// Returns the connection.
    pub(crate) fn connection(&mut self) -> &mut AnyConnection {
        self.0.as_mut().expect("only release and drop take the connection out, and both end the lease")
    }

    /// Runs statements without parameters.
    pub(crate) async fn execute(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(sql).execute(self.connection()).await.map(|_| ())
    }

    /// Gives the connection back: it is idle and outside any transaction.
    pub(crate) fn release(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Makes a pool; no connection is opened yet.
pub(crate) fn pool(dialect: Dialect, role: Role, options: AnyConnectOptions) -> AnyPool {
    // One writer per process: the others wait here, first come first served, and not in the database.
    let size = if role == Role::Writer { 1 } else { 4 };
    AnyPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(SHORT)
        .after_connect(move |connection, _| {
            Box::pin(
                async move { sqlx::raw_sql(dialect.on_connect(role)).execute(connection).await.map(|_| ()) },
            )
        })
        .connect_lazy_with(options)
}

/// Runs an operation for at most this long.
pub(crate) async fn bounded<T, E: From<sqlx::Error>>(
    limit: Duration,
    operation: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(limit, operation).await.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut.into()))
}
