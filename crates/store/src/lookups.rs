//! Finding objects by something other than their keys: whose they are, what a caller shows of them, a part of their name,
//! a word in them. Of many objects only those that are meant are read.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Row};

use tollgate_model::names::RealmName;
use tollgate_model::objects::{Kind, Object, StoredObject};

use crate::connections::Unavailable;
use crate::objects::{Page, ReadError, Stored, end_of, parse, read_as};
use crate::records::RecordTable;
use crate::store::Store;

/// How many owners, or records, are asked for at once.
const MANY: usize = 100;

/// What is read of an object.
const COLUMNS: &str = "realm, kind, key, revision, body";

// === impl Store ===

impl Store {
    /// Returns the objects of a kind that belong to one of these owners, ordered by the bytes of their keys: API keys,
    /// Basic Auth credentials and client certificates belong to the consumer of this id.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or an object is not a `T`.
    pub async fn owned<T: Object>(
        &self,
        realm: &RealmName,
        owners: &[String],
    ) -> Result<Vec<Stored<T>>, ReadError> {
        if let Some(seq) = self.pinned {
            let past = self.past(realm, T::KIND, "", seq).await?;
            let is_owned = |it: &&StoredObject| owner_of(it).is_some_and(|it| owners.contains(&it));
            return past.iter().filter(is_owned).map(parse).collect();
        }
        let mut found: Vec<Stored<T>> = Vec::new();
        for owners in owners.chunks(MANY) {
            let one = |index: usize| {
                let owner = index + 3;
                format!("SELECT {COLUMNS} FROM objects WHERE realm = $1 AND kind = $2 AND owner = ${owner}")
            };
            let sql = (0..owners.len()).map(one).collect::<Vec<_>>().join(" UNION ALL ");
            let mut query = sqlx::query(AssertSqlSafe(sql)).bind(realm.as_str()).bind(T::KIND.as_str());
            for owner in owners {
                query = query.bind(owner.as_str());
            }
            let rows = self.inner.fetch(query).await?;
            found.extend(rows.iter().map(read_as).collect::<Result<Vec<_>, _>>()?);
        }
        found.sort_by_cached_key(|stored| stored.value.key());
        Ok(found)
    }

    /// Returns the objects of a kind whose keys start with a prefix and that have a handle, ordered by the bytes of their
    /// keys: the digest of an API key, the user name of a Basic Auth credential, the id of a consumer.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or an object is not a `T`.
    pub async fn with_handle<T: Object>(
        &self,
        realm: &RealmName,
        prefix: &str,
        handle: &str,
    ) -> Result<Vec<Stored<T>>, ReadError> {
        if prefix.contains('\0') || handle.contains('\0') {
            return Ok(Vec::new());
        }
        if let Some(seq) = self.pinned {
            let past = self.past(realm, T::KIND, prefix, seq).await?;
            let has = |it: &&StoredObject| handle_of(it).is_some_and(|it| it == handle);
            return past.iter().filter(has).map(parse).collect();
        }
        let query = sqlx::query(
            "SELECT realm, kind, key, revision, body FROM objects \
             WHERE realm = $1 AND kind = $2 AND handle = $3 AND key >= $4 AND key < $5 ORDER BY key",
        )
        .bind(realm.as_str())
        .bind(T::KIND.as_str())
        .bind(handle)
        .bind(prefix)
        .bind(end_of(prefix));
        self.inner.fetch(query).await?.iter().map(read_as).collect()
    }

    /// Returns objects of one kind as [`Store::list`] does, of those whose keys hold a text after the page's
    /// prefix, in whatever capitals.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or an object is not a `T`.
    pub async fn search<T: Object>(
        &self,
        realm: &RealmName,
        page: &Page,
        text: &str,
    ) -> Result<Vec<Stored<T>>, ReadError> {
        let text = &text.to_ascii_lowercase();
        let rest = |it: &StoredObject| it.key.get(page.prefix.len()..).map(str::to_ascii_lowercase);
        let matches = |it: &StoredObject| rest(it).is_some_and(|it| it.contains(text));
        let position = self.inner.dialect.position();
        // Keys are ASCII, so that a place in bytes is one in characters.
        let condition = format!("{position}(lower(substr(key, {})), $7) > 0", page.prefix.len() + 1);
        self.filtered(realm, page, text, matches, &condition).await
    }

    /// Returns objects of one kind as [`Store::list`] does, of those in which a word stands as a text of its own: a
    /// consumer's pipelines, for example. The word may stand elsewhere in the object: look at what comes.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or an object is not a `T`.
    pub async fn mentioning<T: Object>(
        &self,
        realm: &RealmName,
        page: &Page,
        word: &str,
    ) -> Result<Vec<Stored<T>>, ReadError> {
        let quoted = Value::from(word).to_string();
        let position = self.inner.dialect.position();
        let condition = format!("{position}(body, $7) > 0");
        self.filtered(realm, page, &quoted, |it| it.body.contains(&quoted), &condition).await
    }

    /// Reads a page of what fits a condition, which the database finds `text` in, or `matches` in the past.
    async fn filtered<T: Object>(
        &self,
        realm: &RealmName,
        page: &Page,
        text: &str,
        matches: impl Fn(&StoredObject) -> bool,
        condition: &str,
    ) -> Result<Vec<Stored<T>>, ReadError> {
        let after = page.after.as_deref().unwrap_or_default();
        if [page.prefix.as_str(), after, text].iter().any(|text| text.contains('\0')) {
            return Ok(Vec::new());
        }
        if let Some(seq) = self.pinned {
            let past = self.past(realm, T::KIND, &page.prefix, seq).await?;
            let found = past.iter().filter(|it| it.key.as_str() > after && matches(it));
            return found.take(usize::try_from(page.limit).unwrap_or(usize::MAX)).map(parse).collect();
        }
        let sql = format!(
            "SELECT {COLUMNS} FROM objects WHERE realm = $1 AND kind = $2 AND key >= $3 AND key > $4 AND key < $5 \
             AND {condition} ORDER BY key LIMIT $6"
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(realm.as_str())
            .bind(T::KIND.as_str())
            .bind(page.prefix.as_str())
            .bind(after)
            .bind(end_of(&page.prefix))
            .bind(i64::from(page.limit))
            .bind(text);
        self.inner.fetch(query).await?.iter().map(read_as).collect()
    }

    /// Returns the content of the records of these keys that there are, by their keys.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when the database fails.
    pub async fn get_records(
        &self,
        table: RecordTable,
        realm: &RealmName,
        keys: &[String],
    ) -> Result<HashMap<String, String>, Unavailable> {
        let mut found = HashMap::with_capacity(keys.len());
        for keys in keys.chunks(MANY) {
            let one = |index: usize| {
                let key = index + 3;
                format!("SELECT key, body FROM records WHERE collection = $1 AND realm = $2 AND key = ${key}")
            };
            let sql = (0..keys.len()).map(one).collect::<Vec<_>>().join(" UNION ALL ");
            let mut query = sqlx::query(AssertSqlSafe(sql)).bind(table.as_str()).bind(realm.as_str());
            for key in keys {
                query = query.bind(key.as_str());
            }
            for row in &self.inner.fetch(query).await? {
                found.insert(row.try_get(0)?, row.try_get(1)?);
            }
        }
        Ok(found)
    }
}

/// Returns what the column `owner` has of an object.
pub(crate) fn owner_of(object: &StoredObject) -> Option<String> {
    let is_owned = matches!(object.kind, Kind::ApiKey | Kind::BasicAuth | Kind::Certificate);
    is_owned.then(|| field(object, "consumer")).flatten()
}

/// Returns what the column `handle` has of an object.
pub(crate) fn handle_of(object: &StoredObject) -> Option<String> {
    match object.kind {
        Kind::ApiKey => field(object, "digest"),
        Kind::BasicAuth => field(object, "username"),
        Kind::Consumer => field(object, "id"),
        _ => None,
    }
}

fn field(object: &StoredObject, name: &str) -> Option<String> {
    let body: Value = serde_json::from_str(&object.body).ok()?;
    Some(body.get(name)?.as_str()?.to_owned())
}
