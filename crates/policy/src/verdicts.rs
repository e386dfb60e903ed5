//! The verdict on one pipeline, and what mends it.

use serde_json::Value;
use tollgate_model::environments::Exposure;
use tollgate_model::names::EnvironmentName;
use tollgate_model::pipelines::Pipeline;
use tollgate_model::policies::{AccessRequirement, Policies, PolicyName};
use tollgate_model::triggers::{ApiKeySwitch, HttpTrigger, JwtSwitch};
use tollgate_model::verdicts::{Missing, Verdict, Violation};

use crate::is_login_flow;

/// Proof that today's policies admit a pipeline in an environment. Only [`admit`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Admission {
    verdict: Verdict,
}

/// A pipeline that does not conform.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the pipeline breaks the policy of environment `{}`", verdict.environment)]
pub struct Refusal {
    /// The verdict, with at least one violation.
    pub verdict: Verdict,
}

/// Why [`admit`] gave no admission.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AdmitError {
    /// The pipeline does not conform.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The realm has no such environment.
    #[error(transparent)]
    UnknownEnvironment(#[from] UnknownEnvironment),
}

/// The realm has no such environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no environment `{0}`")]
pub struct UnknownEnvironment(pub EnvironmentName);

/// A fix that does not fit the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pipeline's trigger has no such switch")]
pub struct ApplyFixError;

/// Judges a pipeline by the policies, as if it were deployed in an environment now.
///
/// # Errors
///
/// [`UnknownEnvironment`] when the policies have no value for it.
pub fn judge(
    policies: &Policies,
    pipeline: &Pipeline,
    environment: &EnvironmentName,
) -> Result<Verdict, UnknownEnvironment> {
    let mut verdict = Verdict {
        environment: environment.clone(),
        policy_version: policies.version(),
        login_flow: is_login_flow(pipeline),
        violations: Vec::new(),
        advice: Vec::new(),
    };
    for policy in PolicyName::ALL {
        let requirement = policies
            .requirement(policy, environment)
            .ok_or_else(|| UnknownEnvironment(environment.clone()))?;
        let Some(trigger) = exposed(pipeline, policy.exposure()) else { continue };
        for missing in missing(requirement, trigger, verdict.login_flow) {
            verdict.violations.push(violation(policy, environment, missing));
        }
        if requirement == AccessRequirement::Any && !trigger.api_key.is_on() {
            verdict.advice.push(format!(
                "the {} API of `{}` demands no API key in {environment}: the policy allows it, but set \
                 /trigger/apiKey to true unless everybody may call",
                policy.exposure().as_str(),
                pipeline.name
            ));
        }
    }
    Ok(verdict)
}

/// Judges a pipeline and gives the proof that a deployment needs.
///
/// # Errors
///
/// [`AdmitError::Refused`] with every violation; [`AdmitError::UnknownEnvironment`].
pub fn admit(
    policies: &Policies,
    pipeline: &Pipeline,
    environment: &EnvironmentName,
) -> Result<Admission, AdmitError> {
    let verdict = judge(policies, pipeline, environment)?;
    if verdict.conforms() { Ok(Admission { verdict }) } else { Err(Refusal { verdict }.into()) }
}

/// Returns the pipeline with the setting that a violation names set to the value that it names.
///
/// Turning `jwt` on turns `basicAuth` off: both need the `Authorization` header.
///
/// # Errors
///
/// [`ApplyFixError`] when the pipeline's trigger exposes nothing, so that the violation can't be its own.
pub fn apply_fix(pipeline: &Pipeline, violation: &Violation) -> Result<Pipeline, ApplyFixError> {
    let mut pipeline = pipeline.clone();
    let trigger = pipeline.trigger.http_mut().ok_or(ApplyFixError)?;
    match violation.missing {
        Missing::ApiKey => trigger.api_key = ApiKeySwitch::On,
        Missing::Jwt => {
            trigger.jwt = JwtSwitch::On(Vec::new());
            trigger.basic_auth = false;
        }
    }
    Ok(pipeline)
}

/// Returns the trigger's settings when it is open on this listener.
fn exposed(pipeline: &Pipeline, exposure: Exposure) -> Option<&HttpTrigger> {
    pipeline.trigger.http().filter(|trigger| match exposure {
        Exposure::External => trigger.external_api,
        Exposure::Internal => trigger.internal_api,
    })
}

fn missing(requirement: AccessRequirement, trigger: &HttpTrigger, login_flow: bool) -> Vec<Missing> {
    let (key, token) = match requirement {
        AccessRequirement::Any => (false, false),
        AccessRequirement::ApiKey => (true, false),
        AccessRequirement::JwtWithApiKey => (true, !login_flow),
    };
    let mut missing = Vec::new();
    if key && !trigger.api_key.is_on() {
        missing.push(Missing::ApiKey);
    }
    if token && !trigger.jwt.is_on() {
        missing.push(Missing::Jwt);
    }
    missing
}

fn violation(policy: PolicyName, environment: &EnvironmentName, missing: Missing) -> Violation {
    let (what, pointer) = match missing {
        Missing::ApiKey => ("API Key", "/trigger/apiKey"),
        Missing::Jwt => ("JWT", "/trigger/jwt"),
    };
    Violation {
        policy,
        environment: environment.clone(),
        missing,
        message: format!("Missing {} {what}", policy.exposure().as_str()),
        pointer: pointer.to_owned(),
        fix: Value::Bool(true),
    }
}

// === impl Admission ===

impl Admission {
    /// Returns the verdict; it has no violation.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }
}

#[cfg(test)]
mod tests;
