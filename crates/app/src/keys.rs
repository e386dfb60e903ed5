//! API keys: issued and shown once; kept as a digest; rotated with an overlap; revoked at once.

mod ends;
mod expiring;
mod identify;

use jiff::Timestamp;
use tollgate_credential::keys::{IssuedKey, PlainKey};
use tollgate_model::consumers::{ApiKey, Consumer, CredentialState};
use tollgate_model::ids::KeyId;
use tollgate_model::names::{ConsumerName, CredentialName, EnvironmentName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::changes::{Draft, expect, overtaken};
use crate::credentials::{check_expiry, overlap_end};
use crate::errors::Error;

pub use ends::UntilUnused;
pub use expiring::{ExpiringKey, Expiry};
pub use identify::MAX_IDENTIFIED;
pub use tollgate_credential::keys::KeyDigest;

/// Use cases of API keys.
pub struct Keys(pub(crate) App);

/// A key to make.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// For its owner to tell keys apart.
    pub name: CredentialName,
    /// When it is to stop working by itself.
    pub expires_at: Option<Timestamp>,
}

/// A key with its plain form, which is shown this once.
#[derive(Debug)]
pub struct ShownKey {
    /// What is kept of it.
    pub key: ApiKey,
    /// Whose it is.
    pub consumer: ConsumerName,
    /// The key itself; `None` when it was brought by the caller.
    pub plain: Option<PlainKey>,
}

/// A key as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyView {
    /// What is kept of it.
    pub key: ApiKey,
    /// Whose it is.
    pub consumer: ConsumerName,
    /// When a call last used it, to about ten seconds.
    pub last_used_at: Option<Timestamp>,
    /// The journal entry that last changed it.
    pub revision: u64,
}

// === impl Keys ===

impl Keys {
    /// Returns a consumer's keys, oldest first.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn list(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        consumer: &ConsumerName,
    ) -> Result<Vec<KeyView>, Error> {
        op.demand_in(Permission::ApiKeyRead, Place::environment(environment))?;
        let consumer = self.0.consumer(&op.realm, environment, consumer).await?.value;
        let keys = self.0.store().owned::<ApiKey>(&op.realm, &[consumer.id.to_string()]).await?;
        let used = self.0.last_uses(keys.iter().map(|stored| stored.value.id)).await?;
        let view = |Stored { value: key, revision }: Stored<ApiKey>| KeyView {
            last_used_at: used.get(&key.id).copied(),
            consumer: consumer.name.clone(),
            key,
            revision,
        };
        Ok(keys.into_iter().map(view).collect())
    }

    /// Issues a key; its plain form is in this answer and nowhere else.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`], [`crate::errors::ErrorKind::Invalid`] for an expiry that has passed.
    pub async fn create(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        consumer: &ConsumerName,
        input: NewKey,
    ) -> Result<ShownKey, Error> {
        op.demand_in(Permission::ApiKeyCreate, Place::environment(environment))?;
        let issued = IssuedKey::generate(environment, self.0.random())?;
        self.store(op, environment, consumer, &input, issued, false).await
    }

    /// Takes over a key from another system.
    ///
    /// # Errors
    ///
    /// As [`Keys::create`]; [`crate::errors::ErrorKind::Invalid`] when the gateway would not take the text for a key;
    /// [`crate::errors::ErrorKind::Conflict`] when a key of this environment has the same secret.
    pub async fn import(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        consumer: &ConsumerName,
        input: NewKey,
        secret: &str,
    ) -> Result<ShownKey, Error> {
        op.demand_in(Permission::ApiKeyCreate, Place::environment(environment))?;
        let issued = IssuedKey::import(secret, environment).map_err(|error| {
            Error::invalid(format!("this key can't be imported: {error}"))
                .hint("an imported key has 16 to 256 visible ASCII characters and does not begin with `tg_`")
        })?;
        let mut shown = self.store(op, environment, consumer, &input, issued, true).await?;
        shown.plain = None;
        Ok(shown)
    }

    /// Issues a successor; the old key works beside it for `overlap_seconds`, at most 365 days. The successor of a key
    /// with an expiry lives as long as that key was to live.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`]; [`crate::errors::ErrorKind::Conflict`] when the key does not work any more
    /// or was rotated before.
    pub async fn rotate(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        id: KeyId,
        overlap_seconds: u32,
        name: Option<CredentialName>,
    ) -> Result<ShownKey, Error> {
        op.demand_in(Permission::ApiKeyCreate, Place::environment(environment))?;
        let until = overlap_end(op.now, overlap_seconds)?;
        self.replace(op, environment, id, until, None, name).await
    }

    /// Issues a successor of a key that works until a time, or ends before when it is unused.
    async fn replace(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        id: KeyId,
        until: Timestamp,
        retire_unused_seconds: Option<u32>,
        name: Option<CredentialName>,
    ) -> Result<ShownKey, Error> {
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let mut old = self.find(op, environment, id).await?;
            if old.value.state(op.now) != CredentialState::Active {
                return Err(Error::conflict("key-not-active", format!("key `{id}` does not work any more"))
                    .hint("create a new key instead"));
            }
            if let Some(successor) = old.value.replaced_by {
                return Err(Error::conflict("key-rotated", format!("key `{id}` was rotated before"))
                    .hint(format!("rotate its successor `{successor}`")));
            }
            let consumer = self.0.consumer_by_id(&op.realm, environment, old.value.consumer).await?;
            let issued = IssuedKey::generate(environment, self.0.random())?;
            let name = name.clone().unwrap_or_else(|| old.value.name.clone());
            // A key that was to live for so long is followed by one that lives as long.
            let lifetime = old.value.expires_at.map(|at| at.duration_since(old.value.created_at));
            let expires_at = lifetime.and_then(|lifetime| op.now.checked_add(lifetime).ok());
            let input = NewKey { name, expires_at };
            let shown = self.0.new_key(op, &consumer.value, &input, issued)?;
            old.value.replaced_by = Some(shown.key.id);
            old.value.rotated_at = Some(op.now);
            old.value.retire_unused_seconds = retire_unused_seconds;
            old.value.expires_at = Some(old.value.expires_at.map_or(until, |at| at.min(until)));
            let mut draft = Draft::new(op, "api-key.rotate");
            draft.hold_consumer(&consumer)?;
            draft.put(&old.value, expect(&old, None))?;
            draft.put(&shown.key, Expect::Absent)?;
            if self.0.commit_decided(op, draft).await?.is_some() {
                return Ok(shown);
            }
        }
        Err(overtaken())
    }

    /// Revokes a key; revoking it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn revoke(&self, op: &Op, environment: &EnvironmentName, id: KeyId) -> Result<KeyView, Error> {
        op.demand_in(Permission::ApiKeyRevoke, Place::environment(environment))?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let mut stored = self.find(op, environment, id).await?;
            if stored.value.revoked_at.is_none() {
                stored.value.revoked_at = Some(op.now);
                let mut draft = Draft::new(op, "api-key.revoke");
                draft.put(&stored.value, expect(&stored, None))?;
                match self.0.commit_decided(op, draft).await? {
                    Some(revision) => stored.revision = revision,
                    None => continue,
                }
            }
            let consumer = self.0.consumer_by_id(&op.realm, environment, stored.value.consumer).await?;
            let last_used_at = self.0.last_used(id).await?;
            let Stored { value: key, revision } = stored;
            return Ok(KeyView { key, consumer: consumer.value.name, last_used_at, revision });
        }
        Err(overtaken())
    }

    async fn store(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        consumer: &ConsumerName,
        input: &NewKey,
        issued: IssuedKey,
        imported: bool,
    ) -> Result<ShownKey, Error> {
        check_expiry(input.expires_at, op.now)?;
        let owner = self.0.consumer(&op.realm, environment, consumer).await?.value;
        let mut shown = self.0.new_key(op, &owner, input, issued)?;
        shown.key.imported = imported;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let mut draft = Draft::new(op, if imported { "api-key.import" } else { "api-key.create" });
            if imported {
                // Keys that we make up never meet; those that callers bring do.
                self.0.take_turn(&op.realm, &mut draft).await?;
                self.check_unknown(op, environment, &shown.key.digest).await?;
            }
            let owner = self.0.consumer(&op.realm, environment, consumer).await?;
            shown.key.consumer = owner.value.id;
            draft.hold_consumer(&owner)?;
            draft.put(&shown.key, Expect::Absent)?;
            if self.0.commit_decided(op, draft).await?.is_some() {
                return Ok(shown);
            }
        }
        Err(overtaken())
    }

    /// Refuses a secret that a key of this environment has, revoked or not.
    async fn check_unknown(&self, op: &Op, environment: &EnvironmentName, digest: &str) -> Result<(), Error> {
        let prefix = format!("{environment}/");
        if self.0.store().with_handle::<ApiKey>(&op.realm, &prefix, digest).await?.is_empty() {
            return Ok(());
        }
        let message = "a key with this secret exists in this environment already";
        Err(Error::conflict("already-exists", message).hint("a key has one owner: issue a new key instead"))
    }

    async fn find(&self, op: &Op, environment: &EnvironmentName, id: KeyId) -> Result<Stored<ApiKey>, Error> {
        self.0.environment(&op.realm, environment).await?;
        self.0.store().get::<ApiKey>(&op.realm, &keys::api_key(environment, id)).await?.ok_or_else(|| {
            Error::not_found(format!("there is no key `{id}` in {environment}"))
                .hint("see the keys of a consumer with their ids")
                .next(NextStep::ListKeys { environment: environment.clone() })
        })
    }
}

// === impl App ===

impl App {
    /// Puts a new key together; nothing is stored yet.
    pub(crate) fn new_key(
        &self,
        op: &Op,
        consumer: &Consumer,
        input: &NewKey,
        issued: IssuedKey,
    ) -> Result<ShownKey, Error> {
        let key = ApiKey {
            id: KeyId::new(op.now, self.id_bytes()?),
            consumer: consumer.id,
            environment: consumer.environment.clone(),
            name: input.name.clone(),
            digest: issued.digest.to_string(),
            hint: issued.hint,
            created_at: op.now,
            expires_at: input.expires_at,
            revoked_at: None,
            replaced_by: None,
            rotated_at: None,
            retire_unused_seconds: None,
            imported: false,
        };
        Ok(ShownKey { key, consumer: consumer.name.clone(), plain: Some(issued.plain) })
    }
}
