//! Changes as use cases hand them in, and as the journal keeps them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use tollgate_model::names::RealmName;
use tollgate_model::objects::{Kind, Object};

use crate::hashes::{Hash, HashedEntry};
use crate::refusals::{About, Outcome, Refusal};

/// One change: who did what and why, what must hold, what is written. All of it happens or nothing.
#[derive(Debug, Clone)]
pub struct Change {
    /// The realm whose objects it checks and writes.
    pub realm: RealmName,
    /// Who: a user's name.
    pub actor: String,
    /// From where: a remote address, `cli` or `system`.
    pub source: String,
    /// What, as `noun.verb`: `policy.set`.
    pub action: String,
    /// The request that asked for it.
    pub request_id: String,
    /// Why, in the actor's words; may be empty.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// Objects that must be as expected, though this change does not write them.
    pub guards: Vec<Guard>,
    /// What is written.
    pub mutations: Vec<Mutation>,
}

/// What must hold of an object that is not written.
#[derive(Debug, Clone)]
pub struct Guard {
    /// The realm that it belongs to; `None` means that of the change.
    pub realm: Option<RealmName>,
    /// Its kind.
    pub kind: Kind,
    /// Its key; with [`Expect::NothingSince`] and [`Expect::UntouchedSince`] what the keys of those in question begin
    /// with.
    pub key: String,
    /// What must hold.
    pub expect: Expect,
}

/// A write of one object.
#[derive(Debug, Clone)]
pub struct Mutation {
    /// Its kind.
    pub kind: Kind,
    /// Its key.
    pub key: String,
    /// What must hold before.
    pub expect: Expect,
    /// Its new JSON; `None` deletes it.
    pub body: Option<String>,
}

/// What a change expects of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// There is none.
    Absent,
    /// It is there, unchanged since this revision.
    Revision(u64),
    /// It is there.
    Exists,
    /// Since this journal entry nothing was written whose key begins with the one given. What was deleted since is not
    /// noticed. For guards: a decision that was based on a list.
    NothingSince(u64),
    /// Since this journal entry nothing was written, nor deleted, whose key begins with the one given. For guards: a
    /// decision that was based on a list, and on what is not in it.
    UntouchedSince(u64),
    /// Nothing.
    Any,
}

/// A change that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Number of its journal entry; the revision of what it wrote.
    pub seq: u64,
}

/// An entry of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// Its number: 1 is the first, and none is left out.
    pub seq: u64,
    /// [`Change::realm`].
    pub realm: RealmName,
    /// [`Change::at`].
    pub at: Timestamp,
    /// [`Change::actor`].
    pub actor: String,
    /// [`Change::source`].
    pub source: String,
    /// [`Change::action`].
    pub action: String,
    /// [`Change::request_id`].
    pub request_id: String,
    /// [`Change::reason`].
    pub reason: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What a refused attempt was aimed at.
    pub about: Option<About>,
    /// What else there is to say of a refused attempt, as JSON ([`JournalEntry::refusal`]); else empty.
    pub detail: String,
    /// What was written.
    pub mutations: Vec<RecordedMutation>,
    /// SHA-256 of the mutations as JSON.
    pub mutations_hash: Hash,
    /// Over what the hash is: 1 or 2.
    pub format: u8,
    /// Hash of the entry before; zeros for the first.
    pub previous_hash: Hash,
    /// Hash of this entry.
    pub hash: Hash,
}

/// A write as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedMutation {
    /// Kind of the object.
    #[serde(with = "kind_text")]
    pub kind: Kind,
    /// Its key.
    pub key: String,
    /// Its JSON from then on; `None` when it was deleted.
    pub body: Option<String>,
}

// === impl JournalEntry ===

impl JournalEntry {
    /// Returns what a refusal was; `None` when it was none.
    pub fn refusal(&self) -> Option<Refusal> {
        serde_json::from_str(&self.detail).ok()
    }

    /// Returns the hash of all that an entry in format 2 says, without its place in the chain.
    pub fn content_hash(&self) -> Hash {
        let at = self.at.to_string();
        let (about_kind, about_key) = self.about_texts();
        let entry = HashedEntry {
            realm: self.realm.as_str(),
            at: &at,
            actor: &self.actor,
            source: &self.source,
            action: &self.action,
            request_id: &self.request_id,
            reason: &self.reason,
            outcome: self.outcome.as_str(),
            about_kind,
            about_key,
            detail: &self.detail,
            mutations_hash: self.mutations_hash,
        };
        entry.content()
    }

    /// Returns kind and key of what it is about, as they are stored.
    pub(crate) fn about_texts(&self) -> (&str, &str) {
        self.about.as_ref().map_or(("", ""), |about| (about.kind.as_str(), about.key.as_str()))
    }
}

// === impl Mutation ===

impl Mutation {
    /// Writes an object.
    ///
    /// # Errors
    ///
    /// When the object cannot be written as JSON.
    pub fn put<T: Object>(object: &T, expect: Expect) -> Result<Self, serde_json::Error> {
        let body = serde_json::to_string(object)?;
        Ok(Self { kind: T::KIND, key: object.key(), expect, body: Some(body) })
    }

    /// Deletes an object.
    pub fn delete<T: Object>(key: impl Into<String>, expect: Expect) -> Self {
        Self { kind: T::KIND, key: key.into(), expect, body: None }
    }
}

// === impl Expect ===

impl Expect {
    /// Tells whether an object at this revision, or none, is what was expected.
    pub(crate) fn holds(self, found: Option<u64>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::Revision(revision) => found == Some(revision),
            Self::Exists => found.is_some(),
            Self::NothingSince(seq) | Self::UntouchedSince(seq) => found.is_none_or(|newest| newest <= seq),
            Self::Any => true,
        }
    }
}

impl std::fmt::Display for Expect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("none"),
            Self::Revision(revision) => write!(f, "revision {revision}"),
            Self::Exists => f.write_str("one"),
            Self::NothingSince(seq) => write!(f, "nothing since {seq}"),
            Self::UntouchedSince(seq) => write!(f, "nothing touched since {seq}"),
            Self::Any => f.write_str("anything"),
        }
    }
}

/// A kind by its word.
mod kind_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Kind;

    pub(super) fn serialize<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(kind.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Kind, D::Error> {
        let word = String::deserialize(deserializer)?;
        Kind::parse(&word).ok_or_else(|| serde::de::Error::custom(format!("unknown kind `{word}`")))
    }
}
