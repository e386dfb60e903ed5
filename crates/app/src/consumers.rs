//! Consumers: made in several environments at once, associated with the pipelines that they may call.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use tollgate_credential::keys::IssuedKey;
use tollgate_model::certificates::Certificate;
use tollgate_model::consumers::{ApiKey, BasicAuth, Consumer};
use tollgate_model::ids::{ConsumerId, CredentialId};
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::{Kind, Object, keys};
use tollgate_store::{CommitError, Expect, Page, Stored};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::changes::{Draft, expect, overtaken};
use crate::credentials::check_expiry;
use crate::errors::Error;
use crate::keys::{NewKey, ShownKey};
use crate::lists::{ListPage, ListRequest};

/// Use cases of consumers.
pub struct Consumers(pub(crate) App);

/// A consumer to make.
#[derive(Debug, Clone)]
pub struct NewConsumer {
    /// Its name, in each environment.
    pub name: ConsumerName,
    /// Where it may call.
    pub environments: BTreeSet<EnvironmentName>,
    /// The pipelines that it may call.
    pub pipelines: BTreeSet<PipelineName>,
    /// What it is.
    pub description: String,
    /// Its first key in each environment.
    pub first_key: Option<NewKey>,
}

/// A consumer that was made in one environment.
#[derive(Debug)]
pub struct CreatedConsumer {
    /// The consumer.
    pub consumer: Consumer,
    /// Its first key, shown this once.
    pub key: Option<ShownKey>,
    /// Its revision.
    pub revision: u64,
}

/// A consumer, and what is known of its credentials.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerCredentials {
    /// The consumer.
    pub consumer: Consumer,
    /// Its API keys, oldest first; `None` for whom these are not to see.
    pub keys: Option<Vec<ApiKey>>,
    /// Its Basic Auth credentials, oldest first; likewise.
    pub logins: Option<Vec<BasicAuth>>,
    /// When one of its credentials was last used, of those that may be seen, to about ten seconds.
    pub last_used_at: Option<Timestamp>,
}

// === impl Consumers ===

impl Consumers {
    /// Makes a consumer in each environment, with a first key when one is asked for, in one transaction.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Conflict`] when one of them exists, [`crate::errors::ErrorKind::NotFound`] for an unknown environment or
    /// pipeline, [`crate::errors::ErrorKind::Invalid`]. Nothing is made then.
    pub async fn create(&self, op: &Op, input: NewConsumer) -> Result<Vec<CreatedConsumer>, Error> {
        op.demand_anywhere(Permission::ConsumerCreate)?;
        for environment in &input.environments {
            op.demand_in(Permission::ConsumerCreate, Place::environment(environment))?;
            if input.first_key.is_some() {
                op.demand_in(Permission::ApiKeyCreate, Place::environment(environment))?;
            }
        }
        if input.environments.is_empty() {
            return Err(Error::invalid("a consumer needs an environment")
                .hint("name at least one, for example `test`"));
        }
        if let Some(key) = &input.first_key {
            check_expiry(key.expires_at, op.now)?;
        }
        let mut draft = Draft::new(op, "consumer.create");
        self.check_pipelines(op, &input.pipelines, &mut draft).await?;
        let mut created = Vec::new();
        for environment in &input.environments {
            self.0.environment(&op.realm, environment).await?;
            draft.guard_environment(environment);
            let consumer = Consumer {
                id: ConsumerId::new(op.now, self.0.id_bytes()?),
                name: input.name.clone(),
                environment: environment.clone(),
                description: input.description.clone(),
                pipelines: input.pipelines.clone(),
                tokens_revoked_before: None,
                created_at: op.now,
            };
            draft.put(&consumer, Expect::Absent)?;
            let key = match &input.first_key {
                Some(key) => {
                    let issued = IssuedKey::generate(environment, self.0.random())?;
                    let shown = self.0.new_key(op, &consumer, key, issued)?;
                    draft.put(&shown.key, Expect::Absent)?;
                    Some(shown)
                }
                None => None,
            };
            created.push(CreatedConsumer { consumer, key, revision: 0 });
        }
        let revision = match self.0.commit(op, draft).await {
            Ok(revision) => revision,
            Err(CommitError::Conflict { kind: Kind::Consumer, key, expected: Expect::Absent, .. }) => {
                return Err(taken(&input, &key));
            }
            Err(error) => return Err(error.into()),
        };
        for consumer in &mut created {
            consumer.revision = revision;
        }
        Ok(created)
    }

    /// Returns a page of the consumers of an environment.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment.
    pub async fn list(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        request: ListRequest,
    ) -> Result<ListPage<Consumer>, Error> {
        self.search(op, environment, "", request).await
    }

    /// Returns a page of the consumers of an environment whose names hold a text.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment.
    pub async fn search(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        text: &str,
        request: ListRequest,
    ) -> Result<ListPage<Consumer>, Error> {
        op.demand_in(Permission::ConsumerRead, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        let prefix = format!("{environment}/");
        let page = if text.is_empty() {
            self.0.page::<Consumer>(&op.realm, prefix, request).await?
        } else {
            let page = Page { prefix, after: request.cursor.clone(), limit: request.size() + 1 };
            let found = self.0.store().search::<Consumer>(&op.realm, &page, text).await?;
            ListPage::of(found.into_iter(), request, |stored| stored.value.key())
        };
        Ok(page.map(|stored| stored.value))
    }

    /// Returns consumers with what is known of their credentials, as far as the actor may read it.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Unavailable`].
    pub async fn with_credentials(
        &self,
        op: &Op,
        consumers: Vec<Consumer>,
    ) -> Result<Vec<ConsumerCredentials>, Error> {
        let ids: Vec<String> = consumers.iter().map(|it| it.id.to_string()).collect();
        let keys = self.0.store().owned::<ApiKey>(&op.realm, &ids).await?;
        let logins = self.0.store().owned::<BasicAuth>(&op.realm, &ids).await?;
        let certificates = self.0.store().owned::<Certificate>(&op.realm, &ids).await?;
        let owned = keys.iter().map(|it| (it.value.consumer, CredentialId::from(it.value.id)));
        let owned = owned.chain(logins.iter().map(|it| (it.value.consumer, it.value.id.into())));
        let owned = owned.chain(certificates.iter().map(|it| (it.value.consumer, it.value.id.into())));
        let mut credentials_of: HashMap<ConsumerId, Vec<CredentialId>> = HashMap::new();
        for (consumer, credential) in owned {
            credentials_of.entry(consumer).or_default().push(credential);
        }
        let used = self.0.last_uses(credentials_of.values().flatten().copied()).await?;
        let mut keys_of: HashMap<ConsumerId, Vec<ApiKey>> = HashMap::new();
        for Stored { value, .. } in keys {
            keys_of.entry(value.consumer).or_default().push(value);
        }
        let mut logins_of: HashMap<ConsumerId, Vec<BasicAuth>> = HashMap::new();
        for Stored { value, .. } in logins {
            logins_of.entry(value.consumer).or_default().push(value);
        }
        let view = |consumer: Consumer| {
            let place = Place::environment(&consumer.environment);
            let keys = keys_of.remove(&consumer.id).unwrap_or_default();
            let sees_keys = op.may(Permission::ApiKeyRead, place);
            let sees_logins = op.may(Permission::BasicAuthRead, place);
            let sees_certificates = op.may(Permission::CertificateRead, place);
            let sees = |id: &CredentialId| match id {
                CredentialId::Key(_) => sees_keys,
                CredentialId::Certificate(_) => sees_certificates,
                CredentialId::BasicAuth(_) => sees_logins,
            };
            let credentials = credentials_of.get(&consumer.id).into_iter().flatten();
            let last_used_at = credentials.filter(|id| sees(id)).filter_map(|id| used.get(id).copied()).max();
            ConsumerCredentials {
                last_used_at,
                keys: sees_keys.then_some(keys),
                logins: sees_logins.then(|| logins_of.remove(&consumer.id).unwrap_or_default()),
                consumer,
            }
        };
        Ok(consumers.into_iter().map(view).collect())
    }

    /// Returns a consumer with its revision.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn get(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &ConsumerName,
    ) -> Result<Stored<Consumer>, Error> {
        op.demand_in(Permission::ConsumerRead, Place::environment(environment))?;
        self.0.consumer(&op.realm, environment, name).await
    }

    /// Allows a consumer to call more pipelines.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`], also for an unknown pipeline; [`crate::errors::ErrorKind::PreconditionFailed`].
    pub async fn associate(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &ConsumerName,
        pipelines: BTreeSet<PipelineName>,
        if_match: Option<u64>,
    ) -> Result<Stored<Consumer>, Error> {
        op.demand_in(Permission::ConsumerUpdate, Place::environment(environment))?;
        let mut draft = Draft::new(op, "consumer.associate");
        self.check_pipelines(op, &pipelines, &mut draft).await?;
        let change = |consumer: &mut Consumer| consumer.pipelines.extend(pipelines.iter().cloned());
        self.change(op, environment, name, if_match, draft, change).await
    }

    /// Takes pipelines away from a consumer.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`], [`crate::errors::ErrorKind::PreconditionFailed`].
    pub async fn dissociate(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &ConsumerName,
        pipelines: BTreeSet<PipelineName>,
        if_match: Option<u64>,
    ) -> Result<Stored<Consumer>, Error> {
        op.demand_in(Permission::ConsumerUpdate, Place::environment(environment))?;
        let draft = Draft::new(op, "consumer.dissociate");
        let change = |consumer: &mut Consumer| consumer.pipelines.retain(|name| !pipelines.contains(name));
        self.change(op, environment, name, if_match, draft, change).await
    }

    /// Revokes every token that was issued to a consumer until now. An earlier revocation never loses its effect, also
    /// when the clock was set back since.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`], [`crate::errors::ErrorKind::PreconditionFailed`].
    pub async fn revoke_tokens(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &ConsumerName,
        if_match: Option<u64>,
    ) -> Result<Stored<Consumer>, Error> {
        op.demand_in(Permission::TokenRevoke, Place::environment(environment))?;
        let draft = Draft::new(op, "consumer.revoke-tokens");
        let before: Timestamp = op.now;
        // `None` is less than every time.
        let change = |consumer: &mut Consumer| {
            consumer.tokens_revoked_before = consumer.tokens_revoked_before.max(Some(before));
        };
        self.change(op, environment, name, if_match, draft, change).await
    }

    /// Deletes a consumer with all its credentials.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`], [`crate::errors::ErrorKind::PreconditionFailed`].
    pub async fn delete(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &ConsumerName,
        if_match: Option<u64>,
    ) -> Result<(), Error> {
        op.demand_in(Permission::ConsumerDelete, Place::environment(environment))?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let consumer = self.0.consumer(&op.realm, environment, name).await?;
            let mut draft = Draft::new(op, "consumer.delete");
            draft.delete::<Consumer>(consumer.value.key(), expect(&consumer, if_match));
            let owner = [consumer.value.id.to_string()];
            for key in self.0.store().owned::<ApiKey>(&op.realm, &owner).await? {
                draft.delete::<ApiKey>(key.value.key(), Expect::Any);
            }
            for credential in self.0.store().owned::<BasicAuth>(&op.realm, &owner).await? {
                draft.delete::<BasicAuth>(credential.value.key(), Expect::Any);
            }
            for certificate in self.0.store().owned::<Certificate>(&op.realm, &owner).await? {
                draft.delete::<Certificate>(certificate.value.key(), Expect::Any);
            }
            match self.0.commit(op, draft).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict { kind: Kind::Consumer, .. }) if if_match.is_none() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(overtaken())
    }

    /// Changes a consumer; again when it changed meanwhile, unless the caller said which revision they mean.
    async fn change(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &ConsumerName,
        if_match: Option<u64>,
        draft: Draft,
        change: impl Fn(&mut Consumer),
    ) -> Result<Stored<Consumer>, Error> {
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let mut stored = self.0.consumer(&op.realm, environment, name).await?;
            change(&mut stored.value);
            let mut draft = draft.clone();
            draft.put(&stored.value, expect(&stored, if_match))?;
            match self.0.commit(op, draft).await {
                Ok(revision) => return Ok(Stored { value: stored.value, revision }),
                // Each new credential writes its consumer, so this is no news to whoever did not ask for a revision.
                Err(CommitError::Conflict { kind: Kind::Consumer, .. }) if if_match.is_none() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(overtaken())
    }

    /// Refuses pipelines that do not exist, also when they are deleted at the same moment.
    async fn check_pipelines(
        &self,
        op: &Op,
        pipelines: &BTreeSet<PipelineName>,
        draft: &mut Draft,
    ) -> Result<(), Error> {
        for pipeline in pipelines {
            self.0.pipeline_head(op, pipeline).await?;
            draft.guard(Kind::Pipeline, keys::pipeline(pipeline), Expect::Exists);
        }
        Ok(())
    }
}

/// Says where there is one of the name already.
fn taken(input: &NewConsumer, key: &str) -> Error {
    let is_there = |of: &&EnvironmentName| keys::consumer(of, &input.name) == key;
    let Some(environment) = input.environments.iter().find(is_there) else { return overtaken() };
    let (name, several) = (&input.name, input.environments.len() > 1);
    let hint =
        if several { "choose another name, or leave that environment out" } else { "choose another name" };
    Error::conflict("already-exists", format!("there is a consumer `{name}` in {environment} already"))
        .hint(hint)
        .next(NextStep::SeeConsumer { consumer: name.clone(), environment: environment.clone() })
}
