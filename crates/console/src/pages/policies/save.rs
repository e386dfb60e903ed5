//! Saving a change of the policies, whichever page it comes from: at once, as a request for a second person, or as a
//! shadow; and what to say when somebody else was faster.

use axum::response::Response;
use http::StatusCode;
use tollgate_app::change_requests::Proposal;
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::policies::PolicyEdit;
use tollgate_model::versions::Version;

use super::super::change_requests::asked_path;
use super::versions::{Change, changes};
use crate::Console;
use crate::answers::{Answer, see_other};
use crate::errors::status_of;
use crate::forms::Refusal;
use crate::visitor::Visitor;

/// What became of a change.
pub(super) enum Outcome {
    /// It was made, or asked for: the browser is sent on.
    Done(Response),
    /// It was refused: the form is shown again.
    Again(StatusCode, Refusal),
}

/// Saves a change of the policies that were read at a revision.
pub(super) async fn save(
    console: &Console,
    visitor: &Visitor,
    edit: &PolicyEdit,
    reason: &str,
    revision: u64,
) -> Answer<Outcome> {
    let realm = &visitor.op.realm;
    let proposal = Proposal::Policy { edit, if_match: Some(revision) };
    match console.app.change_requests().ask(&visitor.op, proposal, reason).await {
        Ok(None) => {}
        Ok(Some(asked)) => {
            return Ok(Outcome::Done(see_other(&asked_path(&visitor.op, &asked.request.value))));
        }
        Err(error) => return again(error),
    }
    match console.app.policies().set(&visitor.op, edit, reason, Some(revision)).await {
        Ok(saved) => {
            let version = saved.policies.version();
            Ok(Outcome::Done(see_other(&format!("/realms/{realm}/policies?saved={version}"))))
        }
        Err(error) => again(error),
    }
}

/// Lets a change begin as a shadow: it is judged beside the policies, and holds up nobody.
pub(super) async fn shadow(
    console: &Console,
    visitor: &Visitor,
    edit: &PolicyEdit,
    reason: &str,
) -> Answer<Outcome> {
    let PolicyEdit::Set(values) = edit else {
        let problem = Refusal::of("only a change of values can be tried as a shadow");
        return Ok(Outcome::Again(StatusCode::UNPROCESSABLE_ENTITY, problem));
    };
    match console.app.shadow().set(&visitor.op, values, reason, None).await {
        Ok(_) => Ok(Outcome::Done(see_other(&format!("/realms/{}/policies/shadow", visitor.op.realm)))),
        Err(error) => again(error),
    }
}

/// Returns what changed of the policies since a version that somebody read.
pub(super) async fn meanwhile(console: &Console, visitor: &Visitor, read: &str) -> Answer<Vec<Change>> {
    let Ok(read) = read.parse::<Version>() else { return Ok(Vec::new()) };
    match console.app.policies().diff(&visitor.op, read, None).await {
        Ok(diff) => Ok(changes(&diff)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn again(error: Error) -> Answer<Outcome> {
    match error.kind {
        ErrorKind::Invalid | ErrorKind::PreconditionFailed | ErrorKind::Conflict => {
            let status = status_of(error.kind);
            Ok(Outcome::Again(status, error.into()))
        }
        _ => Err(error.into()),
    }
}
