//! What runs, what ran, and how it stands to today's policies.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use tollgate_model::deployments::{Attested, Deployment};
use tollgate_model::environments::Exposure;
use tollgate_model::ids::DeploymentId;
use tollgate_model::names::{EnvironmentName, PipelineName, ProjectName, RealmName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::{Kind, Object, keys};
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::verdicts::Verdict;
use tollgate_model::versions::Version;
use tollgate_policy::Judge;
use tollgate_snapshot::exposed_paths;
use tollgate_store::{JournalFilter, Stored};

use super::Deployments;
use crate::App;
use crate::access::{Op, Permission};
use crate::errors::Error;
use crate::judging;
use crate::lists::{ListPage, ListRequest};
use crate::standings::Judged;

/// Most entries of a deployment's history that are looked at.
const MAX_HISTORY: u32 = 500;

/// A deployment, judged by today's policies.
#[derive(Debug, Clone, PartialEq)]
pub struct DeploymentView {
    /// The deployment.
    pub deployment: Deployment,
    /// The project of what runs.
    pub project: ProjectName,
    /// What today's policies say of it.
    pub verdict: Verdict,
    /// What they would say of it in every other environment: what a promotion would get.
    pub elsewhere: Vec<Verdict>,
    /// Where it answers.
    pub urls: Vec<DeploymentUrl>,
}

/// A path that a deployment answers on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentUrl {
    /// On which listener.
    pub exposure: Exposure,
    /// The path; segments that begin with `:` are parameters.
    pub path: String,
}

/// One change of what ran.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryItem {
    /// Its journal entry.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What was done: `deployment.deploy`, `deployment.undeploy`, …
    pub action: String,
    /// What ran from then on; `None` when nothing did.
    pub version: Option<Version>,
    /// The policies that admitted it.
    pub policy_version: Option<Version>,
    /// What was attested of it; `None` for one from before there were attestations.
    pub attested: Option<Attested>,
}

// === impl DeploymentView ===

impl DeploymentView {
    pub(super) fn new(
        realm: &RealmName,
        deployment: Deployment,
        version: &PipelineVersion,
        judge: &Judge<'_>,
    ) -> Result<Self, Error> {
        let verdict = judge.verdict(&version.pipeline, &deployment.environment)?;
        let others = judge.policies().environments().filter(|name| **name != deployment.environment);
        let elsewhere =
            others.map(|name| judge.verdict(&version.pipeline, name)).collect::<Result<_, _>>()?;
        Ok(Self::of(realm, deployment, version, verdict, elsewhere))
    }

    /// Makes one of what was judged before; `None` where the policies do not say.
    fn of_judged(realm: &RealmName, judged: &Judged, judge: &Judge<'_>) -> Option<Self> {
        let (deployment, version) = judged.deployed();
        let verdict = judged.verdict.clone()?;
        let elsewhere = judged.elsewhere(judge).to_vec();
        Some(Self::of(realm, deployment.clone(), version, verdict, elsewhere))
    }

    fn of(
        realm: &RealmName,
        deployment: Deployment,
        version: &PipelineVersion,
        verdict: Verdict,
        elsewhere: Vec<Verdict>,
    ) -> Self {
        let urls = exposed_paths(realm, &version.pipeline, version.version.major)
            .into_iter()
            .map(|path| DeploymentUrl { exposure: path.exposure, path: path.path })
            .collect();
        Self { project: version.pipeline.project.clone(), deployment, verdict, elsewhere, urls }
    }
}

// === impl Deployments ===

impl Deployments {
    /// Returns what runs, in one environment or in all, of what the actor may read.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment.
    pub async fn list(
        &self,
        op: &Op,
        environment: Option<&EnvironmentName>,
    ) -> Result<Vec<DeploymentView>, Error> {
        Ok(self.list_where(op, environment, None, |_| true).await?.items)
    }

    /// Returns what runs of one pipeline, in all environments where the actor may read it.
    ///
    /// # Errors
    ///
    /// As [`Deployments::list`].
    pub async fn list_of(&self, op: &Op, pipeline: &PipelineName) -> Result<Vec<DeploymentView>, Error> {
        let pipeline = pipeline.clone();
        Ok(self.list_where(op, None, None, move |it| it.pipeline == pipeline).await?.items)
    }

    /// Returns the deployment of an id in an environment; `None` when it runs no more, or the actor may not read it.
    ///
    /// # Errors
    ///
    /// As [`Deployments::list`].
    pub async fn with_id(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        id: DeploymentId,
    ) -> Result<Option<DeploymentView>, Error> {
        Ok(self.list_where(op, Some(environment), None, move |it| it.id == id).await?.items.pop())
    }

    /// Returns a page of what runs, in one environment or in all, of what the actor may read: ordered by environment and
    /// name, of pipelines whose names hold `name`.
    ///
    /// # Errors
    ///
    /// As [`Deployments::list`].
    pub async fn list_page(
        &self,
        op: &Op,
        environment: Option<&EnvironmentName>,
        name: &str,
        request: ListRequest,
    ) -> Result<ListPage<DeploymentView>, Error> {
        let name = name.to_owned();
        self.list_where(op, environment, Some(request), move |it| it.pipeline.as_str().contains(&name)).await
    }

    /// Only what is wanted is judged.
    async fn list_where(
        &self,
        op: &Op,
        environment: Option<&EnvironmentName>,
        request: Option<ListRequest>,
        is_wanted: impl Fn(&Deployment) -> bool + Send + 'static,
    ) -> Result<ListPage<DeploymentView>, Error> {
        self.0.demand_list(op, Permission::DeploymentRead, environment).await?;
        let standings = self.0.standings(op).await?;
        let mut names: Vec<_> = standings.policies().value.environments().cloned().collect();
        names.retain(|it| environment.is_none_or(|wanted| wanted == it));
        let op = op.clone();
        judging::away(move || {
            let ruling = standings.ruling();
            let judge = ruling.judge(op.now);
            let found = names.iter().flat_map(|it| standings.of(&op, &[Permission::DeploymentRead], it));
            let found = found.filter(|(_, it)| is_wanted(&it.deployment));
            // Keys of environments follow each other in another order than their names: `a-b/` comes before `a/`.
            let mut found: Vec<_> = found.collect();
            found.sort_by_key(|(key, _)| *key);
            let page = match request {
                Some(request) => ListPage::of(found.into_iter(), request, |(key, _)| (*key).clone()),
                None => ListPage { items: found, next: None },
            };
            let views =
                page.items.iter().filter_map(|(_, it)| DeploymentView::of_judged(&op.realm, it, &judge));
            Ok(ListPage { items: views.collect(), next: page.next })
        })
        .await
    }

    /// Returns one deployment with its revision.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`]; [`crate::errors::ErrorKind::Invalid`] when several majors run and none is named.
    pub async fn get(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
        major: Option<u32>,
    ) -> Result<Stored<DeploymentView>, Error> {
        self.0.demand_at(op, Permission::DeploymentRead, environment, pipeline).await?;
        let Stored { value, revision } = self.find(op, environment, pipeline, major).await?;
        let ruling = self.0.ruling(&op.realm).await?;
        let version = self.0.pipeline_version(op, pipeline, value.version).await?;
        let view = DeploymentView::new(&op.realm, value, &version, &ruling.judge(op.now))?;
        Ok(Stored { value: view, revision })
    }

    /// Returns what ran of a pipeline in an environment, newest first, by the journal.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such pipeline or environment.
    pub async fn history(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
    ) -> Result<Vec<HistoryItem>, Error> {
        let head = self.0.demand_at(op, Permission::DeploymentRead, environment, pipeline).await?.value;
        let mut majors: Vec<_> = head.versions.iter().map(|version| version.major).collect();
        majors.dedup();
        let mut items = Vec::new();
        for major in majors {
            items.extend(self.history_of(op, &keys::deployment(environment, pipeline, major)).await?);
        }
        items.sort_by_key(|item| std::cmp::Reverse(item.seq));
        Ok(items)
    }

    pub(super) async fn history_of(&self, op: &Op, key: &str) -> Result<Vec<HistoryItem>, Error> {
        let filter = JournalFilter {
            kind: Some(Kind::Deployment),
            key: Some(key.to_owned()),
            limit: MAX_HISTORY,
            newest_first: true,
            ..JournalFilter::default()
        };
        let entries = self.0.store().journal(&op.realm, &filter).await?;
        let items = entries.into_iter().map(|entry| {
            let body = entry
                .mutations
                .iter()
                .find(|mutation| mutation.kind == Kind::Deployment && mutation.key == key)
                .and_then(|mutation| mutation.body.as_deref());
            let deployment: Option<Deployment> =
                body.map(serde_json::from_str).transpose().map_err(Error::internal)?;
            Ok(HistoryItem {
                seq: entry.seq,
                at: entry.at,
                actor: entry.actor,
                action: entry.action,
                version: deployment.as_ref().map(|deployment| deployment.version),
                policy_version: deployment.as_ref().map(|deployment| deployment.policy_version),
                attested: deployment.and_then(|deployment| deployment.attested),
            })
        });
        items.collect()
    }

    /// Finds a deployment; a major must be named only when several run.
    pub(crate) async fn find(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
        major: Option<u32>,
    ) -> Result<Stored<Deployment>, Error> {
        self.0.environment(&op.realm, environment).await?;
        let mut running = self.0.all::<Deployment>(&op.realm, &format!("{environment}/{pipeline}/")).await?;
        running.retain(|stored| major.is_none_or(|major| stored.value.version.major == major));
        let majors: Vec<_> = running.iter().map(|stored| stored.value.version.major.to_string()).collect();
        match (running.pop(), running.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(_), false) => {
                Err(Error::invalid(format!("several majors of `{pipeline}` run in {environment}"))
                    .hint(format!("name one of {}", majors.join(", "))))
            }
            (None, _) => Err(Error::not_found(format!("`{pipeline}` is not deployed in {environment}"))
                .hint("deploy it first")
                .next(NextStep::Deploy {
                    pipeline: pipeline.clone(),
                    version: None,
                    environment: environment.clone(),
                })),
        }
    }
}

// === impl App ===

impl App {
    /// Returns what runs, each with the version that runs; `prefix` is that of the deployments' keys.
    pub(crate) async fn deployed(
        &self,
        realm: &RealmName,
        prefix: &str,
    ) -> Result<Vec<(Deployment, PipelineVersion)>, Error> {
        self.deployed_where(realm, prefix, |_| true).await
    }

    /// Returns what runs, likewise, as far as a condition holds for the deployment.
    pub(crate) async fn deployed_where(
        &self,
        realm: &RealmName,
        prefix: &str,
        condition: impl Fn(&Deployment) -> bool,
    ) -> Result<Vec<(Deployment, PipelineVersion)>, Error> {
        let mut deployments = self.all::<Deployment>(realm, prefix).await?;
        deployments.retain(|stored| condition(&stored.value));
        let key = |it: &Deployment| keys::pipeline_version(&it.pipeline, it.version);
        let wanted: BTreeSet<String> = deployments.iter().map(|stored| key(&stored.value)).collect();
        let wanted: Vec<String> = wanted.into_iter().collect();
        let versions = self.store().get_many::<PipelineVersion>(realm, &wanted).await?;
        let versions: HashMap<String, PipelineVersion> =
            versions.into_iter().map(|stored| (stored.value.key(), stored.value)).collect();
        // What was undeployed and deleted since the list was read no longer counts.
        let running = deployments.into_iter().map(|stored| stored.value);
        Ok(running.filter_map(|it| versions.get(&key(&it)).cloned().map(|version| (it, version))).collect())
    }
}
