//! Policies: what pipelines must keep to, per environment.
//!
//! All policies of a realm carry one version. Each has one value in every environment of the realm: a policy that
//! leaves one out does not parse, and an environment without values does not exist.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::{EnvironmentName, RuleName};
use crate::versions::Version;

mod access;
mod policy;
mod rules;
mod shadow;
mod values;

pub use access::{AccessPolicy, AccessRequirement};
pub use policy::{
    AccessPolicyFile, EnforcementFile, LoginFlowsFile, Policy, PolicyName, SensitiveFieldsFile,
};
pub use rules::{Rule, RuleFix, RuleMode};
pub use values::{AtGateway, Enforcement, LoginFlowRules, SensitiveFields};

/// Most custom rules of a realm.
pub const MAX_RULES: usize = 100;
/// Most sensitive fields of an environment.
pub const MAX_SENSITIVE_FIELDS: usize = 200;

/// The realm's policies under one version.
///
/// Invariant: every policy has a value for the same set of environments, and that set is not empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Policies {
    version: Version,
    policies: BTreeMap<PolicyName, Policy>,
}

/// One saved version of the realm's policies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyVersion {
    /// The policies as of this version, version included.
    pub policies: Policies,
    /// When it was saved.
    pub created_at: Timestamp,
    /// Who saved it.
    pub created_by: String,
    /// Why, in the words of whoever saved it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Who approved it, where the realm wants four eyes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
}

/// A proposed change that refuses nothing: it is judged alongside, until somebody promotes or ends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ShadowPolicies {
    /// The policies that it puts in place of today's, each with all its values. Never empty, unless rules are taken away.
    pub changes: Vec<Policy>,
    /// The custom rules that it takes away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed_rules: Vec<RuleName>,
    /// Since when it runs.
    pub created_at: Timestamp,
    /// Who proposed it.
    pub created_by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Why policies were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Environments without a value.
    #[error("policy `{policy}` has no value for {}: give every environment {choices}", list(missing))]
    MissingEnvironment {
        /// Which policy.
        policy: PolicyName,
        /// The environments that it leaves out.
        missing: Vec<EnvironmentName>,
        /// What it can be.
        choices: &'static str,
    },
    /// Environments that the realm does not have.
    #[error(
        "policy `{policy}` names {}, which this realm does not have: it has {}",
        list(unknown),
        list(known)
    )]
    UnknownEnvironment {
        /// Which policy.
        policy: PolicyName,
        /// The environments that do not exist.
        unknown: Vec<EnvironmentName>,
        /// Those that do.
        known: Vec<EnvironmentName>,
    },
    /// A custom rule that the realm does not have.
    #[error("there is no custom rule `{0}`")]
    UnknownRule(RuleName),
    /// More than the realm can hold.
    #[error("{0}")]
    TooMany(&'static str),
    /// An environment that has values already.
    #[error("there is an environment `{0}` already")]
    EnvironmentExists(EnvironmentName),
    /// The last environment cannot go.
    #[error("`{0}` is the realm's only environment")]
    LastEnvironment(EnvironmentName),
}

fn list(names: &[EnvironmentName]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A text that names no policy, or no value of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePolicyError {
    /// Not the name of a policy.
    #[error("`{0}` is not the name of a policy: {1}")]
    Name(String, crate::names::ParseNameError),
    /// Not a value.
    #[error("`{0}` is not a value of this policy: use one of {choices}", choices = AccessRequirement::CHOICES)]
    Requirement(String),
}

// === impl Policies ===

impl Policies {
    /// Returns the policies of a new realm, version 1.0: `api-key` everywhere; tokens live 24 hours at most in `prod`.
    pub fn initial(environments: &BTreeSet<EnvironmentName>) -> Self {
        let everywhere: BTreeMap<_, _> =
            environments.iter().map(|name| (name.clone(), AccessRequirement::ApiKey)).collect();
        let login_flows = environments.iter().map(|name| {
            let is_test = *name == EnvironmentName::test();
            (name.clone(), if is_test { LoginFlowRules::long_lived() } else { LoginFlowRules::strict() })
        });
        let policies = [
            Policy::Access(AccessPolicyFile {
                name: AccessPolicy::ExternalApiAccess,
                environments: everywhere.clone(),
            }),
            Policy::Access(AccessPolicyFile {
                name: AccessPolicy::InternalApiAccess,
                environments: everywhere,
            }),
            Policy::LoginFlows(LoginFlowsFile::new(login_flows.collect())),
            Policy::SensitiveFields(SensitiveFieldsFile::new(with_default(environments))),
            Policy::Enforcement(EnforcementFile::new(with_default(environments))),
        ];
        Self {
            version: Version::FIRST,
            policies: policies.into_iter().map(|policy| (policy.name(), policy)).collect(),
        }
    }

    /// Returns the version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the environments that have values.
    pub fn environments(&self) -> impl Iterator<Item = &EnvironmentName> {
        self.policies.values().next().into_iter().flat_map(|policy| policy.environments())
    }

    /// Returns every policy: those that each realm has, then the custom rules by name.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values()
    }

    /// Returns one policy.
    pub fn policy(&self, name: &PolicyName) -> Option<&Policy> {
        self.policies.get(name)
    }

    /// Returns the value of an access policy in an environment; `None` when the realm has no such environment.
    pub fn requirement(
        &self,
        policy: AccessPolicy,
        environment: &EnvironmentName,
    ) -> Option<AccessRequirement> {
        match self.policies.get(&PolicyName::Access(policy))? {
            Policy::Access(policy) => policy.environments.get(environment).copied(),
            _ => None,
        }
    }

    /// Returns what login flows must keep to in an environment; `None` when the realm has no such environment.
    pub fn login_flow_rules(&self, environment: &EnvironmentName) -> Option<LoginFlowRules> {
        match self.policies.get(&PolicyName::LoginFlows)? {
            Policy::LoginFlows(policy) => policy.environments.get(environment).copied(),
            _ => None,
        }
    }

    /// Returns the sensitive fields of an environment; `None` when the realm has no such environment.
    pub fn sensitive_fields(&self, environment: &EnvironmentName) -> Option<&SensitiveFields> {
        match self.policies.get(&PolicyName::SensitiveFields)? {
            Policy::SensitiveFields(policy) => policy.environments.get(environment),
            _ => None,
        }
    }

    /// Returns when policies are enforced in an environment; `None` when the realm has no such environment.
    pub fn enforcement(&self, environment: &EnvironmentName) -> Option<Enforcement> {
        match self.policies.get(&PolicyName::Enforcement)? {
            Policy::Enforcement(policy) => policy.environments.get(environment).copied(),
            _ => None,
        }
    }

    /// Returns the custom rules, by name.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.policies.values().filter_map(|policy| match policy {
            Policy::Rule(rule) => Some(rule),
            _ => None,
        })
    }

    /// Returns the next minor version, with one policy replaced as a whole, or a custom rule added.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] when the policy leaves out an environment of this realm or names one that it does not have, or
    /// when it would be too many.
    pub fn replace(&self, policy: Policy) -> Result<Self, PolicyError> {
        let mut next = Self { version: self.version.next_minor(), policies: self.policies.clone() };
        next.put(policy)?;
        Ok(next)
    }

    /// Returns the next minor version, with some environments' values of one policy changed. A custom rule's other
    /// settings are replaced.
    ///
    /// # Errors
    ///
    /// As [`Policies::replace`].
    pub fn change(&self, policy: Policy) -> Result<Self, PolicyError> {
        let policy = match self.policies.get(&policy.name()) {
            Some(today) => policy.over(today),
            None => policy,
        };
        self.replace(policy)
    }

    /// Returns the next minor version without a custom rule.
    ///
    /// # Errors
    ///
    /// [`PolicyError::UnknownRule`].
    pub fn without_rule(&self, rule: &RuleName) -> Result<Self, PolicyError> {
        let mut policies = self.policies.clone();
        match policies.remove(&PolicyName::Rule(rule.clone())) {
            Some(_) => Ok(Self { version: self.version.next_minor(), policies }),
            None => Err(PolicyError::UnknownRule(rule.clone())),
        }
    }

    /// Returns the next minor version with the policies of an earlier one. Environments that were made since keep
    /// today's values, and those that are gone stay gone; a custom rule that had no value for an environment is off
    /// there. A date of enforcement that has passed is not restored: it would refuse calls at once.
    pub fn restored(&self, earlier: &Self, now: Timestamp) -> Self {
        let environments: Vec<_> = self.environments().cloned().collect();
        let mut policies = self.policies.clone();
        policies.retain(|name, _| !matches!(name, PolicyName::Rule(_)));
        for mut policy in earlier.policies.values().cloned() {
            if let Policy::Enforcement(file) = &mut policy {
                file.environments.retain(|_, value| value.at_gateway().is_none_or(|at| at.at_gateway > now));
                for (environment, value) in &mut file.environments {
                    let held = self.enforcement(environment).and_then(Enforcement::at_gateway);
                    if let Enforcement::AtGateway(at) = value {
                        // Whoever calls was last told then, not when the earlier version said so.
                        at.announced_at = held.and_then(|held| held.announced_at).or(Some(now));
                    }
                }
            }
            let restored = match self.policies.get(&policy.name()) {
                Some(today) => policy.over(today),
                None => policy,
            };
            policies.insert(restored.name(), restored.within(&environments));
        }
        Self { version: self.version.next_minor(), policies }
    }

    /// Returns the next minor version with one environment more: with the values given, where a policy has one, else
    /// those of a new realm; custom rules are taken there as strictly as they are anywhere.
    ///
    /// # Errors
    ///
    /// [`PolicyError::EnvironmentExists`].
    pub fn with_environment(
        &self,
        environment: &EnvironmentName,
        access: &BTreeMap<AccessPolicy, AccessRequirement>,
    ) -> Result<Self, PolicyError> {
        if self.environments().any(|name| name == environment) {
            return Err(PolicyError::EnvironmentExists(environment.clone()));
        }
        let name = || environment.clone();
        let mut policies = self.policies.clone();
        for policy in policies.values_mut() {
            match policy {
                Policy::Access(policy) => {
                    let value = access.get(&policy.name).copied().unwrap_or(AccessRequirement::ApiKey);
                    policy.environments.insert(name(), value);
                }
                Policy::LoginFlows(policy) => {
                    policy.environments.insert(name(), LoginFlowRules::strict());
                }
                Policy::SensitiveFields(policy) => {
                    let everywhere = policy.environments.values().flatten().cloned().collect();
                    policy.environments.insert(name(), everywhere);
                }
                Policy::Enforcement(policy) => {
                    policy.environments.insert(name(), Enforcement::AtDeploy);
                }
                Policy::Rule(rule) => {
                    let strictest = rule.environments.values().copied().max().unwrap_or(RuleMode::Off);
                    rule.environments.insert(name(), strictest);
                }
            }
        }
        Ok(Self { version: self.version.next_minor(), policies })
    }

    /// Returns the next minor version with one environment less.
    ///
    /// # Errors
    ///
    /// [`PolicyError::LastEnvironment`].
    pub fn without_environment(&self, environment: &EnvironmentName) -> Result<Self, PolicyError> {
        let left: Vec<_> = self.environments().filter(|name| *name != environment).cloned().collect();
        if left.is_empty() {
            return Err(PolicyError::LastEnvironment(environment.clone()));
        }
        let policies =
            self.policies.iter().map(|(name, policy)| (name.clone(), policy.clone().within(&left))).collect();
        Ok(Self { version: self.version.next_minor(), policies })
    }

    fn put(&mut self, policy: Policy) -> Result<(), PolicyError> {
        let known: Vec<_> = self.environments().cloned().collect();
        check_environments(&policy, &known)?;
        if let Policy::SensitiveFields(fields) = &policy
            && fields.environments.values().any(|fields| fields.len() > MAX_SENSITIVE_FIELDS)
        {
            return Err(PolicyError::TooMany("an environment has at most 200 sensitive fields"));
        }
        let is_new = self.policies.insert(policy.name(), policy).is_none();
        if is_new && self.rules().count() > MAX_RULES {
            return Err(PolicyError::TooMany("a realm has at most 100 custom rules"));
        }
        Ok(())
    }
}

/// Refuses a policy that leaves out an environment, or names one that there is not.
fn check_environments(policy: &Policy, known: &[EnvironmentName]) -> Result<(), PolicyError> {
    let named: Vec<_> = policy.environments().cloned().collect();
    let unknown: Vec<_> = named.iter().filter(|name| !known.contains(name)).cloned().collect();
    if !unknown.is_empty() {
        return Err(PolicyError::UnknownEnvironment {
            policy: policy.name(),
            unknown,
            known: known.to_vec(),
        });
    }
    let missing: Vec<_> = known.iter().filter(|name| !named.contains(name)).cloned().collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(PolicyError::MissingEnvironment { policy: policy.name(), missing, choices: policy.choices() })
    }
}

fn with_default<T: Default>(environments: &BTreeSet<EnvironmentName>) -> BTreeMap<EnvironmentName, T> {
    environments.iter().map(|name| (name.clone(), T::default())).collect()
}

/// How policies are stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored<P> {
    version: Version,
    policies: Vec<P>,
}

impl Serialize for Policies {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Stored { version: self.version, policies: self.policies.values().collect() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Policies {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;

        let Stored { version, policies } = Stored::<Policy>::deserialize(deserializer)?;
        let environments: BTreeSet<_> = policies.iter().flat_map(Policy::environments).cloned().collect();
        let known: Vec<_> = environments.iter().cloned().collect();
        let mut read = BTreeMap::new();
        for policy in policies {
            check_environments(&policy, &known).map_err(D::Error::custom)?;
            let name = policy.name();
            if read.insert(name.clone(), policy).is_some() {
                return Err(D::Error::custom(format!("policy `{name}` stands twice")));
            }
        }
        if let Some(missing) = PolicyName::BUILT_IN.into_iter().find(|name| !read.contains_key(name)) {
            return Err(D::Error::custom(format!("policy `{missing}` is missing")));
        }
        Ok(Self { version, policies: read })
    }
}

#[cfg(test)]
mod tests;
