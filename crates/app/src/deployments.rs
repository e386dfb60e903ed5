//! Deployments: what runs where. Deploy, promote and rollback are one thing: judged by today's policies, then placed.

mod candidates;
mod dry_run;
mod missing;
mod openapi;
mod place;
mod reads;
mod routes;

pub use candidates::RollbackCandidate;
pub use missing::MissingValue;
pub use openapi::GatewayUrl;
pub use reads::{DeploymentUrl, DeploymentView, HistoryItem};

use tollgate_model::deployments::{DeployAction, Deployment, RouteClaim};
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::objects::Object;
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::versions::Version;
use tollgate_policy::Judge;
use tollgate_store::Expect;

use crate::App;
use crate::access::{Op, Permission};
use crate::changes::Draft;
use crate::errors::Error;
use crate::waivers;
use place::Placement;

/// Use cases of deployments.
pub struct Deployments(pub(crate) App);

/// What was deployed.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployed {
    /// The deployment.
    pub deployment: DeploymentView,
    /// What is still missing for calls to succeed, and what is advised, in sentences.
    pub reminders: Vec<String>,
    /// Whether it demands an API key and no consumer there is associated with it: nobody can call it.
    pub nobody_associated: bool,
}

// === impl Deployments ===

impl Deployments {
    /// Runs a version in an environment, the latest when none is named; replaces what runs of the same major.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] with every violation, when the policies do not admit it; [`ErrorKind::Conflict`] with
    /// code `route-taken` naming the deployment that holds a route; [`ErrorKind::NotFound`];
    /// [`ErrorKind::PreconditionFailed`]. What ran before goes on running then.
    pub async fn deploy(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
        version: Option<Version>,
        if_match: Option<u64>,
    ) -> Result<Deployed, Error> {
        self.0.demand_at(op, Permission::DeploymentCreate, environment, pipeline).await?;
        let version = self.deploy_target(op, environment, pipeline, version).await?;
        self.place(op, Placement { environment, version: &version, action: DeployAction::Deploy, if_match })
            .await
    }

    /// Runs in environment `to` the version that runs in `from`, where the actor must be allowed to see it.
    ///
    /// # Errors
    ///
    /// As [`Deployments::deploy`].
    pub async fn promote(
        &self,
        op: &Op,
        pipeline: &PipelineName,
        from: &EnvironmentName,
        to: &EnvironmentName,
        major: Option<u32>,
    ) -> Result<Deployed, Error> {
        self.demand_promotion(op, pipeline, from, to).await?;
        let version = self.promote_target(op, pipeline, from, to, major).await?;
        let placement =
            Placement { environment: to, version: &version, action: DeployAction::Promote, if_match: None };
        self.place(op, placement).await
    }

    /// Runs an earlier version again: the one named, else the highest below the running one that ever ran here.
    ///
    /// # Errors
    ///
    /// As [`Deployments::deploy`]; [`ErrorKind::NotFound`] too when nothing earlier ran here.
    pub async fn rollback(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
        major: Option<u32>,
        version: Option<Version>,
    ) -> Result<Deployed, Error> {
        self.0.demand_at(op, Permission::DeploymentCreate, environment, pipeline).await?;
        let version = self.rollback_target(op, environment, pipeline, major, version).await?;
        let placement =
            Placement { environment, version: &version, action: DeployAction::Rollback, if_match: None };
        self.place(op, placement).await
    }

    /// Stops a deployment and frees its routes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], [`ErrorKind::Invalid`] when several majors run and none is named,
    /// [`ErrorKind::PreconditionFailed`].
    pub async fn undeploy(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
        major: Option<u32>,
        if_match: Option<u64>,
    ) -> Result<(), Error> {
        let head = self.0.demand_at(op, Permission::DeploymentDelete, environment, pipeline).await?;
        let running = self.find(op, environment, pipeline, major).await?;
        let version = self.0.pipeline_version(op, pipeline, running.value.version).await?;
        let mut draft = Draft::new(op, "deployment.undeploy");
        self.0.guard_owner(op, Permission::DeploymentDelete, environment, &head, &mut draft);
        draft.delete::<Deployment>(running.value.key(), crate::changes::expect(&running, if_match));
        for claim in routes::claims(&op.realm, environment, &version) {
            draft.delete::<RouteClaim>(claim.key(), Expect::Exists);
        }
        self.0.commit(op, draft).await?;
        Ok(())
    }

    async fn demand_promotion(
        &self,
        op: &Op,
        pipeline: &PipelineName,
        from: &EnvironmentName,
        to: &EnvironmentName,
    ) -> Result<(), Error> {
        self.0.demand_at(op, Permission::DeploymentCreate, to, pipeline).await?;
        self.0.demand_at(op, Permission::DeploymentRead, from, pipeline).await?;
        Ok(())
    }

    /// Returns the version that a deploy means.
    async fn deploy_target(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
        version: Option<Version>,
    ) -> Result<PipelineVersion, Error> {
        self.0.environment(&op.realm, environment).await?;
        let head = self.0.pipeline_head(op, pipeline).await?.value;
        self.0.pipeline_version(op, pipeline, version.unwrap_or(head.latest)).await
    }

    /// Returns the version that a promotion means.
    async fn promote_target(
        &self,
        op: &Op,
        pipeline: &PipelineName,
        from: &EnvironmentName,
        to: &EnvironmentName,
        major: Option<u32>,
    ) -> Result<PipelineVersion, Error> {
        self.0.environment(&op.realm, to).await?;
        let source = self.find(op, from, pipeline, major).await?.value;
        self.0.pipeline_version(op, pipeline, source.version).await
    }

    /// Returns the version that a rollback means.
    async fn rollback_target(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
        major: Option<u32>,
        version: Option<Version>,
    ) -> Result<PipelineVersion, Error> {
        let major = major.or(version.map(|version| version.major));
        let running = self.find(op, environment, pipeline, major).await?.value;
        let target = match version {
            Some(version) if version.major == running.version.major => version,
            Some(version) => {
                return Err(Error::invalid(format!(
                    "{version} is not a version of major {}",
                    running.version.major
                ))
                .hint("a rollback stays within one major; deploy the other major beside it"));
            }
            None => self.ran_before(op, &running).await?.ok_or_else(|| {
                Error::not_found(format!(
                    "no version of `{pipeline}` before {} ran in {environment}",
                    running.version
                ))
                .hint("name the version to go back to")
            })?,
        };
        self.0.pipeline_version(op, pipeline, target).await
    }

    async fn deployed(
        &self,
        op: &Op,
        deployment: Deployment,
        version: &PipelineVersion,
        judge: &Judge<'_>,
    ) -> Result<Deployed, Error> {
        let view = DeploymentView::new(&op.realm, deployment, version, judge)?;
        let mut reminders: Vec<String> =
            view.verdict.waived.iter().map(|it| format!("admitted by {}", waivers::passes(it))).collect();
        reminders.extend(view.verdict.advice.iter().cloned());
        let environment = &view.deployment.environment;
        let name = &version.pipeline.name;
        let mut nobody_associated = false;
        let trigger = version.pipeline.trigger.http().filter(|_| version.pipeline.trigger.is_exposed());
        if let Some(trigger) = trigger.filter(|trigger| trigger.demands_key()) {
            let asked = if trigger.api_key.is_on() { "an API key" } else { "a client certificate" };
            nobody_associated = !self.0.is_called(&op.realm, environment, name).await?;
            if nobody_associated {
                reminders.push(format!(
                    "`{name}` asks for {asked}, but no consumer of {environment} is associated with it"
                ));
            }
        }
        reminders.extend(self.0.shadow_reminder(op, version, environment).await);
        Ok(Deployed { deployment: view, reminders, nobody_associated })
    }
}
