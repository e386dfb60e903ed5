//! What runs in an environment and breaks when a global, an account or an issuer of it goes.
//!
//! A flow is asked by its expressions, without running it (`tollgate_flow::ValueNames`). Only deployments count: what is
//! saved and does not run breaks nothing.

use tollgate_flow::{Reading, ValueNames};
use tollgate_model::names::{EnvironmentName, IssuerName, PipelineName, ProjectName, ValueName};
use tollgate_model::objects::keys;
use tollgate_model::pipelines::Pipeline;
use tollgate_model::values::{Account, Global};
use tollgate_model::versions::Version;

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::accounts::Accounts;
use crate::errors::Error;
use crate::globals::Globals;
use crate::issuers::{Issuers, listed};
use crate::judging;

/// What depends on something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dependents {
    /// The deployments that the actor may read, by name.
    pub deployments: Vec<Dependent>,
    /// How many more there are, which the actor may not read.
    pub hidden: usize,
}

/// A deployment that depends on something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependent {
    /// Of which pipeline.
    pub pipeline: PipelineName,
    /// Its project.
    pub project: ProjectName,
    /// The version that runs.
    pub version: Version,
    /// Whether the flow only computes a name that may be this one.
    pub maybe: bool,
}

// === impl Globals ===

impl Globals {
    /// Returns the deployments that read a global.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn dependents(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &ValueName,
    ) -> Result<Dependents, Error> {
        op.demand_in(Permission::GlobalRead, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        if self.0.store().get::<Global>(&op.realm, &keys::global(environment, name)).await?.is_none() {
            return Err(Self::absent(environment, name));
        }
        let name = name.clone();
        let reading = move |pipeline: &Pipeline| ValueNames::of(pipeline).globals.reading(name.as_str());
        self.0.dependents(op, environment, reading).await
    }
}

// === impl Accounts ===

impl Accounts {
    /// Returns the deployments that read an account.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn dependents(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &ValueName,
    ) -> Result<Dependents, Error> {
        op.demand_in(Permission::AccountRead, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        if self.0.store().get::<Account>(&op.realm, &keys::account(environment, name)).await?.is_none() {
            return Err(Self::absent(environment, name));
        }
        let name = name.clone();
        let reading = move |pipeline: &Pipeline| ValueNames::of(pipeline).accounts.reading(name.as_str());
        self.0.dependents(op, environment, reading).await
    }
}

// === impl Issuers ===

impl Issuers {
    /// Returns the deployments that list an issuer: while there are any, it cannot be deleted.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn dependents(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &IssuerName,
    ) -> Result<Dependents, Error> {
        self.get(op, environment, name).await?;
        let name = name.clone();
        let lists = move |pipeline: &Pipeline| listed(pipeline).contains(&name).then_some(Reading::Named);
        self.0.dependents(op, environment, lists).await
    }
}

// === impl App ===

impl App {
    async fn dependents(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        reading: impl Fn(&Pipeline) -> Option<Reading> + Send + 'static,
    ) -> Result<Dependents, Error> {
        let standings = self.standings(op).await?;
        let (op, environment) = (op.clone(), environment.clone());
        judging::away(move || {
            let mut found = Dependents::default();
            for judged in standings.in_environment(&environment) {
                let (deployment, version) = judged.deployed();
                let Some(reading) = reading(&version.pipeline) else { continue };
                let name = &deployment.pipeline;
                if !standings.owners().may(&op, &[Permission::DeploymentRead], &environment, name) {
                    found.hidden += 1;
                    continue;
                }
                found.deployments.push(Dependent {
                    pipeline: name.clone(),
                    project: version.pipeline.project.clone(),
                    version: deployment.version,
                    maybe: reading == Reading::Computed,
                });
            }
            Ok(found)
        })
        .await
    }
}
