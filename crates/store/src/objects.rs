//! Reading the current state.

use std::sync::LazyLock;

use sqlx::Row;
use sqlx::any::AnyRow;

use tollgate_model::environments::Realm;
use tollgate_model::names::RealmName;
use tollgate_model::objects::{Kind, Object, ParseObjectError, StoredObject};

use crate::connections::{LONG, Lease, Unavailable, bounded};
use crate::store::{Query, Store};

/// How many objects [`Store::get_many`] asks for at once.
const MANY: usize = 100;
/// The key of nothing.
static NO_KEY: String = String::new();

static SELECT_MANY: LazyLock<&'static str> = LazyLock::new(|| {
    // Not `key IN (…)`: before its first ANALYZE, PostgreSQL takes all objects of a kind to be one, and compares each of
    // them with each key.
    let one = |index: usize| {
        format!(
            "SELECT realm, kind, key, revision, body FROM objects WHERE realm = $1 AND kind = $2 AND key = ${}",
            index + 3
        )
    };
    (0..MANY).map(one).collect::<Vec<_>>().join(" UNION ALL ").leak()
});

/// An object with its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// The object.
    pub value: T,
    /// Number of the journal entry that wrote it.
    pub revision: u64,
}

/// Which part of a list to read. Keys are in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Only keys that start with this; empty for all.
    pub prefix: String,
    /// Only keys after this one.
    pub after: Option<String>,
    /// At most so many.
    pub limit: u32,
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A row holds what this version cannot read.
    #[error(transparent)]
    Row(#[from] RowError),
}

/// A row that does not parse.
#[derive(Debug, thiserror::Error)]
#[error("column `{column}` of row `{row}` in table `{table}` does not parse")]
pub struct RowError {
    pub(crate) table: &'static str,
    pub(crate) row: String,
    pub(crate) column: &'static str,
    pub(crate) source: Box<dyn std::error::Error + Send + Sync>,
}

// === impl Store ===

impl Store {
    /// Returns an object, or `None` when there is none of this key.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or the object is not a `T`.
    pub async fn get<T: Object>(&self, realm: &RealmName, key: &str) -> Result<Option<Stored<T>>, ReadError> {
        if key.contains('\0') {
            // PostgreSQL refuses the character instead of finding nothing.
            return Ok(None);
        }
        if let Some(seq) = self.pinned {
            return self.get_as_of(realm, key, seq).await;
        }
        let query = sqlx::query(
            "SELECT realm, kind, key, revision, body FROM objects WHERE realm = $1 AND kind = $2 AND key = $3",
        )
        .bind(realm.as_str())
        .bind(T::KIND.as_str())
        .bind(key);
        self.inner.fetch(query).await?.first().map(read_as).transpose()
    }

    /// Returns the objects of these keys that there are, in no particular order, a hundred at a time.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or an object is not a `T`.
    pub async fn get_many<T: Object>(
        &self,
        realm: &RealmName,
        keys: &[String],
    ) -> Result<Vec<Stored<T>>, ReadError> {
        if let Some(seq) = self.pinned {
            return self.get_many_as_of(realm, keys, seq).await;
        }
        let known: Vec<&String> = keys.iter().filter(|key| !key.contains('\0')).collect();
        let mut found = Vec::with_capacity(known.len());
        for keys in known.chunks(MANY) {
            let mut query = sqlx::query(*SELECT_MANY).bind(realm.as_str()).bind(T::KIND.as_str());
            // One statement whatever the number; no object has the key that stands for those that are not there.
            for key in keys.iter().chain(std::iter::repeat(&&NO_KEY)).take(MANY) {
                query = query.bind(key.as_str());
            }
            let rows = self.inner.fetch(query).await?;
            found.extend(rows.iter().map(read_as).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(found)
    }

    /// Returns objects of one kind, ordered by the bytes of their keys.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or an object is not a `T`.
    pub async fn list<T: Object>(&self, realm: &RealmName, page: &Page) -> Result<Vec<Stored<T>>, ReadError> {
        if page.prefix.contains('\0') || page.after.as_deref().is_some_and(|after| after.contains('\0')) {
            return Ok(Vec::new());
        }
        if let Some(seq) = self.pinned {
            return self.past_page(realm, T::KIND, page, seq).await?.iter().map(parse).collect();
        }
        let query = sqlx::query(
            "SELECT realm, kind, key, revision, body FROM objects \
             WHERE realm = $1 AND kind = $2 AND key >= $3 AND key > $4 AND key < $5 \
             ORDER BY key LIMIT $6",
        )
        .bind(realm.as_str())
        .bind(T::KIND.as_str())
        .bind(page.prefix.as_str())
        .bind(page.after.as_deref().unwrap_or_default())
        .bind(end_of(&page.prefix))
        .bind(i64::from(page.limit));
        self.inner.fetch(query).await?.iter().map(read_as).collect()
    }

    /// Returns how many objects of a kind have keys that start with a prefix.
    ///
    /// # Errors
    ///
    /// [`ReadError::Unavailable`] when the database does not answer.
    pub async fn count(&self, realm: &RealmName, kind: Kind, prefix: &str) -> Result<u64, ReadError> {
        if prefix.contains('\0') {
            return Ok(0);
        }
        if let Some(seq) = self.pinned {
            return Ok(self.past(realm, kind, prefix, seq).await?.len() as u64);
        }
        let query = sqlx::query(
            "SELECT count(*) FROM objects \
             WHERE realm = $1 AND kind = $2 AND key >= $3 AND key < $4",
        )
        .bind(realm.as_str())
        .bind(kind.as_str())
        .bind(prefix)
        .bind(end_of(prefix));
        let rows = self.inner.fetch(query).await?;
        let count: i64 = rows
            .first()
            .ok_or(sqlx::Error::RowNotFound)
            .and_then(|row| row.try_get(0))
            .map_err(Unavailable::from)?;
        Ok(count.unsigned_abs())
    }

    /// Returns every realm.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or a realm does not parse.
    pub async fn realms(&self) -> Result<Vec<Stored<Realm>>, ReadError> {
        let query =
            sqlx::query("SELECT realm, kind, key, revision, body FROM objects WHERE kind = $1 ORDER BY key")
                .bind(Kind::Realm.as_str());
        let realms: Vec<Stored<Realm>> =
            self.inner.fetch(query).await?.iter().map(read_as).collect::<Result<_, _>>()?;
        let Some(seq) = self.pinned else { return Ok(realms) };
        // A realm is never deleted: those of then are among those of now.
        let mut then = Vec::with_capacity(realms.len());
        for Stored { value: realm, .. } in realms {
            then.extend(self.get_as_of::<Realm>(&realm.name, realm.name.as_str(), seq).await?);
        }
        Ok(then)
    }

    /// Returns all objects of these kinds in all realms, and the number of the last entry that they include.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or a row is not an object.
    pub async fn load(&self, kinds: &[Kind]) -> Result<(u64, Vec<StoredObject>), ReadError> {
        if let Some(seq) = self.pinned {
            let mut objects = Vec::new();
            for Stored { value: realm, .. } in self.realms().await? {
                for kind in kinds {
                    objects.extend(self.past(&realm.name, *kind, "", seq).await?);
                }
            }
            return Ok((seq, objects));
        }
        let (seq, rows) = bounded(LONG, self.load_rows(kinds)).await.map_err(Unavailable::from)?;
        let objects = rows.iter().map(read_object).collect::<Result<_, _>>()?;
        self.inner.advance(seq.unsigned_abs());
        Ok((seq.unsigned_abs(), objects))
    }

    async fn load_rows(&self, kinds: &[Kind]) -> Result<(i64, Vec<AnyRow>), sqlx::Error> {
        let mut lease = Lease::take(&self.inner.reader).await?;
        lease.execute(self.inner.dialect.begin_read()).await?;
        let seq =
            sqlx::query_scalar("SELECT seq FROM head WHERE id = 1").fetch_one(lease.connection()).await?;
        let mut rows = Vec::new();
        for kind in kinds {
            let query: Query<'_> = sqlx::query(
                "SELECT realm, kind, key, revision, body FROM objects WHERE kind = $1 ORDER BY realm, key",
            );
            rows.extend(query.bind(kind.as_str()).fetch_all(lease.connection()).await?);
        }
        lease.execute("COMMIT").await?;
        lease.release();
        Ok((seq, rows))
    }
}

/// Returns what is above every key that starts with a prefix: no key holds the last code point, which Unicode
/// assigns to no character.
pub(crate) fn end_of(prefix: &str) -> String {
    format!("{prefix}{}", char::MAX)
}

pub(crate) fn read_as<T: Object>(row: &AnyRow) -> Result<Stored<T>, ReadError> {
    parse(&read_object(row)?)
}

pub(crate) fn parse<T: Object>(object: &StoredObject) -> Result<Stored<T>, ReadError> {
    let value = object.parse().map_err(|source: ParseObjectError| RowError {
        table: "objects",
        row: format!("{}/{}/{}", object.realm, object.kind, object.key),
        column: "body",
        source: source.into(),
    })?;
    Ok(Stored { value, revision: object.revision })
}

/// Reads a row of the columns realm, kind, key, revision, body.
pub(crate) fn read_object(row: &AnyRow) -> Result<StoredObject, ReadError> {
    let (realm, kind, key): (String, String, String) = (text(row, 0)?, text(row, 1)?, text(row, 2)?);
    let revision: i64 = row.try_get(3).map_err(Unavailable::from)?;
    let error = |column, source: Box<dyn std::error::Error + Send + Sync>| RowError {
        table: "objects",
        row: format!("{realm}/{kind}/{key}"),
        column,
        source,
    };
    Ok(StoredObject {
        realm: RealmName::parse(&realm).map_err(|source| error("realm", source.into()))?,
        kind: Kind::parse(&kind).ok_or_else(|| error("kind", "unknown kind".into()))?,
        revision: u64::try_from(revision).map_err(|source| error("revision", source.into()))?,
        body: text(row, 4)?,
        key: key.clone(),
    })
}

pub(crate) fn text(row: &AnyRow, index: usize) -> Result<String, Unavailable> {
    Ok(row.try_get(index)?)
}
