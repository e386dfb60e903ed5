//! Policies: read, compare, change. Every change is a new version of all of them together.

use std::collections::BTreeMap;

use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::objects::keys;
use tollgate_model::policies::{AccessRequirement, Policies, PolicyError, PolicyName, PolicyVersion};
use tollgate_model::versions::Version;
use tollgate_policy::Impact;
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Op, Permission};
use crate::changes::{Draft, expect};
use crate::errors::{Error, ErrorKind};

/// Use cases of policies.
pub struct PolicyUseCases(pub(crate) App);

/// New values of one policy.
#[derive(Debug, Clone)]
pub struct PolicyChange {
    /// Which policy.
    pub policy: PolicyName,
    /// The new values.
    pub environments: BTreeMap<EnvironmentName, AccessRequirement>,
    /// Whether environments that are not named keep their value; otherwise each must be named.
    pub partial: bool,
}

/// Policies that were saved.
#[derive(Debug, Clone)]
pub struct SavedPolicies {
    /// The policies now.
    pub policies: Policies,
    /// Their revision.
    pub revision: u64,
    /// What the change does, per environment.
    pub impact: Vec<Impact>,
}

// === impl PolicyUseCases ===

impl PolicyUseCases {
    /// Returns the realm's policies.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is no such realm.
    pub async fn get(&self, op: &Op) -> Result<Stored<Policies>, Error> {
        op.demand(Permission::PolicyRead)?;
        self.0.current_policies(&op.realm).await
    }

    /// Returns every version, newest first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn versions(&self, op: &Op) -> Result<Vec<PolicyVersion>, Error> {
        op.demand(Permission::PolicyRead)?;
        let versions = self.0.all::<PolicyVersion>(&op.realm, "").await?;
        Ok(versions.into_iter().rev().map(|stored| stored.value).collect())
    }

    /// Returns one version.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`].
    pub async fn version(&self, op: &Op, version: Version) -> Result<PolicyVersion, Error> {
        op.demand(Permission::PolicyRead)?;
        let stored = self.0.store().get::<PolicyVersion>(&op.realm, &keys::policy_version(version)).await?;
        stored.map(|stored| stored.value).ok_or_else(|| {
            Error::not_found(format!("the policies have no version {version}"))
                .hint("`tollgate policy versions` lists them")
        })
    }

    /// Tells what a change would do to what runs.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when an environment is left out or unknown.
    pub async fn impact(&self, op: &Op, change: &PolicyChange) -> Result<Vec<Impact>, Error> {
        op.demand(Permission::PolicyRead)?;
        let today = self.0.current_policies(&op.realm).await?.value;
        let proposed = change.apply(&today)?;
        self.0.impact(&op.realm, &today, &proposed).await
    }

    /// Saves a change as the next version. What runs goes on running.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] when an environment is left out or unknown; [`ErrorKind::PreconditionFailed`] when
    /// somebody changed the policies since `if_match`, or at the same moment.
    pub async fn set(
        &self,
        op: &Op,
        change: &PolicyChange,
        reason: &str,
        if_match: Option<u64>,
    ) -> Result<SavedPolicies, Error> {
        op.demand(Permission::PolicyUpdate)?;
        let today = self.0.current_policies(&op.realm).await?;
        let policies = change.apply(&today.value)?;
        let impact = self.0.impact(&op.realm, &today.value, &policies).await?;
        let version = PolicyVersion {
            policies: policies.clone(),
            created_at: op.now,
            created_by: op.actor.name.clone(),
            reason: reason.to_owned(),
        };
        let mut draft = Draft::new(op, "policy.set").reason(reason);
        draft.put(&policies, expect(&today, if_match))?;
        draft.put(&version, Expect::Absent)?;
        let revision = self.0.commit(op, draft).await?;
        Ok(SavedPolicies { policies, revision, impact })
    }
}

// === impl PolicyChange ===

impl PolicyChange {
    fn apply(&self, today: &Policies) -> Result<Policies, Error> {
        let applied = if self.partial {
            today.change(self.policy, &self.environments)
        } else {
            today.replace(self.policy, self.environments.clone())
        };
        applied.map_err(|error| match error {
            PolicyError::MissingEnvironment { .. } => {
                Error::new(ErrorKind::Invalid, "policy-environment-missing", error.to_string())
                    .hint("name every environment")
            }
            PolicyError::UnknownEnvironment { .. } => {
                Error::new(ErrorKind::Invalid, "environment-unknown", error.to_string())
                    .hint("correct the environment's name")
            }
        })
    }
}

// === impl App ===

impl App {
    /// Returns the policies of a realm; a realm without policies does not exist.
    pub(crate) async fn current_policies(&self, realm: &RealmName) -> Result<Stored<Policies>, Error> {
        self.store().get::<Policies>(realm, keys::POLICIES).await?.ok_or_else(|| {
            Error::not_found(format!("there is no realm `{realm}`"))
                .hint("`tollgate realm list` shows the realms")
        })
    }

    async fn impact(
        &self,
        realm: &RealmName,
        today: &Policies,
        proposed: &Policies,
    ) -> Result<Vec<Impact>, Error> {
        let deployed = self.deployed(realm, "").await?;
        today
            .environments()
            .map(|environment| {
                let here = deployed.iter().filter(|(deployment, _)| deployment.environment == *environment);
                let pairs = here.map(|(deployment, version)| (deployment, version));
                Ok(tollgate_policy::impact(today, proposed, environment, pairs)?)
            })
            .collect()
    }
}
