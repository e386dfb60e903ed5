//! Issuers outside whose tokens an environment takes.
//!
//! An issuer is set by whoever answers for the credentials of an environment; a pipeline can only list those that are set
//! where it is deployed. Keys are fetched by the gateways, each by itself, and never by a use case.

use jiff::Timestamp;
use tollgate_model::deployments::Deployment;
use tollgate_model::issuers::{Issuer, IssuerSettings};
use tollgate_model::names::{EnvironmentName, IssuerName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::{Kind, keys};
use tollgate_model::pipelines::Pipeline;
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::changes::{Draft, check_if_match, expect, overtaken};
use crate::errors::{Error, ErrorKind};

/// Most issuers of an environment.
const MAX_ISSUERS: usize = 50;
/// How many deployments an error names.
const NAMED: usize = 5;

/// Use cases of issuers.
pub struct Issuers(pub(crate) App);

/// An issuer, and how the gateway of this process stands with its keys.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuerView {
    /// The issuer.
    pub issuer: Issuer,
    /// Its keys; `None` without a gateway, and before it has heard of the issuer.
    pub keys: Option<IssuerKeysState>,
}

/// How a gateway stands with the keys of an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerKeysState {
    /// When those that it has were fetched.
    pub fetched_at: Option<Timestamp>,
    /// Whether tokens can be verified by them now.
    pub usable: bool,
    /// Id and algorithm of each.
    pub keys: Vec<(Option<String>, String)>,
    /// When it last tried to fetch some.
    pub tried_at: Option<Timestamp>,
    /// Why that failed, if it did.
    pub error: Option<String>,
}

// === impl Issuers ===

impl Issuers {
    /// Returns every issuer of an environment.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is no such environment.
    pub async fn list(
        &self,
        op: &Op,
        environment: &EnvironmentName,
    ) -> Result<Vec<Stored<IssuerView>>, Error> {
        op.demand_in(Permission::IssuerRead, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        let issuers = self.0.all::<Issuer>(&op.realm, &format!("{environment}/")).await?;
        Ok(issuers.into_iter().map(|stored| self.view(op, stored)).collect())
    }

    /// Returns an issuer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`].
    pub async fn get(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &IssuerName,
    ) -> Result<Stored<IssuerView>, Error> {
        op.demand_in(Permission::IssuerRead, Place::environment(environment))?;
        let stored = self.find(op, environment, name).await?;
        Ok(self.view(op, stored))
    }

    /// Makes an issuer.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] without the environment; [`ErrorKind::Invalid`] for the name that stands for login flows, for
    /// settings that contradict each other, and beyond 50 issuers; [`ErrorKind::Conflict`] when there is one of this name.
    pub async fn create(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: IssuerName,
        settings: IssuerSettings,
    ) -> Result<Stored<IssuerView>, Error> {
        op.demand_in(Permission::IssuerUpdate, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        self.check(op, environment, &name, &settings).await?;
        let issuer = Issuer {
            name,
            environment: environment.clone(),
            settings,
            created_at: op.now,
            updated_at: op.now,
            refresh_asked_at: None,
        };
        let mut draft = Draft::new(op, "issuer.create");
        draft.guard_environment(environment);
        draft.put(&issuer, Expect::Absent)?;
        let taken = || {
            let message = format!("there is an issuer `{}` in {environment} already", issuer.name);
            Error::conflict("already-exists", message).hint("change the one that is there").next(
                NextStep::ChangeIssuer { issuer: issuer.name.clone(), environment: environment.clone() },
            )
        };
        let revision = self.0.create(op, draft, taken).await?;
        Ok(self.view(op, Stored { value: issuer, revision }))
    }

    /// Sets an issuer: makes it, or replaces its settings.
    ///
    /// # Errors
    ///
    /// As [`Issuers::create`], without the conflict; [`ErrorKind::PreconditionFailed`].
    pub async fn set(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &IssuerName,
        settings: IssuerSettings,
        if_match: Option<u64>,
    ) -> Result<Stored<IssuerView>, Error> {
        op.demand_in(Permission::IssuerUpdate, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        self.check(op, environment, name, &settings).await?;
        let key = keys::issuer(environment, name);
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let stored = self.0.store().get::<Issuer>(&op.realm, &key).await?;
            check_if_match(&key, stored.as_ref(), if_match)?;
            let (expected, before) = match stored {
                Some(Stored { value, revision }) => (Expect::Revision(revision), Some(value)),
                None => (Expect::Absent, None),
            };
            let issuer = Issuer {
                name: name.clone(),
                environment: environment.clone(),
                settings: settings.clone(),
                created_at: before.as_ref().map_or(op.now, |before| before.created_at),
                updated_at: op.now,
                refresh_asked_at: before.and_then(|before| before.refresh_asked_at),
            };
            let mut draft = Draft::new(op, "issuer.set");
            draft.guard_environment(environment);
            draft.put(&issuer, expected)?;
            if let Some(revision) = self.0.commit_decided(op, draft).await? {
                return Ok(self.view(op, Stored { value: issuer, revision }));
            }
        }
        Err(overtaken())
    }

    /// Has every gateway fetch the issuer's keys anew.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`].
    pub async fn refresh(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &IssuerName,
    ) -> Result<Stored<IssuerView>, Error> {
        op.demand_in(Permission::IssuerUpdate, Place::environment(environment))?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let mut stored = self.find(op, environment, name).await?;
            stored.value.refresh_asked_at = Some(op.now);
            let mut draft = Draft::new(op, "issuer.refresh");
            draft.put(&stored.value, expect(&stored, None))?;
            if let Some(revision) = self.0.commit_decided(op, draft).await? {
                return Ok(self.view(op, Stored { revision, ..stored }));
            }
        }
        Err(overtaken())
    }

    /// Deletes an issuer that no deployment lists.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Conflict`] naming the deployments that list it;
    /// [`ErrorKind::PreconditionFailed`].
    pub async fn delete(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &IssuerName,
        if_match: Option<u64>,
    ) -> Result<(), Error> {
        op.demand_in(Permission::IssuerUpdate, Place::environment(environment))?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let listed_at = self.0.store().head().await?;
            let stored = self.find(op, environment, name).await?;
            check_if_match(keys::issuer(environment, name), Some(&stored), if_match)?;
            self.refuse_listed(op, environment, name).await?;
            let mut draft = Draft::new(op, "issuer.delete");
            draft.guard(Kind::Deployment, format!("{environment}/"), Expect::NothingSince(listed_at));
            draft.delete::<Issuer>(keys::issuer(environment, name), expect(&stored, None));
            if self.0.commit_decided(op, draft).await?.is_some() {
                return Ok(());
            }
        }
        Err(overtaken())
    }

    async fn check(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &IssuerName,
        settings: &IssuerSettings,
    ) -> Result<(), Error> {
        if *name == IssuerName::own() {
            return Err(Error::invalid(format!("`{name}` stands for the login flows of an environment"))
                .hint("choose another name"));
        }
        if let Some(contradiction) = settings.contradiction() {
            return Err(Error::invalid(contradiction));
        }
        let others = self.0.all::<Issuer>(&op.realm, &format!("{environment}/")).await?;
        if others.iter().filter(|it| it.value.name != *name).count() >= MAX_ISSUERS {
            return Err(Error::invalid(format!("an environment has at most {MAX_ISSUERS} issuers")));
        }
        Ok(())
    }

    async fn refuse_listed(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &IssuerName,
    ) -> Result<(), Error> {
        let mut listing = Vec::new();
        for Stored { value: deployment, .. } in
            self.0.all::<Deployment>(&op.realm, &format!("{environment}/")).await?
        {
            let version = self.0.pipeline_version(op, &deployment.pipeline, deployment.version).await?;
            if listed(&version.pipeline).contains(name) {
                listing.push(format!("`{}` v{}", deployment.pipeline, deployment.version.major));
            }
        }
        if listing.is_empty() {
            return Ok(());
        }
        let more = listing.len().saturating_sub(NAMED);
        listing.truncate(NAMED);
        if more > 0 {
            listing.push(format!("{more} more"));
        }
        let message = format!("issuer `{name}` of {environment} is in use: {} list it", listing.join(", "));
        Err(Error::conflict("issuer-in-use", message)
            .hint("undeploy them, or deploy versions that do not list it, then delete it"))
    }

    async fn find(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &IssuerName,
    ) -> Result<Stored<Issuer>, Error> {
        self.0.environment(&op.realm, environment).await?;
        self.0.store().get::<Issuer>(&op.realm, &keys::issuer(environment, name)).await?.ok_or_else(|| {
            Error::not_found(format!("there is no issuer `{name}` in {environment}"))
                .hint("see those that exist")
                .next(NextStep::ListIssuers { environment: environment.clone() })
        })
    }

    fn view(&self, op: &Op, stored: Stored<Issuer>) -> Stored<IssuerView> {
        let Stored { value: issuer, revision } = stored;
        let keys = self.0.gateway().and_then(|gateway| gateway.issuer_keys(&op.realm, &issuer));
        Stored { value: IssuerView { issuer, keys }, revision }
    }
}

// === impl App ===

impl App {
    /// Makes sure that the issuers that a pipeline lists are set where it is to run: a deployment whose tokens nobody can
    /// check would only answer 503.
    pub(crate) async fn check_issuers(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &Pipeline,
    ) -> Result<Vec<String>, Error> {
        let mut held = Vec::new();
        for name in listed(pipeline) {
            let key = keys::issuer(environment, &name);
            if self.store().get::<Issuer>(&op.realm, &key).await?.is_none() {
                let message = format!(
                    "`{}` takes tokens of issuer `{name}`, which is not set in {environment}",
                    pipeline.name
                );
                return Err(Error::new(ErrorKind::Conflict, "issuer-unknown", message)
                    .hint("set it there, or take it out of /trigger/jwt/issuers")
                    .next(NextStep::CreateIssuer {
                        issuer: name.clone(),
                        environment: environment.clone(),
                    }));
            }
            held.push(key);
        }
        Ok(held)
    }
}

/// Returns the issuers outside that a pipeline takes tokens of.
pub(crate) fn listed(pipeline: &Pipeline) -> Vec<IssuerName> {
    pipeline.trigger.http().map(|http| http.jwt.external_issuers().cloned().collect()).unwrap_or_default()
}
