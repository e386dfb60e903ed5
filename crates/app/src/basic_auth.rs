//! Basic Auth credentials: kept as an Argon2id hash, made up when the caller gives no password.

use jiff::Timestamp;
use tollgate_credential::passwords::Password;
use tollgate_model::consumers::BasicAuth;
use tollgate_model::ids::BasicAuthId;
use tollgate_model::names::{ConsumerName, EnvironmentName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::changes::{Draft, expect, overtaken};
use crate::errors::Error;

/// Use cases of Basic Auth credentials.
pub struct BasicAuths(pub(crate) App);

/// A credential as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct BasicAuthView {
    /// What is kept of it.
    pub credential: BasicAuth,
    /// When a call last showed it with its password, to about ten seconds.
    pub last_used_at: Option<Timestamp>,
}

/// A credential that was made.
#[derive(Debug)]
pub struct CreatedBasicAuth {
    /// What is kept of it.
    pub credential: BasicAuth,
    /// The password, shown this once; `None` when the caller brought it.
    pub password: Option<Password>,
}

// === impl BasicAuths ===

impl BasicAuths {
    /// Returns a consumer's credentials, oldest first.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn list(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        consumer: &ConsumerName,
    ) -> Result<Vec<BasicAuthView>, Error> {
        op.demand_in(Permission::BasicAuthRead, Place::environment(environment))?;
        let consumer = self.0.consumer(&op.realm, environment, consumer).await?.value.id;
        let all = self.0.store().owned::<BasicAuth>(&op.realm, &[consumer.to_string()]).await?;
        let used = self.0.last_uses(all.iter().map(|stored| stored.value.id)).await?;
        let view = |Stored { value: credential, .. }: Stored<BasicAuth>| {
            let last_used_at = used.get(&credential.id).copied();
            BasicAuthView { credential, last_used_at }
        };
        Ok(all.into_iter().map(view).collect())
    }

    /// Makes a credential; a password that is made up is in this answer and nowhere else.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`]; [`crate::errors::ErrorKind::Invalid`] for a user name that Basic Auth can't
    /// carry; [`crate::errors::ErrorKind::Conflict`] when the user name has a working credential in this environment.
    pub async fn create(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        consumer: &ConsumerName,
        username: &str,
        password: Option<Password>,
    ) -> Result<CreatedBasicAuth, Error> {
        op.demand_in(Permission::BasicAuthCreate, Place::environment(environment))?;
        check_username(username)?;
        let owner = self.0.consumer(&op.realm, environment, consumer).await?;
        let (plain, made_up) = match password {
            Some(password) => (password, false),
            None => (Password::generate(self.0.random())?, true),
        };
        let mut credential = BasicAuth {
            id: BasicAuthId::new(op.now, self.0.id_bytes()?),
            consumer: owner.value.id,
            environment: environment.clone(),
            username: username.to_owned(),
            password_hash: self.0.hash_password(plain.clone()).await?,
            created_at: op.now,
            revoked_at: None,
        };
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let mut draft = Draft::new(op, "basic-auth.create");
            self.0.take_turn(&op.realm, &mut draft).await?;
            self.check_free(op, environment, username).await?;
            let owner = self.0.consumer(&op.realm, environment, consumer).await?;
            credential.consumer = owner.value.id;
            draft.hold_consumer(&owner)?;
            draft.put(&credential, Expect::Absent)?;
            if self.0.commit_decided(op, draft).await?.is_some() {
                return Ok(CreatedBasicAuth { credential, password: made_up.then_some(plain) });
            }
        }
        Err(overtaken())
    }

    /// Revokes a credential; revoking it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn revoke(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        id: BasicAuthId,
    ) -> Result<BasicAuthView, Error> {
        op.demand_in(Permission::BasicAuthRevoke, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let key = keys::basic_auth(environment, id);
            let mut stored = self.0.store().get::<BasicAuth>(&op.realm, &key).await?.ok_or_else(|| {
                Error::not_found(format!("there is no Basic Auth credential `{id}` in {environment}"))
                    .hint("see the credentials of a consumer with their ids")
                    .next(NextStep::ListBasicAuth { environment: environment.clone() })
            })?;
            if stored.value.revoked_at.is_none() {
                stored.value.revoked_at = Some(op.now);
                let mut draft = Draft::new(op, "basic-auth.revoke");
                draft.put(&stored.value, expect(&stored, None))?;
                if self.0.commit_decided(op, draft).await?.is_none() {
                    continue;
                }
            }
            let last_used_at = self.0.last_used(id).await?;
            return Ok(BasicAuthView { credential: stored.value, last_used_at });
        }
        Err(overtaken())
    }

    /// Refuses a user name that has a working credential in this environment.
    async fn check_free(&self, op: &Op, environment: &EnvironmentName, username: &str) -> Result<(), Error> {
        let prefix = format!("{environment}/");
        let same = self.0.store().with_handle::<BasicAuth>(&op.realm, &prefix, username).await?;
        if same.iter().all(|it| it.value.revoked_at.is_some()) {
            return Ok(());
        }
        Err(Error::conflict("already-exists", format!("user name `{username}` is taken in {environment}"))
            .hint("choose another user name, or revoke that credential first"))
    }
}

/// RFC 7617 section 2: a user name holds no colon and no control character.
fn check_username(username: &str) -> Result<(), Error> {
    let fits = (1..=255).contains(&username.len());
    if fits && !username.contains(|c: char| c == ':' || c.is_control()) {
        return Ok(());
    }
    Err(Error::invalid("this is no user name for Basic Auth")
        .hint("use 1 to 255 bytes without `:` and control characters"))
}
