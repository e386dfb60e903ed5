//! The journal: reading and verifying it.

use tollgate_store::{JournalEntry, JournalFilter, JournalReport, VerifyJournalError};

use crate::App;
use crate::access::{Op, Permission};
use crate::errors::Error;

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

// === impl Journal ===

impl Journal {
    /// Returns entries of the realm, at most 500 at once.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Invalid`] when a key is given without its kind.
    pub async fn list(&self, op: &Op, mut filter: JournalFilter) -> Result<Vec<JournalEntry>, Error> {
        op.demand(Permission::AuditRead)?;
        if filter.key.is_some() && filter.kind.is_none() {
            return Err(
                Error::invalid("a key needs its kind").hint("give `kind` too, for example `deployment`")
            );
        }
        filter.limit = filter.limit.clamp(1, 500);
        Ok(self.0.store().journal(&op.realm, &filter).await?)
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
