//! Showing a password or a code: every attempt is counted, and every wrong one costs.

use jiff::Timestamp;
use tollgate_credential::passwords::Password;
use tollgate_credential::recovery_codes;
use tollgate_credential::totp::TotpSecret;
use tollgate_model::names::UserName;
use tollgate_model::users::{SecondFactor, User};
use tollgate_snapshot::contexts;
use tollgate_store::Stored;

use super::back_off::Attempt;
use super::{Authenticated, Users};
use crate::access::Op;
use crate::errors::{Error, ErrorKind};

// === impl Users ===

impl Users {
    /// Begins an attempt of a user, who need not exist, from where an operation comes.
    pub(super) async fn begin_attempt(&self, op: &Op, user: &str) -> Result<Attempt<'_>, Error> {
        let back_off = &self.0.0.sign_ins.back_off;
        let wait = match back_off.begin(user, &op.source, false, op.now) {
            Ok(attempt) => return Ok(attempt),
            Err(wait) => wait,
        };
        match UserName::parse(user) {
            Ok(name) if wait.of_others && self.is_known_source(op, &name).await? => {
                Ok(back_off.begin(user, &op.source, true, op.now)?)
            }
            _ => Err(wait.into()),
        }
    }

    /// Demands of somebody who is signed in that they show their password again, and a code when one is given: a
    /// session that was left open must not be enough.
    ///
    /// Returns the second factor as it is once the code was taken; the caller stores it with what it does.
    pub(super) async fn confirm(
        &self,
        op: &Op,
        me: &Authenticated,
        user: &User,
        password: &str,
        factor: Option<(&SecondFactor, &str)>,
    ) -> Result<Option<SecondFactor>, Error> {
        let attempt = self.begin_attempt(op, user.name.as_str()).await?;
        let outcome = self.try_confirm(op, user, password, factor).await;
        match &outcome {
            // A right password alone must not wash off wrong codes, or codes could be guessed without end between two
            // right passwords. Only a sign-in shows everything.
            Ok(_) => attempt.leave_open(),
            Err(error) if error.code == "confirmation-failed" => {
                tracing::info!(user = %me.token.user, "a signed-in user showed a wrong password or code");
                drop(attempt);
            }
            Err(_) => attempt.leave_open(),
        }
        outcome
    }

    async fn try_confirm(
        &self,
        op: &Op,
        user: &User,
        password: &str,
        factor: Option<(&SecondFactor, &str)>,
    ) -> Result<Option<SecondFactor>, Error> {
        let wrong = || {
            Error::new(ErrorKind::Forbidden, "confirmation-failed", "the password or the code is wrong")
                .hint("nothing was changed; show both again")
        };
        let matches = match Password::parse(password) {
            Ok(password) => self.0.verify_password(password, Some(user.password_hash.clone())).await?,
            Err(_) => false,
        };
        if !matches {
            return Err(wrong());
        }
        match factor {
            Some((factor, code)) => self.take_code(factor, code, op.now)?.ok_or_else(wrong).map(Some),
            None => Ok(None),
        }
    }

    /// Takes a code of a second factor, of the app or for recovery: returns the second factor as it is from then on,
    /// so that the code is not taken again; `None` when the code is wrong.
    pub(super) fn take_code(
        &self,
        factor: &SecondFactor,
        code: &str,
        now: Timestamp,
    ) -> Result<Option<SecondFactor>, Error> {
        if let Some(digest) = recovery_codes::digest(code, factor.user) {
            let Some(index) = recovery_codes::position(&factor.recovery_digests, &digest) else {
                return Ok(None);
            };
            let mut factor = factor.clone();
            factor.recovery_digests.remove(index);
            return Ok(Some(factor));
        }
        let digits: String = code.chars().filter(|c| !c.is_whitespace()).take(7).collect();
        let step = self.totp_secret(factor)?.verify(&digits, now, factor.last_step);
        Ok(step.map(|last_step| SecondFactor { last_step, ..factor.clone() }))
    }

    pub(super) fn totp_secret(&self, factor: &SecondFactor) -> Result<TotpSecret, Error> {
        let context = contexts::second_factor(factor.user);
        let bytes = self.0.0.master.open(&context, &factor.sealed_secret).map_err(Error::internal)?;
        TotpSecret::from_bytes(&bytes).map_err(Error::internal)
    }

    /// Returns the confirmed second factor of a user.
    pub(super) async fn confirmed_factor(&self, user: &User) -> Result<Option<Stored<SecondFactor>>, Error> {
        Ok(self.second_factor_of(user.id).await?.filter(|factor| factor.value.confirmed_at.is_some()))
    }
}
