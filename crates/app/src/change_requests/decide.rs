//! Deciding: approve, reject, withdraw.

use tollgate_model::change_requests::{ChangeRequest, DecideError, Decision, Outcome, RequestedChange};
use tollgate_model::ids::ChangeRequestId;
use tollgate_model::names::RealmName;
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::{Kind, Object as _};
use tollgate_store::{Expect, Stored};

use super::ask::{permissions, sentence};
use super::people::person;
use super::{ChangeRequests, Leave, Preview};
use crate::access::{Op, Permission};
use crate::changes::{Draft, expect_read, overtaken};
use crate::errors::{Error, ErrorKind};

/// Longest comment, in characters.
const MAX_COMMENT: usize = 1000;

/// A change that was approved and made.
#[derive(Debug, Clone)]
pub struct ApprovedChange {
    /// The request.
    pub request: Stored<ChangeRequest>,
    /// What approving it did.
    pub preview: Preview,
}

// === impl ChangeRequests ===

impl ChangeRequests {
    /// Approves a request and makes the change, in one transaction: computed anew on what there is today, and made only if
    /// that is what the approver read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Forbidden`] for the author, for whoever may not make the change, and for an
    /// account that hangs together with the author's (`not-independent`); [`ErrorKind::Conflict`] when it is decided
    /// already (`change-request-decided`), has expired (`change-request-expired`), or its author is no user any more
    /// (`author-gone`); [`ErrorKind::PreconditionFailed`] when it rests on another `base` by now, or is decided at the same
    /// moment; as when the change is made otherwise. Nothing is stored then.
    pub async fn approve(
        &self,
        op: &Op,
        id: ChangeRequestId,
        base: u64,
        comment: &str,
        if_match: Option<u64>,
    ) -> Result<ApprovedChange, Error> {
        op.demand(Permission::ChangeRequestApprove)?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let (draft, approved) = self.approval(op, id, base, comment, if_match).await?;
            if let Some(revision) = self.0.commit_with_leave(op, draft).await? {
                let (request, preview) = approved;
                return Ok(ApprovedChange { request: Stored { value: request, revision }, preview });
            }
        }
        Err(overtaken())
    }

    async fn approval(
        &self,
        op: &Op,
        id: ChangeRequestId,
        base: u64,
        comment: &str,
        if_match: Option<u64>,
    ) -> Result<(Draft, (ChangeRequest, Preview)), Error> {
        let stored = self.find(op, id).await?;
        let approved = decided(op, &stored.value, Outcome::Approved, comment)?;
        let waiver = match &approved.change {
            RequestedChange::CreateWaiver { environment, pipeline, .. } => Some((environment, pipeline)),
            _ => None,
        };
        self.demand(op, permissions(&approved.change), waiver).await?;
        let realm = self.0.realm(op).await?;
        let author = self.author(&stored.value).await?;
        self.refuse_dependent(op, &stored.value).await?;

        let leave = Leave::approved(&realm, &approved, &op.actor.name);
        let drafted = self.drafted(op, &approved, &leave).await?;
        let preview = self.preview(op, &drafted).await?;
        if preview.base != base {
            return Err(moved(id, preview.base));
        }
        let reason = format!(
            "{}; requested by {}, approved by {}",
            sentence(&approved),
            approved.author.name,
            op.actor.name
        );
        let mut draft = drafted.draft.reason(reason);
        // Whoever goes at this moment is gone.
        let revision = Expect::Revision(author.revision);
        draft.guard_in(&RealmName::default(), Kind::User, author.value.key(), revision);
        draft.put(&approved, expect_read(&stored, if_match)?)?;
        Ok((draft, (approved, preview)))
    }

    /// Rejects the request of somebody else; nothing of it is made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Forbidden`] for the author, who withdraws it; [`ErrorKind::Conflict`] when it
    /// is decided already or has expired; [`ErrorKind::PreconditionFailed`].
    pub async fn reject(
        &self,
        op: &Op,
        id: ChangeRequestId,
        comment: &str,
        if_match: Option<u64>,
    ) -> Result<Stored<ChangeRequest>, Error> {
        op.demand(Permission::ChangeRequestApprove)?;
        self.end(op, id, Outcome::Rejected, comment, if_match).await
    }

    /// Takes one's own request back.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Forbidden`] for everybody but the author; [`ErrorKind::Conflict`] when it is
    /// decided already or has expired; [`ErrorKind::PreconditionFailed`].
    pub async fn withdraw(
        &self,
        op: &Op,
        id: ChangeRequestId,
        comment: &str,
        if_match: Option<u64>,
    ) -> Result<Stored<ChangeRequest>, Error> {
        op.demand(Permission::ChangeRequestRead)?;
        self.end(op, id, Outcome::Withdrawn, comment, if_match).await
    }

    async fn end(
        &self,
        op: &Op,
        id: ChangeRequestId,
        outcome: Outcome,
        comment: &str,
        if_match: Option<u64>,
    ) -> Result<Stored<ChangeRequest>, Error> {
        let stored = self.find(op, id).await?;
        let request = decided(op, &stored.value, outcome, comment)?;
        let action = match outcome {
            Outcome::Withdrawn => "change-request.withdraw",
            _ => "change-request.reject",
        };
        let why = if comment.is_empty() { String::new() } else { format!(": {comment}") };
        let what = format!("{}; requested by {}", sentence(&request), request.author.name);
        let mut draft =
            Draft::new(op, action).reason(format!("{what}, {} by {}{why}", outcome.as_str(), op.actor.name));
        draft.put(&request, expect_read(&stored, if_match)?)?;
        let revision = self.0.commit(op, draft).await?;
        Ok(Stored { value: request, revision })
    }
}

/// Returns the request with a decision of whoever acts.
fn decided(
    op: &Op,
    request: &ChangeRequest,
    outcome: Outcome,
    comment: &str,
) -> Result<ChangeRequest, Error> {
    let decision = Decision { outcome, by: person(op)?, at: op.now, comment: checked_comment(comment)? };
    request.decided(decision).map_err(|error| refused(request, outcome, &error))
}

fn refused(request: &ChangeRequest, outcome: Outcome, error: &DecideError) -> Error {
    let message = format!("change request {} can't be {}: {error}", request.id, outcome.as_str());
    let refused = |kind, code, hint| Error::new(kind, code, message).hint(hint);
    let again = "ask for the change again, if it is still wanted";
    match error {
        DecideError::Decided(_) => refused(ErrorKind::Conflict, "change-request-decided", again),
        DecideError::Expired(_) => refused(ErrorKind::Conflict, "change-request-expired", again),
        DecideError::Own => {
            refused(ErrorKind::Forbidden, "change-request-own", "somebody else decides; you can take it back")
                .next(NextStep::WithdrawChangeRequest { id: Some(request.id) })
        }
        DecideError::NotOwn(_) => {
            refused(ErrorKind::Forbidden, "change-request-not-own", "whoever may approve it can reject it")
                .next(NextStep::RejectChangeRequest { id: request.id })
        }
    }
}

/// Says that what was read is not what would be approved.
fn moved(id: ChangeRequestId, base: u64) -> Error {
    let message = format!(
        "what change request {id} is based on is not what you read: it is revision {base} by now, and nothing was changed"
    );
    Error::new(ErrorKind::PreconditionFailed, "base-changed", message)
        .hint("read what it would do now, then approve that with its base")
        .next(NextStep::SeeChangeRequest { id })
}

fn checked_comment(comment: &str) -> Result<String, Error> {
    if comment.chars().any(char::is_control) {
        return Err(
            Error::invalid("the comment holds control characters").hint("write it in one line of text")
        );
    }
    if comment.chars().count() > MAX_COMMENT {
        return Err(Error::invalid(format!("the comment is longer than {MAX_COMMENT} characters"))
            .hint("say it shorter, and link to the rest"));
    }
    Ok(comment.to_owned())
}
