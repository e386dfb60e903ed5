//! Environments, and what the policies demand in each.

use std::collections::BTreeMap;

use serde_json::Value;
use tollgate_model::environments::{Environment, Project};
use tollgate_model::policies::PolicyName;

use crate::App;
use crate::access::{Op, Permission};
use crate::errors::Error;

/// Use cases of environments and projects.
pub struct Environments(pub(crate) App);

/// An environment with what the policies demand there.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvironmentView {
    /// The environment.
    pub environment: Environment,
    /// Each policy's value there.
    pub policies: BTreeMap<PolicyName, Value>,
}

// === impl Environments ===

impl Environments {
    /// Returns every environment of the realm.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such realm.
    pub async fn list(&self, op: &Op) -> Result<Vec<EnvironmentView>, Error> {
        op.demand(Permission::EnvironmentRead)?;
        let policies = self.0.current_policies(&op.realm).await?.value;
        let environments = self.0.all::<Environment>(&op.realm, "").await?;
        let view = |environment: Environment| EnvironmentView {
            policies: policies
                .policies()
                .filter_map(|policy| Some((policy.name(), policy.value(&environment.name)?)))
                .collect(),
            environment,
        };
        Ok(environments.into_iter().map(|stored| view(stored.value)).collect())
    }

    /// Returns every project of the realm.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Forbidden`], [`crate::errors::ErrorKind::Unavailable`].
    pub async fn projects(&self, op: &Op) -> Result<Vec<Project>, Error> {
        op.demand(Permission::PipelineRead)?;
        Ok(self.0.all::<Project>(&op.realm, "").await?.into_iter().map(|stored| stored.value).collect())
    }
}
