//! The journal: reading it, what an entry changed, exporting and verifying it.

mod differences;
mod masking;
mod text;

use std::collections::BTreeMap;

use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::Kind;
use tollgate_store::{Hash, JournalEntry, JournalFilter, JournalReport, VerifyJournalError};

use crate::App;
use crate::access::{Op, Permission};
use crate::errors::Error;

pub use differences::FieldChange;
pub use masking::{MASK, is_masked, masked};
pub use text::{ExportFormat, ExportText};

/// Most entries in a list.
const PAGE: u32 = 500;
/// Entries of an export that are in memory at once: each may hold a whole pipeline.
const EXPORT_PAGE: u32 = 100;

/// Use cases of the journal.
pub struct Journal(pub(crate) App);

/// What verifying the journal showed.
#[derive(Debug, Clone, PartialEq)]
pub enum JournalVerdict {
    /// Nobody rewrote it.
    Intact(JournalReport),
    /// It was tampered with or damaged.
    Broken {
        /// The first entry that is wrong.
        seq: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// One entry, with what it made of each object.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownEntry {
    /// The entry.
    pub entry: JournalEntry,
    /// What it changed, in the order of kinds and keys.
    pub objects: Vec<ChangedObject>,
}

/// What an entry made of an object. Secrets are masked.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedObject {
    /// Its kind.
    pub kind: Kind,
    /// Its key.
    pub key: String,
    /// The entry that wrote it before; `None` when there was no such object.
    pub previous: Option<u64>,
    /// Whether it was deleted.
    pub deleted: bool,
    /// The fields that differ from before.
    pub fields: Vec<FieldChange>,
}

/// The entries of an export, a page at a time, oldest first; ends with the entry that was the last when it began.
pub struct Export {
    app: App,
    op: Op,
    filter: JournalFilter,
    chain: bool,
    after: u64,
    end: u64,
}

/// One line of an export.
#[derive(Debug, Clone, PartialEq)]
pub enum Exported {
    /// An entry that was asked for.
    Entry(Box<JournalEntry>),
    /// What is told of another entry, so that the chain of hashes can be verified across it.
    Link {
        /// Its number.
        seq: u64,
        /// Hash of what it says; `None` for one in format 1, whose hash cannot be computed from that.
        content: Option<Hash>,
        /// Hash of the entry before.
        previous_hash: Hash,
        /// Its hash.
        hash: Hash,
    },
}

// === impl Journal ===

impl Journal {
    /// Returns entries of the realm, at most 500 at once.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Invalid`] when a key is given without its kind, or a time that is not before the
    /// other.
    pub async fn list(&self, op: &Op, mut filter: JournalFilter) -> Result<Vec<JournalEntry>, Error> {
        op.demand(Permission::AuditRead)?;
        check(&filter)?;
        filter.limit = filter.limit.clamp(1, PAGE);
        Ok(self.0.store().journal(&op.realm, &filter).await?)
    }

    /// Returns one entry of the realm, with what it made of each object.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when the realm has no entry of this number.
    pub async fn entry(&self, op: &Op, seq: u64) -> Result<ShownEntry, Error> {
        op.demand(Permission::AuditRead)?;
        let store = self.0.store();
        let entry = store.entry(&op.realm, seq).await?.ok_or_else(|| {
            Error::not_found(format!("realm `{}` has no journal entry {seq}", op.realm))
                .hint("entries of other realms have numbers, too; see those of this one")
                .next(NextStep::ListJournal)
        })?;
        // The last write of each object, if there are several.
        let mut written: BTreeMap<(Kind, &str), Option<&str>> = BTreeMap::new();
        for mutation in &entry.mutations {
            written.insert((mutation.kind, mutation.key.as_str()), mutation.body.as_deref());
        }
        let mut keys: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
        for (kind, key) in written.keys() {
            keys.entry(*kind).or_default().push((*key).to_owned());
        }
        let mut before = BTreeMap::new();
        for (kind, keys) in keys {
            for object in store.stored_as_of(&op.realm, kind, &keys, seq.saturating_sub(1)).await? {
                before.insert((kind, object.key), (object.revision, object.body));
            }
        }
        let objects = written
            .iter()
            .map(|((kind, key), after)| {
                let previous = before.get(&(*kind, (*key).to_owned()));
                let body = previous.map(|(_, body)| body.as_str());
                ChangedObject {
                    kind: *kind,
                    key: (*key).to_owned(),
                    previous: previous.map(|(seq, _)| *seq),
                    deleted: after.is_none(),
                    fields: differences::differences(*kind, body, *after),
                }
            })
            .collect();
        Ok(ShownEntry { objects, entry })
    }

    /// Begins an export of the entries that a filter finds, whatever its limit and order. With `chain`, the other
    /// entries up to the last one, those of other realms included, are told by their hashes, so that whoever holds the
    /// export can verify that none is missing.
    ///
    /// # Errors
    ///
    /// As [`Journal::list`].
    pub async fn export(&self, op: &Op, filter: JournalFilter, chain: bool) -> Result<Export, Error> {
        op.demand(Permission::AuditRead)?;
        check(&filter)?;
        let head = self.0.store().head().await?;
        let end = filter.before.map_or(head, |before| head.min(before.saturating_sub(1)));
        let after = filter.after.unwrap_or(0);
        Ok(Export { app: self.0.clone(), op: op.clone(), filter, chain, after, end })
    }

    /// Recomputes the whole chain.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Unavailable`] when it can't be read.
    pub async fn verify(&self, op: &Op) -> Result<JournalVerdict, Error> {
        op.demand(Permission::AuditRead)?;
        match self.0.store().verify_journal().await {
            Ok(report) => Ok(JournalVerdict::Intact(report)),
            Err(VerifyJournalError::Broken { seq, what }) => Ok(JournalVerdict::Broken { seq, what }),
            Err(VerifyJournalError::Read(error)) => Err(error.into()),
        }
    }
}

// === impl Export ===

impl Export {
    /// Returns the next page; empty after the last.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Unavailable`] when it can't be read.
    pub async fn next(&mut self) -> Result<Vec<Exported>, Error> {
        if self.after >= self.end {
            return Ok(Vec::new());
        }
        let store = self.app.store();
        let entries = if self.chain {
            let mut entries = store.changes_after(self.after, EXPORT_PAGE).await?;
            entries.retain(|entry| entry.seq <= self.end);
            entries
        } else {
            let filter = JournalFilter {
                after: Some(self.after),
                before: Some(self.end.saturating_add(1)),
                limit: EXPORT_PAGE,
                newest_first: false,
                ..self.filter.clone()
            };
            store.journal(&self.op.realm, &filter).await?
        };
        self.after = entries.last().map_or(self.end, |entry| entry.seq);
        let export = |entry: JournalEntry| {
            if entry.realm == self.op.realm && self.filter.finds(&entry) {
                return Exported::Entry(Box::new(entry));
            }
            let content = (entry.format > 1).then(|| entry.content_hash());
            Exported::Link { seq: entry.seq, content, previous_hash: entry.previous_hash, hash: entry.hash }
        };
        Ok(entries.into_iter().map(export).collect())
    }
}

/// Refuses a filter that cannot find what was meant.
fn check(filter: &JournalFilter) -> Result<(), Error> {
    if filter.key.is_some() && filter.kind.is_none() {
        return Err(Error::invalid("a key needs its kind").hint("give `kind` too, for example `deployment`"));
    }
    match (filter.since, filter.until) {
        (Some(since), Some(until)) if since >= until => {
            Err(Error::invalid(format!("there is no time since {since} and before {until}"))
                .hint("give an earlier `since` or a later `until`"))
        }
        _ => Ok(()),
    }
}
