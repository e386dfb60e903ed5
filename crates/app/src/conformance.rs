//! Conformance: how what runs stands to today's policies.

use tollgate_model::names::EnvironmentName;
use tollgate_model::versions::Version;
use tollgate_policy::Conformance;

use crate::App;
use crate::access::{Op, Permission};
use crate::errors::Error;
use crate::judging;

/// Use cases of conformance.
pub struct ConformanceReports(pub(crate) App);

/// How every environment stands.
#[derive(Debug, Clone, PartialEq)]
pub struct ConformanceReport {
    /// The version of the policies that judged.
    pub policy_version: Version,
    /// Each environment.
    pub environments: Vec<Conformance>,
}

// === impl ConformanceReports ===

impl ConformanceReports {
    /// Judges what runs, in one environment or in all, where the actor may read that.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment.
    pub async fn report(
        &self,
        op: &Op,
        environment: Option<&EnvironmentName>,
    ) -> Result<ConformanceReport, Error> {
        self.0.demand_list(op, Permission::PolicyRead, environment).await?;
        let ruling = self.0.ruling(&op.realm).await?;
        let prefix = environment.map(|name| format!("{name}/")).unwrap_or_default();
        let deployed = self.0.deployed_for(op, &[Permission::PolicyRead], &prefix).await?;
        let policies = &ruling.policies.value;
        let policy_version = policies.version();
        let names = policies.environments().filter(|name| {
            environment.is_none_or(|wanted| wanted == *name)
                && op.may_somewhere_in(Permission::PolicyRead, name)
        });
        let (names, now): (Vec<_>, _) = (names.cloned().collect(), op.now);
        judging::away(move || {
            let judge = ruling.judge(now);
            let environments = judging::in_each(&names, &deployed, |name, here| {
                Ok(tollgate_policy::conformance(&judge, name, here.iter().copied())?)
            })?;
            Ok(ConformanceReport { policy_version, environments })
        })
        .await
    }
}
