//! The journal: reading it. That nobody rewrote it is proven in [`verify`], over hashes as [`crate::hashes`] says.

mod verify;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

use tollgate_model::names::RealmName;
use tollgate_model::objects::Kind;

use crate::changes::JournalEntry;
use crate::connections::Unavailable;
use crate::hashes::{Hash, from_hex, hash_text};
use crate::objects::{ReadError, RowError, text};
use crate::past::sortable;
use crate::refusals::{About, Outcome, Refusal};
use crate::store::Store;

pub use verify::{JournalReport, VerifyJournalError};

/// Which entries of a realm's journal to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalFilter {
    /// Only entries that wrote an object of this kind.
    pub kind: Option<Kind>,
    /// Only entries that wrote the object of this key; needs `kind`.
    pub key: Option<String>,
    /// Of kind and key also the refused attempts that were aimed at it.
    pub attempts: bool,
    /// Only entries of this actor.
    pub actor: Option<String>,
    /// Only entries of this action.
    pub action: Option<String>,
    /// Only entries from this source.
    pub source: Option<String>,
    /// Only the entries of this request.
    pub request_id: Option<String>,
    /// Only entries with this outcome.
    pub outcome: Option<Outcome>,
    /// Only entries at or after this time.
    pub since: Option<Timestamp>,
    /// Only entries before this time.
    pub until: Option<Timestamp>,
    /// Only entries with a higher number.
    pub after: Option<u64>,
    /// Only entries with a lower number.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: u32,
    /// The highest number first.
    pub newest_first: bool,
}

/// Columns of the journal, as [`read_entry`] takes them.
macro_rules! select_entries {
    ($rest:literal) => {
        concat!(
            "SELECT seq, realm, at, actor, source, action, request_id, reason, mutations, previous_hash, hash, ",
            "format, outcome, about_kind, about_key, detail, at_sorted FROM journal ",
            $rest
        )
    };
}
use select_entries;

/// A condition being put together: fixed words with the values that stand in them.
struct Condition<'a> {
    sql: String,
    values: Vec<Value<'a>>,
}

enum Value<'a> {
    Number(i64),
    Text(std::borrow::Cow<'a, str>),
}

/// A row of the journal.
struct JournalRow {
    entry: JournalEntry,
    /// The mutations as stored.
    mutations: String,
    /// The time as the index has it.
    sorted: String,
}

// === impl Store ===

impl Store {
    /// Returns the entries of all realms after a number, in order: the change feed.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or an entry does not parse.
    pub async fn changes_after(&self, seq: u64, limit: u32) -> Result<Vec<JournalEntry>, ReadError> {
        let query = sqlx::query(select_entries!("WHERE seq > $1 AND seq <= $3 ORDER BY seq LIMIT $2"))
            .bind(number(seq))
            .bind(i64::from(limit))
            .bind(number(self.end()));
        let rows = self.inner.fetch(query).await?;
        let entries: Vec<_> =
            rows.iter().map(|row| Ok(read(row)?.entry)).collect::<Result<_, ReadError>>()?;
        if let Some(last) = entries.last() {
            self.inner.advance(last.seq);
        }
        Ok(entries)
    }

    /// Returns entries of one realm.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or an entry does not parse.
    pub async fn journal(
        &self,
        realm: &RealmName,
        filter: &JournalFilter,
    ) -> Result<Vec<JournalEntry>, ReadError> {
        let texts = [&filter.key, &filter.actor, &filter.action, &filter.source, &filter.request_id];
        if texts.into_iter().flatten().any(|text| text.contains('\0')) {
            // PostgreSQL refuses the character instead of finding nothing.
            return Ok(Vec::new());
        }
        let Some((after, before)) = self.between(realm, filter).await? else { return Ok(Vec::new()) };
        let range = [number(after), number(before)];
        let mut condition = match (filter.kind, &filter.key) {
            (Some(kind), Some(key)) => Condition::of_object(realm, kind, key, filter.attempts, range),
            _ => {
                let mut condition = Condition::of(realm);
                condition.and("seq > ? AND seq < ?", range.map(Value::Number));
                condition
            }
        };
        condition.and_time(filter);
        for (words, text) in [
            ("actor = ?", &filter.actor),
            ("action = ?", &filter.action),
            ("source = ?", &filter.source),
            ("request_id = ?", &filter.request_id),
        ] {
            if let Some(text) = text {
                condition.and(words, [Value::of(text)]);
            }
        }
        if let Some(outcome) = filter.outcome {
            condition.and("outcome = ?", [Value::of(outcome.as_str())]);
        }
        if let (Some(kind), None) = (filter.kind, &filter.key) {
            condition.and_kind(kind, filter.attempts);
        }
        let order = if filter.newest_first { "DESC" } else { "ASC" };
        condition.append(&format!(" ORDER BY seq {order} LIMIT ?"), [Value::Number(filter.limit.into())]);
        let rows = self.rows(select_entries!(""), condition).await?;
        rows.iter().map(|row| Ok(read(row)?.entry)).collect()
    }

    /// Returns one entry of a realm; `None` when there is none of this number in it.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or the entry does not parse.
    pub async fn entry(&self, realm: &RealmName, seq: u64) -> Result<Option<JournalEntry>, ReadError> {
        let filter = JournalFilter {
            after: Some(seq.saturating_sub(1)),
            before: Some(seq.saturating_add(1)),
            limit: 1,
            ..JournalFilter::default()
        };
        Ok(self.journal(realm, &filter).await?.pop())
    }

    /// Returns the hash of an entry; `None` when there is none of this number. Whoever noted it elsewhere sees whether
    /// the journal up to it is still the same.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the database does not answer, or the hash does not parse.
    pub async fn hash_at(&self, seq: u64) -> Result<Option<Hash>, ReadError> {
        let query = sqlx::query("SELECT hash FROM journal WHERE seq = $1").bind(number(seq.min(self.end())));
        let rows = self.inner.fetch(query).await?;
        let Some(row) = rows.first().filter(|_| seq <= self.end()) else { return Ok(None) };
        let hash = from_hex(&text(row, 0)?).ok_or_else(|| row_error(seq, "hash", NO_HASH.into()))?;
        Ok(Some(hash))
    }

    /// Returns the numbers between which the entries of a filter lie; `None` when there are none at its time.
    ///
    /// Entries are read in the order of their numbers, and times are almost in that order: an index of times says
    /// where to begin and to end.
    async fn between(
        &self,
        realm: &RealmName,
        filter: &JournalFilter,
    ) -> Result<Option<(u64, u64)>, ReadError> {
        let after = filter.after.unwrap_or(0);
        let before = filter.before.unwrap_or(u64::MAX).min(self.end().saturating_add(1));
        if filter.since.is_none() && filter.until.is_none() {
            return Ok(Some((after, before)));
        }
        let mut condition = Condition::of(realm);
        condition.and_time(filter);
        let rows =
            self.rows("SELECT coalesce(min(seq), 0), coalesce(max(seq), 0) FROM journal ", condition).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound).map_err(Unavailable::from)?;
        let read = |index| row.try_get::<i64, _>(index).map(i64::unsigned_abs).map_err(Unavailable::from);
        let (first, last) = (read(0)?, read(1)?);
        Ok((first > 0).then(|| (after.max(first - 1), before.min(last + 1))))
    }

    async fn rows(&self, select: &str, condition: Condition<'_>) -> Result<Vec<AnyRow>, ReadError> {
        // Fixed words only: every value is a parameter.
        let sql = AssertSqlSafe(format!("{select}{}", condition.sql));
        let query = condition.values.iter().fold(sqlx::query(sql), |query, value| match value {
            Value::Number(number) => query.bind(*number),
            Value::Text(text) => query.bind(text.to_string()),
        });
        Ok(self.inner.fetch(query).await?)
    }
}

// === impl JournalFilter ===

impl JournalFilter {
    /// Tells whether an entry of the filter's realm is one that it finds, whatever its limit and order.
    pub fn finds(&self, entry: &JournalEntry) -> bool {
        let is =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let concerns =
            |kind: Kind, key: &str| self.kind.is_none_or(|wanted| wanted == kind) && is(&self.key, key);
        let about = entry.about.iter().filter(|_| self.attempts).map(|it| (it.kind, it.key.as_str()));
        let mut objects = entry.mutations.iter().map(|it| (it.kind, it.key.as_str())).chain(about);
        (self.kind.is_none() || objects.any(|(kind, key)| concerns(kind, key)))
            && is(&self.actor, &entry.actor)
            && is(&self.action, &entry.action)
            && is(&self.source, &entry.source)
            && is(&self.request_id, &entry.request_id)
            && self.outcome.is_none_or(|outcome| outcome == entry.outcome)
            && self.since.is_none_or(|since| entry.at >= since)
            && self.until.is_none_or(|until| entry.at < until)
            && self.after.is_none_or(|after| entry.seq > after)
            && self.before.is_none_or(|before| entry.seq < before)
    }
}

// === impl Condition ===

impl<'a> Condition<'a> {
    fn of(realm: &'a RealmName) -> Self {
        let mut condition = Self { sql: String::new(), values: Vec::new() };
        condition.append("WHERE realm = ?", [Value::of(realm.as_str())]);
        condition
    }

    fn and(&mut self, words: &'static str, values: impl IntoIterator<Item = Value<'a>>) {
        self.sql.push_str(" AND ");
        self.append(words, values);
    }

    fn and_time(&mut self, filter: &JournalFilter) {
        for (words, time) in [("at_sorted >= ?", filter.since), ("at_sorted < ?", filter.until)] {
            if let Some(time) = time {
                self.and(words, [Value::Text(sortable(time).into())]);
            }
        }
    }

    /// Begins with the entries that wrote one object, or were attempts at it.
    ///
    /// One object is in few of them: these are looked up by their numbers. The realm is compared as no index has it, and the
    /// numbers are bounded where they are looked up, so that a database without statistics, as after an import, does not
    /// walk through the realm's journal instead.
    fn of_object(realm: &'a RealmName, kind: Kind, key: &'a str, attempts: bool, range: [i64; 2]) -> Self {
        let mut condition = Self { sql: String::new(), values: Vec::new() };
        condition.append("WHERE realm || '' = ?", [Value::of(realm.as_str())]);
        let object = || {
            let names = [realm.as_str(), kind.as_str(), key].map(Value::of);
            names.into_iter().chain(range.map(Value::Number))
        };
        let words = match attempts {
            false => {
                "seq IN (SELECT seq FROM journal_objects WHERE realm = ? AND kind = ? AND key = ? \
                 AND seq > ? AND seq < ?)"
            }
            true => {
                "seq IN (SELECT seq FROM journal_objects WHERE realm = ? AND kind = ? AND key = ? \
                 AND seq > ? AND seq < ? UNION ALL SELECT seq FROM journal WHERE realm = ? AND about_kind = ? \
                 AND about_key = ? AND seq > ? AND seq < ?)"
            }
        };
        // As many as there are marks.
        condition.and(words, object().chain(object()));
        condition
    }

    /// Demands that an entry wrote an object of a kind, or was an attempt at one. Entries are looked at in their order, and
    /// mostly a page is full soon.
    fn and_kind(&mut self, kind: Kind, attempts: bool) {
        let words = match attempts {
            false => "EXISTS (SELECT 1 FROM journal_objects o WHERE o.seq = journal.seq AND o.kind = ?)",
            true => {
                "(EXISTS (SELECT 1 FROM journal_objects o WHERE o.seq = journal.seq AND o.kind = ?) \
                 OR about_kind = ?)"
            }
        };
        self.and(words, [kind.as_str(), kind.as_str()].map(Value::of));
    }

    /// Adds words in which each `?` stands for the next value.
    fn append(&mut self, words: &str, values: impl IntoIterator<Item = Value<'a>>) {
        let mut parts = words.split('?');
        self.sql.push_str(parts.next().unwrap_or_default());
        for (part, value) in parts.zip(values) {
            self.values.push(value);
            self.sql.push_str(&format!("${}{part}", self.values.len()));
        }
    }
}

// === impl Value ===

impl<'a> Value<'a> {
    fn of(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

const NO_HASH: &str = "not 64 hexadecimal digits";

fn row_error(
    seq: impl ToString,
    column: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
) -> RowError {
    RowError { table: "journal", row: seq.to_string(), column, source }
}

/// Reads a row of [`select_entries`].
fn read(row: &AnyRow) -> Result<JournalRow, ReadError> {
    let seq: i64 = row.try_get(0).map_err(Unavailable::from)?;
    let error = |column, source: Box<dyn std::error::Error + Send + Sync>| row_error(seq, column, source);
    let hash = |index, column| -> Result<Hash, ReadError> {
        Ok(from_hex(&text(row, index)?).ok_or_else(|| error(column, NO_HASH.into()))?)
    };
    let at = text(row, 2)?;
    let time: Timestamp = at.parse().map_err(|source: jiff::Error| error("at", source.into()))?;
    if time.to_string() != at {
        // Another spelling of the same time would not show in the hash.
        return Err(error("at", "not in the form that was written".into()).into());
    }
    let mutations = text(row, 8)?;
    let format: i64 = row.try_get(11).map_err(Unavailable::from)?;
    let outcome =
        Outcome::parse(&text(row, 12)?).ok_or_else(|| error("outcome", "unknown outcome".into()))?;
    let (about_kind, about_key) = (text(row, 13)?, text(row, 14)?);
    let about = match (about_kind.as_str(), about_key) {
        ("", key) if key.is_empty() => None,
        (kind, key) => {
            let kind = Kind::parse(kind).ok_or_else(|| error("about_kind", "unknown kind".into()))?;
            Some(About { kind, key })
        }
    };
    let detail = text(row, 15)?;
    if !detail.is_empty() {
        serde_json::from_str::<Refusal>(&detail).map_err(|source| error("detail", source.into()))?;
    }
    let entry = JournalEntry {
        seq: u64::try_from(seq).map_err(|source| error("seq", source.into()))?,
        realm: RealmName::parse(&text(row, 1)?).map_err(|source| error("realm", source.into()))?,
        at: time,
        actor: text(row, 3)?,
        source: text(row, 4)?,
        action: text(row, 5)?,
        request_id: text(row, 6)?,
        reason: text(row, 7)?,
        outcome,
        about,
        detail,
        mutations: serde_json::from_str(&mutations).map_err(|source| error("mutations", source.into()))?,
        mutations_hash: hash_text(&mutations),
        format: u8::try_from(format).map_err(|source| error("format", source.into()))?,
        previous_hash: hash(9, "previous_hash")?,
        hash: hash(10, "hash")?,
    };
    Ok(JournalRow { entry, mutations, sorted: text(row, 16)? })
}

/// Returns a number as the databases take it; none is higher than theirs.
pub(crate) fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
