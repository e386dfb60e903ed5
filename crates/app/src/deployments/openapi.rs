//! What a deployment offers to its callers, as an OpenAPI 3.1 document: made of its trigger, which is what the gateway
//! enforces. What bodies look like only the flow knows, so the document says nothing of it.

use serde_json::{Map, Value, json};
use tollgate_model::environments::Exposure;
use tollgate_model::names::{EnvironmentName, PipelineName, RealmName};
use tollgate_model::pipelines::PipelineVersion;
use tollgate_model::triggers::{ApiKeySwitch, HttpTrigger, Interval, Method, Trigger};
use tollgate_snapshot::offered_routes;

use super::Deployments;
use crate::access::{Op, Permission};
use crate::errors::Error;

/// Where callers reach the gateway, if it is known.
pub type GatewayUrl<'a> = Option<&'a str>;

// === impl Deployments ===

impl Deployments {
    /// Describes what a deployment offers, for those who write its callers. Without a URL of the gateway, its own addresses
    /// are named as far as this process knows them.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] also for what offers nothing over HTTP;
    /// [`crate::errors::ErrorKind::Invalid`] when several majors run and none is named, or the URL is none.
    pub async fn openapi(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        pipeline: &PipelineName,
        major: Option<u32>,
        gateway: GatewayUrl<'_>,
    ) -> Result<Value, Error> {
        self.0.demand_at(op, Permission::DeploymentRead, environment, pipeline).await?;
        let running = self.find(op, environment, pipeline, major).await?.value;
        let version = self.0.pipeline_version(op, pipeline, running.version).await?;
        let trigger = version.pipeline.trigger.http().filter(|_| version.pipeline.trigger.is_exposed());
        let Some(trigger) = trigger else {
            return Err(Error::not_found(format!(
                "`{pipeline}` {} offers nothing over HTTP",
                running.version
            ))
            .hint("turn on externalApi or internalApi in its trigger"));
        };
        let servers = match gateway {
            Some(url) => vec![json!({ "url": checked(url)? })],
            None => self.servers(environment, trigger),
        };
        Ok(document(&op.realm, environment, &version, trigger, &servers))
    }

    /// Names the listeners of this process that offer it. Whoever reaches them through a proxy writes another URL.
    fn servers(&self, environment: &EnvironmentName, trigger: &HttpTrigger) -> Vec<Value> {
        let listeners = self.0.gateway().map(|gateway| gateway.listeners()).unwrap_or_default();
        let is_offered = |exposure| match exposure {
            Exposure::External => trigger.external_api,
            Exposure::Internal => trigger.internal_api,
        };
        listeners
            .into_iter()
            .filter(|it| it.environment == *environment && is_offered(it.exposure))
            .filter(|it| !it.address.ip().is_unspecified())
            .map(|it| {
                let what = format!("{} listener of {environment}, by its own address", it.exposure.as_str());
                json!({ "url": it.url(), "description": what })
            })
            .collect()
    }
}

/// Takes the URL under which callers reach the gateway.
fn checked(url: &str) -> Result<&str, Error> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let is_plain = |rest: &str| {
        !rest.is_empty()
            && rest.len() <= 255
            && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@{}<>\"\\".contains(&byte))
    };
    match rest {
        Some(rest) if is_plain(rest) => Ok(url.trim_end_matches('/')),
        _ => Err(Error::invalid("this is no URL of a gateway").hint("write it as https://api.example.com")),
    }
}

fn document(
    realm: &RealmName,
    environment: &EnvironmentName,
    version: &PipelineVersion,
    trigger: &HttpTrigger,
    servers: &[Value],
) -> Value {
    let PipelineVersion { version: number, pipeline, .. } = version;
    let mut paths = Map::new();
    for route in offered_routes(realm, pipeline, number.major) {
        let (path, parameters) = template(&route.path);
        let scopes: Vec<_> = route.scopes.iter().map(|scope| scope.as_str()).collect();
        let mut item = Map::new();
        if !parameters.is_empty() {
            item.insert("parameters".to_owned(), parameters.into());
        }
        for method in &route.methods {
            let id = format!("{} {path}", method.as_str()).to_lowercase();
            let id: String = id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            let mut operation = json!({
                "operationId": id.trim_matches('-'),
                "responses": responses(&pipeline.trigger, trigger, &scopes),
                "security": security(trigger, &scopes),
            });
            if let Some(body) = request_body(&pipeline.trigger, trigger, *method)
                && let Some(fields) = operation.as_object_mut()
            {
                fields.insert("requestBody".to_owned(), body);
            }
            item.insert(method.as_str().to_lowercase(), operation);
        }
        // Both listeners offer the same paths.
        paths.insert(path, item.into());
    }
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": pipeline.name,
            "version": number.to_string(),
            "description": pipeline.description,
            "x-environment": environment,
        },
        "paths": paths,
        "components": {
            "securitySchemes": schemes(trigger),
            "schemas": { "Problem": problem_schema() },
        },
    });
    if let Some(fields) = document.as_object_mut().filter(|_| !servers.is_empty()) {
        fields.insert("servers".to_owned(), servers.into());
    }
    document
}

/// Writes a path with its parameters as OpenAPI does.
fn template(path: &str) -> (String, Vec<Value>) {
    let mut parameters = Vec::new();
    let segments = path.split('/').map(|segment| match segment.strip_prefix(':') {
        Some(name) => {
            let schema = json!({ "type": "string", "minLength": 1 });
            parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
            format!("{{{name}}}")
        }
        None => segment.to_owned(),
    });
    (segments.collect::<Vec<_>>().join("/"), parameters)
}

/// Names what a caller may show: each alternative names all that is demanded.
fn security(trigger: &HttpTrigger, scopes: &[&str]) -> Vec<Value> {
    let mut demanded = Map::new();
    if trigger.mtls {
        demanded.insert("clientCertificate".to_owned(), json!([]));
    }
    if trigger.basic_auth {
        demanded.insert("basic".to_owned(), json!([]));
    }
    if trigger.jwt.is_on() {
        demanded.insert("token".to_owned(), json!(scopes));
    }
    let with = |scheme: &str| {
        let mut all = demanded.clone();
        all.insert(scheme.to_owned(), json!([]));
        Value::from(all)
    };
    match trigger.api_key {
        ApiKeySwitch::On => vec![with("apiKey")],
        ApiKeySwitch::OnWithQuery => vec![with("apiKey"), with("apiKeyInQuery")],
        ApiKeySwitch::Off if demanded.is_empty() => Vec::new(),
        ApiKeySwitch::Off => vec![demanded.into()],
    }
}

fn schemes(trigger: &HttpTrigger) -> Map<String, Value> {
    let key = |place: &str| json!({ "type": "apiKey", "in": place, "name": "apikey" });
    let mut schemes = Map::new();
    if trigger.api_key.is_on() {
        schemes.insert("apiKey".to_owned(), key("header"));
    }
    if trigger.api_key == ApiKeySwitch::OnWithQuery {
        schemes.insert("apiKeyInQuery".to_owned(), key("query"));
    }
    if trigger.mtls {
        schemes.insert("clientCertificate".to_owned(), json!({ "type": "mutualTLS" }));
    }
    if trigger.basic_auth {
        schemes.insert("basic".to_owned(), json!({ "type": "http", "scheme": "basic" }));
    }
    if trigger.jwt.is_on() {
        let token = json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                            "description": "a token that a login flow of this environment issued" });
        schemes.insert("token".to_owned(), token);
    }
    schemes
}

/// Says how the gateway may answer: with what the flow gives, and with its own problems.
fn responses(kind: &Trigger, trigger: &HttpTrigger, scopes: &[&str]) -> Value {
    let problem = |description: String| {
        let schema = json!({ "$ref": "#/components/schemas/Problem" });
        json!({ "description": description, "content": { "application/problem+json": { "schema": schema } } })
    };
    let media_type = match kind {
        Trigger::Rest(_) => "application/json",
        _ => trigger.response_content_type.as_deref().unwrap_or("*/*"),
    };
    let mut all = Map::new();
    let mut add = |status: &str, answer: Value| all.insert(status.to_owned(), answer);
    add("200", json!({ "description": "what the flow answers", "content": { media_type: {} } }));
    if trigger.demands_key() || trigger.basic_auth || trigger.jwt.is_on() {
        add("401", problem("credentials are missing or no good".to_owned()));
        let scope =
            if scopes.is_empty() { String::new() } else { format!(", or {} is missing", scopes.join(" ")) };
        add("403", problem(format!("the consumer is not associated with this pipeline{scope}")));
    }
    add("413", problem(format!("the body is longer than {} bytes", trigger.max_request_bytes.get())));
    if let Some(rate_limit) = &trigger.rate_limit {
        let limits = rate_limit.limits.as_slice().iter().map(|it| {
            let interval = match it.interval {
                Interval::Second => "second",
                Interval::Minute => "minute",
                Interval::Hour => "hour",
                Interval::Day => "day",
                Interval::Month => "30 days",
            };
            format!("{} a {interval}", it.limit)
        });
        let mut answer = problem(format!("too many calls: {}", limits.collect::<Vec<_>>().join(", ")));
        if let Some(fields) = answer.as_object_mut() {
            let seconds = json!({ "description": "seconds to wait", "schema": { "type": "integer" } });
            fields.insert("headers".to_owned(), json!({ "Retry-After": seconds }));
        }
        add("429", answer);
    }
    add("503", problem("a check cannot be made, or the gateway is overloaded".to_owned()));
    add("504", problem(format!("the flow took longer than {} ms", trigger.timeout_ms.get())));
    add("default", problem("a problem, by its code".to_owned()));
    all.into()
}

fn request_body(kind: &Trigger, trigger: &HttpTrigger, method: Method) -> Option<Value> {
    if !matches!(method, Method::Post | Method::Put | Method::Patch) {
        return None;
    }
    let content: Map<String, Value> = match kind {
        Trigger::Rest(_) => [("application/json".to_owned(), json!({}))].into_iter().collect(),
        _ if trigger.request_content_types.is_empty() => {
            [("*/*".to_owned(), json!({}))].into_iter().collect()
        }
        _ => trigger.request_content_types.iter().map(|it| (it.clone(), json!({}))).collect(),
    };
    Some(json!({ "content": content }))
}

fn problem_schema() -> Value {
    let text = || json!({ "type": "string" });
    json!({
        "description": "a problem (RFC 9457)",
        "type": "object",
        "required": ["type", "title", "status", "code", "requestId"],
        "properties": {
            "type": text(), "title": text(), "status": { "type": "integer" }, "code": text(), "requestId": text(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_a_gateway_is_plain() {
        assert_eq!(checked("https://api.example.com/").ok(), Some("https://api.example.com"));
        for bad in
            ["", "api.example.com", "ftp://a", "https://", "https://u:p@a", "https://a?b", "https://a b"]
        {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
