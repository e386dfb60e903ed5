//! Reading the current state.

use std::sync::LazyLock;

use sqlx::Row;
use sqlx::any::AnyRow;
use tokio::sync::mpsc;

use tollgate_model::environments::Realm;
use tollgate_model::names::RealmName;
use tollgate_model::objects::{Kind, Object, ParseObjectError, StoredObject};

use crate::connections::{LONG, Lease, Unavailable};
use crate::hashes::{Hash, from_hex};
use crate::store::{Query, Store};

/// How many objects [`Store::load_in_parts`] hands over at once.
const PART: i64 = 4_000;
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
        let (parts, mut coming) = mpsc::channel(1);
        let all = async {
            let mut objects = Vec::new();
            while let Some(part) = coming.recv().await {
                objects.extend(part);
            }
            objects
        };
        let (loaded, objects) = tokio::join!(self.load_in_parts(kinds, parts), all);
        Ok((loaded?.0, objects))
    }

    /// Hands over all objects of these kinds in all realms, some thousands at a time, as of one moment: nobody has to hold
    /// all of them. Returns number and hash of the last entry that they include.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or a row is not an object. What was handed over is of no use then.
    pub async fn load_in_parts(
        &self,
        kinds: &[Kind],
        parts: mpsc::Sender<Vec<StoredObject>>,
    ) -> Result<(u64, Hash), ReadError> {
        if let Some(seq) = self.pinned {
            for Stored { value: realm, .. } in self.realms().await? {
                for kind in kinds {
                    let part = self.past(&realm.name, *kind, "", seq).await?;
                    // Whoever takes no more has its reasons, and learns of no further one.
                    let _ = parts.send(part).await;
                }
            }
            return Ok((seq, self.hash_at(seq).await?.unwrap_or_default()));
        }
        let load = self.load_rows(kinds, &parts);
        let loaded = tokio::time::timeout(LONG, load).await;
        let end = loaded.unwrap_or_else(|_| Err(Unavailable::from(sqlx::Error::PoolTimedOut).into()))?;
        self.inner.advance(end.0);
        Ok(end)
    }

    async fn load_rows(
        &self,
        kinds: &[Kind],
        parts: &mpsc::Sender<Vec<StoredObject>>,
    ) -> Result<(u64, Hash), ReadError> {
        let mut lease = Lease::take(&self.inner.reader).await.map_err(Unavailable::from)?;
        lease.execute(self.inner.dialect.begin_read()).await.map_err(Unavailable::from)?;
        let head = sqlx::query("SELECT seq, hash FROM head WHERE id = 1").fetch_one(lease.connection()).await;
        let head = head.map_err(Unavailable::from)?;
        let (seq, hash) =
            (head.try_get::<i64, _>(0).map_err(Unavailable::from)?.unsigned_abs(), text(&head, 1)?);
        let hash = from_hex(&hash).ok_or_else(|| RowError {
            table: "head",
            row: "1".to_owned(),
            column: "hash",
            source: "not a hash".into(),
        })?;
        for kind in kinds {
            let (mut realm, mut key) = (String::new(), String::new());
            loop {
                let query: Query<'_> = sqlx::query(
                    "SELECT realm, kind, key, revision, body FROM objects \
                     WHERE kind = $1 AND (realm, key) > ($2, $3) ORDER BY realm, key LIMIT $4",
                );
                let query = query.bind(kind.as_str()).bind(&realm).bind(&key).bind(PART);
                let rows = query.fetch_all(lease.connection()).await.map_err(Unavailable::from)?;
                let part = rows.iter().map(read_object).collect::<Result<Vec<_>, _>>()?;
                let is_last = i64::try_from(part.len()).is_ok_and(|len| len < PART);
                if let Some(last) = part.last() {
                    (realm, key) = (last.realm.to_string(), last.key.clone());
                    drop(rows);
                    let _ = parts.send(part).await;
                }
                if is_last {
                    break;
                }
            }
        }
        lease.execute("COMMIT").await.map_err(Unavailable::from)?;
        lease.release();
        Ok((seq, hash))
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
