//! The journal and the current state, on SQLite or PostgreSQL.
//!
//! Every change is one transaction: it checks what it expects, appends one entry to the journal, and updates
//! the objects. An entry's number is its place in the order of commits, without gaps, and the revision of
//! every object that it wrote. The journal is the change feed and the audit log at once, and a hash chain
//! over it shows whether somebody rewrote it ([`Store::verify_journal`]).
//!
//! Writers take turns at the one row of the table `head`. That makes the numbers gap-free and ordered, so a
//! follower that has read up to `seq` never meets a lower number later.

mod calls;
mod changes;
mod checkpoints;
mod commits;
mod connections;
mod dialect;
mod hashes;
mod journal;
mod lookups;
mod migrations;
mod objects;
mod past;
mod records;
mod refusals;
mod store;
mod traffic;

pub use calls::{CallBatch, CallFilter, CallSum};
pub use changes::{Change, Committed, Expect, Guard, JournalEntry, Mutation, RecordedMutation};
pub use commits::CommitError;
pub use connections::Unavailable;
pub use hashes::{Hash, HashedEntry, from_hex, hash_text, link};
pub use journal::{JournalFilter, JournalReport, VerifyJournalError};
pub use migrations::MigrateError;
pub use objects::{Page, ReadError, RowError, Stored};
pub use records::{NewRecord, Record, RecordTable};
pub use refusals::{About, Outcome, Refusal, RefusedAttempt};
pub use store::{OpenStoreError, Store};
pub use traffic::{TrafficBatch, TrafficFilter, TrafficGrouping, TrafficSum};
