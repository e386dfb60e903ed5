//! The verdict on one pipeline.

use jiff::Timestamp;
use serde_json::Value;
use tollgate_model::environments::Exposure;
use tollgate_model::names::EnvironmentName;
use tollgate_model::pipelines::Pipeline;
use tollgate_model::policies::{AccessPolicy, AccessRequirement, Policies, PolicyName, Rule, RuleMode};
use tollgate_model::triggers::HttpTrigger;
use tollgate_model::verdicts::{Verdict, Violation, ViolationCode, Waived};
use tollgate_model::waivers::Waiver;

use crate::known::KnownVersion;
use crate::rules::{CompiledRule, RuleOutcome};
use crate::{is_login_flow, tokens};

/// What judges: the policies of a realm, the waivers that let violations pass, and the moment judged for.
///
/// Custom rules are compiled once, when it is made, so that judging ten thousand pipelines compiles none.
pub struct Judge<'a> {
    policies: &'a Policies,
    waivers: &'a [Waiver],
    now: Timestamp,
    rules: Vec<CompiledRule>,
}

/// Proof that the policies admit a pipeline in an environment. Only [`Judge::admit`] makes one.
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

/// Why [`Judge::admit`] gave no admission.
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

/// What else mends a missing API key.
pub(crate) const OR_MTLS: &str = "/trigger/mtls where callers show client certificates";

// === impl Judge ===

impl<'a> Judge<'a> {
    /// Prepares to judge. A custom rule that does not compile (it did when it was saved) breaks every pipeline where
    /// it is required: nobody knows whether it holds.
    pub fn new(policies: &'a Policies, waivers: &'a [Waiver], now: Timestamp) -> Self {
        let rules = policies.rules().map(CompiledRule::new).collect();
        Self { policies, waivers, now, rules }
    }

    /// Returns the policies that it judges by.
    pub fn policies(&self) -> &'a Policies {
        self.policies
    }

    /// Judges a pipeline as if it were deployed in an environment at the moment that this judge is for.
    ///
    /// # Errors
    ///
    /// [`UnknownEnvironment`] when the policies have no value for it.
    pub fn verdict(
        &self,
        pipeline: &Pipeline,
        environment: &EnvironmentName,
    ) -> Result<Verdict, UnknownEnvironment> {
        self.judge(pipeline, environment, |rule| rule.evaluate(pipeline).0)
    }

    /// Judges a version as [`Judge::verdict`] does; what custom rules said of it before is not worked out again.
    ///
    /// # Errors
    ///
    /// [`UnknownEnvironment`] when the policies have no value for it.
    pub fn verdict_on(
        &self,
        known: &KnownVersion,
        environment: &EnvironmentName,
    ) -> Result<Verdict, UnknownEnvironment> {
        self.judge(&known.version().pipeline, environment, |rule| known.outcome(rule))
    }

    fn judge(
        &self,
        pipeline: &Pipeline,
        environment: &EnvironmentName,
        says: impl Fn(&CompiledRule) -> RuleOutcome,
    ) -> Result<Verdict, UnknownEnvironment> {
        let mut verdict = Verdict {
            environment: environment.clone(),
            policy_version: self.policies.version(),
            login_flow: is_login_flow(pipeline),
            violations: Vec::new(),
            waived: Vec::new(),
            advice: Vec::new(),
        };
        let unknown = || UnknownEnvironment(environment.clone());
        let tokens = self.policies.login_flow_rules(environment).ok_or_else(unknown)?;
        let mut violations = Vec::new();
        for policy in AccessPolicy::ALL {
            let requirement = self.policies.requirement(policy, environment).ok_or_else(unknown)?;
            let Some(trigger) = exposed(pipeline, policy.exposure()) else { continue };
            for code in missing(requirement, trigger, verdict.login_flow) {
                violations.push(missing_switch(policy, environment, code));
            }
            if requirement == AccessRequirement::Any && !trigger.demands_key() {
                verdict.advice.push(format!(
                    "the {} API of `{}` demands no API key in {environment}: the policy allows it, but set \
                     /trigger/apiKey to true unless everybody may call",
                    policy.exposure().as_str(),
                    pipeline.name
                ));
            }
        }
        tokens::judge(pipeline, environment, &tokens, &mut violations);
        self.judge_rules(environment, says, &mut violations, &mut verdict.advice);
        for violation in violations {
            match self.waivers.iter().find(|waiver| waiver.covers(&pipeline.name, &violation, self.now)) {
                Some(waiver) => verdict.waived.push(Waived {
                    violation,
                    waiver: waiver.id,
                    until: waiver.until,
                    reason: waiver.reason.clone(),
                }),
                None => verdict.violations.push(violation),
            }
        }
        // The same switch mends both; a waiver for the one must not let the other pass.
        if verdict.violations.iter().any(|violation| violation.code == ViolationCode::MissingApiKey) {
            verdict.violations.retain(|violation| violation.code != ViolationCode::LoginApiKey);
        }
        Ok(verdict)
    }

    /// Judges a pipeline and gives the proof that a deployment needs.
    ///
    /// # Errors
    ///
    /// [`AdmitError::Refused`] with every violation; [`AdmitError::UnknownEnvironment`].
    pub fn admit(&self, pipeline: &Pipeline, environment: &EnvironmentName) -> Result<Admission, AdmitError> {
        let verdict = self.verdict(pipeline, environment)?;
        if verdict.conforms() { Ok(Admission { verdict }) } else { Err(Refusal { verdict }.into()) }
    }

    fn judge_rules(
        &self,
        environment: &EnvironmentName,
        says: impl Fn(&CompiledRule) -> RuleOutcome,
        violations: &mut Vec<Violation>,
        advice: &mut Vec<String>,
    ) {
        for compiled in &self.rules {
            let mode = compiled.rule.environments.get(environment).copied().unwrap_or(RuleMode::Required);
            if mode == RuleMode::Off {
                continue;
            }
            let Some(violation) = broken_rule(&compiled.rule, environment, says(compiled)) else { continue };
            match mode {
                RuleMode::Required => violations.push(violation),
                _ => advice.push(format!(
                    "{} (rule {}, advised in {environment}): {}",
                    violation.message,
                    compiled.rule.name,
                    violation.advice()
                )),
            }
        }
    }
}

/// Returns the violation that a rule finds; `None` when it holds.
pub(crate) fn broken_rule(
    rule: &Rule,
    environment: &EnvironmentName,
    outcome: RuleOutcome,
) -> Option<Violation> {
    let (code, remedy) = match outcome {
        RuleOutcome::Holds => return None,
        RuleOutcome::Broken => (ViolationCode::Rule, String::new()),
        RuleOutcome::Unknown(why) => (
            ViolationCode::BrokenRule,
            format!("this rule cannot be evaluated on this pipeline ({why}): ask whoever wrote it"),
        ),
    };
    let fix = rule.fix.as_ref();
    Some(Violation {
        policy: PolicyName::Rule(rule.name.clone()),
        environment: environment.clone(),
        code,
        message: rule.message.clone(),
        pointer: fix.map(|fix| fix.pointer.clone()).unwrap_or_default(),
        fix: match code {
            ViolationCode::Rule => fix.and_then(|fix| fix.value.clone()).unwrap_or_default(),
            _ => Value::Null,
        },
        remedy,
    })
}

/// Returns the trigger's settings when it is open on this listener.
fn exposed(pipeline: &Pipeline, exposure: Exposure) -> Option<&HttpTrigger> {
    pipeline.trigger.http().filter(|trigger| match exposure {
        Exposure::External => trigger.external_api,
        Exposure::Internal => trigger.internal_api,
    })
}

fn missing(requirement: AccessRequirement, trigger: &HttpTrigger, login_flow: bool) -> Vec<ViolationCode> {
    let (key, token) = match requirement {
        AccessRequirement::Any => (false, false),
        AccessRequirement::ApiKey => (true, false),
        AccessRequirement::JwtWithApiKey => (true, !login_flow),
    };
    let mut missing = Vec::new();
    // A client certificate counts as the API key of its consumer.
    if key && !trigger.demands_key() {
        missing.push(ViolationCode::MissingApiKey);
    }
    if token && !trigger.jwt.is_on() {
        missing.push(ViolationCode::MissingJwt);
    }
    missing
}

fn missing_switch(policy: AccessPolicy, environment: &EnvironmentName, code: ViolationCode) -> Violation {
    let (what, pointer) = match code {
        ViolationCode::MissingApiKey => ("API Key", "/trigger/apiKey"),
        _ => ("JWT", "/trigger/jwt"),
    };
    Violation {
        policy: PolicyName::Access(policy),
        environment: environment.clone(),
        code,
        message: format!("Missing {} {what}", policy.exposure().as_str()),
        pointer: pointer.to_owned(),
        fix: Value::Bool(true),
        remedy: if code == ViolationCode::MissingApiKey { OR_MTLS.to_owned() } else { String::new() },
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
