//! Questions to the past: every use case that reads can be asked as of a time, and answers from the journal.

use jiff::Timestamp;
use tollgate_model::environments::Realm;
use tollgate_model::objects::keys;

use crate::App;
use crate::access::{Op, Permission};
use crate::errors::{Error, ErrorKind};

// === impl App ===

impl App {
    /// Returns the use cases as of a time, and the operation to call them with: objects, policies and waivers are those
    /// of then, and so is the time by which they judge. Nothing can be changed through them.
    ///
    /// Reading the past needs the permission to read the journal besides what the use case demands: it shows what was
    /// deleted since. What has no history, as last uses of keys and counted calls, is as it is now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`]; [`ErrorKind::Invalid`] for a time in the future, or before the realm was made.
    pub async fn as_of(&self, op: &Op, at: Timestamp) -> Result<(Self, Op), Error> {
        op.demand(Permission::AuditRead)?;
        if at > op.now {
            return Err(Error::new(ErrorKind::Invalid, "time-in-future", format!("{at} is in the future"))
                .hint("what will be is not in the journal: leave the time away to see what is"));
        }
        let seq = self.store().seq_at(at).await?;
        let past = self.store().as_of(seq);
        if past.get::<Realm>(&op.realm, &keys::realm(&op.realm)).await?.is_none() {
            // The realm must be there today, or the caller would have been told so.
            let realm = self.realm(op).await?.value;
            let message = format!("realm `{}` did not exist yet at {at}", op.realm);
            return Err(Error::new(ErrorKind::Invalid, "time-before-realm", message)
                .hint(format!("it was made at {}", realm.created_at)));
        }
        Ok((Self(self.0.clone(), past), Op { now: at, ..op.clone() }))
    }
}
