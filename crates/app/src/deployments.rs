//! Deployments: what runs where. Deploy, promote and rollback are one thing: judged by today's policies, then placed.
//!
//! A decision is made on what was read, so the commit guards what was read. Two people deploy onto one route: each
//! claims it with [`Expect::Absent`], and the second to commit is told who holds it. Somebody tightens a policy while
//! a deploy is being judged: the guard on the revision of the policies fails, and the deploy is judged again.

mod reads;
mod routes;

pub use reads::{DeploymentUrl, DeploymentView, HistoryItem};

use std::collections::BTreeSet;

use tollgate_model::consumers::Consumer;
use tollgate_model::deployments::{DeployAction, Deployment, RouteClaim};
use tollgate_model::ids::DeploymentId;
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::objects::{Kind, Object, keys};
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::policies::Policies;
use tollgate_model::verdicts::Verdict;
use tollgate_model::versions::Version;
use tollgate_policy::{Admission, AdmitError};
use tollgate_store::{CommitError, Expect, Stored};

use crate::App;
use crate::access::{Op, Permission};
use crate::changes::Draft;
use crate::errors::{Error, ErrorKind};

/// How often a decision is made again because what it was based on changed meanwhile.
const ATTEMPTS: usize = 5;

/// Use cases of deployments.
pub struct Deployments(pub(crate) App);

/// What was deployed.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployed {
    /// The deployment.
    pub deployment: DeploymentView,
    /// What is still missing for calls to succeed, and what is advised, in sentences.
    pub reminders: Vec<String>,
}

/// Which version to run, where, and why.
struct Placement<'a> {
    environment: &'a EnvironmentName,
    version: &'a PipelineVersion,
    action: DeployAction,
    if_match: Option<u64>,
}

/// Why one attempt did not place a deployment.
enum PlaceError {
    /// What it was based on changed: decide again.
    Again,
    Failed(Error),
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
        op.demand(Permission::DeploymentCreate)?;
        self.0.environment(&op.realm, environment).await?;
        let head = self.0.pipeline_head(op, pipeline).await?.value;
        let version = self.0.pipeline_version(op, pipeline, version.unwrap_or(head.latest)).await?;
        self.place(op, Placement { environment, version: &version, action: DeployAction::Deploy, if_match })
            .await
    }

    /// Runs in environment `to` the version that runs in `from`.
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
        op.demand(Permission::DeploymentCreate)?;
        self.0.environment(&op.realm, to).await?;
        let source = self.find(op, from, pipeline, major).await?.value;
        let version = self.0.pipeline_version(op, pipeline, source.version).await?;
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
        op.demand(Permission::DeploymentCreate)?;
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
            None => self
                .ran_before(op, &running)
                .await?
                .into_iter()
                .filter(|version| *version < running.version)
                .max()
                .ok_or_else(|| {
                    Error::not_found(format!(
                        "no version of `{pipeline}` before {} ran in {environment}",
                        running.version
                    ))
                    .hint("name the version to go back to")
                })?,
        };
        let version = self.0.pipeline_version(op, pipeline, target).await?;
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
        op.demand(Permission::DeploymentDelete)?;
        let running = self.find(op, environment, pipeline, major).await?;
        let version = self.0.pipeline_version(op, pipeline, running.value.version).await?;
        let mut draft = Draft::new(op, "deployment.undeploy");
        draft.delete::<Deployment>(running.value.key(), crate::changes::expect(&running, if_match));
        for claim in routes::claims(&op.realm, environment, &version) {
            draft.delete::<RouteClaim>(claim.key(), Expect::Exists);
        }
        self.0.commit(op, draft).await?;
        Ok(())
    }

    /// Judges and places, again when what the decision was based on changed meanwhile.
    async fn place(&self, op: &Op, placement: Placement<'_>) -> Result<Deployed, Error> {
        for _ in 0..ATTEMPTS {
            let policies = self.0.current_policies(&op.realm).await?;
            let admitted =
                tollgate_policy::admit(&policies.value, &placement.version.pipeline, placement.environment);
            let admission = match admitted {
                Ok(admission) => admission,
                Err(AdmitError::UnknownEnvironment(error)) => return Err(error.into()),
                Err(AdmitError::Refused(refusal)) => {
                    return Err(self.refuse(op, &placement, refusal.verdict).await?);
                }
            };
            match self.attempt(op, &placement, admission, &policies).await {
                Ok(deployment) => {
                    return self.deployed(op, deployment, placement.version, &policies.value).await;
                }
                Err(PlaceError::Again) => {}
                Err(PlaceError::Failed(error)) => return Err(error),
            }
        }
        Err(Error::conflict(
            "changing",
            "policies or deployments change faster than this deploy can be decided",
        )
        .hint("try again in a moment"))
    }

    async fn attempt(
        &self,
        op: &Op,
        placement: &Placement<'_>,
        admission: Admission,
        policies: &Stored<Policies>,
    ) -> Result<Deployment, PlaceError> {
        let Placement { environment, version, action, if_match } = placement;
        let name = &version.pipeline.name;
        let key = keys::deployment(environment, name, version.version.major);
        let running = self.0.store().get::<Deployment>(&op.realm, &key).await.map_err(Error::from)?;
        let deployment = Deployment {
            id: match &running {
                Some(running) => running.value.id,
                None => DeploymentId::new(op.now, self.0.id_bytes().map_err(Error::from)?),
            },
            pipeline: name.clone(),
            version: version.version,
            environment: (*environment).clone(),
            policy_version: admission.verdict().policy_version,
            deployed_at: op.now,
            deployed_by: op.actor.name.clone(),
            action: *action,
        };
        let mut draft = Draft::new(op, action_name(*action));
        draft.guard(Kind::Policies, keys::POLICIES, Expect::Revision(policies.revision));
        draft.guard(Kind::PipelineVersion, version.key(), Expect::Exists);
        let expected = match (if_match, &running) {
            (Some(revision), _) => Expect::Revision(*revision),
            (None, Some(running)) => Expect::Revision(running.revision),
            (None, None) => Expect::Absent,
        };
        draft.put(&deployment, expected)?;

        let wanted = routes::claims(&op.realm, environment, version);
        let held = match &running {
            Some(running) => {
                let before = self.0.pipeline_version(op, name, running.value.version).await?;
                routes::claims(&op.realm, environment, &before)
            }
            None => Vec::new(),
        };
        let wanted_keys: BTreeSet<_> = wanted.iter().map(Object::key).collect();
        let held_keys: BTreeSet<_> = held.iter().map(Object::key).collect();
        for claim in wanted.iter().filter(|claim| !held_keys.contains(&claim.key())) {
            draft.put(claim, Expect::Absent)?;
        }
        for key in held_keys.difference(&wanted_keys) {
            draft.delete::<RouteClaim>(key.as_str(), Expect::Exists);
        }
        match self.0.commit(op, draft).await {
            Ok(_) => Ok(deployment),
            Err(CommitError::Conflict { kind: Kind::RouteClaim, key, .. }) => {
                Err(self.route_taken(op, environment, &key).await?)
            }
            Err(CommitError::Conflict { kind: Kind::PipelineVersion, .. }) => Err(PlaceError::Failed(
                Error::not_found(format!("pipeline `{name}` was deleted meanwhile"))
                    .hint("save it again first"),
            )),
            Err(CommitError::Conflict { kind: Kind::Deployment, .. }) if if_match.is_none() => {
                Err(PlaceError::Again)
            }
            Err(CommitError::Conflict { kind: Kind::Policies, .. }) => Err(PlaceError::Again),
            Err(error) => Err(PlaceError::Failed(error.into())),
        }
    }

    /// Names who holds a route; when nobody does any more, the attempt is made again.
    async fn route_taken(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        key: &str,
    ) -> Result<PlaceError, Error> {
        let Some(claim) = self.0.store().get::<RouteClaim>(&op.realm, key).await? else {
            return Ok(PlaceError::Again);
        };
        let RouteClaim { shape, pipeline, major, exposure, .. } = claim.value;
        let message = format!(
            "route `{shape}` on the {} listener of {environment} is taken by pipeline `{pipeline}` v{major}",
            exposure.as_str()
        );
        Ok(PlaceError::Failed(
            Error::conflict("route-taken", message)
                .hint(format!("choose another route, or undeploy `{pipeline}` v{major} first")),
        ))
    }

    /// Journals a refused attempt, which changes nothing else.
    async fn refuse(&self, op: &Op, placement: &Placement<'_>, verdict: Verdict) -> Result<Error, Error> {
        let PipelineVersion { version, pipeline, .. } = placement.version;
        let reasons: Vec<_> = verdict.violations.iter().map(ToString::to_string).collect();
        let what = format!("{}@{version} in {}", pipeline.name, placement.environment);
        let draft = Draft::new(op, "deployment.refused").reason(format!("{what}: {}", reasons.join("; ")));
        self.0.commit(op, draft).await?;
        let message = format!(
            "`{}` {version} was not deployed: policies {} do not admit it in {}",
            pipeline.name, verdict.policy_version, placement.environment
        );
        Ok(Error {
            violations: verdict.violations.into(),
            ..Error::new(ErrorKind::Refused, "policy-refused", message)
                .hint("make the changes that the violations name, save the pipeline, and deploy it again")
        })
    }

    async fn deployed(
        &self,
        op: &Op,
        deployment: Deployment,
        version: &PipelineVersion,
        policies: &Policies,
    ) -> Result<Deployed, Error> {
        let view = DeploymentView::new(&op.realm, deployment, version, policies)?;
        let mut reminders = view.verdict.advice.clone();
        let environment = &view.deployment.environment;
        let name = &version.pipeline.name;
        if version.pipeline.trigger.is_exposed()
            && version.pipeline.trigger.http().is_some_and(|trigger| trigger.api_key.is_on())
        {
            let consumers = self.0.all::<Consumer>(&op.realm, &format!("{environment}/")).await?;
            if !consumers.iter().any(|consumer| consumer.value.pipelines.contains(name)) {
                reminders.push(format!(
                    "`{name}` asks for an API key, but no consumer of {environment} is associated with it: \
                     `tollgate consumer associate NAME --env {environment} --pipeline {name}`"
                ));
            }
        }
        Ok(Deployed { deployment: view, reminders })
    }
}

// === impl PlaceError ===

impl From<Error> for PlaceError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

fn action_name(action: DeployAction) -> &'static str {
    match action {
        DeployAction::Deploy => "deployment.deploy",
        DeployAction::Promote => "deployment.promote",
        DeployAction::Rollback => "deployment.rollback",
    }
}
