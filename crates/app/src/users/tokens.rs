//! API tokens: for programs, with an end, and with scopes for those that need not do all that their user may do.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use tollgate_credential::user_tokens::IssuedUserToken;
use tollgate_model::ids::{UserId, UserTokenId};
use tollgate_model::names::RealmName;
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::{Kind, Object as _, keys};
use tollgate_model::users::{TokenScope, UserToken};
use tollgate_store::{Expect, Stored};

use super::{Authenticated, Users, only_users, scopes};
use crate::access::{Op, Permission};
use crate::changes::{Draft, overtaken};
use crate::errors::{Error, ErrorKind};

/// How long an API token works unless its maker says otherwise.
const USUAL: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long an API token works at most.
pub(super) const LONGEST: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How far a caller's clock may be ahead.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(10);
/// Most API tokens of a user.
const MAX_TOKENS: usize = 200;

/// An API token to make.
#[derive(Debug, Clone, Default)]
pub struct NewToken {
    /// For its owner to tell tokens apart.
    pub name: String,
    /// When it is to stop working; `None` for 90 days from now.
    pub expires_at: Option<Timestamp>,
    /// What it may be used for at most; `None` for as much as whoever makes it may do.
    pub scopes: Option<Vec<TokenScope>>,
}

/// A token with its plain form, which is shown this once.
#[derive(Debug)]
pub struct ShownToken {
    /// What is kept of it.
    pub token: UserToken,
    /// The token itself.
    pub plain: IssuedUserToken,
}

/// An API token as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenView {
    /// What is kept of it.
    pub token: UserToken,
    /// When it was last used, to about a minute.
    pub last_used_at: Option<Timestamp>,
}

// === impl Users ===

impl Users {
    /// Returns the actor's own API tokens, oldest first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn tokens(&self, op: &Op) -> Result<Vec<TokenView>, Error> {
        op.demand(Permission::UserTokenManage)?;
        let user = op.actor.user.ok_or_else(only_users)?;
        let mut tokens = self.tokens_of(user).await?;
        tokens.retain(|token| !token.is_session());
        let used = self.last_uses(tokens.iter().map(|token| token.id)).await?;
        let view = |token: UserToken| TokenView { last_used_at: used.get(&token.id).copied(), token };
        Ok(tokens.into_iter().map(view).collect())
    }

    /// Issues an API token to the actor; its plain form is in this answer and nowhere else.
    ///
    /// One that is made with an API token may do no more than that one, for no longer, and ends with it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for an expiry that has passed or is more than a year away, and for a scope that means
    /// nothing; [`ErrorKind::Forbidden`] with code `scope-exceeded`; [`ErrorKind::Conflict`] when there are too many.
    pub async fn create_token(
        &self,
        op: &Op,
        me: &Authenticated,
        new: NewToken,
    ) -> Result<ShownToken, Error> {
        let user = own(op, me)?;
        check_name(&new.name)?;
        let scopes = self.scopes_of_new(me, new.scopes)?;
        let expires_at = expiry_of_new(me, new.expires_at, op.now)?;
        let realm = RealmName::default();
        let held = self.tokens_of(user).await?;
        if held.iter().filter(|token| !token.is_session() && !is_over(token, op.now)).count() >= MAX_TOKENS {
            return Err(Error::conflict(
                "too-many-tokens",
                format!("you hold {MAX_TOKENS} API tokens already"),
            )
            .hint("delete those that you no longer use"));
        }
        let mut shown = self.new_token(op.now, user, &new.name, expires_at)?;
        shown.token.is_api_token = true;
        shown.token.scopes = scopes;
        shown.token.made_by = Some(me.token.id).filter(|_| !me.token.is_session());
        let mut draft = Draft::new(op, "user-token.create").realm(realm);
        // What is revoked at this moment makes no token any more.
        draft.guard(Kind::UserToken, me.token.key(), Expect::Exists);
        for token in held.iter().filter(|token| is_over(token, op.now)) {
            draft.delete::<UserToken>(token.key(), Expect::Any);
        }
        draft.put(&shown.token, Expect::Absent)?;
        self.0.commit(op, draft).await?;
        Ok(shown)
    }

    /// Revokes one of the actor's own API tokens, with those that it made.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], also for a session and for a token of somebody else; [`ErrorKind::Forbidden`] with code
    /// `scope-exceeded` when a token of fewer scopes is shown.
    pub async fn delete_token(&self, op: &Op, me: &Authenticated, id: UserTokenId) -> Result<(), Error> {
        let user = own(op, me)?;
        let stored = self.0.store().get::<UserToken>(&RealmName::default(), &keys::user_token(id)).await?;
        let token =
            stored.map(|stored| stored.value).filter(|token| token.user == user && !token.is_session());
        let token = token.ok_or_else(|| {
            Error::not_found(format!("you have no API token `{id}`")).hint("list your tokens for their ids")
        })?;
        if !scopes::within(me.token.scopes.as_deref(), token.scopes.as_deref()) {
            return Err(exceeded("this API token may do less than the one to be revoked"));
        }
        self.revoke(op, &token, "user-token.delete").await
    }

    /// Ends the session, or revokes the API token, that an operation was asked for with.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`] for an operation of nobody; [`ErrorKind::Unavailable`].
    pub async fn sign_out(&self, op: &Op, me: &Authenticated) -> Result<(), Error> {
        if op.actor.user != Some(me.token.user) {
            return Err(only_users());
        }
        let action = if me.token.is_session() { "session.end" } else { "user-token.delete" };
        self.revoke(op, &me.token, action).await
    }

    /// Deletes a token with all that it made, and all that those made.
    pub(super) async fn revoke(&self, op: &Op, token: &UserToken, action: &str) -> Result<(), Error> {
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let mut draft = Draft::new(op, action).realm(RealmName::default());
            // None is made meanwhile that would outlive its maker.
            let head = self.0.store().head().await?;
            draft.guard(Kind::UserToken, "", Expect::NothingSince(head));
            let of_user = self.tokens_of(token.user).await?;
            if !of_user.iter().any(|it| it.id == token.id) {
                return Err(Error::not_found(format!("`{}` was revoked already", token.id))
                    .hint("list your tokens for their ids"));
            }
            let mut gone = HashSet::from([token.id]);
            loop {
                let before = gone.len();
                let made = of_user.iter().filter(|it| it.made_by.is_some_and(|maker| gone.contains(&maker)));
                let made: Vec<_> = made.map(|it| it.id).collect();
                gone.extend(made);
                if gone.len() == before {
                    break;
                }
            }
            for id in gone {
                draft.delete::<UserToken>(keys::user_token(id), Expect::Any);
            }
            if self.0.commit_decided(op, draft).await?.is_some() {
                return Ok(());
            }
        }
        Err(overtaken())
    }

    /// Returns the sessions and API tokens of a user, oldest first.
    pub(super) async fn tokens_of(&self, user: UserId) -> Result<Vec<UserToken>, Error> {
        let all = self.0.all::<UserToken>(&RealmName::default(), "").await?;
        Ok(all.into_iter().map(|Stored { value, .. }| value).filter(|token| token.user == user).collect())
    }

    pub(super) fn new_token(
        &self,
        now: Timestamp,
        user: UserId,
        name: &str,
        expires_at: Timestamp,
    ) -> Result<ShownToken, Error> {
        let plain = IssuedUserToken::generate(self.0.random())?;
        let token = UserToken {
            id: UserTokenId::new(now, self.0.id_bytes()?),
            user,
            name: name.to_owned(),
            digest: plain.digest.to_string(),
            created_at: now,
            expires_at: Some(expires_at),
            session: None,
            is_api_token: false,
            scopes: None,
            made_by: None,
        };
        Ok(ShownToken { token, plain })
    }

    /// Returns the scopes of a new token: what was asked for, else those of the token that makes it.
    fn scopes_of_new(
        &self,
        me: &Authenticated,
        asked: Option<Vec<TokenScope>>,
    ) -> Result<Option<Vec<TokenScope>>, Error> {
        let Some(asked) = asked else { return Ok(me.token.scopes.clone()) };
        scopes::check(&asked)?;
        if !scopes::within(me.token.scopes.as_deref(), Some(&asked)) {
            return Err(exceeded("an API token can't make one that may do more than itself"));
        }
        Ok(Some(asked))
    }
}

fn expiry_of_new(me: &Authenticated, asked: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, Error> {
    crate::credentials::check_expiry(asked, now)?;
    let after = |lasts| now.checked_add(lasts).map_err(Error::internal);
    let (usual, longest) = (after(USUAL)?, after(LONGEST)?);
    // The end of a session is not that of what it makes: API tokens are there to outlast sessions.
    let maker_ends = me.token.expires_at.filter(|_| !me.token.is_session());
    match asked {
        // Whoever counted the days has a clock of their own.
        Some(at) if at.duration_since(longest) > CLOCKS_APART => {
            Err(Error::invalid(format!("the expiry {at} is more than 365 days away"))
                .hint("take a nearer one, and make a new token before it ends"))
        }
        Some(at) if maker_ends.is_some_and(|ends| at > ends) => {
            Err(exceeded("an API token can't make one that lasts longer than itself"))
        }
        Some(at) => Ok(at),
        None => Ok(maker_ends.map_or(usual, |ends| ends.min(usual))),
    }
}

/// Refuses what is no name for a token.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    if name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err(
            Error::invalid("this is no name for a token").hint("use at most 100 printable characters")
        );
    }
    Ok(())
}

pub(super) fn is_over(token: &UserToken, now: Timestamp) -> bool {
    token.expires_at.is_some_and(|at| at <= now)
}

/// Tokens belong to users: the system has none.
fn own(op: &Op, me: &Authenticated) -> Result<UserId, Error> {
    op.demand(Permission::UserTokenManage)?;
    op.actor.user.filter(|user| *user == me.token.user).ok_or_else(only_users)
}

pub(super) fn exceeded(message: &str) -> Error {
    Error::new(ErrorKind::Forbidden, "scope-exceeded", message)
        .hint("sign in and do it with the session")
        .next(NextStep::SignIn)
}
