//! Sessions: what a sign-in begins, and what ends it.

use jiff::Timestamp;
use tollgate_model::ids::{UserId, UserTokenId};
use tollgate_model::names::{RealmName, UserName};
use tollgate_model::objects::{Kind, Object as _, keys};
use tollgate_model::users::UserToken;
use tollgate_store::Expect;

use super::tokens::is_over;
use super::{Authenticated, Users};
use crate::access::{Op, Permission};
use crate::changes::{Draft, overtaken};
use crate::errors::Error;

/// A session as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionView {
    /// What is kept of it.
    pub token: UserToken,
    /// When it was last used, to about a minute.
    pub last_used_at: Option<Timestamp>,
}

/// Which tokens of a user end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    /// The session that goes on.
    pub(crate) keep: Option<UserTokenId>,
    /// Whether API tokens end, too.
    pub(crate) api_tokens: bool,
}

/// How many tokens ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) sessions: usize,
    pub(crate) api_tokens: usize,
}

// === impl Users ===

impl Users {
    /// Returns the actor's own sessions, oldest first.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Forbidden`], also for an API token.
    pub async fn sessions(&self, op: &Op, me: &Authenticated) -> Result<Vec<SessionView>, Error> {
        let user = own(op, me)?;
        self.sessions_of_user(op, user).await
    }

    /// Ends one of the actor's own sessions.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`], also for a session of somebody else;
    /// [`crate::errors::ErrorKind::Forbidden`], also for an API token.
    pub async fn end_session(&self, op: &Op, me: &Authenticated, id: UserTokenId) -> Result<(), Error> {
        let user = own(op, me)?;
        self.end_one(op, user, id).await
    }

    /// Ends all of the actor's own sessions but the one that was shown; returns how many.
    ///
    /// # Errors
    ///
    /// As [`Users::end_session`].
    pub async fn end_other_sessions(&self, op: &Op, me: &Authenticated) -> Result<usize, Error> {
        let user = own(op, me)?;
        self.end_all(op, user, Some(me.token.id)).await
    }

    /// Returns the sessions of a user, oldest first.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`], [`crate::errors::ErrorKind::Forbidden`].
    pub async fn sessions_of(&self, op: &Op, user: &UserName) -> Result<Vec<SessionView>, Error> {
        op.demand_server(Permission::UserRead)?;
        let user = self.user(user).await?.value;
        self.sessions_of_user(op, user.id).await
    }

    /// Ends a session of a user.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`]; [`crate::errors::ErrorKind::Forbidden`], with code `rights-exceeded` when the
    /// user may do what the actor may not.
    pub async fn end_session_of(&self, op: &Op, user: &UserName, id: UserTokenId) -> Result<(), Error> {
        op.demand_server(Permission::UserUpdate)?;
        let user = self.user(user).await?.value;
        self.demand_power(op, &user).await?;
        self.end_one(op, user.id, id).await
    }

    /// Ends all sessions of a user; returns how many.
    ///
    /// # Errors
    ///
    /// As [`Users::end_session_of`].
    pub async fn end_sessions_of(&self, op: &Op, user: &UserName) -> Result<usize, Error> {
        op.demand_server(Permission::UserUpdate)?;
        let user = self.user(user).await?.value;
        self.demand_power(op, &user).await?;
        self.end_all(op, user.id, None).await
    }

    async fn sessions_of_user(&self, op: &Op, user: UserId) -> Result<Vec<SessionView>, Error> {
        let mut views = Vec::new();
        for token in self.tokens_of(user).await? {
            if token.is_session() && !is_over(&token, op.now) && !self.is_idle(&token, op.now).await? {
                let last_used_at = self.last_use(token.id).await?;
                views.push(SessionView { token, last_used_at });
            }
        }
        Ok(views)
    }

    async fn end_one(&self, op: &Op, user: UserId, id: UserTokenId) -> Result<(), Error> {
        let of_user = self.tokens_of(user).await?;
        let token = of_user.iter().find(|token| token.id == id && token.is_session()).ok_or_else(|| {
            Error::not_found(format!("there is no session `{id}`")).hint("list the sessions for their ids")
        })?;
        let mut draft = Draft::new(op, "session.end").realm(RealmName::default());
        draft.delete::<UserToken>(token.key(), Expect::Exists);
        self.0.commit(op, draft).await?;
        Ok(())
    }

    async fn end_all(&self, op: &Op, user: UserId, keep: Option<UserTokenId>) -> Result<usize, Error> {
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let mut draft = Draft::new(op, "session.end").realm(RealmName::default());
            let ended = self.end(&mut draft, user, Ending { keep, api_tokens: false }).await?;
            if ended == Ended::default() || self.0.commit_decided(op, draft).await?.is_some() {
                return Ok(ended.sessions);
            }
        }
        Err(overtaken())
    }

    /// Ends sessions of a user within a change, which is decided again when one began meanwhile.
    pub(crate) async fn end(&self, draft: &mut Draft, user: UserId, which: Ending) -> Result<Ended, Error> {
        let head = self.0.store().head().await?;
        draft.guard(Kind::UserToken, "", Expect::NothingSince(head));
        if let Some(keep) = which.keep {
            // A session that was ended a moment ago changes nothing any more.
            draft.guard(Kind::UserToken, keys::user_token(keep), Expect::Exists);
        }
        let mut ended = Ended::default();
        for token in self.tokens_of(user).await? {
            let is_session = token.is_session();
            if Some(token.id) == which.keep || !(is_session || which.api_tokens) {
                continue;
            }
            draft.delete::<UserToken>(token.key(), Expect::Any);
            if is_session {
                ended.sessions += 1;
            } else {
                ended.api_tokens += 1;
            }
        }
        Ok(ended)
    }
}

/// One's own sessions are one's own: a session needs no permission for them. An API token does not see and end them, or one
/// that was made for something else could put its user out.
fn own(op: &Op, me: &Authenticated) -> Result<UserId, Error> {
    me.demand_session(op, &[])?;
    Ok(me.token.user)
}
