//! Changes of policies, checked before they are anything else.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tollgate_model::names::{EnvironmentName, RuleName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::policies::{
    AtGateway, Enforcement, Policies, Policy, PolicyError, PolicyName, Rule, RuleFix,
};
use tollgate_model::versions::Version;
use tollgate_policy::CheckRuleError;

use super::no_rule;
use crate::errors::{Error, ErrorKind};

/// A change of the policies.
#[derive(Debug, Clone)]
pub enum PolicyEdit {
    /// Gives a policy values, or makes or changes a custom rule.
    Set(PolicyValues),
    /// Takes a custom rule away.
    Remove(RuleName),
    /// Brings back an earlier version.
    Restore(Version),
}

/// New values of one policy.
#[derive(Debug, Clone)]
pub struct PolicyValues {
    /// Which policy.
    pub policy: PolicyName,
    /// The new values.
    pub environments: BTreeMap<EnvironmentName, Value>,
    /// Whether environments that are not named keep their value, and a custom rule whatever of it is not given;
    /// otherwise each must be named.
    pub partial: bool,
    /// The condition of a custom rule.
    pub condition: Option<String>,
    /// The message of a custom rule.
    pub message: Option<String>,
    /// The fix of a custom rule.
    pub fix: Option<RuleFix>,
}

// === impl PolicyEdit ===

impl PolicyEdit {
    /// Returns the edit that takes a custom rule away.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] for a policy that every realm has.
    pub fn remove(name: &PolicyName) -> Result<Self, Error> {
        match name {
            PolicyName::Rule(rule) => Ok(Self::Remove(rule.clone())),
            built_in => Err(Error::conflict(
                "policy-built-in",
                format!("`{built_in}` cannot be removed: every realm has a value for it in each environment"),
            )
            .hint(match built_in {
                PolicyName::Access(_) => "set it to `any` where nothing is to be demanded",
                PolicyName::LoginFlows => "set its values to what is to hold",
                PolicyName::SensitiveFields => "set an empty list where nothing is to be hidden",
                _ => "set it to `atDeploy` where calls are not to be refused",
            })),
        }
    }

    /// Returns the action that the journal shows.
    pub(super) fn action(&self) -> &'static str {
        match self {
            Self::Set(_) => "policy.set",
            Self::Remove(_) => "policy.remove",
            Self::Restore(_) => "policy.restore",
        }
    }

    /// Returns the policies with this change in them; a restored version is not read here.
    pub(super) fn apply(&self, today: &Policies, now: Timestamp) -> Result<Policies, Error> {
        match self {
            Self::Set(values) => values.apply(today, now),
            Self::Remove(rule) => today.without_rule(rule).map_err(|_| no_rule(rule)),
            Self::Restore(_) => Ok(today.clone()),
        }
    }
}

// === impl PolicyValues ===

impl PolicyValues {
    /// Returns the whole policy that these values make of today's, checked.
    pub(crate) fn policy(&self, today: &Policies, now: Timestamp) -> Result<Policy, Error> {
        let before = today.policy(&self.policy);
        if let (PolicyName::Rule(rule), true, None, None) =
            (&self.policy, self.partial, before, &self.condition)
        {
            // Whoever names only environments means a rule that there is.
            return Err(no_rule(rule)
                .hint("a new rule has a condition and a message, too; see the policies that there are"));
        }
        let mut policy: Policy = serde_json::from_value(self.document(before)).map_err(|error| {
            Error::invalid(format!("policy `{}`: {error}", self.policy)).hint(self.hint())
        })?;
        if let Policy::Enforcement(file) = &mut policy {
            for (environment, value) in &mut file.environments {
                *value = announced(*value, today.enforcement(environment), environment, now)?;
            }
        }
        if let Policy::Rule(rule) = &policy {
            checked(rule)?;
        }
        Ok(policy)
    }

    fn apply(&self, today: &Policies, now: Timestamp) -> Result<Policies, Error> {
        let policy = self.policy(today, now)?;
        let applied = if self.partial { today.change(policy) } else { today.replace(policy) };
        applied.map_err(Error::from)
    }

    /// Puts the policy together as a file has it. What a built-in policy does not take is handed on all the same, so
    /// that it is refused.
    fn document(&self, before: Option<&Policy>) -> Value {
        let before: Option<&Rule> = match before {
            Some(Policy::Rule(rule)) if self.partial => Some(rule),
            _ => None,
        };
        let environments: Map<String, Value> =
            self.environments.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        let condition = self.condition.as_ref().or(before.map(|rule| &rule.condition));
        let message = self.message.as_ref().or(before.map(|rule| &rule.message));
        let fix = self.fix.as_ref().or(before.and_then(|rule| rule.fix.as_ref()));
        let fields = [
            ("name", Some(json!(self.policy))),
            ("environments", Some(Value::Object(environments))),
            ("condition", condition.map(|it| json!(it))),
            ("message", message.map(|it| json!(it))),
            ("fix", fix.map(|it| json!(it))),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    fn hint(&self) -> &'static str {
        match &self.policy {
            PolicyName::Access(_) => "each environment takes one of `api-key`, `jwt-with-api-key`, `any`",
            PolicyName::LoginFlows => {
                "each environment takes rules such as { \"maxTokenLifetimeMs\": 86400000 }"
            }
            PolicyName::SensitiveFields => {
                "each environment takes a list of field names: letters, digits and `-`"
            }
            PolicyName::Enforcement => {
                "each environment takes `atDeploy` or { \"atGateway\": \"2030-01-31T00:00:00Z\" }"
            }
            PolicyName::Rule(_) => {
                "a custom rule has a condition and a message, and each environment takes one of `off`, `advised`, `required`"
            }
        }
    }
}

/// Refuses a custom rule that does not fit.
pub(super) fn checked(rule: &Rule) -> Result<(), Error> {
    tollgate_policy::check_rule(rule).map_err(|error| unfit(&error))
}

/// Says that a custom rule does not fit.
pub(super) fn unfit(error: &CheckRuleError) -> Error {
    Error::new(ErrorKind::Invalid, "rule-invalid", error.to_string())
        .hint("docs/rules.md tells what a rule can name; see the shape of one")
        .next(NextStep::SeePolicySchema)
}

/// Returns an enforcement with the time of its announcement. A date that has passed is refused, unless it is the one
/// that holds already.
fn announced(
    value: Enforcement,
    before: Option<Enforcement>,
    environment: &EnvironmentName,
    now: Timestamp,
) -> Result<Enforcement, Error> {
    let Some(AtGateway { at_gateway, .. }) = value.at_gateway() else { return Ok(value) };
    let held = before.and_then(Enforcement::at_gateway);
    if held.is_none_or(|held| held.at_gateway != at_gateway) && at_gateway <= now {
        return Err(Error::new(
            ErrorKind::Invalid,
            "date-passed",
            format!("enforcement in {environment} would begin at {at_gateway}, which has passed"),
        )
        .hint("choose a date to come, so that callers can be told before"));
    }
    let announced_at = held.and_then(|held| held.announced_at).or(Some(now));
    Ok(Enforcement::AtGateway(AtGateway { at_gateway, announced_at }))
}

impl From<PolicyError> for Error {
    fn from(error: PolicyError) -> Self {
        let (code, hint) = match &error {
            PolicyError::MissingEnvironment { .. } => {
                ("policy-environment-missing", "name every environment")
            }
            PolicyError::UnknownEnvironment { .. } => {
                ("environment-unknown", "correct the environment's name")
            }
            PolicyError::UnknownRule(rule) => return no_rule(rule),
            PolicyError::TooMany(_) => ("invalid", "take some away first"),
            PolicyError::EnvironmentExists(_) => {
                return Self::conflict("already-exists", error.to_string())
                    .hint("choose another name")
                    .next(NextStep::ListEnvironments);
            }
            PolicyError::LastEnvironment(_) => {
                return Self::conflict("environment-in-use", error.to_string())
                    .hint("make another one first");
            }
        };
        Self::new(ErrorKind::Invalid, code, error.to_string()).hint(hint)
    }
}
