//! What a deploy, a promotion or a rollback would do: judged as the real one is, its routes looked up, nothing stored.

use tollgate_model::deployments::{DeployAction, Deployment, RouteClaim};
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::objects::{Object, keys};
use tollgate_model::versions::Version;
use tollgate_policy::AdmitError;
use tollgate_store::Stored;

use super::place::{self, Placement};
use super::{Deployed, Deployments, routes};
use crate::access::{Op, Permission};
use crate::changes::check_if_match;
use crate::errors::Error;

// === impl Deployments ===

impl Deployments {
    /// Tells what [`Deployments::deploy`] would do.
    ///
    /// # Errors
    ///
    /// As [`Deployments::deploy`].
    pub async fn deploy_dry_run(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
        version: Option<Version>,
        if_match: Option<u64>,
    ) -> Result<Deployed, Error> {
        self.0.demand_at(op, Permission::DeploymentCreate, environment, pipeline).await?;
        let version = self.deploy_target(op, environment, pipeline, version).await?;
        let action = DeployAction::Deploy;
        self.rehearse(op, Placement { environment, version: &version, action, if_match }).await
    }

    /// Tells what [`Deployments::promote`] would do.
    ///
    /// # Errors
    ///
    /// As [`Deployments::promote`].
    pub async fn promote_dry_run(
        &self,
        op: &Op,
        pipeline: &PipelineName,
        from: &EnvironmentName,
        to: &EnvironmentName,
        major: Option<u32>,
    ) -> Result<Deployed, Error> {
        self.demand_promotion(op, pipeline, from, to).await?;
        let version = self.promote_target(op, pipeline, from, to, major).await?;
        let action = DeployAction::Promote;
        self.rehearse(op, Placement { environment: to, version: &version, action, if_match: None }).await
    }

    /// Tells what [`Deployments::rollback`] would do.
    ///
    /// # Errors
    ///
    /// As [`Deployments::rollback`].
    pub async fn rollback_dry_run(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
        major: Option<u32>,
        version: Option<Version>,
    ) -> Result<Deployed, Error> {
        self.0.demand_at(op, Permission::DeploymentCreate, environment, pipeline).await?;
        let version = self.rollback_target(op, environment, pipeline, major, version).await?;
        let action = DeployAction::Rollback;
        self.rehearse(op, Placement { environment, version: &version, action, if_match: None }).await
    }

    /// What is refused here is no attempt: the journal is not told of it.
    async fn rehearse(&self, op: &Op, placement: Placement<'_>) -> Result<Deployed, Error> {
        let rehearsed = self.rehearse_attempt(op, placement).await;
        rehearsed.map_err(|error| Error { journaled: true, ..error })
    }

    async fn rehearse_attempt(&self, op: &Op, placement: Placement<'_>) -> Result<Deployed, Error> {
        let Placement { environment, version, if_match, .. } = placement;
        let ruling = self.0.ruling(&op.realm).await?;
        let judge = ruling.judge(op.now);
        let admission = match judge.admit(&version.pipeline, environment) {
            Ok(admission) => admission,
            Err(AdmitError::UnknownEnvironment(error)) => return Err(error.into()),
            Err(AdmitError::Refused(refusal)) => {
                return Err(place::refused(&placement, refusal.verdict, "would not be deployed"));
            }
        };
        let name = &version.pipeline.name;
        let key = keys::deployment(environment, name, version.version.major);
        let running = self.0.store().get::<Deployment>(&op.realm, &key).await?;
        check_if_match(&key, running.as_ref(), if_match)?;
        self.0.check_issuers(op, environment, &version.pipeline).await?;
        for claim in routes::claims(&op.realm, environment, version) {
            let held = self.0.store().get::<RouteClaim>(&op.realm, &claim.key()).await?;
            if let Some(Stored { value: held, .. }) = held
                && (held.pipeline != *name || held.major != version.version.major)
            {
                return Err(self.taken(op, held, environment).await?);
            }
        }
        let deployment = self.deployment(op, &placement, &admission, running.as_ref())?;
        self.deployed(op, deployment, version, &judge).await
    }
}
