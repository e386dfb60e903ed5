//! Deployments, made ready to be called.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use tollgate_flow::Flow;
use tollgate_model::deployments::Deployment;
use tollgate_model::ids::DeploymentId;
use tollgate_model::names::{EnvironmentName, PipelineName, ProjectName, RealmName};
use tollgate_model::pipelines::{Pipeline, PipelineVersion};
use tollgate_model::triggers::{HttpTrigger, Methods, SchedulerTrigger, Scope, Trigger};
use tollgate_model::versions::Version;

use crate::Broken;

/// A deployment that answers HTTP.
#[derive(Debug)]
pub struct Endpoint {
    /// The deployment.
    pub deployment: DeploymentId,
    /// Its realm.
    pub realm: RealmName,
    /// Where it runs.
    pub environment: EnvironmentName,
    /// What runs.
    pub pipeline: PipelineName,
    /// Which version.
    pub version: Version,
    /// The version as text, for logs and flows.
    pub version_text: String,
    /// The project that it belongs to.
    pub project: Option<ProjectName>,
    /// Whether it is a login flow.
    pub login_flow: bool,
    /// The trigger's settings.
    pub trigger: HttpTrigger,
    /// Whether the trigger is `rest`: bodies are JSON.
    pub rest: bool,
    /// The flow.
    pub flow: Result<Arc<Flow>, Broken>,
    /// Headers that every response of the flow carries.
    pub response_headers: HeaderMap,
    /// Its routes; the first is its main one.
    pub(crate) routes: Vec<Arc<EndpointRoute>>,
}

/// One route of an endpoint.
#[derive(Debug)]
pub struct EndpointRoute {
    /// The path as its author wrote it, with prefix and `:parameters`; safe to log.
    pub path: String,
    /// Names of the parameters, in order.
    pub parameters: Vec<String>,
    /// Methods offered.
    pub methods: Methods,
    /// The methods as the value of `Allow`.
    pub allow: HeaderValue,
    /// Scopes that a token must carry here: the trigger's and the route's.
    pub scopes: Vec<Scope>,
}

/// A deployment that the clock starts.
#[derive(Debug)]
pub struct Schedule {
    /// The deployment.
    pub deployment: DeploymentId,
    /// Its realm.
    pub realm: RealmName,
    /// Where it runs.
    pub environment: EnvironmentName,
    /// What runs.
    pub pipeline: PipelineName,
    /// Which version.
    pub version: Version,
    /// When.
    pub trigger: SchedulerTrigger,
    /// The flow.
    pub flow: Result<Arc<Flow>, Broken>,
}

/// What a deployment became.
#[derive(Debug, Clone)]
pub(crate) enum Deployed {
    Endpoint(Arc<Endpoint>),
    Schedule(Arc<Schedule>),
}

/// Makes a deployment ready.
pub(crate) fn prepare(
    realm: &RealmName,
    deployment: &Deployment,
    version: Result<PipelineVersion, Broken>,
) -> Deployed {
    match version {
        Ok(version) => prepare_version(realm, deployment, &version),
        Err(broken) => {
            // Where it was exposed is not known any more; it answers 503 on both listeners under its main route.
            let trigger = HttpTrigger { external_api: true, internal_api: true, ..HttpTrigger::default() };
            Deployed::Endpoint(Arc::new(endpoint(realm, deployment, None, trigger, true, Err(broken))))
        }
    }
}

fn prepare_version(realm: &RealmName, deployment: &Deployment, version: &PipelineVersion) -> Deployed {
    let flow = tollgate_flow::compile(&version.pipeline).map(Arc::new).map_err(|errors| {
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        Broken(format!(
            "the flow of `{}` {} does not compile: {first}",
            deployment.pipeline, deployment.version
        ))
    });
    let (trigger, rest) = match &version.pipeline.trigger {
        Trigger::Scheduler(trigger) => {
            return Deployed::Schedule(Arc::new(Schedule {
                deployment: deployment.id,
                realm: realm.clone(),
                environment: deployment.environment.clone(),
                pipeline: deployment.pipeline.clone(),
                version: deployment.version,
                trigger: trigger.clone(),
                flow,
            }));
        }
        Trigger::Rest(trigger) => (trigger.clone(), true),
        Trigger::Http(trigger) => (trigger.clone(), false),
    };
    Deployed::Endpoint(Arc::new(endpoint(realm, deployment, Some(version), trigger, rest, flow)))
}

fn endpoint(
    realm: &RealmName,
    deployment: &Deployment,
    version: Option<&PipelineVersion>,
    trigger: HttpTrigger,
    rest: bool,
    flow: Result<Arc<Flow>, Broken>,
) -> Endpoint {
    let response_headers = trigger
        .response_headers
        .iter()
        .filter_map(|(name, value)| {
            Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
        })
        .collect();
    let routes =
        crate::routes::endpoint_routes(realm, &deployment.pipeline, deployment.version.major, &trigger);
    let pipeline: Option<&Pipeline> = version.map(|version| &version.pipeline);
    Endpoint {
        deployment: deployment.id,
        realm: realm.clone(),
        environment: deployment.environment.clone(),
        pipeline: deployment.pipeline.clone(),
        version: deployment.version,
        version_text: deployment.version.to_string(),
        project: pipeline.map(|pipeline| pipeline.project.clone()),
        login_flow: version.is_some_and(|version| version.login_flow),
        trigger,
        rest,
        flow,
        response_headers,
        routes,
    }
}
