//! Conformance: how what runs stands to today's policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::versions::Version;
use tollgate_policy::{Conformance, ConformanceItem, ScopeGap, Standing};

use crate::App;
use crate::access::{Op, Permission};
use crate::errors::Error;
use crate::lists::{ListPage, ListRequest};
use crate::standings::{Judged, Standings};

/// Use cases of conformance.
pub struct ConformanceReports(pub(crate) App);

/// How every environment stands, with a page of what runs.
#[derive(Debug, Clone, PartialEq)]
pub struct ConformanceReport {
    /// The version of the policies that judged.
    pub policy_version: Version,
    /// Each environment: how all of it stands, with those of its deployments that are on this page, and their scope gaps.
    pub environments: Vec<Conformance>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<String>,
}

/// How every environment stands, in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct ConformanceSummary {
    /// The version of the policies that judged.
    pub policy_version: Version,
    /// Each environment.
    pub environments: Vec<StandingCounts>,
}

/// How an environment stands, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingCounts {
    /// Where.
    pub environment: EnvironmentName,
    /// How many deployments run.
    pub deployments: usize,
    /// How many of them the policies would admit without a waiver.
    pub conformant: usize,
    /// How many of them the policies would admit with waivers only.
    pub waived: usize,
    /// How many they would not.
    pub not_conformant: usize,
    /// How many are login flows.
    pub login_flows: usize,
}

/// Which deployments to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConformanceFilter {
    /// Only those that stand so.
    pub standing: Option<Standing>,
    /// Only login flows.
    pub login_flows: bool,
    /// Only those of pipelines whose names hold this.
    pub name: String,
}

/// A page of the deployments of an environment, with how all of them stand.
#[derive(Debug, Clone, PartialEq)]
pub struct ConformanceList {
    /// The version of the policies that judged.
    pub policy_version: Version,
    /// All deployments of the environment.
    pub counts: StandingCounts,
    /// Those that fit: what does not conform first, then by name.
    pub items: ListPage<ConformanceItem>,
    /// Scopes that a deployment demands and no deployed login flow offers: nobody can call it.
    pub scope_gaps: Vec<ScopeGap>,
}

// === impl ConformanceReports ===

impl ConformanceReports {
    /// Returns how what runs stands, in one environment or in all, where the actor may read that: a page of it, ordered by
    /// environment and name.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment.
    pub async fn report(
        &self,
        op: &Op,
        environment: Option<&EnvironmentName>,
        filter: &ConformanceFilter,
        request: ListRequest,
    ) -> Result<ConformanceReport, Error> {
        self.0.demand_list(op, Permission::PolicyRead, environment).await?;
        let standings = self.0.standings(op).await?;
        let names = readable(op, &standings, environment);
        let fitting = names.iter().flat_map(|name| readable_in(op, &standings, name));
        let mut fitting: Vec<_> = fitting.filter(|(_, judged)| filter.takes(judged)).collect();
        // Keys of environments follow each other in another order than their names: `a-b/` comes before `a/`.
        fitting.sort_by_key(|(key, _)| *key);
        let ListPage { items, next } = ListPage::of(fitting.into_iter(), request, |(key, _)| (*key).clone());
        let environments = names.iter().map(|name| {
            let counts = StandingCounts::new(op, &standings, name);
            let here = items.iter().map(|(_, judged)| *judged);
            let here = here.filter(|judged| judged.deployment.environment == *name);
            Conformance {
                environment: counts.environment,
                deployments: counts.deployments,
                conformant: counts.conformant,
                waived: counts.waived,
                not_conformant: counts.not_conformant,
                scope_gaps: scope_gaps(op, &standings, name, here.clone()),
                items: here.filter_map(|judged| judged.item()).collect(),
            }
        });
        let environments = environments.collect();
        Ok(ConformanceReport { policy_version: standings.policies().value.version(), environments, next })
    }

    /// Counts what runs in every environment by how it stands, where the actor may read that.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Forbidden`], [`crate::errors::ErrorKind::Unavailable`].
    pub async fn summary(&self, op: &Op) -> Result<ConformanceSummary, Error> {
        self.0.demand_list(op, Permission::PolicyRead, None).await?;
        let standings = self.0.standings(op).await?;
        let names = readable(op, &standings, None);
        Ok(ConformanceSummary {
            policy_version: standings.policies().value.version(),
            environments: names.iter().map(|name| StandingCounts::new(op, &standings, name)).collect(),
        })
    }

    /// Returns a page of what runs in an environment, with why it does not conform; what does not comes first.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment.
    pub async fn list(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        filter: &ConformanceFilter,
        request: ListRequest,
    ) -> Result<ConformanceList, Error> {
        self.0.demand_list(op, Permission::PolicyRead, Some(environment)).await?;
        let standings = self.0.standings(op).await?;
        // What needs somebody comes first; the keys of an environment differ after its name only.
        let mut fitting = BTreeMap::new();
        for (key, judged) in readable_in(op, &standings, environment) {
            if let Some(standing) = judged.standing()
                && filter.takes(judged)
            {
                fitting.insert(format!("{}/{key}", rank(standing)), judged);
            }
        }
        let page = ListPage::of(fitting.into_iter(), request, |(place, _)| place.clone());
        let ListPage { items, next } = page;
        Ok(ConformanceList {
            policy_version: standings.policies().value.version(),
            counts: StandingCounts::new(op, &standings, environment),
            scope_gaps: scope_gaps(
                op,
                &standings,
                environment,
                readable_in(op, &standings, environment).map(of),
            ),
            items: ListPage {
                items: items.into_iter().filter_map(|(_, judged)| judged.item()).collect(),
                next,
            },
        })
    }

    /// Returns what runs of a pipeline in an environment and does not conform, or would not without a waiver.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment.
    pub async fn of_pipeline(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
    ) -> Result<Vec<ConformanceItem>, Error> {
        self.0.demand_list(op, Permission::PolicyRead, Some(environment)).await?;
        let standings = self.0.standings(op).await?;
        let here = readable_in(op, &standings, environment);
        let of_it = here.filter(|(_, judged)| judged.deployment.pipeline == *pipeline);
        Ok(of_it.filter_map(|(_, judged)| judged.item()).collect())
    }
}

/// Returns the environments in which the actor may read how deployments stand.
fn readable(op: &Op, standings: &Standings, environment: Option<&EnvironmentName>) -> Vec<EnvironmentName> {
    let names = standings.policies().value.environments().filter(|name| {
        environment.is_none_or(|wanted| wanted == *name) && op.may_somewhere_in(Permission::PolicyRead, name)
    });
    names.cloned().collect()
}

fn readable_in<'a>(
    op: &'a Op,
    standings: &'a Standings,
    environment: &'a EnvironmentName,
) -> impl Iterator<Item = (&'a String, &'a Arc<Judged>)> + Clone {
    standings.of(op, &[Permission::PolicyRead], environment)
}

/// Returns the scopes that some of what runs in an environment demands, and nothing there offers that the actor may see.
fn scope_gaps<'a>(
    op: &Op,
    standings: &Standings,
    environment: &EnvironmentName,
    of: impl Iterator<Item = &'a Arc<Judged>>,
) -> Vec<ScopeGap> {
    let version = |judged: &'a Arc<Judged>| judged.deployed().1;
    let running = readable_in(op, standings, environment).map(|(_, judged)| judged.deployed().1);
    tollgate_policy::scope_gaps(running, of.map(version))
}

fn of<'a>((_, judged): (&'a String, &'a Arc<Judged>)) -> &'a Arc<Judged> {
    judged
}

/// Returns the place of a standing in a list: what needs somebody first.
fn rank(standing: Standing) -> u8 {
    match standing {
        Standing::NotConformant => 0,
        Standing::Waived => 1,
        Standing::Conformant => 2,
    }
}

// === impl StandingCounts ===

impl StandingCounts {
    fn new(op: &Op, standings: &Standings, environment: &EnvironmentName) -> Self {
        let mut counts = Self {
            environment: environment.clone(),
            deployments: 0,
            conformant: 0,
            waived: 0,
            not_conformant: 0,
            login_flows: 0,
        };
        for (_, judged) in readable_in(op, standings, environment) {
            let Some(standing) = judged.standing() else { continue };
            counts.deployments += 1;
            match standing {
                Standing::Conformant => counts.conformant += 1,
                Standing::Waived => counts.waived += 1,
                Standing::NotConformant => counts.not_conformant += 1,
            }
            counts.login_flows += usize::from(judged.is_login_flow());
        }
        counts
    }
}

// === impl ConformanceFilter ===

impl ConformanceFilter {
    /// Tells whether it takes what runs; what the policies say nothing of, none takes.
    fn takes(&self, judged: &Judged) -> bool {
        judged.standing().is_some_and(|standing| self.standing.is_none_or(|wanted| wanted == standing))
            && (!self.login_flows || judged.is_login_flow())
            && judged.deployment.pipeline.as_str().contains(&self.name)
    }
}
