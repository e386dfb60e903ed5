//! What is done to a user: each says on the page what it breaks, and is refused there when it is.

use std::collections::BTreeSet;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use serde::Deserialize;
use tollgate_app::errors::Error;
use tollgate_app::groups::GroupEdit;
use tollgate_model::ids::UserTokenId;
use tollgate_model::names::{GroupName, UserName};

use super::{UserPage, UserPath, show_password};
use crate::Console;
use crate::answers::{Answer, see_other};
use crate::forms::{Fields, Told};
use crate::paths::named;
use crate::visitor::Visitor;

#[derive(Deserialize)]
struct SessionForm {
    id: String,
}

#[derive(Deserialize)]
struct GroupForm {
    group: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/users/{user}/disable", post(disable))
        .route("/realms/{realm}/users/{user}/enable", post(enable))
        .route("/realms/{realm}/users/{user}/reset-password", post(reset_password))
        .route("/realms/{realm}/users/{user}/reset-second-factor", post(reset_second_factor))
        .route("/realms/{realm}/users/{user}/sessions/end", post(end_session))
        .route("/realms/{realm}/users/{user}/sessions/end-all", post(end_sessions))
        .route("/realms/{realm}/users/{user}/tokens/end-all", post(end_tokens))
        .route("/realms/{realm}/users/{user}/groups/join", post(join))
        .route("/realms/{realm}/users/{user}/groups/leave", post(leave))
        .route("/realms/{realm}/users/{user}/delete", post(delete))
}

/// Says what was just done.
pub(super) fn notice(done: &str) -> Option<&'static str> {
    Some(match done {
        "disable" => "They are out: neither their password nor any token of theirs is taken.",
        "enable" => "They can sign in again.",
        "reset-second-factor" => "Their second factor is off, and their sessions have ended.",
        "session" => "The session has ended.",
        "sessions" => "All their sessions have ended.",
        "tokens" => "All their sessions and API tokens have ended.",
        "join" => "They are in the group; it counts from their next request on.",
        "leave" => "They are out of the group; it counts from their next request on.",
        _ => return None,
    })
}

async fn disable(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<UserPath>,
) -> Answer<Response> {
    let name = named(&path.user)?;
    let done = console.app.users().disable(&visitor.op, &name, None).await;
    after(&console, &visitor, &name, done.map(drop), "disable").await
}

async fn enable(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<UserPath>,
) -> Answer<Response> {
    let name = named(&path.user)?;
    let done = console.app.users().enable(&visitor.op, &name, None).await;
    after(&console, &visitor, &name, done.map(drop), "enable").await
}

async fn reset_password(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<UserPath>,
) -> Answer<Response> {
    let name = named(&path.user)?;
    match console.app.users().reset_password(&visitor.op, &name, None).await {
        Ok(reset) => {
            show_password(&visitor, &reset.user, reset.password.as_ref(), "has a temporary password")
        }
        Err(error) => after(&console, &visitor, &name, Err(error), "").await,
    }
}

async fn reset_second_factor(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<UserPath>,
) -> Answer<Response> {
    let name = named(&path.user)?;
    let done = console.app.users().reset_second_factor(&visitor.op, &name).await;
    after(&console, &visitor, &name, done, "reset-second-factor").await
}

async fn end_session(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<UserPath>,
    Fields(form): Fields<SessionForm>,
) -> Answer<Response> {
    let (name, id) = (named(&path.user)?, named::<UserTokenId>(&form.id)?);
    let done = console.app.users().end_session_of(&visitor.op, &name, id).await;
    after(&console, &visitor, &name, done, "session").await
}

async fn end_sessions(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<UserPath>,
) -> Answer<Response> {
    let name = named(&path.user)?;
    let done = console.app.users().end_sessions_of(&visitor.op, &name).await;
    after(&console, &visitor, &name, done.map(drop), "sessions").await
}

async fn end_tokens(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<UserPath>,
) -> Answer<Response> {
    let name = named(&path.user)?;
    let done = console.app.users().end_sessions(&visitor.op, &name).await;
    after(&console, &visitor, &name, done.map(drop), "tokens").await
}

async fn join(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<UserPath>,
    Fields(form): Fields<GroupForm>,
) -> Answer<Response> {
    edit_group(&console, &visitor, &path, &form, GroupEdit::Add, "join").await
}

async fn leave(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<UserPath>,
    Fields(form): Fields<GroupForm>,
) -> Answer<Response> {
    edit_group(&console, &visitor, &path, &form, GroupEdit::Remove, "leave").await
}

/// Changes a group by what an edit makes of this one user.
async fn edit_group(
    console: &Console,
    visitor: &Visitor,
    path: &UserPath,
    form: &GroupForm,
    edit: fn(BTreeSet<UserName>) -> GroupEdit,
    what: &'static str,
) -> Answer<Response> {
    let (name, group): (UserName, GroupName) = (named(&path.user)?, named(&form.group)?);
    let edit = edit([name.clone()].into());
    let done = console.app.groups().edit(&visitor.op, &group, &edit, None).await;
    after(console, visitor, &name, done.map(drop), what).await
}

async fn delete(
    State(console): State<Console>,
    visitor: Visitor,
    Path(path): Path<UserPath>,
) -> Answer<Response> {
    let name = named(&path.user)?;
    match console.app.users().delete(&visitor.op, &name, None).await {
        Ok(()) => Ok(see_other(&format!("/realms/{}/users", visitor.op.realm))),
        Err(error) => after(&console, &visitor, &name, Err(error), "").await,
    }
}

/// Goes back to the user, or says on their page why nothing was done.
async fn after(
    console: &Console,
    visitor: &Visitor,
    name: &UserName,
    done: Result<(), Error>,
    what: &'static str,
) -> Answer<Response> {
    let Err(error) = done else {
        return Ok(see_other(&format!("/realms/{}/users/{name}?done={what}", visitor.op.realm)));
    };
    let (told, refusal) = Told::of(error)?;
    // Who is gone has no page.
    let shown = UserPage::new(console, visitor, name).await?;
    let field = if matches!(what, "join" | "leave") { "group" } else { "" };
    told.answer(&shown.refuse(field, refusal))
}
