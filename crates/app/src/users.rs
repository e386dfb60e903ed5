//! Users of the management API: the first admin, signing in, API tokens.

mod admin;
mod sign_ins;
mod token_index;

pub use admin::{HeldRight, NewUser, RealmRights, UserRights, UserView, UserWithPassword};
pub use sign_ins::SignIns;

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use tollgate_credential::keys::KeyDigest;
use tollgate_credential::passwords::Password;
use tollgate_credential::user_tokens::{self, IssuedUserToken};
use tollgate_model::ids::{UserId, UserTokenId};
use tollgate_model::names::{RealmName, UserName};
use tollgate_model::objects::{Object, keys};
use tollgate_model::users::{User, UserToken};
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Actor, Op, Permission, Rights};
use crate::changes::Draft;
use crate::errors::{Error, ErrorKind};
use token_index::KnownToken;

/// How long a sign-in lasts.
const SIGN_IN: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Most tokens that a user may hold.
const MAX_TOKENS: usize = 200;

/// Use cases of users. They live in realm `default` and act in every realm.
pub struct Users(pub(crate) App);

/// The first admin.
#[derive(Debug)]
pub struct FirstAdmin {
    /// Their name.
    pub user: User,
    /// The password, shown this once; `None` when the caller brought it.
    pub password: Option<Password>,
    /// An API token, shown this once.
    pub token: ShownToken,
}

/// An API token with its plain form, which is shown this once.
#[derive(Debug)]
pub struct ShownToken {
    /// What is kept of it.
    pub token: UserToken,
    /// The token itself.
    pub plain: IssuedUserToken,
}

/// Somebody who showed an API token.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// Who they are, and what they may do in realm `default`.
    pub actor: Actor,
    /// The token that they showed.
    pub token: UserToken,
}

/// What becomes of a user's next token when they hold [`MAX_TOKENS`] already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    /// It takes the place of the oldest sign-in: a user must not be locked out by having signed in often.
    ForgetOldestSignIn,
    /// It is refused.
    Refuse,
}

// === impl Users ===

impl Users {
    /// Makes user `admin` with an API token when there is no user yet, as the first start does; they may do everything in
    /// realm `default`.
    ///
    /// Returns `None` when there is one. Safe when several processes start at once: one of them makes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn create_first_admin(
        &self,
        op: &Op,
        password: Option<Password>,
    ) -> Result<Option<FirstAdmin>, Error> {
        op.demand(Permission::RealmCreate)?;
        let realm = RealmName::default();
        let name = UserName::parse("admin").map_err(Error::internal)?;
        // Any user: an `admin` who was deleted on purpose does not come back with the next start.
        if !self.0.all::<User>(&realm, "").await?.is_empty() {
            return Ok(None);
        }
        let (plain, made_up) = match password {
            Some(password) => (password, false),
            None => (Password::generate(self.0.random())?, true),
        };
        let user = User {
            id: UserId::new(op.now, self.0.id_bytes()?),
            name,
            password_hash: self.0.hash_password(plain.clone()).await?,
            created_at: op.now,
            disabled_at: None,
            password_is_temporary: false,
        };
        let token = self.new_token(op.now, user.id, "first start", None)?;
        let mut draft = Draft::new(op, "user.create").realm(realm.clone());
        draft.put(&user, Expect::Absent)?;
        self.0.join_administrators(&realm, user.id, &mut draft).await?;
        draft.put(&token.token, Expect::Absent)?;
        let taken = || {
            Error::conflict("already-exists", "there is an admin already").hint("sign in: `tollgate login`")
        };
        match self.0.create(op, draft, taken).await {
            Ok(_) => Ok(Some(FirstAdmin { user, password: made_up.then_some(plain), token })),
            Err(error) if error.kind == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Signs a user in: an API token of 30 days for a name and a password. For a user who holds the most tokens allowed
    /// it takes the place of their oldest sign-in.
    ///
    /// `op` carries where the attempt comes from; its actor is not looked at. An unknown user costs as much time as
    /// a wrong password, and reads the same.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`]; [`ErrorKind::TooMany`] after repeated failures for this user from this source.
    pub async fn sign_in(
        &self,
        op: &Op,
        name: &str,
        password: &str,
        token_name: &str,
    ) -> Result<(User, ShownToken), Error> {
        let sign_ins = &self.0.0.sign_ins;
        sign_ins.begin(name, &op.source, op.now)?;
        let realm = RealmName::default();
        let user = match UserName::parse(name) {
            Ok(name) => self.0.store().get::<User>(&realm, &keys::user(&name)).await?,
            Err(_) => None,
        };
        let user = user.filter(|user| user.value.disabled_at.is_none());
        let hash = user.as_ref().map(|user| user.value.password_hash.clone());
        let matches = match Password::parse(password) {
            Ok(password) => self.0.verify_password(password, hash).await?,
            Err(_) => false,
        };
        let Some(Stored { value: user, .. }) = user.filter(|_| matches) else {
            return Err(Error::new(ErrorKind::Unauthenticated, "login-failed", "user or password is wrong")
                .hint("check both; the first password was printed at the first start"));
        };
        sign_ins.succeeded(name, &op.source);
        let op = &Op { actor: Actor::of(&user), realm, ..op.clone() };
        let until = op.now.checked_add(SIGN_IN).map_err(Error::internal)?;
        let token = self.store_token(op, user.id, token_name, Some(until), Full::ForgetOldestSignIn).await?;
        Ok((user, token))
    }

    /// Finds out who showed an API token.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`] when it is unknown or has expired; [`ErrorKind::Unavailable`] when that can't be
    /// told.
    pub async fn authenticate(&self, presented: &str, now: Timestamp) -> Result<Authenticated, Error> {
        let refused = || {
            Error::new(ErrorKind::Unauthenticated, "unauthenticated", "this needs a valid API token")
                .hint("sign in: `tollgate login`")
        };
        let digest = user_tokens::digest(presented).ok_or_else(refused)?;
        let known = self.known_token(digest).await?.ok_or_else(refused)?;
        // The index only says where to look: whether token and user are there is read each time.
        let (realm, store) = (RealmName::default(), self.0.store());
        let token =
            store.get::<UserToken>(&realm, &keys::user_token(known.id)).await?.ok_or_else(refused)?.value;
        if token.expires_at.is_some_and(|at| at <= now) {
            return Err(refused());
        }
        let user = store.get::<User>(&realm, &keys::user(&known.user)).await?;
        let user = user.filter(|user| user.value.id == token.user && user.value.disabled_at.is_none());
        let actor = Actor::of(&user.ok_or_else(refused)?.value);
        Ok(Authenticated { actor: self.0.actor_in(&actor, &RealmName::default()).await?, token })
    }

    /// Returns the actor's own API tokens, oldest first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn tokens(&self, op: &Op) -> Result<Vec<UserToken>, Error> {
        let user = own(op)?;
        let all = self.0.all::<UserToken>(&RealmName::default(), "").await?;
        Ok(all.into_iter().map(|stored| stored.value).filter(|token| token.user == user).collect())
    }

    /// Issues an API token to the actor; its plain form is in this answer and nowhere else.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for an expiry that has passed, [`ErrorKind::Conflict`] when there are too many.
    pub async fn create_token(
        &self,
        op: &Op,
        name: &str,
        expires_at: Option<Timestamp>,
    ) -> Result<ShownToken, Error> {
        let user = own(op)?;
        crate::credentials::check_expiry(expires_at, op.now)?;
        self.store_token(op, user, name, expires_at, Full::Refuse).await
    }

    /// Deletes one of the actor's own API tokens; signing out deletes the one that was shown.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], also for a token of somebody else.
    pub async fn delete_token(&self, op: &Op, id: UserTokenId) -> Result<(), Error> {
        let user = own(op)?;
        let realm = RealmName::default();
        let stored = self.0.store().get::<UserToken>(&realm, &keys::user_token(id)).await?;
        if stored.is_none_or(|token| token.value.user != user) {
            return Err(
                Error::not_found(format!("you have no token `{id}`")).hint("list your tokens for their ids")
            );
        }
        let mut draft = Draft::new(op, "user-token.delete").realm(realm);
        draft.delete::<UserToken>(keys::user_token(id), Expect::Exists);
        self.0.commit(op, draft).await?;
        Ok(())
    }

    async fn store_token(
        &self,
        op: &Op,
        user: UserId,
        name: &str,
        expires_at: Option<Timestamp>,
        full: Full,
    ) -> Result<ShownToken, Error> {
        if name.chars().count() > 100 || name.chars().any(char::is_control) {
            return Err(
                Error::invalid("this is no name for a token").hint("use at most 100 printable characters")
            );
        }
        let realm = RealmName::default();
        let mut draft = Draft::new(op, "user-token.create").realm(realm.clone());
        let mut held = 0;
        let mut oldest_sign_in = None;
        for Stored { value: token, .. } in self.0.all::<UserToken>(&realm, "").await? {
            if token.expires_at.is_some_and(|at| at <= op.now) {
                draft.delete::<UserToken>(token.key(), Expect::Any);
            } else if token.user == user {
                held += 1;
                if full == Full::ForgetOldestSignIn && is_sign_in(&token) {
                    // Ids sort by time, so the first is the oldest.
                    oldest_sign_in.get_or_insert(token.key());
                }
            }
        }
        if held >= MAX_TOKENS
            && let Some(key) = oldest_sign_in
        {
            draft.delete::<UserToken>(key, Expect::Any);
            held -= 1;
        }
        if held >= MAX_TOKENS {
            return Err(Error::conflict(
                "too-many-tokens",
                format!("you hold {MAX_TOKENS} API tokens already"),
            )
            .hint("delete those that you no longer use"));
        }
        let shown = self.new_token(op.now, user, name, expires_at)?;
        draft.put(&shown.token, Expect::Absent)?;
        self.0.commit(op, draft).await?;
        Ok(shown)
    }

    fn new_token(
        &self,
        now: Timestamp,
        user: UserId,
        name: &str,
        expires_at: Option<Timestamp>,
    ) -> Result<ShownToken, Error> {
        let plain = IssuedUserToken::generate(self.0.random())?;
        let token = UserToken {
            id: UserTokenId::new(now, self.0.id_bytes()?),
            user,
            name: name.to_owned(),
            digest: plain.digest.to_string(),
            created_at: now,
            expires_at,
        };
        Ok(ShownToken { token, plain })
    }

    /// Finds where a token is stored. A token that is not in the index is looked for only when the store has changed
    /// since the index was made, so that made-up tokens cost one small read each.
    async fn known_token(&self, digest: KeyDigest) -> Result<Option<KnownToken>, Error> {
        let index = &self.0.0.sign_ins.index;
        if let Some(known) = index.find(&digest) {
            return Ok(Some(known));
        }
        let head = self.0.store().head().await?;
        if index.is_as_of(head) {
            return Ok(None);
        }
        let realm = RealmName::default();
        let users = self.0.all::<User>(&realm, "").await?;
        let names: HashMap<_, _> = users.into_iter().map(|user| (user.value.id, user.value.name)).collect();
        let tokens = self.0.all::<UserToken>(&realm, "").await?;
        let known: HashMap<_, _> = tokens
            .into_iter()
            .filter_map(|Stored { value: token, .. }| {
                let digest = KeyDigest::from_hex(&token.digest).ok()?;
                Some((digest, KnownToken { id: token.id, user: names.get(&token.user)?.clone() }))
            })
            .collect();
        let found = known.get(&digest).cloned();
        index.replace(head, known);
        Ok(found)
    }
}

// === impl Actor ===

impl Actor {
    /// Returns a user as actor, who may do nothing yet: [`App::actor_in`] tells what they may.
    fn of(user: &User) -> Self {
        Self::new(Some(user.id), user.name.to_string(), Rights::none())
    }
}

/// Tells whether a token was made by signing in: those live for exactly [`SIGN_IN`].
fn is_sign_in(token: &UserToken) -> bool {
    token.expires_at.is_some_and(|at| at.duration_since(token.created_at) == SIGN_IN)
}

/// Tokens belong to users: the system has none.
fn own(op: &Op) -> Result<UserId, Error> {
    op.demand(Permission::UserTokenManage)?;
    op.actor.user.ok_or_else(|| {
        Error::new(ErrorKind::Forbidden, "forbidden", "only a user has API tokens").hint("sign in as a user")
    })
}
