//! Signing in: a session for a name, a password and, where there is a second factor, a code.

use jiff::SignedDuration;
use tollgate_credential::passwords::{self, Password};
use tollgate_credential::user_tokens;
use tollgate_model::names::{RealmName, UserName};
use tollgate_model::objects::{Kind, Object as _, keys};
use tollgate_model::users::{SecondFactor, Session, SessionClient, User, UserToken};
use tollgate_store::{Expect, Stored};

use super::tokens::{ShownToken, check_name};
use super::{Duty, Users};
use crate::access::{Actor, Op};
use crate::changes::{Draft, overtaken};
use crate::errors::{Error, ErrorKind};

/// How long the session of a program lasts.
const PROGRAM: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long the session of a browser lasts, however much it is used.
const BROWSER: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long the session of a browser may go unused.
const BROWSER_IDLE_SECONDS: u32 = 12 * 3600;
/// Most sessions of a user; a further one takes the place of the oldest.
const MAX_SESSIONS: usize = 50;
/// Longest part of what a client calls itself that is kept, in characters.
const USER_AGENT_CHARACTERS: usize = 200;

/// What is shown to sign in. Has no `Debug`: it holds secrets.
#[derive(Clone, Copy)]
pub struct SignIn<'a> {
    /// Name of the user.
    pub user: &'a str,
    /// Their password.
    pub password: &'a str,
    /// A code of their second factor, or a recovery code.
    pub code: Option<&'a str>,
    /// What to call the session.
    pub name: &'a str,
    /// What signs in.
    pub client: SessionClient,
    /// What the client calls itself.
    pub user_agent: Option<&'a str>,
    /// The session's token that the client showed before: it ends. It is never taken over, or whoever planted it would
    /// be signed in, too.
    pub replaces: Option<&'a str>,
}

/// A new session.
#[derive(Debug)]
pub struct SignedIn {
    /// Whose it is.
    pub user: User,
    /// Its token.
    pub token: ShownToken,
    /// What they have to do before they may do anything else.
    pub duty: Option<Duty>,
}

// === impl Users ===

impl Users {
    /// Signs a user in: a new session. For a user who has the most sessions allowed it takes the place of the oldest.
    ///
    /// `op` carries where the attempt comes from; its actor is not looked at. An unknown user costs as much time as
    /// a wrong password, and reads the same.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unauthenticated`], with code `second-factor-required` when the password is right and a code is
    /// missing; [`ErrorKind::TooMany`] after repeated failures.
    pub async fn sign_in(&self, op: &Op, shown: &SignIn<'_>) -> Result<SignedIn, Error> {
        check_name(shown.name)?;
        let attempt = self.begin_attempt(op, shown.user).await?;
        let outcome = self.try_sign_in(op, shown).await;
        match &outcome {
            Ok(signed_in) => {
                attempt.succeed();
                self.remember_source(op, &signed_in.user.name).await;
            }
            Err(error) if error.code == "login-failed" => drop(attempt),
            Err(_) => attempt.leave_open(),
        }
        outcome
    }

    async fn try_sign_in(&self, op: &Op, shown: &SignIn<'_>) -> Result<SignedIn, Error> {
        let realm = RealmName::default();
        let name = UserName::parse(shown.user).ok();
        let mut attempts = self.0.attempts();
        let mut verified: Option<String> = None;
        while attempts.next().await {
            let user = match &name {
                Some(name) => self.0.store().get::<User>(&realm, &keys::user(name)).await?,
                None => None,
            };
            // Who is disabled is told nothing, as if there were no such user.
            let user = user.filter(|user| user.value.disabled_at.is_none());
            let hash = user.as_ref().map(|user| user.value.password_hash.clone());
            // Decided again because something else was changed: the password need not be verified twice.
            if verified.is_none() || verified != hash {
                let matches = match Password::parse(shown.password) {
                    Ok(password) => self.0.verify_password(password, hash.clone()).await?,
                    Err(_) => self.0.verify_password(Password::generate(self.0.random())?, None).await?,
                };
                if !matches {
                    // The journal names a user that there is. What else stood there may be a password in the wrong place.
                    return Err(match &user {
                        Some(user) => failed().about(Kind::User, keys::user(&user.value.name)),
                        None => failed(),
                    });
                }
                verified = hash;
            }
            let user = user.ok_or_else(failed)?;
            if let Some(signed_in) = self.commit_sign_in(op, shown, user).await? {
                return Ok(signed_in);
            }
        }
        Err(overtaken())
    }

    /// Makes the session of a user whose password was right; `None` when user or second factor were changed meanwhile,
    /// by a password change or by somebody who used the same code.
    async fn commit_sign_in(
        &self,
        op: &Op,
        shown: &SignIn<'_>,
        user: Stored<User>,
    ) -> Result<Option<SignedIn>, Error> {
        let Stored { value: mut user, revision } = user;
        let factor = self.second_factor_of(user.id).await?;
        let taken = match &factor {
            Some(factor) if factor.value.confirmed_at.is_some() => {
                let code = shown.code.ok_or_else(|| {
                    Error::new(
                        ErrorKind::Unauthenticated,
                        "second-factor-required",
                        "a code of your second factor is needed, too",
                    )
                    .hint("give six digits of your authenticator app, or a recovery code, as `code`")
                })?;
                Some(self.take_code(&factor.value, code, op.now)?.ok_or_else(failed)?)
            }
            _ => None,
        };
        let op = &Op { actor: Actor::of(&user), realm: RealmName::default(), ..op.clone() };
        let mut draft = Draft::new(op, "session.create").realm(op.realm.clone());
        // A password or second factor that is changed at this moment makes this fail, so that no session begins with
        // what was just taken away.
        match &taken {
            Some(taken) => draft.put(taken, expect(factor.as_ref()))?,
            None => draft.guard(Kind::SecondFactor, keys::second_factor(user.id), expect(factor.as_ref())),
        }
        if passwords::is_outdated(&user.password_hash) {
            let password = Password::parse(shown.password).map_err(Error::internal)?;
            user.password_hash = self.0.hash_password(password).await?;
            draft.put(&user, Expect::Revision(revision))?;
        } else {
            draft.guard(Kind::User, user.key(), Expect::Revision(revision));
        }
        self.make_room(op, &user, shown.replaces, &mut draft).await?;
        let token = self.new_session(op, &user, shown)?;
        draft.put(&token.token, Expect::Absent)?;
        if self.0.commit_decided(op, draft).await?.is_none() {
            return Ok(None);
        }
        let duty = self.duty(&user, &token.token).await?;
        Ok(Some(SignedIn { user, token, duty }))
    }

    /// Deletes tokens that have expired, the session that a new one replaces, and the oldest ones of somebody who has
    /// too many: a user must not be locked out by having signed in often.
    async fn make_room(
        &self,
        op: &Op,
        user: &User,
        replaces: Option<&str>,
        draft: &mut Draft,
    ) -> Result<(), Error> {
        let replaced = replaces.and_then(user_tokens::digest).map(|digest| digest.to_string());
        let mut sessions = Vec::new();
        for Stored { value: token, .. } in self.0.all::<UserToken>(&op.realm, "").await? {
            let expired = token.expires_at.is_some_and(|at| at <= op.now);
            if expired || (token.is_session() && replaced.as_ref() == Some(&token.digest)) {
                draft.delete::<UserToken>(token.key(), Expect::Any);
            } else if token.user == user.id && token.is_session() {
                sessions.push((token.created_at, token.key()));
            }
        }
        sessions.sort();
        let too_many = (sessions.len() + 1).saturating_sub(MAX_SESSIONS);
        for (_, key) in sessions.into_iter().take(too_many) {
            draft.delete::<UserToken>(key, Expect::Any);
        }
        Ok(())
    }

    fn new_session(&self, op: &Op, user: &User, shown: &SignIn<'_>) -> Result<ShownToken, Error> {
        let (lasts, idle_seconds) = match shown.client {
            SessionClient::Browser => (BROWSER, Some(BROWSER_IDLE_SECONDS)),
            SessionClient::Program => (PROGRAM, None),
        };
        let until = op.now.checked_add(lasts).map_err(Error::internal)?;
        let mut made = self.new_token(op.now, user.id, shown.name, until)?;
        let user_agent = shown.user_agent.map(|text| {
            text.chars().filter(|c| !c.is_control()).take(USER_AGENT_CHARACTERS).collect::<String>()
        });
        made.token.session =
            Some(Session { client: shown.client, source: op.source.clone(), user_agent, idle_seconds });
        Ok(made)
    }
}

/// What a change expects of a second factor that was read.
fn expect(factor: Option<&Stored<SecondFactor>>) -> Expect {
    factor.map_or(Expect::Absent, |factor| Expect::Revision(factor.revision))
}

fn failed() -> Error {
    Error::new(ErrorKind::Unauthenticated, "login-failed", "user, password or code is wrong")
        .hint("check them; a code is used up once it was shown, so wait for the next one")
}
