//! The store: opening it, and the number of its last entry.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Any, AnyPool, Row};
use tokio::sync::watch;

use crate::connections::{LONG, Lease, SHORT, Unavailable, bounded, pool};
use crate::dialect::{Dialect, Role};
use crate::migrations::{MigrateError, migrate};
use crate::objects::ReadError;

/// A query with its parameters.
pub(crate) type Query<'q> = sqlx::query::Query<'q, Any, AnyArguments>;

/// How often the head is read, to see what other processes committed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The journal and the current state; clones share one pool of connections.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    /// The last entry that it reads, when that is not the last one there is ([`Store::as_of`]).
    pub(crate) pinned: Option<u64>,
}

pub(crate) struct Inner {
    pub(crate) dialect: Dialect,
    pub(crate) reader: AnyPool,
    pub(crate) writer: AnyPool,
    head: watch::Sender<u64>,
}

/// Why the store could not be opened. Never shows the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The URL is of no known kind.
    #[error("the database URL must start with `sqlite:` or `postgres:`")]
    UnknownUrl,
    /// The URL is malformed.
    #[error("the database URL is malformed")]
    Url(#[source] sqlx::Error),
    /// The file of an SQLite database could not be made.
    #[error("cannot open the database file")]
    File(#[from] std::io::Error),
    /// The schema does not fit.
    #[error("the database cannot be used")]
    Migrate(#[from] MigrateError),
    /// The database was opened and then failed.
    #[error("the database cannot be read")]
    Read(#[from] ReadError),
}

// === impl Store ===

impl Store {
    /// Opens `sqlite:PATH` or `postgres://…`, makes the database file if need be, and updates the schema.
    ///
    /// A file that is made is readable by its owner alone. Must be called in a tokio runtime, which then
    /// follows the head until the last clone is dropped.
    ///
    /// # Errors
    ///
    /// [`OpenStoreError`]; in particular when the schema is newer than this version knows.
    pub async fn open(url: &str) -> Result<Self, OpenStoreError> {
        sqlx::any::install_default_drivers();
        let (dialect, options) =
            Dialect::parse(url).ok_or(OpenStoreError::UnknownUrl)?.map_err(OpenStoreError::Url)?;
        if let Some(path) = url.strip_prefix("sqlite:") {
            make_private_file(path).await?;
        }
        let writer = pool(dialect, Role::Writer, options.clone());
        bounded(LONG, migrate(&writer, dialect)).await?;
        let reader = pool(dialect, Role::Reader, options);
        let inner = Inner { dialect, reader, writer, head: watch::Sender::new(0) };
        let store = Self { inner: Arc::new(inner), pinned: None };
        store.inner.advance(store.head().await?);
        tokio::spawn(follow(Arc::downgrade(&store.inner)));
        Ok(store)
    }

    /// Returns a receiver of the head as last seen: commits of this process show at once, those of other
    /// processes within a fraction of a second.
    ///
    /// It is never behind what this store read or wrote. It only goes down when the database lost entries: it was
    /// restored from a backup, or a standby that lagged took over. What was read of those entries is void then.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.inner.head.subscribe()
    }

    /// Returns the number of the last journal entry; 0 when there is none.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unavailable`] when the database does not answer.
    pub async fn head(&self) -> Result<u64, ReadError> {
        let head = self.inner.read_head().await?;
        Ok(self.pinned.map_or(head, |pinned| pinned.min(head)))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The pools know the URL, password included.
        f.debug_struct("Store").field("dialect", &self.inner.dialect).finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    /// Tells the watchers that there are entries up to this number.
    pub(crate) fn advance(&self, seq: u64) {
        self.head.send_if_modified(|head| {
            let forward = seq > *head;
            *head = seq.max(*head);
            forward
        });
    }

    /// Tells the watchers that there are fewer entries than were known before they were counted.
    fn retreat(&self, known: u64, seq: u64) {
        // Whoever has moved it since knows better; otherwise the next look tells.
        self.head.send_if_modified(|head| {
            let lost = *head == known;
            *head = if lost { seq } else { *head };
            lost
        });
    }

    /// Runs one query on a reader.
    pub(crate) async fn fetch(&self, query: Query<'_>) -> Result<Vec<AnyRow>, Unavailable> {
        bounded(SHORT, async {
            let mut lease = Lease::take(&self.reader).await?;
            let rows = query.fetch_all(lease.connection()).await?;
            lease.release();
            Ok(rows)
        })
        .await
    }

    async fn read_head(&self) -> Result<u64, Unavailable> {
        let rows = self.fetch(sqlx::query("SELECT seq FROM head WHERE id = 1")).await?;
        let seq: i64 = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
        Ok(seq.unsigned_abs())
    }
}

/// Tells the watchers what other processes commit, until the store is dropped.
async fn follow(store: Weak<Inner>) {
    let mut reachable = true;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(inner) = store.upgrade() else { return };
        let known = *inner.head.borrow();
        match inner.read_head().await {
            Ok(seq) => {
                if seq < known {
                    tracing::error!(known, found = seq, "the store lost journal entries that were there");
                    inner.retreat(known, seq);
                } else {
                    inner.advance(seq);
                }
                reachable = true;
            }
            Err(error) => {
                if reachable {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot follow the store");
                }
                reachable = false;
            }
        }
    }
}

/// Creates the file of a database, or leaves the one that is there.
async fn make_private_file(path: &str) -> std::io::Result<()> {
    let mut options = tokio::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    options.mode(0o600);
    options.open(path).await.map(|_| ())
}
