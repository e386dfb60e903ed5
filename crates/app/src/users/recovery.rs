//! The way back for a user who can't sign in any more: for whoever runs the server, on its machine.

use tollgate_credential::passwords::Password;
use tollgate_model::names::{RealmName, UserName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_model::users::{SecondFactor, User};
use tollgate_store::Expect;

use super::Users;
use super::sessions::Ending;
use crate::access::{Op, Permission};
use crate::changes::{Draft, overtaken};
use crate::errors::{Error, ErrorKind};

/// A user who can sign in again.
#[derive(Debug)]
pub struct Recovered {
    /// Who.
    pub user: User,
    /// The temporary password, shown this once.
    pub password: Password,
    /// Whether there was a second factor.
    pub had_second_factor: bool,
    /// How many sessions ended.
    pub ended_sessions: usize,
    /// How many API tokens ended.
    pub ended_api_tokens: usize,
}

// === impl Users ===

impl Users {
    /// Gives a user a temporary password, enables them, turns off their second factor, and ends their sessions; their API
    /// tokens too when told so. For the system alone: it has no regard for who may do more than the actor.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Forbidden`]; [`crate::errors::ErrorKind::NotFound`] naming the users that there are.
    pub async fn recover(&self, op: &Op, name: &UserName, end_api_tokens: bool) -> Result<Recovered, Error> {
        op.demand_server(Permission::UserUpdate)?;
        if op.actor.user.is_some() {
            return Err(Error::new(ErrorKind::Forbidden, "forbidden", "this is for whoever runs the server")
                .hint("do it on its machine")
                .next(NextStep::RecoverUser));
        }
        let realm = RealmName::default();
        let password = Password::generate(self.0.random())?;
        let password_hash = self.0.hash_password(password.clone()).await?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let Some(stored) = self.0.store().get::<User>(&realm, &keys::user(name)).await? else {
                let users = self.0.all::<User>(&realm, "").await?;
                let names: Vec<_> = users.iter().map(|user| format!("`{}`", user.value.name)).collect();
                let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(Error::not_found(format!("there is no user `{name}`"))
                    .hint(format!("the users are: {known}")));
            };
            let user = User {
                password_hash: password_hash.clone(),
                password_is_temporary: true,
                disabled_at: None,
                ..stored.value
            };
            let mut draft = Draft::new(op, "user.recover").realm(realm.clone());
            draft.put(&user, Expect::Revision(stored.revision))?;
            let factor = self.second_factor_of(user.id).await?;
            if let Some(factor) = &factor {
                draft.delete::<SecondFactor>(keys::second_factor(user.id), Expect::Revision(factor.revision));
            }
            let ending = Ending { keep: None, api_tokens: end_api_tokens };
            let ended = self.end(&mut draft, user.id, ending).await?;
            if self.0.commit_decided(op, draft).await?.is_some() {
                return Ok(Recovered {
                    user,
                    password,
                    had_second_factor: factor.is_some_and(|factor| factor.value.confirmed_at.is_some()),
                    ended_sessions: ended.sessions,
                    ended_api_tokens: ended.api_tokens,
                });
            }
        }
        Err(overtaken())
    }
}
