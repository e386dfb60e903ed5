//! Environments, and what the policies demand in each.

mod changes;

use std::collections::BTreeMap;

use serde_json::Value;
use tollgate_model::environments::{Environment, Project};
use tollgate_model::names::EnvironmentName;
use tollgate_model::policies::{Policies, PolicyName};
use tollgate_store::Stored;

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::errors::Error;

pub use changes::NewEnvironment;
pub(crate) use changes::WantedEnvironment;

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
        op.demand_anywhere(Permission::EnvironmentRead)?;
        let policies = self.0.current_policies(&op.realm).await?.value;
        let environments = self.0.all::<Environment>(&op.realm, "").await?;
        Ok(environments.into_iter().map(|stored| view(&policies, stored.value)).collect())
    }

    /// Returns one environment.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn get(&self, op: &Op, name: &EnvironmentName) -> Result<Stored<EnvironmentView>, Error> {
        op.demand_anywhere(Permission::EnvironmentRead)?;
        let policies = self.0.current_policies(&op.realm).await?.value;
        let Stored { value, revision } = self.stored(&op.realm, name).await?;
        Ok(Stored { value: view(&policies, value), revision })
    }

    /// Returns the projects of the realm whose pipelines the actor may read.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Forbidden`], [`crate::errors::ErrorKind::Unavailable`].
    pub async fn projects(&self, op: &Op) -> Result<Vec<Project>, Error> {
        op.demand_anywhere(Permission::PipelineRead)?;
        let all = self.0.all::<Project>(&op.realm, "").await?.into_iter().map(|stored| stored.value);
        let visible = |project: &Project| op.may(Permission::PipelineRead, Place::project(&project.name));
        Ok(all.filter(visible).collect())
    }
}

fn view(policies: &Policies, environment: Environment) -> EnvironmentView {
    let values = policies.policies();
    let values = values.filter_map(|policy| Some((policy.name(), policy.value(&environment.name)?)));
    EnvironmentView { policies: values.collect(), environment }
}
