//! Which deployment answers a path.

use std::sync::Arc;

use http::HeaderValue;
use tollgate_model::environments::Exposure;
use tollgate_model::names::{PipelineName, RealmName};
use tollgate_model::pipelines::Pipeline;
use tollgate_model::triggers::{HttpTrigger, Method, RouteSegment, Scope};

use crate::endpoints::{Endpoint, EndpointRoute};

/// The routes of one listener.
#[derive(Debug, Default)]
pub struct Routes {
    router: matchit::Router<usize>,
    /// Routes that end in `*`: asked when no other matches, so that no order of deployments decides between two.
    rests: matchit::Router<usize>,
    targets: Vec<(Arc<Endpoint>, Arc<EndpointRoute>)>,
}

/// What answers a path.
#[derive(Debug)]
pub struct Found<'a> {
    /// The deployment.
    pub endpoint: &'a Arc<Endpoint>,
    /// Its route.
    pub route: &'a Arc<EndpointRoute>,
    /// Parameters as they stand in the path, percent-encoding included.
    pub parameters: Vec<(&'a str, &'a str)>,
}

/// A path that a pipeline takes on a listener once it is deployed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExposedPath {
    /// The listener.
    pub exposure: Exposure,
    /// The path with `:parameters`.
    pub path: String,
    /// The path with the parameters' names taken out; two with the same shape cannot stand side by side.
    pub shape: String,
}

/// A route that a deployed pipeline offers on a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedRoute {
    /// The listener.
    pub exposure: Exposure,
    /// The path with `:parameters`.
    pub path: String,
    /// Its methods.
    pub methods: Vec<Method>,
    /// The scopes that a token must carry there.
    pub scopes: Vec<Scope>,
}

/// Returns every route that a pipeline offers when deployed, the main one of each listener first.
pub fn offered_routes(realm: &RealmName, pipeline: &Pipeline, major: u32) -> Vec<OfferedRoute> {
    let Some(trigger) = pipeline.trigger.http() else { return Vec::new() };
    let (routes, _) = distinct(endpoint_routes(realm, &pipeline.name, major, trigger));
    Exposure::ALL
        .into_iter()
        .filter(|exposure| is_exposed(trigger, *exposure))
        .flat_map(|exposure| {
            routes.iter().map(move |route| OfferedRoute {
                exposure,
                path: route.path.clone(),
                methods: route.methods.as_slice().to_vec(),
                scopes: route.scopes.clone(),
            })
        })
        .collect()
}

/// Returns every path that a pipeline takes when deployed, each once, the main one of each listener first.
pub fn exposed_paths(realm: &RealmName, pipeline: &Pipeline, major: u32) -> Vec<ExposedPath> {
    let Some(trigger) = pipeline.trigger.http() else { return Vec::new() };
    let (routes, _) = distinct(endpoint_routes(realm, &pipeline.name, major, trigger));
    Exposure::ALL
        .into_iter()
        .filter(|exposure| is_exposed(trigger, *exposure))
        .flat_map(|exposure| {
            routes.iter().map(move |route| ExposedPath {
                exposure,
                path: route.path.clone(),
                shape: shape(&route.path),
            })
        })
        .collect()
}

pub(crate) fn is_exposed(trigger: &HttpTrigger, exposure: Exposure) -> bool {
    match exposure {
        Exposure::External => trigger.external_api,
        Exposure::Internal => trigger.internal_api,
    }
}

/// Makes the routes of a deployment: the main one, then the additional ones.
pub(crate) fn endpoint_routes(
    realm: &RealmName,
    pipeline: &PipelineName,
    major: u32,
    trigger: &HttpTrigger,
) -> Vec<Arc<EndpointRoute>> {
    let prefix = format!("/pipeline/{realm}/v{major}");
    let trigger_scopes = trigger.jwt.scopes();
    let main = EndpointRoute {
        path: format!("{prefix}/{pipeline}"),
        parameters: Vec::new(),
        methods: trigger.methods.clone(),
        allow: allow(trigger.methods.as_slice()),
        scopes: trigger_scopes.to_vec(),
    };
    let mut routes = vec![Arc::new(main)];
    for route in &trigger.routes {
        let parameters = route
            .path
            .segments()
            .filter_map(|segment| match segment {
                RouteSegment::Parameter(name) | RouteSegment::Rest(name) => Some(name.to_owned()),
                RouteSegment::Literal(_) => None,
            })
            .collect();
        let methods = route.methods.clone().unwrap_or_else(|| trigger.methods.clone());
        let mut scopes = trigger_scopes.to_vec();
        scopes.extend(route.scopes.iter().cloned());
        let path =
            if trigger.remove_prefix { route.path.to_string() } else { format!("{prefix}{}", route.path) };
        let allow = allow(methods.as_slice());
        routes.push(Arc::new(EndpointRoute { path, parameters, methods, allow, scopes }));
    }
    routes
}

/// Keeps the first of the routes that stand for the same place, and finds one that says something else about its place:
/// which of the two would count is not for us to guess, as one of them may ask for less.
pub(crate) fn distinct(routes: Vec<Arc<EndpointRoute>>) -> (Vec<Arc<EndpointRoute>>, Option<String>) {
    let mut kept: Vec<(String, Arc<EndpointRoute>)> = Vec::with_capacity(routes.len());
    let mut contradiction = None;
    for route in routes {
        let shape = shape(&route.path);
        match kept.iter().find(|(of_kept, _)| *of_kept == shape) {
            None => kept.push((shape, route)),
            Some((_, first)) => {
                let is_same = first.allow == route.allow
                    && first.scopes == route.scopes
                    && first.parameters == route.parameters;
                if !is_same {
                    contradiction.get_or_insert_with(|| route.path.clone());
                }
            }
        }
    }
    (kept.into_iter().map(|(_, route)| route).collect(), contradiction)
}

/// Returns a path with the parameters' names taken out.
fn shape(path: &str) -> String {
    convert(path, |kind, _| kind.to_string())
}

fn allow(methods: &[Method]) -> HeaderValue {
    let methods: Vec<_> =
        Method::ALL.into_iter().filter(|method| methods.contains(method)).map(Method::as_str).collect();
    HeaderValue::try_from(methods.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

/// Rewrites the parameters of a path.
fn convert(path: &str, parameter: impl Fn(char, usize) -> String) -> String {
    let mut count = 0;
    let segments = path.split('/').map(|segment| match segment.chars().next() {
        Some(kind @ (':' | '*')) => {
            count += 1;
            parameter(kind, count)
        }
        _ => segment.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

// === impl Routes ===

impl Routes {
    /// Adds the routes of an endpoint; returns the paths that another endpoint holds already.
    pub(crate) fn add(&mut self, endpoint: &Arc<Endpoint>) -> Vec<String> {
        let mut taken = Vec::new();
        for route in &endpoint.routes {
            // Numbered instead of named, so that routes may name the same place differently.
            let pattern = convert(&route.path, |kind, n| match kind {
                '*' => format!("{{*p{n}}}"),
                _ => format!("{{p{n}}}"),
            });
            let router = if pattern.contains("{*") { &mut self.rests } else { &mut self.router };
            if router.insert(pattern, self.targets.len()).is_ok() {
                self.targets.push((endpoint.clone(), route.clone()));
            } else {
                taken.push(route.path.clone());
            }
        }
        taken
    }

    /// Finds what answers a path; a literal segment goes before a parameter, and either before a `*`.
    pub fn find<'a>(&'a self, path: &'a str) -> Option<Found<'a>> {
        let matched = self.router.at(path).or_else(|_| self.rests.at(path)).ok()?;
        let (endpoint, route) = self.targets.get(*matched.value)?;
        let values = matched.params.iter().map(|(_, value)| value);
        let parameters: Vec<_> = route.parameters.iter().map(String::as_str).zip(values).collect();
        if parameters.iter().any(|(_, value)| value.is_empty()) {
            return None;
        }
        Some(Found { endpoint, route, parameters })
    }

    /// Returns how many routes there are.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }
}

#[cfg(test)]
mod tests;
