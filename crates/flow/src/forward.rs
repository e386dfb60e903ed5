//! The `proxy` step: where a call goes on, and what is changed about it.
//!
//! The step ends the flow. What it makes is an order for the gateway, which has the bodies: the flow never sees them. So
//! before it may stand whatever decides about the call or looks something up, and after it nothing.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tollgate_model::steps::{CallerCredential, PathPart, ProxyStep};
use tollgate_model::triggers::RESERVED_RESPONSE_HEADERS;

use crate::expressions::Scope;
use crate::host::UpstreamCall;
use crate::targets::Targets;
use crate::templates::{TemplateError, TextTemplate};
use crate::upstreams::{MakeRequestError, RESERVED};

/// Where a call goes on.
#[derive(Debug, Clone)]
pub struct Forward {
    /// Whom to call.
    pub call: UpstreamCall,
    /// Request headers, in place of the caller's with these names.
    pub headers: Arc<[(HeaderName, HeaderValue)]>,
    /// Response headers, in place of the upstream's with these names.
    pub response_headers: Arc<[(HeaderName, HeaderValue)]>,
    /// What is the same for every call.
    pub settings: Arc<ForwardSettings>,
}

/// What a `proxy` step does with every call.
#[derive(Debug)]
pub struct ForwardSettings {
    /// The step's name, or its place.
    pub label: String,
    /// What of the path goes to the upstream.
    pub path: PathPart,
    /// Whether the query does.
    pub query: bool,
    /// Which credentials do.
    pub pass_on: Vec<CallerCredential>,
    /// Request headers that do not.
    pub drop_headers: Vec<HeaderName>,
    /// Response headers that do not come back.
    pub drop_response_headers: Vec<HeaderName>,
    /// Longest wait for the answer to begin, since the last piece of the request was taken.
    pub response_timeout: Duration,
    /// Longest pause between two pieces of the answer.
    pub idle_timeout: Duration,
}

/// A compiled `proxy` step.
#[derive(Debug)]
pub(crate) struct Forwarding {
    targets: Targets,
    headers: Vec<(HeaderName, TextTemplate)>,
    response_headers: Vec<(HeaderName, TextTemplate)>,
    settings: Arc<ForwardSettings>,
}

// === impl Forwarding ===

impl Forwarding {
    pub(crate) fn compile(step: &ProxyStep, label: String) -> Result<Self, TemplateError> {
        let targets = Targets::compile(step.urls(), step.connect_timeout_ms, &step.upstream)?;
        if step.query && targets.have_query() {
            return Err((
                "/query".to_owned(),
                "the URL has a query of its own, which a caller's could contradict: write `query: false`, or leave it out"
                    .to_owned(),
            ));
        }
        let millis =
            |timeout: tollgate_model::triggers::TimeoutMs| Duration::from_millis(timeout.get().into());
        Ok(Self {
            targets,
            headers: templates(&step.headers, "/headers", &RESERVED)?,
            response_headers: templates(
                &step.response_headers,
                "/responseHeaders",
                &RESERVED_RESPONSE_HEADERS,
            )?,
            settings: Arc::new(ForwardSettings {
                label,
                path: step.path,
                query: step.query,
                pass_on: step.pass_on.clone(),
                drop_headers: names(&step.drop_headers, "/dropHeaders")?,
                drop_response_headers: names(&step.drop_response_headers, "/dropResponseHeaders")?,
                response_timeout: millis(step.response_timeout_ms),
                idle_timeout: millis(step.idle_timeout_ms),
            }),
        })
    }

    pub(crate) fn make(&self, scope: &Scope<'_>) -> Result<Forward, MakeRequestError> {
        let fields = |templates: &[(HeaderName, TextTemplate)]| {
            templates
                .iter()
                .map(|(name, value)| {
                    let value = HeaderValue::from_str(&value.text(scope)?)
                        .map_err(|_| MakeRequestError::HeaderValue(name.clone()))?;
                    Ok((name.clone(), value))
                })
                .collect::<Result<_, MakeRequestError>>()
        };
        Ok(Forward {
            call: self.targets.make(scope, "")?,
            headers: fields(&self.headers)?,
            response_headers: fields(&self.response_headers)?,
            settings: self.settings.clone(),
        })
    }

    /// Returns the order, where it is always the same.
    pub(crate) fn constant(&self) -> Option<Forward> {
        let fields = |templates: &[(HeaderName, TextTemplate)]| {
            let value = |value: &TextTemplate| HeaderValue::try_from(value.literal()?).ok();
            templates.iter().map(|(name, text)| Some((name.clone(), value(text)?))).collect::<Option<_>>()
        };
        Some(Forward {
            call: self.targets.constant()?.clone(),
            headers: fields(&self.headers)?,
            response_headers: fields(&self.response_headers)?,
            settings: self.settings.clone(),
        })
    }
}

fn templates(
    fields: &indexmap::IndexMap<String, String>,
    at: &str,
    reserved: &[&str],
) -> Result<Vec<(HeaderName, TextTemplate)>, TemplateError> {
    fields
        .iter()
        .map(|(name, value)| {
            let pointer = format!("{at}/{name}");
            let parsed = HeaderName::try_from(name.as_str())
                .map_err(|_| (pointer.clone(), format!("`{name}` is not a header name")))?;
            if reserved.contains(&parsed.as_str()) {
                return Err((pointer, format!("header `{parsed}` is set by the gateway: leave it out")));
            }
            Ok((parsed, TextTemplate::parse(value).map_err(|message| (pointer, message))?))
        })
        .collect()
}

fn names(names: &[String], at: &str) -> Result<Vec<HeaderName>, TemplateError> {
    let parse = |(i, name): (usize, &String)| {
        HeaderName::try_from(name.as_str())
            .map_err(|_| (format!("{at}/{i}"), format!("`{name}` is not a header name")))
    };
    names.iter().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tollgate_model::pipelines::Pipeline;

    use crate::compile::compile;

    fn errors(trigger: &str, steps: &Value) -> Vec<String> {
        let pipeline =
            json!({ "name": "files", "project": "store", "trigger": { "type": trigger }, "steps": steps });
        let pipeline: Pipeline = serde_json::from_value(pipeline).expect("a pipeline");
        compile(&pipeline).err().unwrap_or_default().into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn a_call_is_handed_over_once_and_last() {
        let proxy = json!({ "proxy": { "url": "https://files.example/" } });
        let lenient = json!({ "proxy": { "url": "https://files.example/" }, "failOnError": false });
        let choice = |steps: Value, more: Value| json!([{ "choice": { "when": [{ "condition": "true", "steps": steps }], "otherwise": [proxy] } }, more]);
        let last = json!({ "choice": { "when": [{ "condition": "true", "steps": [proxy] }],
            "otherwise": [{ "respond": { "status": 404 } }] } });
        for good in [json!([proxy]), json!([{ "log": { "message": "x" } }, proxy]), json!([last])] {
            assert!(errors("http", &good).is_empty(), "{good}");
        }
        for (bad, at) in [
            (json!([proxy, { "json": 1 }]), "/steps/0/proxy"),
            (json!([lenient]), "/steps/0/proxy"),
            (json!([{ "block": { "steps": [proxy] } }]), "/steps/0/block/steps/0/proxy"),
            (choice(json!([{ "json": 1 }]), json!({ "json": 1 })), "/steps/0/choice/otherwise/0/proxy"),
            (json!([{ "jwtGenerate": { "expiresInMs": 1000 } }, proxy]), "/steps"),
            (json!([{ "proxy": { "url": "https://a.example/?x=1" } }]), "/steps/0/proxy/query"),
            (json!([{ "proxy": { "url": "{{ message.headers.host }}" } }]), "/steps/0/proxy/url"),
            (
                json!([{ "proxy": { "targets": [{ "url": "https://a.example/" }, { "url": "nowhere" }] } }]),
                "/steps/0/proxy/targets/1/url",
            ),
            (
                json!([{ "proxy": { "url": "https://a.example/", "headers": { "Connection": "x" } } }]),
                "/steps/0/proxy/headers/Connection",
            ),
            (
                json!([{ "proxy": { "url": "https://a.example/", "upstream": { "caCertificates": "{{ message.body }}" } } }]),
                "/steps/0/proxy/upstream/caCertificates",
            ),
        ] {
            assert_eq!(errors("http", &bad), [at], "{bad}");
        }
    }

    #[test]
    fn a_file_is_handed_over_and_nothing_else_is() {
        assert_eq!(errors("httpFile", &json!([{ "json": 1 }])), ["/steps"]);
        assert!(errors("httpFile", &json!([{ "proxy": { "url": "https://files.example/" } }])).is_empty());
    }
}
