//! What a promotion would miss: the globals and accounts that a version reads, and that the other environment lacks.

use std::collections::BTreeSet;

use tollgate_flow::{Names, Reading, ValueNames};
use tollgate_model::names::{EnvironmentName, PipelineName, ValueName};
use tollgate_model::versions::Version;

use super::Deployments;
use crate::access::{Op, Permission};
use crate::errors::{Error, ErrorKind};

/// A global or an account that one environment has and the other lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingValue {
    /// Whether it is an account.
    pub is_account: bool,
    /// Its name.
    pub name: ValueName,
    /// Whether the flow only computes a name that may be this one.
    pub maybe: bool,
}

// === impl Deployments ===

impl Deployments {
    /// Returns the globals and accounts that a version reads, that are in the one environment and not in the other. Of what the
    /// actor may not read none is told.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] when there is no such version or environment; [`ErrorKind::Forbidden`] when the actor may not
    /// read the pipeline.
    pub async fn missing_values(
        &self,
        op: &Op,
        pipeline: &PipelineName,
        version: Version,
        from: &EnvironmentName,
        to: &EnvironmentName,
    ) -> Result<Vec<MissingValue>, Error> {
        self.0.pipeline_for(op, pipeline, Permission::PipelineRead).await?;
        let read = ValueNames::of(&self.0.pipeline_version(op, pipeline, version).await?.pipeline);
        let globals =
            async |environment| told(self.0.globals().list(op, environment).await, |it| it.value.name);
        let accounts = async |environment| told(self.0.accounts().list(op, environment).await, |it| it.name);
        let mut missing = lacking(false, &read.globals, globals(from).await?, globals(to).await?);
        missing.extend(lacking(true, &read.accounts, accounts(from).await?, accounts(to).await?));
        Ok(missing)
    }
}

/// Takes the names from a list; none where it is not to be read.
fn told<T>(
    found: Result<Vec<T>, Error>,
    name: impl Fn(T) -> ValueName,
) -> Result<Option<BTreeSet<ValueName>>, Error> {
    match found {
        Ok(all) => Ok(Some(all.into_iter().map(name).collect())),
        Err(error) if error.kind == ErrorKind::Forbidden => Ok(None),
        Err(error) => Err(error),
    }
}

fn lacking(
    is_account: bool,
    read: &Names,
    here: Option<BTreeSet<ValueName>>,
    there: Option<BTreeSet<ValueName>>,
) -> Vec<MissingValue> {
    let (Some(here), Some(there)) = (here, there) else { return Vec::new() };
    let lacking = here.difference(&there).filter_map(|name| {
        let reading = read.reading(name.as_str())?;
        Some(MissingValue { is_account, name: name.clone(), maybe: reading == Reading::Computed })
    });
    lacking.collect()
}
