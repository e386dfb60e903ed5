//! Who can call a pipeline, what a consumer can call, and what nobody uses.
//!
//! The first two are functions over a set of objects ([`objects::AccessObjects`]), so that they can be asked of the past,
//! too. Counted calls have no history: an answer as of a time is without them.

mod objects;
mod unused;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde::Serialize;
use tollgate_model::calls::CountedCaller;
use tollgate_model::certificates::Certificate;
use tollgate_model::consumers::{ApiKey, BasicAuth, Consumer};
use tollgate_model::deployments::Deployment;
use tollgate_model::environments::Environment;
use tollgate_model::ids::ConsumerId;
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName};
use tollgate_snapshot::Enforcer;

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::calls::{Days, MAX_DAYS, MINUTE_SECONDS};
use crate::errors::Error;

pub use objects::{AbleCaller, Callable, Demands, OfferedRouteView, Refusing, UsableKey};
pub use unused::{Unused, UnusedAssociation, UnusedCredential};

use objects::AccessObjects;

/// Questions about who can call what.
pub struct Reach(pub(crate) App);

/// Who can call a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineCallers {
    /// Of which pipeline.
    pub pipeline: PipelineName,
    /// As of when.
    pub as_of: Timestamp,
    /// From when on calls are counted here; `None` in an answer of the past.
    pub since: Option<Timestamp>,
    /// By environment and major, where the pipeline runs.
    pub deployments: Vec<DeploymentCallers>,
    /// The environments where it does not run, and consumers are associated with it.
    pub not_deployed: Vec<WaitingConsumers>,
}

/// Who can call a deployment.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentCallers {
    /// What can be called, and what it demands.
    #[serde(flatten)]
    pub callable: Callable,
    /// The consumers that are associated; empty where anybody can call.
    pub callers: Vec<AbleCaller>,
    /// Calls whose caller nobody knows: no credentials are demanded, or there were too many callers to tell them apart.
    pub unknown_calls: Option<CallerUsage>,
}

/// Consumers that may call what does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingConsumers {
    /// Where.
    pub environment: EnvironmentName,
    /// Which.
    pub consumers: Vec<ConsumerName>,
}

/// How often somebody called, and when last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallerUsage {
    /// How many calls.
    pub calls: u64,
    /// The minute of the last.
    pub last_call: Timestamp,
}

/// What a consumer can call.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerAccess {
    /// Which consumer.
    pub consumer: ConsumerName,
    /// Where.
    pub environment: EnvironmentName,
    /// The environment's addresses, by listener: those of the process that answers, else those stored.
    pub listeners: BTreeMap<&'static str, String>,
    /// What runs there and can be reached by it, or could if it were not refused.
    pub deployments: Vec<ConsumerDeployment>,
    /// The pipelines that it is associated with and that do not run there.
    pub not_deployed: Vec<PipelineName>,
}

/// A deployment that a consumer may call.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerDeployment {
    /// What can be called, and what it demands.
    #[serde(flatten)]
    pub callable: Callable,
    /// The consumer as its caller; `None` where anybody can call and it is not associated.
    pub caller: Option<AbleCaller>,
}

/// Calls by environment, pipeline, major and caller; `None` stands for callers that nobody knows.
type UsageByCaller = HashMap<(EnvironmentName, PipelineName, u32, Option<ConsumerName>), CallerUsage>;

// === impl Reach ===

impl Reach {
    /// Tells who can call a pipeline; calls are not counted in an answer of the past, they have no history.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn callers(
        &self,
        op: &Op,
        pipeline: &PipelineName,
        environment: Option<&EnvironmentName>,
    ) -> Result<PipelineCallers, Error> {
        demand(op, environment)?;
        self.0.pipeline_head(op, pipeline).await?;
        let environments = self.0.environments_asked(op, environment).await?;
        let here = |it: &Deployment| it.pipeline == *pipeline;
        let objects = self.0.access_objects(op, &environments, here).await?;
        let since = match self.0.store().is_of_the_past() {
            true => None,
            false => Some(Days::parse(Some(MAX_DAYS))?.before(op.now)),
        };
        let usage = match since {
            Some(since) => self.usage(op, since, environment, Some(pipeline)).await?,
            None => UsageByCaller::new(),
        };
        let mut deployments = Vec::new();
        for callable in objects.callables()? {
            let of = |consumer: Option<&ConsumerName>| {
                let major = callable.version.major;
                let key = (callable.environment.clone(), pipeline.clone(), major, consumer.cloned());
                usage.get(&key).copied()
            };
            let mut callers = objects.callers(&callable);
            for caller in &mut callers {
                caller.usage = of(Some(&caller.consumer));
            }
            deployments.push(DeploymentCallers { unknown_calls: of(None), callers, callable });
        }
        let not_deployed = environments.iter().map(|environment| {
            let runs = deployments.iter().any(|it| it.callable.environment == *environment);
            let consumers = objects.associated(environment, pipeline).map(|consumer| consumer.name.clone());
            let consumers = consumers.filter(|_| !runs).collect();
            WaitingConsumers { environment: environment.clone(), consumers }
        });
        Ok(PipelineCallers {
            pipeline: pipeline.clone(),
            as_of: op.now,
            since,
            not_deployed: not_deployed.filter(|it| !it.consumers.is_empty()).collect(),
            deployments,
        })
    }

    /// Tells what a consumer can call.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn of_consumer(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &ConsumerName,
    ) -> Result<ConsumerAccess, Error> {
        demand(op, Some(environment))?;
        let listeners = self.0.environment(&op.realm, environment).await?.listeners;
        let consumer = self.0.consumer(&op.realm, environment, name).await?.value;
        let objects = self.0.access_objects(op, std::slice::from_ref(environment), |_| true).await?;
        let since = Days::parse(Some(MAX_DAYS))?.before(op.now);
        let usage = self.usage(op, since, Some(environment), None).await?;
        let mut deployments = Vec::new();
        for callable in objects.callables()? {
            let mut caller =
                objects.callers(&callable).into_iter().find(|caller| caller.consumer == consumer.name);
            if let Some(caller) = &mut caller {
                let version = callable.version.major;
                let key = (environment.clone(), callable.pipeline.clone(), version, Some(name.clone()));
                caller.usage = usage.get(&key).copied();
            }
            if (caller.is_some() || callable.anybody) && !callable.routes.is_empty() {
                deployments.push(ConsumerDeployment { callable, caller });
            }
        }
        let runs: BTreeSet<_> = objects.deployed.iter().map(|(it, _)| &it.pipeline).collect();
        let not_deployed = consumer.pipelines.iter().filter(|name| !runs.contains(name)).cloned().collect();
        let here = self.0.gateway().map(|gateway| gateway.listeners()).unwrap_or_default();
        let here = here.into_iter().filter(|it| it.environment == *environment);
        let all = listeners.into_iter().chain(here.map(|it| (it.exposure, it.address)));
        let listeners = all.map(|(exposure, address)| (exposure.as_str(), address.to_string())).collect();
        Ok(ConsumerAccess {
            consumer: consumer.name,
            environment: environment.clone(),
            listeners,
            deployments,
            not_deployed,
        })
    }

    /// Sums up calls by caller.
    async fn usage(
        &self,
        op: &Op,
        since: Timestamp,
        environment: Option<&EnvironmentName>,
        pipeline: Option<&PipelineName>,
    ) -> Result<UsageByCaller, Error> {
        let mut usage = UsageByCaller::new();
        for sum in self.0.calls().sums(&op.realm, since, environment, pipeline).await? {
            let of = sum.of;
            let last_call = Timestamp::from_second(of.minute * MINUTE_SECONDS).map_err(Error::internal)?;
            let caller = match of.caller {
                CountedCaller::Consumer(name, _) => Some(name),
                CountedCaller::Unknown | CountedCaller::Others => None,
            };
            let entry = usage.entry((of.environment, of.pipeline, of.major, caller));
            let entry = entry.or_insert(CallerUsage { calls: 0, last_call });
            entry.calls += sum.calls;
            entry.last_call = entry.last_call.max(last_call);
        }
        Ok(usage)
    }
}

// === impl App ===

impl App {
    /// Returns the environment that was asked for, or all that the actor may ask about.
    async fn environments_asked(
        &self,
        op: &Op,
        environment: Option<&EnvironmentName>,
    ) -> Result<Vec<EnvironmentName>, Error> {
        match environment {
            Some(name) => Ok(vec![self.environment(&op.realm, name).await?.name]),
            None => {
                let all = self.all::<Environment>(&op.realm, "").await?;
                let all = all.into_iter().map(|stored| stored.value.name);
                Ok(all.filter(|it| op.may(Permission::AccessRead, Place::environment(it))).collect())
            }
        }
    }

    /// Reads what decides who can call, in some environments.
    async fn access_objects(
        &self,
        op: &Op,
        environments: &[EnvironmentName],
        concerned: impl Fn(&Deployment) -> bool,
    ) -> Result<AccessObjects, Error> {
        let ruling = self.ruling(&op.realm).await?;
        let mut objects = AccessObjects {
            realm: op.realm.clone(),
            now: op.now,
            deployed: Vec::new(),
            consumers: Vec::new(),
            keys: HashMap::new(),
            certificates: HashMap::new(),
            basic_auth: HashMap::new(),
            enforcer: Enforcer::new(ruling.policies.value, ruling.waivers),
        };
        for environment in environments {
            let prefix = format!("{environment}/");
            objects.deployed.extend(self.deployed_where(&op.realm, &prefix, &concerned).await?);
            let consumers = self.all::<Consumer>(&op.realm, &prefix).await?;
            objects.consumers.extend(consumers.into_iter().map(|stored| stored.value));
            for key in self.all::<ApiKey>(&op.realm, &prefix).await? {
                let of: ConsumerId = key.value.consumer;
                objects.keys.entry(of).or_default().push(key.value);
            }
            for certificate in self.all::<Certificate>(&op.realm, &prefix).await? {
                let of = certificate.value.consumer;
                objects.certificates.entry(of).or_default().push(certificate.value);
            }
            for credential in self.all::<BasicAuth>(&op.realm, &prefix).await? {
                let of = credential.value.consumer;
                objects.basic_auth.entry(of).or_default().push(credential.value);
            }
        }
        Ok(objects)
    }
}

/// Refuses unless the actor may ask about an environment, or about any.
fn demand(op: &Op, environment: Option<&EnvironmentName>) -> Result<(), Error> {
    match environment {
        Some(environment) => op.demand_in(Permission::AccessRead, Place::environment(environment)),
        None => op.demand_anywhere(Permission::AccessRead),
    }
}
