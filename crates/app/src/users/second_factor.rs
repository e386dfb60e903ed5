//! The second factor: enrolled by whoever holds the session and knows the password, confirmed with a first code.

use jiff::{SignedDuration, Timestamp};
use tollgate_credential::recovery_codes::{RECOVERY_CODES, RecoveryCode};
use tollgate_credential::totp::TotpSecret;
use tollgate_model::environments::SecondFactorRule;
use tollgate_model::ids::UserId;
use tollgate_model::names::{RealmName, UserName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_model::users::{SecondFactor, User};
use tollgate_snapshot::contexts;
use tollgate_store::{Expect, Stored};
use zeroize::Zeroizing;

use super::sessions::Ending;
use super::{Authenticated, Duty, Users};
use crate::access::{Op, Permission};
use crate::changes::{Draft, overtaken};
use crate::errors::{Error, ErrorKind};

/// How long a secret waits for its first code.
const CONFIRM_WITHIN: SignedDuration = SignedDuration::from_hours(1);
/// What authenticator apps show beside the user's name.
const ISSUER: &str = "Tollgate";

/// Whether a user has a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecondFactorStatus {
    /// Since when; `None` when there is none.
    pub since: Option<Timestamp>,
    /// How many recovery codes are left.
    pub recovery_codes_left: usize,
    /// Whether the realm demands one.
    pub required: bool,
}

/// A new secret, shown this once. Has no `Debug`: it holds a secret.
pub struct Enrolment {
    /// The secret as people type it.
    pub secret: Zeroizing<String>,
    /// The secret as authenticator apps scan it.
    pub uri: Zeroizing<String>,
}

/// New recovery codes, shown this once.
#[derive(Debug)]
pub struct RecoveryCodes(Vec<RecoveryCode>);

// === impl Users ===

impl Users {
    /// Tells whether the actor has a second factor.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`] for an API token.
    pub async fn second_factor(&self, op: &Op, me: &Authenticated) -> Result<SecondFactorStatus, Error> {
        me.demand_session(op, &[Duty::EnrolSecondFactor])?;
        let factor = self.second_factor_of(me.token.user).await?.map(|stored| stored.value);
        let factor = factor.filter(|factor| factor.confirmed_at.is_some());
        Ok(SecondFactorStatus {
            since: factor.as_ref().and_then(|factor| factor.confirmed_at),
            recovery_codes_left: factor.map_or(0, |factor| factor.recovery_digests.len()),
            required: self.second_factor_rule().await? == SecondFactorRule::Required,
        })
    }

    /// Makes a secret for the actor, which counts once it is confirmed with a first code. One that was not confirmed is
    /// forgotten.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] with code `second-factor-enrolled`; [`ErrorKind::Forbidden`] for a wrong password and
    /// for an API token; [`ErrorKind::TooMany`].
    pub async fn enrol_second_factor(
        &self,
        op: &Op,
        me: &Authenticated,
        password: &str,
    ) -> Result<Enrolment, Error> {
        me.demand_session(op, &[Duty::EnrolSecondFactor])?;
        let user = self.myself(me).await?.value;
        let stored = self.second_factor_of(user.id).await?;
        if stored.as_ref().is_some_and(|stored| stored.value.confirmed_at.is_some()) {
            return Err(enrolled());
        }
        self.confirm(op, me, &user, password, None).await?;
        let secret = TotpSecret::generate(self.0.random())?;
        let context = contexts::second_factor(user.id);
        let factor = SecondFactor {
            user: user.id,
            sealed_secret: self.0.0.master.seal(&context, secret.expose_bytes(), self.0.random())?,
            created_at: op.now,
            confirmed_at: None,
            last_step: 0,
            recovery_digests: Vec::new(),
        };
        let mut draft = Draft::new(op, "second-factor.enrol").realm(RealmName::default());
        draft.put(&factor, stored.map_or(Expect::Absent, |stored| Expect::Revision(stored.revision)))?;
        self.0.commit(op, draft).await?;
        Ok(Enrolment { secret: secret.expose_base32(), uri: secret.expose_uri(ISSUER, user.name.as_str()) })
    }

    /// Confirms the secret that was made last with a first code: from then on it is demanded. Ends all other sessions,
    /// which began without.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] with code `second-factor-missing` when none was begun within the hour, or
    /// `second-factor-enrolled`; [`ErrorKind::Forbidden`] with code `confirmation-failed` for a wrong code;
    /// [`ErrorKind::TooMany`].
    pub async fn confirm_second_factor(
        &self,
        op: &Op,
        me: &Authenticated,
        code: &str,
    ) -> Result<RecoveryCodes, Error> {
        me.demand_session(op, &[Duty::EnrolSecondFactor])?;
        let user = self.myself(me).await?.value;
        let pending = self.second_factor_of(user.id).await?.ok_or_else(missing)?;
        if pending.value.confirmed_at.is_some() {
            return Err(enrolled());
        }
        if op.now.duration_since(pending.value.created_at) >= CONFIRM_WITHIN {
            return Err(missing());
        }
        let attempt = self.begin_attempt(op, user.name.as_str()).await?;
        let Some(taken) = self.take_code(&pending.value, code, op.now)? else {
            return Err(Error::new(ErrorKind::Forbidden, "confirmation-failed", "the code is wrong").hint(
                "show the code that the app shows now; if none is taken, check the clock of the device",
            ));
        };
        attempt.leave_open();
        let codes = RecoveryCodes::generate(self, user.id)?;
        let confirmed =
            SecondFactor { confirmed_at: Some(op.now), recovery_digests: codes.digests(), ..taken };
        let change = Change { action: "second-factor.confirm", keep: Some(me) };
        self.put_second_factor(op, change, &pending, Some(&confirmed)).await?;
        Ok(codes)
    }

    /// Removes the actor's own second factor, and ends all other sessions.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] with code `second-factor-missing`; [`ErrorKind::Forbidden`] with code
    /// `confirmation-failed` for a wrong password or code; [`ErrorKind::TooMany`].
    pub async fn remove_second_factor(
        &self,
        op: &Op,
        me: &Authenticated,
        password: &str,
        code: &str,
    ) -> Result<(), Error> {
        let (stored, _) = self.confirm_with_code(op, me, password, code).await?;
        let change = Change { action: "second-factor.remove", keep: Some(me) };
        self.put_second_factor(op, change, &stored, None).await
    }

    /// Makes new recovery codes for the actor; those before are void.
    ///
    /// # Errors
    ///
    /// As [`Users::remove_second_factor`].
    pub async fn renew_recovery_codes(
        &self,
        op: &Op,
        me: &Authenticated,
        password: &str,
        code: &str,
    ) -> Result<RecoveryCodes, Error> {
        let (stored, taken) = self.confirm_with_code(op, me, password, code).await?;
        let codes = RecoveryCodes::generate(self, stored.value.user)?;
        let renewed = SecondFactor { recovery_digests: codes.digests(), ..taken };
        let mut draft = Draft::new(op, "second-factor.recovery-codes").realm(RealmName::default());
        draft.put(&renewed, Expect::Revision(stored.revision))?;
        self.0.commit(op, draft).await?;
        Ok(codes)
    }

    /// Removes the second factor of somebody who lost it, and ends their sessions. They go on needing their password.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], with code `rights-exceeded` when the user may do what the actor may not;
    /// [`ErrorKind::NotFound`] when there is no such user; [`ErrorKind::Conflict`] with code `second-factor-missing`.
    pub async fn reset_second_factor(&self, op: &Op, user: &UserName) -> Result<(), Error> {
        op.demand_server(Permission::UserUpdate)?;
        let user = self.user(user).await?.value;
        self.demand_power(op, &user).await?;
        let stored = self.second_factor_of(user.id).await?.ok_or_else(|| {
            Error::conflict("second-factor-missing", format!("`{}` has no second factor", user.name))
                .hint("they sign in with their password alone")
        })?;
        self.put_second_factor(op, Change { action: "second-factor.reset", keep: None }, &stored, None).await
    }

    async fn confirm_with_code(
        &self,
        op: &Op,
        me: &Authenticated,
        password: &str,
        code: &str,
    ) -> Result<(Stored<SecondFactor>, SecondFactor), Error> {
        me.demand_session(op, &[])?;
        let user: User = self.myself(me).await?.value;
        let stored = self.confirmed_factor(&user).await?.ok_or_else(missing)?;
        let taken = self.confirm(op, me, &user, password, Some((&stored.value, code))).await?;
        Ok((stored, taken.ok_or_else(missing)?))
    }

    /// Stores another second factor of a user, or none, and ends their other sessions. Fails when it was changed since it
    /// was read: the code may have been used by somebody else.
    async fn put_second_factor(
        &self,
        op: &Op,
        change: Change<'_>,
        read: &Stored<SecondFactor>,
        factor: Option<&SecondFactor>,
    ) -> Result<(), Error> {
        let user = read.value.user;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let mut draft = Draft::new(op, change.action).realm(RealmName::default());
            match factor {
                Some(factor) => draft.put(factor, Expect::Revision(read.revision))?,
                None => {
                    draft.delete::<SecondFactor>(keys::second_factor(user), Expect::Revision(read.revision))
                }
            }
            let ending = Ending { keep: change.keep.map(|me| me.token.id), api_tokens: false };
            self.end(&mut draft, user, ending).await?;
            if self.0.commit_decided(op, draft).await?.is_some() {
                return Ok(());
            }
            // Overtaken by another session, it is tried again; by another use of the second factor, not.
            if self.second_factor_of(user).await?.is_none_or(|now| now.revision != read.revision) {
                return Err(Error::conflict("changing", "the second factor was changed at this moment")
                    .hint("look at it, then try again with the next code"));
            }
        }
        Err(overtaken())
    }
}

/// A change of a second factor.
#[derive(Clone, Copy)]
struct Change<'a> {
    action: &'static str,
    /// Whose session goes on.
    keep: Option<&'a Authenticated>,
}

// === impl RecoveryCodes ===

impl RecoveryCodes {
    fn generate(users: &Users, user: UserId) -> Result<Self, Error> {
        let codes = (0..RECOVERY_CODES).map(|_| RecoveryCode::generate(user, users.0.random()));
        Ok(Self(codes.collect::<Result<_, _>>()?))
    }

    /// Returns the codes, for the one answer that shows them.
    pub fn expose_secrets(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(RecoveryCode::expose_secret)
    }

    fn digests(&self) -> Vec<String> {
        self.0.iter().map(|code| code.digest.to_string()).collect()
    }
}

fn enrolled() -> Error {
    Error::conflict("second-factor-enrolled", "you have a second factor already")
        .hint("remove it first")
        .next(NextStep::RemoveSecondFactor)
}

fn missing() -> Error {
    Error::conflict("second-factor-missing", "there is no second factor that waits for this")
        .hint("a secret waits an hour for its first code; begin anew")
        .next(NextStep::EnrolSecondFactor)
}
