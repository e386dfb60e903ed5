//! What runs, judged.

use std::collections::BTreeSet;

use serde::Serialize;
use tollgate_model::deployments::Deployment;
use tollgate_model::names::{EnvironmentName, PipelineName, ProjectName};
use tollgate_model::pipelines::{Pipeline, PipelineVersion};
use tollgate_model::triggers::JwtSwitch;
use tollgate_model::verdicts::{Verdict, Violation, Waived};
use tollgate_model::versions::Version;

use crate::tokens::token_steps;
use crate::{Judge, UnknownEnvironment};

/// How the running deployments of one environment stand to the policies.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Conformance {
    /// Where.
    pub environment: EnvironmentName,
    /// How many run.
    pub deployments: usize,
    /// How many of them the policies would admit without a waiver.
    pub conformant: usize,
    /// How many of them the policies would admit with waivers only.
    pub waived: usize,
    /// How many they would not.
    pub not_conformant: usize,
    /// Each of them.
    pub items: Vec<ConformanceItem>,
    /// Scopes that a deployment demands and no deployed login flow offers: nobody can call it.
    pub scope_gaps: Vec<ScopeGap>,
}

/// How one running deployment stands to the policies.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConformanceItem {
    /// What runs.
    pub pipeline: PipelineName,
    /// The project that it belongs to.
    pub project: ProjectName,
    /// Which version runs.
    pub version: Version,
    /// The policy version that admitted it.
    pub admitted_by: Version,
    /// Whether it is a login flow.
    pub login_flow: bool,
    /// Whether it would be admitted, by waivers if need be.
    pub conforms: bool,
    /// How it stands.
    pub standing: Standing,
    /// Why it would not be admitted.
    pub violations: Vec<Violation>,
    /// What would count against it, if it were not waived.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waived: Vec<Waived>,
}

/// How a deployment stands to the policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// It would be admitted.
    Conformant,
    /// It would be admitted by waivers only.
    Waived,
    /// It would not be admitted.
    NotConformant,
}

/// A scope that a deployment demands and no deployed login flow offers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScopeGap {
    /// Who demands it.
    pub pipeline: PipelineName,
    /// The scope.
    pub scope: String,
}

/// Judges what runs in an environment.
///
/// # Errors
///
/// [`UnknownEnvironment`] when the policies have no value for it.
pub fn conformance<'a>(
    judge: &Judge<'_>,
    environment: &EnvironmentName,
    deployed: impl IntoIterator<Item = (&'a Deployment, &'a PipelineVersion)> + Clone,
) -> Result<Conformance, UnknownEnvironment> {
    let items = deployed
        .clone()
        .into_iter()
        .map(|(deployment, version)| {
            let verdict = judge.verdict(&version.pipeline, environment)?;
            Ok(ConformanceItem::new(deployment, &version.pipeline, verdict))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let count = |standing| items.iter().filter(|item| item.standing == standing).count();
    Ok(Conformance {
        environment: environment.clone(),
        deployments: items.len(),
        conformant: count(Standing::Conformant),
        waived: count(Standing::Waived),
        not_conformant: count(Standing::NotConformant),
        scope_gaps: scope_gaps(deployed.clone().into_iter().map(of), deployed.into_iter().map(of)),
        items,
    })
}

fn of<'a>((_, version): (&'a Deployment, &'a PipelineVersion)) -> &'a PipelineVersion {
    version
}

/// Finds the scopes that some deployments demand and none of those that run in the environment offers.
pub fn scope_gaps<'a>(
    running: impl IntoIterator<Item = &'a PipelineVersion>,
    demanding: impl IntoIterator<Item = &'a PipelineVersion>,
) -> Vec<ScopeGap> {
    let offered: BTreeSet<&str> = running
        .into_iter()
        .filter(|version| version.pipeline.trigger.is_exposed())
        .flat_map(|version| token_steps(&version.pipeline.steps))
        .flat_map(|token| token.scopes.iter().map(|scope| scope.as_str()))
        .collect();
    let gaps: BTreeSet<ScopeGap> = demanding
        .into_iter()
        .filter_map(|version| Some((version, version.pipeline.trigger.http()?)))
        .filter(|(version, _)| version.pipeline.trigger.is_exposed())
        .flat_map(|(version, trigger)| {
            // What tokens of issuers outside carry, nobody here knows.
            let own = match &trigger.jwt {
                JwtSwitch::On(scopes) => Some(scopes.iter()),
                JwtSwitch::OnOf { .. } | JwtSwitch::Off => None,
            };
            let routes = trigger.routes.iter().flat_map(|route| &route.scopes);
            own.map(|own| own.chain(routes))
                .into_iter()
                .flatten()
                .filter(|scope| !offered.contains(scope.as_str()))
                .map(|scope| ScopeGap {
                    pipeline: version.pipeline.name.clone(),
                    scope: scope.as_str().to_owned(),
                })
                .collect::<Vec<_>>()
        })
        .collect();
    gaps.into_iter().collect()
}

// === impl ConformanceItem ===

impl ConformanceItem {
    /// Says how a deployment stands by a verdict on its pipeline.
    pub fn new(deployment: &Deployment, pipeline: &Pipeline, verdict: Verdict) -> Self {
        Self {
            pipeline: deployment.pipeline.clone(),
            project: pipeline.project.clone(),
            version: deployment.version,
            admitted_by: deployment.policy_version,
            login_flow: verdict.login_flow,
            conforms: verdict.conforms(),
            standing: Standing::of(&verdict),
            violations: verdict.violations,
            waived: verdict.waived,
        }
    }
}

// === impl Standing ===

impl Standing {
    /// Returns how a verdict makes a deployment stand.
    pub fn of(verdict: &Verdict) -> Self {
        match (verdict.violations.is_empty(), verdict.waived.is_empty()) {
            (false, _) => Self::NotConformant,
            (true, false) => Self::Waived,
            (true, true) => Self::Conformant,
        }
    }
}
