//! Answering for entries that are gone.
//!
//! After a restored backup the journal is shorter than checkpoints say, and verifying it says so until somebody with the
//! permission answers for it. What they say is signed and journaled, and shown with every verification from then on: a
//! loss is explained, never made to look as if there had been none.

use tollgate_credential::evidence::envelopes;
use tollgate_model::evidence::{JournalLoss, LOSS_PAYLOAD, LossStatement};
use tollgate_model::hex::hex;
use tollgate_model::names::RealmName;
use tollgate_model::next_steps::NextStep;
use tollgate_store::Expect;

use super::Evidence;
use super::proof::Lost;
use crate::access::{Op, Permission};
use crate::changes::Draft;
use crate::errors::Error;

/// Longest reason, in characters.
const MAX_REASON: usize = 500;

// === impl Evidence ===

impl Evidence {
    /// Answers for the entries that checkpoints show to be gone.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Forbidden`]; [`crate::errors::ErrorKind::Invalid`] without a reason;
    /// [`crate::errors::ErrorKind::Conflict`] with code `nothing-lost`, or `journal-tampered` when more is wrong than
    /// that entries are gone.
    pub async fn accept_loss(&self, op: &Op, reason: &str) -> Result<LossStatement, Error> {
        op.demand_server(Permission::AuditAccept)?;
        let reason = checked_reason(reason)?;
        let examined = self.examine(None).await?;
        if let Some(fault) = examined.tampered {
            let place = fault.seq.map(|seq| format!("entry {seq}: ")).unwrap_or_default();
            let message = format!("this is no loss that can be answered for: {place}{}", fault.what);
            return Err(Error::conflict("journal-tampered", message)
                .hint("restore a backup whose journal verifies, then answer for what it lacks"));
        }
        let Some(lost) = examined.lost else {
            return Err(Error::conflict("nothing-lost", "no checkpoint shows that entries are gone")
                .hint("see what the checkpoints show")
                .next(NextStep::VerifyJournal));
        };
        let Lost { kept_entries, kept_hash, seen_entries, unverifiable } = lost;
        let statement = LossStatement {
            origin: examined.origin,
            kept_entries,
            kept_hash: hex(&kept_hash),
            seen_entries,
            accepted_at: op.now,
            accepted_by: op.actor.name.clone(),
            request_id: op.request_id.to_string(),
            reason: reason.to_owned(),
            unverifiable,
        };
        let payload = serde_json::to_vec(&statement).map_err(Error::internal)?;
        let signer = self.0.evidence_signer(op.now).await?.value;
        let envelope = envelopes::seal(&signer, LOSS_PAYLOAD, &payload).map_err(Error::internal)?;
        let what = format!("entries after {kept_entries}, of {seen_entries} that there were: {reason}");
        let mut draft = Draft::new(op, "journal.accept-loss").realm(RealmName::default()).reason(what);
        draft.put(&JournalLoss { accepted_at: op.now, envelope }, Expect::Absent)?;
        self.0.commit(op, draft).await?;
        Ok(statement)
    }

    /// Returns the losses that were accepted, each with what it says or why it can't be believed.
    pub(super) async fn stored_losses(&self) -> Result<Vec<Result<LossStatement, String>>, Error> {
        let keys = self.0.public_evidence_keys().await?;
        let stored = self.0.all::<JournalLoss>(&RealmName::default(), "").await?;
        let losses = stored.into_iter().map(|stored| {
            let opened = envelopes::open(&stored.value.envelope, LOSS_PAYLOAD, &keys);
            let opened = opened.map_err(|error| format!("is forged or damaged: {error}"))?;
            let statement: LossStatement =
                serde_json::from_slice(&opened.payload).map_err(|_| "does not parse".to_owned())?;
            for signer in opened.signers {
                signer.check_time(statement.accepted_at).map_err(|error| format!("is forged: {error}"))?;
            }
            Ok(statement)
        });
        Ok(losses.collect())
    }
}

fn checked_reason(reason: &str) -> Result<&str, Error> {
    let reason = reason.trim();
    if reason.chars().any(char::is_control) {
        return Err(
            Error::invalid("the reason holds control characters").hint("write it in one line of text")
        );
    }
    match reason.chars().count() {
        0 => Err(Error::invalid("a loss needs a reason")
            .hint("say what happened, for whoever verifies the journal")),
        1..=MAX_REASON => Ok(reason),
        length => Err(Error::invalid(format!("the reason has {length} characters"))
            .hint(format!("write at most {MAX_REASON}"))),
    }
}
