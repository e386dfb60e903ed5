//! Changing one's own password.

use tollgate_credential::password_rule::{self, PasswordRule};
use tollgate_credential::passwords::Password;
use tollgate_model::names::RealmName;
use tollgate_model::users::User;
use tollgate_store::Expect;

use super::sessions::Ending;
use super::{Authenticated, Duty, Users};
use crate::access::Op;
use crate::changes::{Draft, overtaken};
use crate::errors::{Error, ErrorKind};

/// A change of one's password. Has no `Debug`: it holds secrets.
#[derive(Clone, Copy)]
pub struct NewPassword<'a> {
    /// The password so far.
    pub current: &'a str,
    /// The one from now on.
    pub new: &'a str,
    /// Whether API tokens end, too: whoever knew the old password may have made some.
    pub end_api_tokens: bool,
}

/// What a change of a password ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedByPassword {
    /// Sessions.
    pub sessions: usize,
    /// API tokens.
    pub api_tokens: usize,
    /// API tokens that go on.
    pub api_tokens_left: usize,
}

// === impl Users ===

impl Users {
    /// Changes the actor's own password, and ends all other sessions.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] with code `password-weak`; [`ErrorKind::Forbidden`] for a wrong current password, with
    /// code `confirmation-failed`, and for an API token; [`ErrorKind::TooMany`].
    pub async fn change_password(
        &self,
        op: &Op,
        me: &Authenticated,
        change: &NewPassword<'_>,
    ) -> Result<EndedByPassword, Error> {
        me.demand_session(op, &[Duty::ChangePassword, Duty::EnrolSecondFactor])?;
        let verified = self.myself(me).await?.value;
        self.confirm(op, me, &verified, change.current, None).await?;
        let new = acceptable(change.new, &verified)?;
        if change.new == change.current {
            return Err(weak("the new password is the current one"));
        }
        let password_hash = self.0.hash_password(new).await?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let stored = self.myself(me).await?;
            if stored.value.password_hash != verified.password_hash {
                return Err(Error::conflict(
                    "changing",
                    "the password was changed by somebody else at this moment",
                )
                .hint("sign in with it, and look who it was"));
            }
            let user =
                User { password_hash: password_hash.clone(), password_is_temporary: false, ..stored.value };
            let mut draft = Draft::new(op, "password.change").realm(RealmName::default());
            draft.put(&user, Expect::Revision(stored.revision))?;
            let ending = Ending { keep: Some(me.token.id), api_tokens: change.end_api_tokens };
            let ended = self.end(&mut draft, user.id, ending).await?;
            if self.0.commit_decided(op, draft).await?.is_some() {
                let left = self.tokens_of(user.id).await?.iter().filter(|token| !token.is_session()).count();
                return Ok(EndedByPassword {
                    sessions: ended.sessions,
                    api_tokens: ended.api_tokens,
                    api_tokens_left: left,
                });
            }
        }
        Err(overtaken())
    }
}

/// Returns a new password when a user may take it.
fn acceptable(text: &str, user: &User) -> Result<Password, Error> {
    let password = Password::parse(text).map_err(|error| weak(error.to_string()))?;
    password_rule::check(&password, user.name.as_str()).map_err(|error| weak(error.to_string()))?;
    Ok(password)
}

fn weak(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, "password-weak", message).hint(PasswordRule.to_string())
}
