//! Placing a version: admitted by today's policies, then put in place with its routes.
//!
//! A decision is made on what was read, so the commit guards what was read. Two people deploy onto one route: each
//! claims it with [`Expect::Absent`], and the second to commit is told who holds it. Somebody tightens a policy while
//! a deploy is being judged: the guard on the revision of the policies fails, and the deploy is judged again.

use std::collections::BTreeSet;

use tollgate_model::deployments::{DeployAction, Deployment, RouteClaim};
use tollgate_model::ids::DeploymentId;
use tollgate_model::names::EnvironmentName;
use tollgate_model::objects::{Kind, Object, keys};
use tollgate_model::pipelines::{PipelineHead, PipelineVersion};
use tollgate_model::policies::Policies;
use tollgate_model::verdicts::Verdict;
use tollgate_policy::{Admission, AdmitError};
use tollgate_store::{CommitError, Expect, Stored};

use super::{Deployed, Deployments, routes};
use crate::access::{Op, Permission};
use crate::attestations::ToAttest;
use crate::changes::{Draft, expect_or_absent, overtaken};
use crate::errors::{Error, ErrorKind};
use crate::refusals::Attempt;
use crate::waivers::passes;

/// Which version to run, where, and why.
pub(super) struct Placement<'a> {
    pub(super) environment: &'a EnvironmentName,
    pub(super) version: &'a PipelineVersion,
    pub(super) action: DeployAction,
    pub(super) if_match: Option<u64>,
}

/// Why one attempt did not place a deployment.
enum PlaceError {
    /// What it was based on changed: decide again.
    Again,
    Failed(Error),
}

// === impl Deployments ===

impl Deployments {
    /// Judges and places, again when what the decision was based on changed meanwhile.
    pub(super) async fn place(&self, op: &Op, placement: Placement<'_>) -> Result<Deployed, Error> {
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            // Again: meanwhile it may have been moved to a project where the actor may not deploy.
            let name = &placement.version.pipeline.name;
            let head =
                self.0.demand_at(op, Permission::DeploymentCreate, placement.environment, name).await?;
            let ruling = self.0.ruling(&op.realm).await?;
            let judge = ruling.judge(op.now);
            let admission = match judge.admit(&placement.version.pipeline, placement.environment) {
                Ok(admission) => admission,
                Err(AdmitError::UnknownEnvironment(error)) => return Err(error.into()),
                Err(AdmitError::Refused(refusal)) => {
                    return Err(self.refuse(op, &placement, refusal.verdict).await);
                }
            };
            match self.attempt(op, &placement, admission, &ruling.policies, &head).await {
                Ok(deployment) => {
                    return self.deployed(op, deployment, placement.version, &judge).await;
                }
                Err(PlaceError::Again) => {}
                Err(PlaceError::Failed(error)) => return Err(error),
            }
        }
        Err(overtaken())
    }

    async fn attempt(
        &self,
        op: &Op,
        placement: &Placement<'_>,
        admission: Admission,
        policies: &Stored<Policies>,
        head: &Stored<PipelineHead>,
    ) -> Result<Deployment, PlaceError> {
        let Placement { environment, version, action, if_match } = placement;
        let name = &version.pipeline.name;
        let key = keys::deployment(environment, name, version.version.major);
        let running = self.0.store().get::<Deployment>(&op.realm, &key).await.map_err(Error::from)?;
        let mut deployment = self.deployment(op, placement, &admission, running.as_ref())?;
        // Whoever reads the journal sees what the admission leaned on.
        let waived: Vec<String> =
            admission.verdict().waived.iter().map(|it| format!("admitted by {}", passes(it))).collect();
        let mut draft = Draft::new(op, action_name(*action)).reason(waived.join("; "));
        draft.guard(Kind::Policies, keys::POLICIES, Expect::Revision(policies.revision));
        self.0.guard_owner(op, Permission::DeploymentCreate, environment, head, &mut draft);
        draft.guard(Kind::PipelineVersion, version.key(), Expect::Revision(self.judged(op, version).await?));
        // An issuer that is taken away meanwhile would leave nobody to check tokens by.
        for issuer in self.0.check_issuers(op, environment, &version.pipeline).await? {
            draft.guard(Kind::Issuer, issuer, Expect::Exists);
        }
        // A waiver that is taken away meanwhile no longer lets anything pass.
        for waived in &admission.verdict().waived {
            draft.guard(Kind::Waiver, keys::waiver(environment, name, waived.waiver), Expect::Exists);
        }
        // Never the one without the other.
        let admitted = ToAttest {
            deployment: &deployment,
            version,
            verdict: admission.verdict(),
            policies: &policies.value,
            running: running.as_ref(),
        };
        let attested = self.0.attest(op, admitted, &mut draft).await?;
        deployment.attested = Some(attested);
        draft.put(&deployment, expect_or_absent(running.as_ref(), *if_match))?;

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
            Err(CommitError::Conflict { kind: Kind::PipelineVersion, .. }) => {
                Err(PlaceError::Failed(deleted(version)))
            }
            Err(CommitError::Conflict { kind: Kind::Deployment, .. }) if if_match.is_none() => {
                Err(PlaceError::Again)
            }
            Err(CommitError::Conflict {
                kind: Kind::Policies | Kind::Waiver | Kind::Pipeline | Kind::EvidenceKey | Kind::Issuer,
                ..
            }) => Err(PlaceError::Again),
            Err(error) => Err(PlaceError::Failed(error.into())),
        }
    }

    /// Puts together what would run: under the id of what runs already, else under a new one.
    pub(super) fn deployment(
        &self,
        op: &Op,
        placement: &Placement<'_>,
        admission: &Admission,
        running: Option<&Stored<Deployment>>,
    ) -> Result<Deployment, Error> {
        Ok(Deployment {
            id: match running {
                Some(running) => running.value.id,
                None => DeploymentId::new(op.now, self.0.id_bytes()?),
            },
            pipeline: placement.version.pipeline.name.clone(),
            version: placement.version.version,
            environment: placement.environment.clone(),
            policy_version: admission.verdict().policy_version,
            deployed_at: op.now,
            deployed_by: op.actor.name.clone(),
            action: placement.action,
            attested: None,
        })
    }

    /// Returns the revision of the version that was judged. One that was deleted and saved anew since has the same name
    /// and number, and nobody judged what is in it.
    async fn judged(&self, op: &Op, version: &PipelineVersion) -> Result<u64, Error> {
        let stored = self.0.store().get::<PipelineVersion>(&op.realm, &version.key()).await?;
        let same = stored.filter(|stored| stored.value == *version);
        same.map(|stored| stored.revision).ok_or_else(|| deleted(version))
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
        Ok(PlaceError::Failed(self.taken(op, claim.value, environment).await?))
    }

    /// Says who holds a route, to whoever may see them there.
    pub(super) async fn taken(
        &self,
        op: &Op,
        claim: RouteClaim,
        environment: &EnvironmentName,
    ) -> Result<Error, Error> {
        let RouteClaim { shape, pipeline, major, exposure, .. } = claim;
        let visible = [Permission::DeploymentRead];
        let is_visible = self.0.owners(&op.realm).await?.may(op, &visible, environment, &pipeline);
        let (holder, hint) = if is_visible {
            let holder = format!("pipeline `{pipeline}` v{major}");
            (holder, format!("choose another route, or undeploy `{pipeline}` v{major} first"))
        } else {
            ("a pipeline that you may not see".to_owned(), "choose another route".to_owned())
        };
        let listener = exposure.as_str();
        let message =
            format!("route `{shape}` on the {listener} listener of {environment} is taken by {holder}");
        Ok(Error::conflict("route-taken", message).hint(hint))
    }

    /// Journals a refused attempt, which changes nothing else.
    async fn refuse(&self, op: &Op, placement: &Placement<'_>, verdict: Verdict) -> Error {
        let Placement { environment, version: PipelineVersion { version, pipeline, .. }, action, .. } =
            placement;
        let reasons: Vec<_> = verdict.violations.iter().map(ToString::to_string).collect();
        let reason = format!("{}@{version} in {environment}: {}", pipeline.name, reasons.join("; "));
        let key = keys::deployment(environment, &pipeline.name, version.major);
        let attempt = Attempt {
            action: action_name(*action).to_owned(),
            environment: Some(environment.to_string()),
            about: Some((Kind::Deployment, key)),
            changes: true,
            ..Attempt::default()
        };
        let mut error = refused(placement, verdict, "was not deployed");
        self.0.refusals().record_reason(op, attempt, &mut error, reason).await;
        error
    }
}

/// Says that the policies do not admit a version.
pub(super) fn refused(placement: &Placement<'_>, verdict: Verdict, what: &str) -> Error {
    let PipelineVersion { version, pipeline, .. } = placement.version;
    let message = format!(
        "`{}` {version} {what}: policies {} do not admit it in {}",
        pipeline.name, verdict.policy_version, placement.environment
    );
    Error {
        violations: verdict.violations.into(),
        ..Error::new(ErrorKind::Refused, "policy-refused", message)
            .hint("make the changes that the violations name, save the pipeline, and deploy it again")
    }
}

/// Says that a version is not what was to be placed any more.
fn deleted(version: &PipelineVersion) -> Error {
    Error::not_found(format!("pipeline `{}` was deleted meanwhile", version.pipeline.name))
        .hint("save it again, or look at who did, then deploy again")
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tollgate_credential::seal::MasterKey;
    use tollgate_model::ids::RequestId;
    use tollgate_model::names::{PipelineName, RealmName};
    use tollgate_model::sources::Clock;
    use tollgate_store::Store;
    use tollgate_testkit::{FixedClock, SeededRandom};

    use super::*;
    use crate::App;
    use crate::access::Actor;
    use crate::pipelines::SavePipeline;

    #[tokio::test]
    async fn what_was_judged_is_not_another_of_its_name_and_number() {
        let dir = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}", dir.path().join("t.db").display());
        let store = Store::open(&url).await.expect("a store");
        let (random, clock) = (Arc::new(SeededRandom::new(7)), FixedClock::default());
        let master = Arc::new(MasterKey::generate(random.as_ref()).expect("a key"));
        let app = App::new(store, master, Arc::new(clock.clone()), random);
        let op = Op {
            actor: Actor::system(),
            source: "test".to_owned(),
            request_id: RequestId::new(clock.now(), [0; 10]),
            now: clock.now(),
            realm: RealmName::default(),
        };
        app.realms().initialise(&op).await.expect("a realm");
        let save = async |trigger: &str| {
            let document = format!(
                "{{kind: Pipeline, name: shop, project: store, trigger: {trigger}, steps: [{{json: 1}}]}}"
            );
            app.pipelines()
                .save(&op, SavePipeline { document, ..SavePipeline::default() })
                .await
                .expect("saved");
        };
        let (test, shop) = (EnvironmentName::test(), PipelineName::parse("shop").expect("a name"));
        save("{type: rest, externalApi: true, apiKey: true}").await;
        let deployments = app.deployments();
        let judged = deployments.deploy_target(&op, &test, &shop, None).await.expect("a version");

        // Between reading what to deploy and placing it.
        app.pipelines().delete(&op, &shop, None).await.expect("deleted");
        save("{type: rest, externalApi: true}").await;
        let action = DeployAction::Deploy;
        let placement = Placement { environment: &test, version: &judged, action, if_match: None };
        let error = deployments.place(&op, placement).await.expect_err("another version 1.0 was placed");
        assert_eq!(error.message, "pipeline `shop` was deleted meanwhile");
    }
}
