//! Attestations: the signed statement of each admitted deployment, stored in the transaction that deploys.
//!
//! They stay when the deployment, the pipeline or the environment goes: they say what was, not what is.

use tollgate_credential::evidence::{attestations, digests};
use tollgate_model::attestations::{
    ADMISSION_PREDICATE, Admitted, AdmittedVerdict, AppliedWaiver, Attestation, Author, Replaced,
    STATEMENT_TYPE, Statement, Subject, Switches,
};
use tollgate_model::deployments::{Attested, Deployment};
use tollgate_model::ids::{AttestationId, DeploymentId};
use tollgate_model::names::{EnvironmentName, PipelineName, RealmName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::{Kind, keys};
use tollgate_model::pipelines::{Pipeline, PipelineVersion};
use tollgate_model::policies::Policies;
use tollgate_model::verdicts::{Verdict, Waived};
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::changes::Draft;
use crate::errors::{Error, ErrorKind};
use crate::lists::{ListPage, ListRequest};

/// Use cases of attestations.
pub struct Attestations(pub(crate) App);

/// Which attestation of a pipeline in an environment is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// That of what runs; a major must be named only when several run.
    Running(Option<u32>),
    /// The newest of a deployment, which need not run any more.
    Deployment(DeploymentId),
    /// One by its id.
    Id(AttestationId),
}

/// What is to be attested.
pub(crate) struct ToAttest<'a> {
    pub(crate) deployment: &'a Deployment,
    pub(crate) version: &'a PipelineVersion,
    /// The verdict that admits it.
    pub(crate) verdict: &'a Verdict,
    /// The policies that judged.
    pub(crate) policies: &'a Policies,
    /// What runs in its place.
    pub(crate) running: Option<&'a Stored<Deployment>>,
}

// === impl Attestations ===

impl Attestations {
    /// Returns the attestations of an environment, of one pipeline in it, or all, as far as the actor may read them: by
    /// environment, pipeline and time. A page can hold fewer than asked for and yet not be the last.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`]; [`ErrorKind::Invalid`] when a pipeline is named without an environment.
    pub async fn list(
        &self,
        op: &Op,
        environment: Option<&EnvironmentName>,
        pipeline: Option<&PipelineName>,
        request: ListRequest,
    ) -> Result<ListPage<Attestation>, Error> {
        match environment {
            Some(environment) => op.demand_somewhere_in(Permission::DeploymentRead, environment)?,
            None => op.demand_anywhere(Permission::DeploymentRead)?,
        }
        let prefix = match (environment, pipeline) {
            (Some(environment), Some(pipeline)) => format!("{environment}/{pipeline}/"),
            (Some(environment), None) => format!("{environment}/"),
            (None, None) => String::new(),
            (None, Some(_)) => {
                return Err(
                    Error::invalid("a pipeline needs its environment").hint("name the environment, too")
                );
            }
        };
        let page = self.0.page::<Attestation>(&op.realm, prefix, request).await?;
        let mut page = page.map(|stored| stored.value);
        page.items.retain(|attestation| op.may(Permission::DeploymentRead, place(attestation)));
        Ok(page)
    }

    /// Returns one attestation.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`]; [`ErrorKind::NotFound`], with code `attestation-missing` when what is meant was
    /// deployed before there were attestations; [`ErrorKind::Invalid`] when several majors run and none is named.
    pub async fn get(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
        which: Which,
    ) -> Result<Attestation, Error> {
        let read = Permission::DeploymentRead;
        op.demand_somewhere_in(read, environment)?;
        let found = match which {
            Which::Id(id) => self.of_id(op, environment, pipeline, id).await?,
            Which::Deployment(deployment) => {
                let all = self.0.all::<Attestation>(&op.realm, &format!("{environment}/{pipeline}/")).await?;
                let of = all.into_iter().filter(|stored| stored.value.deployment == deployment);
                of.max_by_key(|stored| stored.revision).map(|stored| stored.value)
            }
            Which::Running(major) => {
                self.0.demand_at(op, read, environment, pipeline).await?;
                let running = self.0.deployments().find(op, environment, pipeline, major).await?.value;
                match &running.attested {
                    Some(attested) => self.of_id(op, environment, pipeline, attested.attestation).await?,
                    None => return Err(self.not_attested(op, &running).await?),
                }
            }
        };
        let missing = || {
            let what = match which {
                Which::Id(id) => format!("there is no attestation {id} of `{pipeline}` in {environment}"),
                Which::Deployment(id) => {
                    format!("there is no attestation of deployment {id} of `{pipeline}` in {environment}")
                }
                Which::Running(_) => format!("there is no attestation of `{pipeline}` in {environment}"),
            };
            missing(what).hint("see those that exist").next(NextStep::ListAttestations {
                pipeline: pipeline.clone(),
                environment: environment.clone(),
            })
        };
        let found = found.ok_or_else(missing)?;
        op.demand_of(read, place(&found), false, missing)?;
        Ok(found)
    }

    async fn of_id(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
        id: AttestationId,
    ) -> Result<Option<Attestation>, Error> {
        let key = keys::attestation(environment, pipeline, id);
        Ok(self.0.store().get::<Attestation>(&op.realm, &key).await?.map(|stored| stored.value))
    }

    /// Says that a deployment was made before there were attestations, to those who may read it.
    async fn not_attested(&self, op: &Op, running: &Deployment) -> Result<Error, Error> {
        let Deployment { pipeline, environment, version, deployed_at, .. } = running;
        let project = self.0.pipeline_version(op, pipeline, *version).await?.pipeline.project;
        if !op.may(Permission::DeploymentRead, Place::both(environment, &project)) {
            return Ok(missing(format!("there is no attestation of `{pipeline}` in {environment}")));
        }
        let message = format!(
            "`{pipeline}` {version} was deployed in {environment} at {deployed_at}, before this server made attestations"
        );
        Ok(missing(message).hint("deploy it again").next(NextStep::Deploy {
            pipeline: pipeline.clone(),
            version: Some(*version),
            environment: environment.clone(),
        }))
    }
}

/// Returns where somebody must be allowed to read.
fn place(attestation: &Attestation) -> Place<'_> {
    Place::both(&attestation.environment, &attestation.project)
}

fn missing(message: String) -> Error {
    Error::new(ErrorKind::NotFound, "attestation-missing", message)
}

// === impl App ===

impl App {
    /// Makes the attestation of a deployment that is about to be placed, and puts it into the change that places it. One
    /// that is overtaken by a rotation of keys is to be made again.
    pub(crate) async fn attest(
        &self,
        op: &Op,
        admitted: ToAttest<'_>,
        draft: &mut Draft,
    ) -> Result<Attested, Error> {
        let ToAttest { deployment, version, verdict, policies, running } = admitted;
        let Stored { value: signer, revision } = self.evidence_signer(op.now).await?;
        let id = AttestationId::new(op.now, self.id_bytes()?);
        let sha256 = digests::of_pipeline(&version.pipeline).map_err(Error::internal)?;
        let Deployment { environment, pipeline, .. } = deployment;
        let statement = Statement {
            statement_type: STATEMENT_TYPE.to_owned(),
            subject: vec![Subject {
                name: format!("{pipeline}@{}", version.version),
                digest: [("sha256".to_owned(), sha256.clone())].into(),
            }],
            predicate_type: ADMISSION_PREDICATE.to_owned(),
            predicate: Admitted {
                attestation: id,
                realm: op.realm.clone(),
                environment: environment.clone(),
                deployment: deployment.id,
                operation: deployment.action,
                admitted_at: op.now,
                verdict: match verdict.waived.is_empty() {
                    true => AdmittedVerdict::Admitted,
                    false => AdmittedVerdict::AdmittedByWaivers,
                },
                policy_version: verdict.policy_version,
                demanded: policies
                    .policies()
                    .filter_map(|policy| Some((policy.name().to_string(), policy.value(environment)?)))
                    .collect(),
                switches: switches(&version.pipeline),
                login_flow: verdict.login_flow,
                waivers: verdict.waived.iter().map(applied).collect(),
                by: Author {
                    user: op.actor.name.clone(),
                    source: op.source.clone(),
                    request_id: op.request_id.to_string(),
                },
                replaces: running.map(|Stored { value, .. }| Replaced {
                    version: value.version,
                    deployed_at: value.deployed_at,
                    attestation: value.attested.as_ref().map(|attested| attested.attestation),
                }),
                journal: self.journal_position().await?,
            },
        };
        let attestation = Attestation {
            id,
            environment: environment.clone(),
            pipeline: pipeline.clone(),
            project: version.pipeline.project.clone(),
            version: version.version,
            deployment: deployment.id,
            operation: deployment.action,
            at: op.now,
            by: op.actor.name.clone(),
            sha256,
            kid: signer.kid().to_owned(),
            envelope: attestations::sign(&signer, &statement).map_err(Error::internal)?,
        };
        draft.guard_in(&RealmName::default(), Kind::EvidenceKey, signer.kid(), Expect::Revision(revision));
        draft.put(&attestation, Expect::Absent)?;
        Ok(Attested { attestation: id, sha256: attestation.sha256 })
    }
}

/// Returns the digest of a pipeline as attestations state it, in hexadecimal digits.
///
/// # Errors
///
/// [`ErrorKind::Internal`] when the pipeline cannot be written.
pub fn sha256(pipeline: &Pipeline) -> Result<String, Error> {
    digests::of_pipeline(pipeline).map_err(Error::internal)
}

fn switches(pipeline: &Pipeline) -> Switches {
    pipeline.trigger.http().map_or_else(Switches::default, |trigger| Switches {
        external_api: trigger.external_api,
        internal_api: trigger.internal_api,
        api_key: trigger.api_key.is_on(),
        jwt: trigger.jwt.is_on(),
        basic_auth: trigger.basic_auth,
        mtls: trigger.mtls,
    })
}

fn applied(waived: &Waived) -> AppliedWaiver {
    let Waived { violation, waiver, until, reason } = waived;
    AppliedWaiver {
        id: *waiver,
        policy: violation.policy.clone(),
        violation: violation.code,
        message: violation.message.clone(),
        until: *until,
        reason: reason.clone(),
    }
}
