//! Trials: a flow runs once on a sample message, for somebody who looks at every step.
//!
//! A flow that runs reads the secrets of its environment and calls upstreams with them. So a trial is to nobody a way to
//! what they could not deploy there: it takes the permissions of saving and of deploying, in the project and in the
//! environment, and the policies admit the pipeline there or it is not run. Every trial is an entry of the journal, made
//! before it begins; what was in its messages is not.

use std::time::Duration;

use tollgate_flow::Flow;
use tollgate_model::document::{self, Located};
use tollgate_model::ids::RequestId;
use tollgate_model::names::{EnvironmentName, PipelineName, RealmName};
use tollgate_model::objects::{Kind, keys};
use tollgate_model::pipelines::{Pipeline, PipelineHead};
use tollgate_model::trials::{SampleMessage, TrialReport};
use tollgate_model::triggers::Trigger;
use tollgate_model::versions::Version;
use tollgate_policy::AdmitError;
use tollgate_store::Expect;

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::changes::Draft;
use crate::errors::{Error, ErrorKind};
use crate::explanations::no_gateway;
use crate::pipelines::{check, demand_not_taken, no_pipeline};
use crate::refusals::Attempt;

/// Most bytes of a sample message.
const MAX_SAMPLE_BYTES: usize = 1 << 20;

/// The trials of flows.
pub struct Trials(pub(crate) App);

/// What is tried.
#[derive(Debug, Clone)]
pub enum Tried {
    /// A version that is saved; the latest when none is named.
    Saved(PipelineName, Option<Version>),
    /// A file that need not be saved: YAML or JSON.
    Draft(String),
}

/// A trial that was made.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The pipeline.
    pub pipeline: PipelineName,
    /// Its version, or `draft`.
    pub version: String,
    /// What happened.
    pub report: TrialReport,
}

/// A flow that may be tried, as the gateway is given it.
pub struct PreparedTrial<'a> {
    /// Whose values it sees.
    pub realm: &'a RealmName,
    /// In which environment.
    pub environment: &'a EnvironmentName,
    /// What it is called.
    pub pipeline: &'a PipelineName,
    /// Which version, in words.
    pub version: &'a str,
    /// The flow.
    pub flow: &'a Flow,
    /// How long its trigger lets it run.
    pub timeout: Duration,
    /// The message that it begins with.
    pub message: SampleMessage,
    /// The request that asks for it.
    pub request_id: RequestId,
}

/// Why a gateway tried nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTried {
    /// It has no usable values of the environment.
    Unavailable,
    /// The run broke off.
    Broken,
}

// === impl Trials ===

impl Trials {
    /// Runs a flow once, with the values of an environment. Upstreams are called for real.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`] without the permission to deploy it there, and for a draft to save it;
    /// [`ErrorKind::Refused`] when the policies do not admit it there; [`ErrorKind::Invalid`] with the places at fault;
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Unavailable`] without a gateway that has what it needs.
    pub async fn run(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        tried: Tried,
        message: SampleMessage,
    ) -> Result<Trial, Error> {
        let (pipeline, version) = match tried {
            Tried::Saved(name, version) => {
                let head = self.0.demand_at(op, Permission::DeploymentCreate, environment, &name).await?;
                let version = version.unwrap_or(head.value.latest);
                let stored = self.0.pipeline_version(op, &name, version).await?;
                (stored.pipeline, version.to_string())
            }
            Tried::Draft(text) => (self.draft(op, environment, &text).await?, "draft".to_owned()),
        };
        let size = serde_json::to_string(&message).map_err(Error::internal)?.len();
        if size > MAX_SAMPLE_BYTES {
            let sentence = format!("the sample message is longer than {MAX_SAMPLE_BYTES} bytes");
            return Err(Error::new(ErrorKind::Invalid, "message-invalid", sentence).hint("try a shorter one"));
        }
        self.admit(op, environment, &pipeline, &version).await?;
        let flow = tollgate_flow::compile(&pipeline)
            .map_err(|_| Error::new(ErrorKind::Invalid, "pipeline-invalid", "the flow does not compile"))?;
        let gateway = self.0.gateway().ok_or_else(no_gateway)?;
        self.note(op, environment, &pipeline, &version).await?;
        let timeout = match &pipeline.trigger {
            Trigger::Rest(http) | Trigger::Http(http) | Trigger::HttpFile(http) => http.timeout_ms,
            Trigger::Scheduler(scheduler) => scheduler.timeout_ms,
        };
        let prepared = PreparedTrial {
            realm: &op.realm,
            environment,
            pipeline: &pipeline.name,
            version: &version,
            flow: &flow,
            timeout: Duration::from_millis(timeout.get().into()),
            message,
            request_id: op.request_id,
        };
        let report = gateway.try_flow(prepared).await.map_err(|error| match error {
            NotTried::Unavailable => Error::new(
                ErrorKind::Unavailable,
                "check-unavailable",
                format!("the gateway of this process has no usable values of `{environment}`"),
            )
            .hint("try again when it has caught up with the store; its log says what is broken"),
            NotTried::Broken => Error::internal("a trial broke off"),
        })?;
        Ok(Trial { pipeline: pipeline.name, version, report })
    }

    /// Reads a file that need not be saved, of somebody who could save and deploy it.
    async fn draft(&self, op: &Op, environment: &EnvironmentName, text: &str) -> Result<Pipeline, Error> {
        op.demand_somewhere_in(Permission::DeploymentCreate, environment)?;
        op.demand_anywhere(Permission::PipelineUpdate)?;
        self.0.environment(&op.realm, environment).await?;
        let Located { value: pipeline, positions } = document::parse_pipeline(text)?;
        op.demand_in(Permission::PipelineUpdate, Place::project(&pipeline.project))?;
        op.demand_in(Permission::DeploymentCreate, Place::both(environment, &pipeline.project))?;
        // Waivers and globals of a name belong to whom the pipeline belongs.
        let head = self.0.store().get::<PipelineHead>(&op.realm, &keys::pipeline(&pipeline.name)).await?;
        if let Some(head) = head {
            demand_not_taken(op, &head.value, &pipeline.project)?;
            let held = Place::both(environment, &head.value.project);
            op.demand_of(Permission::DeploymentCreate, held, true, || no_pipeline(&pipeline.name))?;
        }
        check(&op.realm, &pipeline, &positions)?;
        Ok(pipeline)
    }

    /// Refuses what could not be deployed.
    async fn admit(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &Pipeline,
        version: &str,
    ) -> Result<(), Error> {
        let ruling = self.0.ruling(&op.realm).await?;
        let refusal = match ruling.judge(op.now).admit(pipeline, environment) {
            Ok(_) => return Ok(()),
            Err(AdmitError::UnknownEnvironment(error)) => return Err(error.into()),
            Err(AdmitError::Refused(refusal)) => refusal,
        };
        let verdict = refusal.verdict;
        let reasons: Vec<_> = verdict.violations.iter().map(ToString::to_string).collect();
        let message = format!(
            "`{}` {version} was not tried: policies {} do not admit it in {environment}",
            pipeline.name, verdict.policy_version
        );
        let mut error = Error {
            violations: verdict.violations.into(),
            ..Error::new(ErrorKind::Refused, "policy-refused", message)
                .hint("make the changes that the violations name, or try it in another environment")
        };
        let attempt = Attempt {
            action: "pipeline.try".to_owned(),
            environment: Some(environment.to_string()),
            about: Some((Kind::Pipeline, keys::pipeline(&pipeline.name))),
            changes: true,
            ..Attempt::default()
        };
        let reason = format!("{}@{version} in {environment}: {}", pipeline.name, reasons.join("; "));
        self.0.refusals().record_reason(op, attempt, &mut error, reason).await;
        Err(error)
    }

    /// Tells the journal who tries what, before it runs.
    async fn note(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &Pipeline,
        version: &str,
    ) -> Result<(), Error> {
        let digest = crate::attestations::sha256(pipeline)?;
        let reason = format!("tried {}@{version} in {environment}, sha256 {digest}", pipeline.name);
        let mut draft = Draft::new(op, "pipeline.try").reason(reason);
        draft.guard(Kind::Environment, keys::environment(environment), Expect::Exists);
        self.0.commit(op, draft).await?;
        Ok(())
    }
}
