//! A pipeline as custom rules see it: every setting by one name and with one type, defaults filled in.
//!
//! The steps are one flat list, however deep they stand in branches and blocks, so that no step hides from a rule by
//! its place. [`SHAPES`] is what the type check knows of it; a test compares the two.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use tollgate_expression::{Parsed, Prepared};
use tollgate_model::names::IssuerName;
use tollgate_model::pipelines::Pipeline;
use tollgate_model::steps::{Step, StepKind, Target};
use tollgate_model::triggers::{ApiKeySwitch, HttpTrigger, Route, Trigger};

use super::types::{Field, Shape, Type};

/// What a rule's expression can begin with.
pub(super) const ROOTS: [&str; 5] = ["trigger", "steps", "project", "name", "description"];

/// A pipeline as rules see it.
///
/// What no rule reads is not made.
pub(crate) struct PipelineView<'a> {
    pipeline: &'a Pipeline,
    needs: &'a Needs,
    trigger: OnceCell<Root>,
    steps: OnceCell<Root>,
    project: OnceCell<Root>,
    name: OnceCell<Root>,
    description: OnceCell<Root>,
}

/// What a rule reads: fields of the trigger and of steps. The types of a rule make sure that it reads no step as a whole.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    fields: BTreeSet<String>,
    /// Whether it reads the trigger other than by fields that are written out.
    whole_trigger: bool,
}

/// What a root stands for.
pub(super) struct Root {
    pub(super) value: Value,
    pub(super) prepared: Prepared,
}

/// A pipeline on which a rule is tried before it is saved.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) pipeline: Pipeline,
}

const fn required(name: &'static str, kind: Type) -> Field {
    Field { name, kind, optional: false }
}

const fn optional(name: &'static str, kind: Type) -> Field {
    Field { name, kind, optional: true }
}

const TEXTS: Type = Type::List(&Type::Text);

const LIMIT: Shape =
    Shape { name: "a limit", fields: &[required("interval", Type::Text), required("limit", Type::Number)] };
const RATE_LIMIT: Shape = Shape {
    name: "trigger.rateLimit",
    fields: &[required("by", Type::Text), required("limits", Type::List(&Type::Object(&LIMIT)))],
};
const CONCURRENCY: Shape = Shape {
    name: "trigger.concurrency",
    fields: &[
        required("limit", Type::Number),
        required("queue", Type::Number),
        required("queueTimeoutMs", Type::Number),
    ],
};
const CORS: Shape = Shape {
    name: "trigger.cors",
    fields: &[
        required("allowOrigins", TEXTS),
        required("allowMethods", TEXTS),
        required("allowHeaders", TEXTS),
        required("exposeHeaders", TEXTS),
    ],
};
const ROUTE: Shape = Shape {
    name: "a route",
    fields: &[required("path", Type::Text), required("methods", TEXTS), required("scopes", TEXTS)],
};
pub(super) const TRIGGER: Shape = Shape {
    name: "trigger",
    fields: &[
        required("type", Type::Text),
        required("methods", TEXTS),
        required("externalApi", Type::Bool),
        required("internalApi", Type::Bool),
        required("apiKey", Type::Bool),
        required("apiKeyInQuery", Type::Bool),
        required("mtls", Type::Bool),
        required("jwt", Type::Bool),
        required("scopes", TEXTS),
        required("issuers", TEXTS),
        required("basicAuth", Type::Bool),
        required("timeoutMs", Type::Number),
        required("maxRequestBytes", Type::Number),
        required("routes", Type::List(&Type::Object(&ROUTE))),
        required("removePrefix", Type::Bool),
        optional("rateLimit", Type::Object(&RATE_LIMIT)),
        optional("concurrency", Type::Object(&CONCURRENCY)),
        optional("cors", Type::Object(&CORS)),
        required("responseHeaders", Type::Map(&Type::Text)),
        required("requestContentTypes", TEXTS),
        required("responseContentType", Type::Text),
        required("cron", Type::Text),
        required("timeZone", Type::Text),
    ],
};
pub(super) const STEP: Shape = Shape {
    name: "a step",
    fields: &[
        required("type", Type::Text),
        required("name", Type::Text),
        required("pointer", Type::Text),
        required("failOnError", Type::Bool),
        required("condition", Type::Text),
        required("method", Type::Text),
        required("url", Type::Text),
        required("scheme", Type::Text),
        required("host", Type::Text),
        required("headers", Type::Map(&Type::Text)),
        required("query", Type::Map(&Type::Text)),
        optional("body", Type::Any),
        required("connectTimeoutMs", Type::Number),
        required("readTimeoutMs", Type::Number),
        required("maxResponseBytes", Type::Number),
        required("status", Type::Number),
        required("error", Type::Text),
        required("level", Type::Text),
        required("message", Type::Text),
        required("scopes", TEXTS),
        required("expiresInMs", Type::Number),
        required("passOn", TEXTS),
    ],
};

/// The objects that lists can hold.
pub(super) const OBJECTS: [&Type; 3] = [&Type::Object(&STEP), &Type::Object(&ROUTE), &Type::Object(&LIMIT)];

/// Returns the type of a root.
pub(super) fn root(name: &str) -> Option<Type> {
    match name {
        "trigger" => Some(Type::Object(&TRIGGER)),
        "steps" => Some(Type::List(&Type::Object(&STEP))),
        "project" | "name" | "description" => Some(Type::Text),
        _ => None,
    }
}

/// Returns pipelines of every kind of trigger, with as little and as much in them as can be.
pub(super) fn samples() -> Vec<Sample> {
    let pipeline = |name, trigger: Value, steps: Value| {
        let text = json!({ "name": "sample", "project": "store", "trigger": trigger, "steps": steps });
        serde_json::from_value::<Pipeline>(text).ok().map(|pipeline| Sample { name, pipeline })
    };
    let steps = json!([
        { "json": { "a": "{{ message.body }}" } },
        { "proxy": { "targets": [{ "url": "https://a.example/" }, { "url": "https://b.example/" }], "passOn": ["authorization"] } },
        { "http": { "url": "https://stock.example/items", "headers": { "x": "y" }, "query": { "a": "b" }, "body": {} } },
        { "choice": { "when": [{ "condition": "true", "steps": [{ "log": { "message": "x" } }] }],
            "otherwise": [{ "throw": { "error": "no" } }] } },
        { "block": { "steps": [{ "jwtDecode": {} }], "onError": [{ "respond": { "body": {} } }] } },
        { "assert": { "condition": "true" } },
        { "jwtGenerate": { "scopes": ["a:b"], "expiresInMs": 1000 } }
    ]);
    let full = json!({ "type": "rest", "externalApi": true, "internalApi": true, "apiKey": true, "mtls": true, "jwt": { "scopes": ["a:b"] },
        "routes": [{ "path": "/a/:id", "methods": ["GET"], "scopes": ["a:b"] }],
        "rateLimit": { "by": "consumer", "limits": [{ "interval": "minute", "limit": 600 }] },
        "concurrency": { "limit": 10, "queue": 20, "queueTimeoutMs": 1000 },
        "cors": { "allowOrigins": ["https://shop.example"] }, "responseHeaders": { "cache-control": "no-store" } });
    [
        pipeline("a pipeline with the least in it", json!({ "type": "rest" }), json!([{ "json": 1 }])),
        pipeline("a pipeline with everything in it", full, steps),
        pipeline("an http trigger", json!({ "type": "http", "apiKey": { "query": true } }), json!([])),
        pipeline(
            "a scheduled pipeline",
            json!({ "type": "scheduler", "cron": "0 6 * * *" }),
            json!([{ "json": 1 }]),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

// === impl PipelineView ===

impl<'a> PipelineView<'a> {
    pub(crate) fn of(pipeline: &'a Pipeline, needs: &'a Needs) -> Self {
        let [trigger, steps, project, name, description] = Default::default();
        Self { pipeline, needs, trigger, steps, project, name, description }
    }

    /// Returns what a root stands for.
    pub(super) fn root(&self, name: &str) -> &Root {
        let pipeline = self.pipeline;
        match name {
            "trigger" => self.trigger.get_or_init(|| Root::of(trigger_view(&pipeline.trigger, self.needs))),
            "steps" => self.steps.get_or_init(|| {
                let mut steps = Vec::new();
                flatten(&pipeline.steps, "/steps", self.needs, &mut steps);
                Root::of(Value::Array(steps))
            }),
            "project" => self.project.get_or_init(|| Root::of(pipeline.project.as_str().into())),
            "name" => self.name.get_or_init(|| Root::of(pipeline.name.as_str().into())),
            _ => self.description.get_or_init(|| Root::of(pipeline.description.as_str().into())),
        }
    }
}

// === impl Needs ===

impl Needs {
    /// Returns what an expression reads.
    pub(crate) fn of(parsed: &Parsed) -> Self {
        Self {
            fields: parsed.fields.iter().cloned().collect(),
            whole_trigger: parsed.whole.contains(&"trigger"),
        }
    }

    fn contains(&self, field: &str) -> bool {
        self.fields.contains(field)
    }
}

// === impl Root ===

impl Root {
    fn of(value: Value) -> Self {
        Self { prepared: Prepared::of(&value), value }
    }
}

fn trigger_view(trigger: &Trigger, needs: &Needs) -> Value {
    let none = HttpTrigger::default();
    let http = trigger.http().unwrap_or(&none);
    let fields = TRIGGER.fields.iter().filter(|field| needs.whole_trigger || needs.contains(field.name));
    let fields = fields.filter_map(|field| {
        let value = switch(trigger, http, field.name);
        let value = value.or_else(|| if field.optional { None } else { Some(field.kind.nothing()) })?;
        Some((field.name.to_owned(), value))
    });
    Value::Object(fields.collect())
}

/// Returns a setting of a trigger; `None` when it has none of this name.
fn switch(trigger: &Trigger, http: &HttpTrigger, name: &str) -> Option<Value> {
    Some(match name {
        "type" => trigger.type_name().into(),
        "methods" => methods(trigger, http).into(),
        "externalApi" => http.external_api.into(),
        "internalApi" => http.internal_api.into(),
        "apiKey" => http.api_key.is_on().into(),
        "apiKeyInQuery" => (http.api_key == ApiKeySwitch::OnWithQuery).into(),
        "mtls" => http.mtls.into(),
        "jwt" => http.jwt.is_on().into(),
        "scopes" => http.jwt.scopes().iter().map(|scope| Value::from(scope.as_str())).collect(),
        "issuers" => match http.jwt.issuers() {
            Some(issuers) => issuers.iter().map(|issuer| Value::from(issuer.as_str())).collect(),
            None if http.jwt.is_on() => Value::from(vec![IssuerName::own().as_str()]),
            None => return None,
        },
        "basicAuth" => http.basic_auth.into(),
        "timeoutMs" => http.timeout_ms.get().into(),
        "maxRequestBytes" => http.longest_body().into(),
        "routes" => {
            let route = |route: &Route| {
                let own = route.methods.as_ref();
                let own = own.map(|own| own.as_slice().iter().map(|it| it.as_str()).collect());
                json!({
                    "path": route.path.as_str(),
                    "methods": own.unwrap_or_else(|| methods(trigger, http)),
                    "scopes": route.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
                })
            };
            http.routes.iter().map(route).collect()
        }
        "removePrefix" => http.remove_prefix.into(),
        "responseHeaders" => serde_json::to_value(&http.response_headers).ok()?,
        "requestContentTypes" => http.request_content_types.clone().into(),
        "responseContentType" => http.response_content_type.clone().unwrap_or_default().into(),
        "cron" | "timeZone" => match trigger {
            Trigger::Scheduler(schedule) => {
                let written = serde_json::to_value(schedule).ok()?;
                written.get(name).and_then(Value::as_str)?.into()
            }
            _ => return None,
        },
        "rateLimit" => serde_json::to_value(http.rate_limit.as_ref()?).ok()?,
        "concurrency" => serde_json::to_value(http.concurrency?).ok()?,
        "cors" => {
            let cors = http.cors.as_ref()?;
            json!({
                "allowOrigins": cors.allow_origins, "allowHeaders": cors.allow_headers, "exposeHeaders": cors.expose_headers,
                "allowMethods": cors.allow_methods.iter().map(|it| it.as_str()).collect::<Vec<_>>(),
            })
        }
        _ => return None,
    })
}

fn methods<'a>(trigger: &Trigger, http: &'a HttpTrigger) -> Vec<&'a str> {
    match trigger {
        Trigger::Scheduler(_) => Vec::new(),
        _ => http.methods.as_slice().iter().map(|method| method.as_str()).collect(),
    }
}

fn flatten(steps: &[Step], pointer: &str, needs: &Needs, out: &mut Vec<Value>) {
    for (index, step) in steps.iter().enumerate() {
        let pointer = format!("{pointer}/{index}");
        match targets(step) {
            // A rule about hosts is about each of them.
            targets if targets.len() > 1 => {
                out.extend(targets.iter().map(|url| step_view(step, Some(url), &pointer, needs)));
            }
            _ => out.push(step_view(step, None, &pointer, needs)),
        }
        match &step.kind {
            StepKind::Choice(choice) => {
                for (branch, it) in choice.when.iter().enumerate() {
                    flatten(&it.steps, &format!("{pointer}/choice/when/{branch}/steps"), needs, out);
                }
                if let Some(otherwise) = &choice.otherwise {
                    flatten(otherwise, &format!("{pointer}/choice/otherwise"), needs, out);
                }
            }
            StepKind::Block(block) => {
                flatten(&block.steps, &format!("{pointer}/block/steps"), needs, out);
                if let Some(on_error) = &block.on_error {
                    flatten(on_error, &format!("{pointer}/block/onError"), needs, out);
                }
            }
            _ => {}
        }
    }
}

/// Returns the URLs that a step calls, when it names them as targets.
fn targets(step: &Step) -> Vec<&str> {
    let targets = match &step.kind {
        StepKind::Http(it) => &it.targets,
        StepKind::Proxy(it) => &it.targets,
        _ => return Vec::new(),
    };
    targets.iter().map(|it| it.url.as_str()).collect()
}

/// Returns a step as rules see it; of one with several targets, with the URL of one.
fn step_view(step: &Step, url: Option<&str>, pointer: &str, needs: &Needs) -> Value {
    let fields = STEP.fields.iter().filter(|field| needs.contains(field.name));
    let fields = fields.filter_map(|field| {
        let value = match field.name {
            "type" => Some(step.type_name().into()),
            "name" => step.name.as_deref().map(Value::from),
            "pointer" => Some(pointer.into()),
            "failOnError" => Some(step.fail_on_error.into()),
            "url" if url.is_some() => url.map(Value::from),
            "scheme" if url.is_some() => url.map(|url| target(url).0.into()),
            "host" if url.is_some() => url.map(|url| target(url).1.into()),
            name => setting(&step.kind, name),
        };
        let value = value.or_else(|| if field.optional { None } else { Some(field.kind.nothing()) })?;
        Some((field.name.to_owned(), value))
    });
    Value::Object(fields.collect())
}

/// Returns a setting of a step; `None` when its type has no such setting.
fn setting(step: &StepKind, name: &str) -> Option<Value> {
    Some(match (step, name) {
        (StepKind::Json(body), "body") => body.clone(),
        (StepKind::Assert(it), "condition") => it.condition.as_str().into(),
        (StepKind::Assert(it), "status") => it.status.get().into(),
        (StepKind::Assert(it), "error") => it.error.as_str().into(),
        (StepKind::Throw(it), "status") => it.status.get().into(),
        (StepKind::Throw(it), "error") => it.error.as_str().into(),
        (StepKind::Http(it), "method") => it.method.as_str().into(),
        (StepKind::Http(it), "url") => only(&it.url, &it.targets).into(),
        (StepKind::Http(it), "scheme") => target(only(&it.url, &it.targets)).0.into(),
        (StepKind::Http(it), "host") => target(only(&it.url, &it.targets)).1.into(),
        (StepKind::Proxy(it), "url") => only(&it.url, &it.targets).into(),
        (StepKind::Proxy(it), "scheme") => target(only(&it.url, &it.targets)).0.into(),
        (StepKind::Proxy(it), "host") => target(only(&it.url, &it.targets)).1.into(),
        (StepKind::Proxy(it), "headers") => headers(&it.headers),
        (StepKind::Proxy(it), "connectTimeoutMs") => it.connect_timeout_ms.get().into(),
        (StepKind::Proxy(it), "readTimeoutMs") => it.response_timeout_ms.get().into(),
        (StepKind::Proxy(it), "passOn") => it.pass_on.iter().map(|it| Value::from(it.header())).collect(),
        (StepKind::Http(it), "headers") => headers(&it.headers),
        (StepKind::Http(it), "query") => texts(&it.query),
        (StepKind::Http(it), "body") => it.body.clone()?,
        (StepKind::Http(it), "connectTimeoutMs") => it.connect_timeout_ms.get().into(),
        (StepKind::Http(it), "readTimeoutMs") => it.read_timeout_ms.get().into(),
        (StepKind::Http(it), "maxResponseBytes") => it.max_response_bytes.get().into(),
        (StepKind::Respond(it), "status") => it.status.get().into(),
        (StepKind::Respond(it), "headers") => headers(&it.headers),
        (StepKind::Respond(it), "body") => it.body.clone()?,
        (StepKind::Log(it), "level") => serde_json::to_value(it.level).ok()?,
        (StepKind::Log(it), "message") => it.message.as_str().into(),
        (StepKind::JwtGenerate(it), "scopes") => {
            it.scopes.iter().map(|scope| Value::from(scope.as_str())).collect()
        }
        (StepKind::JwtGenerate(it), "expiresInMs") => it.expires_in_ms.get().into(),
        _ => return None,
    })
}

/// Returns the one URL of a step.
fn only<'a>(url: &'a str, targets: &'a [Target]) -> &'a str {
    targets.first().map_or(url, |it| it.url.as_str())
}

fn texts<'a>(fields: impl IntoIterator<Item = (&'a String, &'a String)>) -> Value {
    fields.into_iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect()
}

/// Returns header fields as they are sent: names in small letters, values of one name in one list (RFC 9110 section 5.3).
fn headers<'a>(fields: impl IntoIterator<Item = (&'a String, &'a String)>) -> Value {
    let mut sent = Map::new();
    for (name, value) in fields {
        let value = match sent.get(&name.to_ascii_lowercase()).and_then(Value::as_str) {
            Some(before) => format!("{before}, {value}"),
            None => value.clone(),
        };
        sent.insert(name.to_ascii_lowercase(), value.into());
    }
    Value::Object(sent)
}

/// Returns scheme and host of a URL when both are certain whatever the call; else empty texts, which no rule that lists
/// hosts lets pass.
fn target(url: &str) -> (String, String) {
    let Some((scheme, rest)) = url.split_once("://") else { return Default::default() };
    // A `/`, `?` or `#` must end the host before any expression begins, or the expression could be part of it.
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_plain = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
    };
    let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
    if !matches!(scheme, "http" | "https")
        || !is_plain(host)
        || !port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Default::default();
    }
    // Without anything after it, an expression that follows at once would have made the text above no plain host.
    (scheme.to_owned(), host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(value: &Value, kind: Type, at: &str) {
        match (kind, value) {
            (Type::Any, _)
            | (Type::Bool, Value::Bool(_))
            | (Type::Number, Value::Number(_))
            | (Type::Text, Value::String(_)) => {}
            (Type::List(of), Value::Array(items)) => items.iter().for_each(|item| compare(item, *of, at)),
            (Type::Map(of), Value::Object(fields)) => {
                fields.values().for_each(|field| compare(field, *of, at))
            }
            (Type::Object(shape), Value::Object(fields)) => {
                for (name, field) in fields {
                    let known = shape.fields.iter().find(|known| known.name == name);
                    let known = known.unwrap_or_else(|| panic!("{at}.{name} is in no shape"));
                    compare(field, known.kind, &format!("{at}.{name}"));
                }
                for field in shape.fields.iter().filter(|field| !field.optional) {
                    assert!(fields.contains_key(field.name), "{at}.{} is missing", field.name);
                }
            }
            (kind, value) => panic!("{at} is {value}, not {kind:?}"),
        }
    }

    #[test]
    fn the_view_is_what_the_type_check_says_that_it_is() {
        let samples = samples();
        assert_eq!(samples.len(), 4);
        for sample in samples {
            let fields = STEP.fields.iter().map(|field| field.name.to_owned()).collect();
            let needs = Needs { fields, whole_trigger: true };
            let view = PipelineView::of(&sample.pipeline, &needs);
            for name in ROOTS {
                compare(&view.root(name).value, root(name).expect("a root"), name);
            }
        }
    }

    #[test]
    fn a_host_is_known_only_when_it_is_certain() {
        assert_eq!(target("https://Stock.example/items"), ("https".to_owned(), "stock.example".to_owned()));
        assert_eq!(target("http://stock.example:8080?x={{ message.path }}").1, "stock.example");
        for unsure in [
            "https://{{ globals.host }}/",
            "https://a.example{{ message.path }}",
            "https://u@a.example/",
            "https://a.example:{{ globals.port }}/",
            "ftp://a.example/",
            "a.example",
            "https:///x",
            "https://a.example\\/x",
        ] {
            assert_eq!(target(unsure).1, "", "{unsure}");
        }
    }
}
