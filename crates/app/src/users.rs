//! Users of the management API: the first admin, signing in, sessions, second factors, API tokens.

mod admin;
mod attempts;
mod back_off;
mod known_sources;
mod last_uses;
mod passwords;
mod recovery;
mod scopes;
mod second_factor;
mod sessions;
mod sign_in;
mod token_index;
mod tokens;
mod tokens_of_others;

pub use admin::{HeldRight, NewUser, RealmRights, UserRights, UserView, UserWithPassword};
pub use passwords::{EndedByPassword, NewPassword};
pub use recovery::Recovered;
pub use second_factor::{Enrolment, RecoveryCodes, SecondFactorStatus};
pub use sessions::SessionView;
pub use sign_in::{SignIn, SignedIn};
pub use tokens::{NewToken, ShownToken, TokenView};
pub use tokens_of_others::OwnedToken;

use jiff::Timestamp;
use tollgate_credential::passwords::Password;
use tollgate_credential::user_tokens;
use tollgate_model::environments::{Realm, SecondFactorRule};
use tollgate_model::ids::UserId;
use tollgate_model::names::{RealmName, UserName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_model::users::{SecondFactor, User, UserToken};
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Actor, Op, Permission, Rights};
use crate::changes::Draft;
use crate::directory::{Directory, demand_cover};
use crate::errors::{Error, ErrorKind};
use back_off::BackOff;
use last_uses::LastUses;
use token_index::TokenIndex;

/// Use cases of users. They live in realm `default` and act in every realm.
pub struct Users(pub(crate) App);

/// What a process remembers of sign-ins.
#[derive(Default)]
pub struct SignIns {
    back_off: BackOff,
    index: TokenIndex,
    last_uses: LastUses,
}

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

/// Somebody who showed the token of a session or an API token.
#[derive(Debug, Clone)]
pub struct Authenticated {
    /// Who they are, and what they may do in realm `default`: nothing in any realm, as long as there is a duty.
    pub actor: Actor,
    /// The token that they showed.
    pub token: UserToken,
    /// What they have to do before they may do anything else.
    pub duty: Option<Duty>,
}

/// What a user has to do before they may do anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Somebody else knows the password.
    ChangePassword,
    /// The realm demands a second factor, and they have none.
    EnrolSecondFactor,
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
        let until = op.now.checked_add(tokens::LONGEST).map_err(Error::internal)?;
        let mut token = self.new_token(op.now, user.id, "first start", until)?;
        token.token.is_api_token = true;
        let mut draft = Draft::new(op, "user.create").realm(realm.clone());
        draft.put(&user, Expect::Absent)?;
        self.0.join_administrators(&realm, user.id, &mut draft).await?;
        draft.put(&token.token, Expect::Absent)?;
        let taken = || {
            Error::conflict("already-exists", "there is an admin already")
                .hint("sign in")
                .next(NextStep::SignIn)
        };
        match self.0.create(op, draft, taken).await {
            Ok(_) => Ok(Some(FirstAdmin { user, password: made_up.then_some(plain), token })),
            Err(error) if error.kind == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Finds out who showed the token of a session or an API token.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`] when it is unknown, has expired or was not used for too long;
    /// [`ErrorKind::Unavailable`] when that can't be told.
    pub async fn authenticate(&self, presented: &str, now: Timestamp) -> Result<Authenticated, Error> {
        let refused = || {
            Error::new(ErrorKind::Unauthenticated, "unauthenticated", "this needs a valid API token")
                .hint("sign in")
                .next(NextStep::SignIn)
        };
        let digest = user_tokens::digest(presented).ok_or_else(refused)?;
        let known = self.known_token(digest).await?.ok_or_else(refused)?;
        // The index only says where to look: whether token and user are there is read each time.
        let (realm, store) = (RealmName::default(), self.0.store());
        let token =
            store.get::<UserToken>(&realm, &keys::user_token(known.id)).await?.ok_or_else(refused)?.value;
        if token.expires_at.is_some_and(|at| at <= now) || self.is_idle(&token, now).await? {
            return Err(refused());
        }
        let user = store.get::<User>(&realm, &keys::user(&known.user)).await?;
        let user = user.filter(|user| user.value.id == token.user && user.value.disabled_at.is_none());
        let user = user.ok_or_else(refused)?.value;
        let duty = self.duty(&user, &token).await?;
        let mut actor = Actor::of(&user);
        if let Some(scopes) = &token.scopes {
            actor = actor.limited(scopes::rights(scopes));
        }
        if duty.is_some() {
            actor = actor.limited(Rights::none());
        }
        let actor = self.0.actor_in(&actor, &realm).await?;
        self.note_use(&token, now);
        Ok(Authenticated { actor, token, duty })
    }

    /// Returns what a user has to do before a token of theirs may do anything else.
    ///
    /// A temporary password concerns sessions: API tokens were not made with it. A missing second factor concerns both,
    /// or it could be avoided for good by making an API token in time.
    async fn duty(&self, user: &User, token: &UserToken) -> Result<Option<Duty>, Error> {
        if user.password_is_temporary && token.is_session() {
            return Ok(Some(Duty::ChangePassword));
        }
        if self.second_factor_rule().await? == SecondFactorRule::Optional {
            return Ok(None);
        }
        let confirmed =
            self.second_factor_of(user.id).await?.is_some_and(|it| it.value.confirmed_at.is_some());
        Ok((!confirmed).then_some(Duty::EnrolSecondFactor))
    }

    /// Refuses to have power over somebody who may do, in some realm, what the actor may not.
    async fn demand_power(&self, op: &Op, over: &User) -> Result<(), Error> {
        demand_power_by(&self.0.directories().await?, op, over)
    }

    async fn second_factor_rule(&self) -> Result<SecondFactorRule, Error> {
        let realm = RealmName::default();
        let stored = self.0.store().get::<Realm>(&realm, &keys::realm(&realm)).await?;
        Ok(stored.map(|realm| realm.value.settings.second_factor).unwrap_or_default())
    }

    async fn second_factor_of(&self, user: UserId) -> Result<Option<Stored<SecondFactor>>, Error> {
        Ok(self.0.store().get(&RealmName::default(), &keys::second_factor(user)).await?)
    }

    async fn user(&self, name: &UserName) -> Result<Stored<User>, Error> {
        self.0.store().get::<User>(&RealmName::default(), &keys::user(name)).await?.ok_or_else(|| {
            Error::not_found(format!("there is no user `{name}`"))
                .hint("check the name: it is what they sign in with")
        })
    }

    /// Returns the user who acts, as they are stored now.
    async fn myself(&self, me: &Authenticated) -> Result<Stored<User>, Error> {
        let name = UserName::parse(&me.actor.name).map_err(Error::internal)?;
        let user = self.user(&name).await?;
        if user.value.id == me.token.user {
            Ok(user)
        } else {
            Err(Error::not_found("you were deleted meanwhile"))
        }
    }
}

// === impl Authenticated ===

impl Authenticated {
    /// Refuses whoever shows an API token, and whoever has to do something else first. What a session alone may do, an
    /// API token could otherwise do to become more than it is.
    fn demand_session(&self, op: &Op, despite: &[Duty]) -> Result<(), Error> {
        if op.actor.user != Some(self.token.user) {
            return Err(only_users());
        }
        if let Some(duty) = self.duty.filter(|duty| !despite.contains(duty)) {
            return Err(duty.into());
        }
        if self.token.is_session() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Forbidden,
            "session-required",
            "an API token can't do this: it needs a session",
        )
        .hint("sign in")
        .next(NextStep::SignIn))
    }
}

// === impl Duty ===

impl From<Duty> for Error {
    fn from(duty: Duty) -> Self {
        match duty {
            Duty::ChangePassword => Self::new(
                ErrorKind::Forbidden,
                "password-change-required",
                "your password is a temporary one: nothing else can be done until it is changed",
            )
            .hint("choose one of your own")
            .next(NextStep::ChangePassword),
            Duty::EnrolSecondFactor => Self::new(
                ErrorKind::Forbidden,
                "second-factor-enrolment-required",
                "this realm demands a second factor, and you have none yet",
            )
            .hint("sign in with your password, then set one up")
            .next(NextStep::EnrolSecondFactor),
        }
    }
}

// === impl Actor ===

impl Actor {
    /// Returns a user as actor, who may do nothing yet: [`App::actor_in`] tells what they may.
    fn of(user: &User) -> Self {
        Self::new(Some(user.id), user.name.to_string(), Rights::none())
    }
}

/// Refuses to have power over somebody who may do, in some realm, what the actor may not.
fn demand_power_by(directories: &[Directory], op: &Op, over: &User) -> Result<(), Error> {
    for directory in directories {
        let (held, rights) = (directory.rights_of_actor(&op.actor), directory.rights_of(over.id));
        let what = format!("to manage `{}`, who has them in realm `{}`,", over.name, directory.realm);
        demand_cover(&held, &rights, &what)?;
    }
    Ok(())
}

fn only_users() -> Error {
    Error::new(ErrorKind::Forbidden, "forbidden", "only a user has sessions and API tokens")
        .hint("sign in as a user")
}
