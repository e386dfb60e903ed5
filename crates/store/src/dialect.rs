//! Everything in which SQLite and PostgreSQL differ.

use std::str::FromStr;

use sqlx::any::AnyConnectOptions;

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// SQLite: one writer at a time, by its own lock.
    Sqlite,
    /// PostgreSQL: writers take turns by the lock of the row in `head`.
    Postgres,
}

/// What a pool's connections are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Reads only.
    Reader,
    /// The one connection that writes.
    Writer,
}

// === impl Dialect ===

impl Dialect {
    /// Takes a database URL apart; `None` when it is of no known kind.
    ///
    /// `sqlite:PATH` takes the path as it is, with no parameters: `?`, `#` and `%` are part of it.
    pub(crate) fn parse(url: &str) -> Option<Result<(Self, AnyConnectOptions), sqlx::Error>> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
            let options = AnyConnectOptions::from_str(&format!("sqlite:{path}?mode=rwc"));
            Some(options.map(|options| (Self::Sqlite, options)))
        } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Some(AnyConnectOptions::from_str(url).map(|options| (Self::Postgres, options)))
        } else {
            None
        }
    }

    /// Returns what a new connection runs first.
    pub(crate) fn on_connect(self, role: Role) -> &'static str {
        match (self, role) {
            (Self::Sqlite, Role::Writer) => {
                "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                 PRAGMA foreign_keys = ON;"
            }
            (Self::Sqlite, Role::Reader) => "PRAGMA busy_timeout = 5000; PRAGMA query_only = ON;",
            (Self::Postgres, Role::Writer) => "SET lock_timeout = '5s';",
            (Self::Postgres, Role::Reader) => "SET default_transaction_read_only = on;",
        }
    }

    /// Returns the start of a transaction that writes.
    pub(crate) fn begin_write(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            // Each statement after the lock on `head` must see what the holder before committed.
            Self::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED",
        }
    }

    /// Returns the start of a transaction that writes what it read, and fails when somebody else wrote it meanwhile.
    pub(crate) fn begin_rewrite(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ",
        }
    }

    /// Returns the start of a transaction that sees one state throughout.
    pub(crate) fn begin_read(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN DEFERRED",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// Returns the query for the end of the journal that holds back other writers until the commit.
    pub(crate) fn lock_head(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT seq, hash FROM head WHERE id = 1",
            Self::Postgres => "SELECT seq, hash FROM head WHERE id = 1 FOR UPDATE",
        }
    }

    /// Returns the statement that holds back other migrations until the commit.
    pub(crate) fn lock_schema(self) -> &'static str {
        match self {
            // BEGIN IMMEDIATE has done so.
            Self::Sqlite => "SELECT 1",
            Self::Postgres => "DO $$ BEGIN PERFORM pg_advisory_xact_lock(7060515271); END $$",
        }
    }

    /// Returns a migration in the words of this database.
    pub(crate) fn schema(self, sql: &str) -> String {
        let (key_text, generated, json) = match self {
            Self::Sqlite => ("TEXT COLLATE BINARY", "VIRTUAL", "body"),
            Self::Postgres => ("TEXT COLLATE \"C\"", "STORED", "body::json"),
        };
        sql.replace("KEY_TEXT", key_text).replace("GENERATED_HOW", generated).replace("BODY_JSON", json)
    }

    /// Returns the function that gives where in a text another one begins, counted from 1; 0 when it is not in it.
    pub(crate) fn position(self) -> &'static str {
        match self {
            Self::Sqlite => "instr",
            Self::Postgres => "strpos",
        }
    }

    /// Tells whether a failed COMMIT certainly stored nothing.
    pub(crate) fn refused_commit(self, error: &sqlx::Error) -> bool {
        let code = error.as_database_error().and_then(|error| error.code());
        match (self, code.as_deref()) {
            // SQLITE_BUSY and SQLITE_FULL: the end of the transaction was not written.
            (Self::Sqlite, Some(code)) => matches!(code, "5" | "13"),
            // Classes 23 and 40: a constraint or a rollback.
            (Self::Postgres, Some(code)) => code.starts_with("23") || code.starts_with("40"),
            (_, None) => false,
        }
    }
}
