//! Deployments, made ready to be called.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use tollgate_flow::Flow;
use tollgate_model::deployments::Deployment;
use tollgate_model::ids::DeploymentId;
use tollgate_model::names::{EnvironmentName, PipelineName, ProjectName, RealmName};
use tollgate_model::objects::keys;
use tollgate_model::pipelines::{Pipeline, PipelineVersion};
use tollgate_model::triggers::{HttpTrigger, Method, Methods, SchedulerTrigger, Scope, Trigger};
use tollgate_model::versions::Version;

use crate::routes::{distinct, endpoint_routes};
use crate::{Broken, CallPlaces, CallSeries, Enforced};

/// Names an API: a pipeline in an environment of a realm, whichever of its versions is deployed. Limits of callers are
/// counted by it, so that a deployment gives nobody its calls back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApiId([u8; 16]);

/// A deployment that answers HTTP.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The API that it is a version of.
    pub api: ApiId,
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
    /// From when on calls are refused, because the deployment does not conform; `None` when they never are.
    pub enforced: Result<Option<Arc<Enforced>>, Broken>,
    /// Headers that every response of the flow carries.
    pub response_headers: HeaderMap,
    /// What the gateway counts of its calls; the first call puts it there.
    pub series: OnceLock<Arc<CallSeries>>,
    /// The places of calls that run at once, where the trigger bounds them; the first call puts them there.
    pub places: OnceLock<Arc<CallPlaces>>,
    /// What answers say of its rate limits, kept by the gateway.
    pub rate_limit_policy: OnceLock<HeaderValue>,
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

/// What a deployment is and where, as far as its key tells.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    id: DeploymentId,
    environment: EnvironmentName,
    pipeline: PipelineName,
    version: Version,
}

/// Makes a deployment ready.
pub(crate) fn prepare(
    realm: &RealmName,
    placed: &Placed,
    version: Result<PipelineVersion, Broken>,
) -> Deployed {
    match version {
        Ok(version) => prepare_version(realm, placed, &version),
        Err(broken) => {
            // How it was exposed is not known any more; it answers 503 on both listeners under its main route.
            let trigger = HttpTrigger {
                external_api: true,
                internal_api: true,
                methods: Methods::parse(Method::ALL.to_vec()).unwrap_or_default(),
                ..HttpTrigger::default()
            };
            Deployed::Endpoint(Arc::new(endpoint(realm, placed, None, trigger, true, Err(broken))))
        }
    }
}

fn prepare_version(realm: &RealmName, placed: &Placed, version: &PipelineVersion) -> Deployed {
    let flow = tollgate_flow::compile(&version.pipeline).map(Arc::new).map_err(|errors| {
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        Broken(format!("the flow of `{}` {} does not compile: {first}", placed.pipeline, placed.version))
    });
    let (trigger, rest) = match &version.pipeline.trigger {
        Trigger::Scheduler(trigger) => {
            return Deployed::Schedule(Arc::new(Schedule {
                deployment: placed.id,
                realm: realm.clone(),
                environment: placed.environment.clone(),
                pipeline: placed.pipeline.clone(),
                version: placed.version,
                trigger: trigger.clone(),
                flow,
            }));
        }
        Trigger::Rest(trigger) => (trigger.clone(), true),
        Trigger::Http(trigger) | Trigger::HttpFile(trigger) => (trigger.clone(), false),
    };
    Deployed::Endpoint(Arc::new(endpoint(realm, placed, Some(version), trigger, rest, flow)))
}

fn endpoint(
    realm: &RealmName,
    placed: &Placed,
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
    let (routes, contradiction) =
        distinct(endpoint_routes(realm, &placed.pipeline, placed.version.major, &trigger));
    let flow = match contradiction {
        Some(path) => Err(Broken(format!(
            "`{}` {} has route `{path}` twice, with different methods, scopes or parameters",
            placed.pipeline, placed.version
        ))),
        None => flow,
    };
    let pipeline: Option<&Pipeline> = version.map(|version| &version.pipeline);
    Endpoint {
        deployment: placed.id,
        api: ApiId::of(realm, &placed.environment, &placed.pipeline),
        realm: realm.clone(),
        environment: placed.environment.clone(),
        pipeline: placed.pipeline.clone(),
        version: placed.version,
        version_text: placed.version.to_string(),
        project: pipeline.map(|pipeline| pipeline.project.clone()),
        login_flow: version.is_some_and(|version| version.login_flow),
        trigger,
        rest,
        flow,
        // Nobody is let in before it was judged.
        enforced: Err(Broken(format!("`{}` {} was not judged", placed.pipeline, placed.version))),
        response_headers,
        series: OnceLock::new(),
        places: OnceLock::new(),
        rate_limit_policy: OnceLock::new(),
        routes,
    }
}

// === impl ApiId ===

impl ApiId {
    /// Returns the name of the API that a pipeline is in an environment.
    pub fn of(realm: &RealmName, environment: &EnvironmentName, pipeline: &PipelineName) -> Self {
        // No name holds a slash.
        let text = format!("{realm}/{environment}/{pipeline}");
        let digest = digest(&SHA256, text.as_bytes());
        let mut id = [0; 16];
        id.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
        Self(id)
    }
}

// === impl Deployed ===

impl Deployed {
    /// Returns the key of the stored version that it was made of.
    pub(crate) fn version_key(&self) -> String {
        match self {
            Self::Endpoint(endpoint) => keys::pipeline_version(&endpoint.pipeline, endpoint.version),
            Self::Schedule(schedule) => keys::pipeline_version(&schedule.pipeline, schedule.version),
        }
    }
}

// === impl Placed ===

impl Placed {
    /// Reads what the key of a deployment tells, for one whose JSON does not parse.
    pub(crate) fn of_key(key: &str) -> Option<Self> {
        let (environment, rest) = key.split_once('/')?;
        let (pipeline, major) = rest.split_once("/v")?;
        Some(Self {
            id: DeploymentId::new(Timestamp::UNIX_EPOCH, [0; 10]),
            environment: EnvironmentName::parse(environment).ok()?,
            pipeline: PipelineName::parse(pipeline).ok()?,
            version: Version { major: major.parse().ok()?, minor: 0 },
        })
    }
}

impl From<&Deployment> for Placed {
    fn from(deployment: &Deployment) -> Self {
        Self {
            id: deployment.id,
            environment: deployment.environment.clone(),
            pipeline: deployment.pipeline.clone(),
            version: deployment.version,
        }
    }
}
