//! Change requests: where a realm wants four eyes, one person asks and another decides.
//!
//! What is protected is asked for here and not saved ([`ChangeRequests::ask`]); the use case that would save it refuses
//! where it is called all the same. A request stores the change itself. Whoever approves it names the base that they read:
//! the newest revision of what the change rests on. The change is then computed anew, and made only if it rests on that,
//! in the transaction that writes the decision.
//!
//! Two people are two users, by id, neither of whom holds the account of the other: see [`people`].

mod ask;
mod break_glass;
mod decide;
mod leave;
mod people;
mod preview;

use tollgate_model::change_requests::{ChangeRequest, LIFETIME, RequestState};
use tollgate_model::environments::Realm;
use tollgate_model::ids::ChangeRequestId;
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_policy::PolicyDiff;
use tollgate_store::{Page, Stored};

use crate::App;
use crate::access::{Op, Permission};
use crate::errors::{Error, ErrorKind};

pub use ask::{AskedChange, Proposal};
pub use break_glass::end_four_eyes;
pub use decide::ApprovedChange;
pub(crate) use leave::{Leave, Subject};
pub use preview::Preview;

/// Most requests that are looked at to count those that wait.
const MOST_COUNTED: u32 = 500;

/// Use cases of change requests.
pub struct ChangeRequests(pub(crate) App);

/// A request, and what it would do today.
#[derive(Debug)]
pub struct ShownChange {
    /// The request with its revision.
    pub request: Stored<ChangeRequest>,
    /// What approving it now would do, or why it would be refused; `None` when it is decided or has expired.
    pub today: Option<Result<Preview, Error>>,
    /// What became other in the policies since it was asked for.
    pub moved: Option<PolicyDiff>,
}

// === impl ChangeRequests ===

impl ChangeRequests {
    /// Returns the requests, newest first; those in one state, or all.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn list(
        &self,
        op: &Op,
        state: Option<RequestState>,
    ) -> Result<Vec<Stored<ChangeRequest>>, Error> {
        op.demand(Permission::ChangeRequestRead)?;
        let mut requests = self.0.all::<ChangeRequest>(&op.realm, "").await?;
        requests.retain(|request| state.is_none_or(|state| request.value.state(op.now) == state));
        requests.reverse();
        Ok(requests)
    }

    /// Returns how many requests wait for the actor to decide; none for whoever may decide none.
    ///
    /// It is asked for with every page of the console, so it reads those alone that have not expired, and nothing where the
    /// realm wants no second person.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`].
    pub async fn waiting_for(&self, op: &Op) -> Result<usize, Error> {
        if op.demand(Permission::ChangeRequestApprove).is_err() || op.actor.user.is_none() {
            return Ok(0);
        }
        let realm = self.0.store().get::<Realm>(&op.realm, &keys::realm(&op.realm)).await?;
        if realm.is_none_or(|realm| realm.value.settings.four_eyes.is_off()) {
            return Ok(0);
        }
        // Ids sort by the time that they were made at.
        let oldest = op.now.checked_sub(LIFETIME).map_err(Error::internal)?;
        let oldest = keys::change_request(ChangeRequestId::new(oldest, [0; 10]));
        let page = Page { prefix: String::new(), after: Some(oldest), limit: MOST_COUNTED };
        let requests = self.0.store().list::<ChangeRequest>(&op.realm, &page).await?;
        let waits = |request: &&Stored<ChangeRequest>| {
            request.value.state(op.now) == RequestState::Pending
                && Some(request.value.author.user) != op.actor.user
        };
        Ok(requests.iter().filter(waits).count())
    }

    /// Returns a request with what it would do today.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Forbidden`] also without [`Permission::PolicyRead`]: what it would do names
    /// what runs.
    pub async fn get(&self, op: &Op, id: ChangeRequestId) -> Result<ShownChange, Error> {
        op.demand(Permission::ChangeRequestRead)?;
        op.demand(Permission::PolicyRead)?;
        let request = self.find(op, id).await?;
        if request.value.state(op.now) != RequestState::Pending {
            return Ok(ShownChange { request, today: None, moved: None });
        }
        let realm = self.0.realm(op).await?;
        let leave = Leave::approved(&realm, &request.value, &op.actor.name);
        let today = match self.drafted(op, &request.value, &leave).await {
            Ok(drafted) => Ok(self.preview(op, &drafted).await?),
            Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Internal) => {
                return Err(error);
            }
            Err(error) => Err(error),
        };
        let moved = self.moved(op, &request.value).await?;
        Ok(ShownChange { request, today: Some(today), moved })
    }

    async fn find(&self, op: &Op, id: ChangeRequestId) -> Result<Stored<ChangeRequest>, Error> {
        let stored = self.0.store().get::<ChangeRequest>(&op.realm, &keys::change_request(id)).await?;
        stored.ok_or_else(|| {
            Error::not_found(format!("there is no change request {id}"))
                .hint("see those that exist")
                .next(NextStep::ListChangeRequests)
        })
    }
}
