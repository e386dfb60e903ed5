//! A pipeline as custom rules see it: every setting by one name and with one type, defaults filled in.
//!
//! The steps are one flat list, however deep they stand in branches and blocks, so that no step hides from a rule by
//! its place. [`SHAPES`] is what the type check knows of it; a test compares the two.

use serde_json::{Map, Value, json};
use tollgate_model::pipelines::Pipeline;
use tollgate_model::steps::{Step, StepKind};
use tollgate_model::triggers::{ApiKeySwitch, HttpTrigger, JwtSwitch, Trigger};

use super::types::{Field, Shape, Type};

/// What a rule's expression can begin with.
pub(super) const ROOTS: [&str; 5] = ["trigger", "steps", "project", "name", "description"];

/// A pipeline as rules see it.
pub(crate) struct PipelineView {
    trigger: Value,
    steps: Value,
    project: Value,
    name: Value,
    description: Value,
}

/// A pipeline on which a rule is tried before it is saved.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) view: PipelineView,
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
        required("jwt", Type::Bool),
        required("scopes", TEXTS),
        required("basicAuth", Type::Bool),
        required("timeoutMs", Type::Number),
        required("maxRequestBytes", Type::Number),
        required("routes", Type::List(&Type::Object(&ROUTE))),
        required("removePrefix", Type::Bool),
        optional("rateLimit", Type::Object(&RATE_LIMIT)),
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
    ],
};

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
        serde_json::from_value::<Pipeline>(text)
            .ok()
            .map(|pipeline| Sample { name, view: PipelineView::of(&pipeline) })
    };
    let steps = json!([
        { "json": { "a": "{{ message.body }}" } },
        { "http": { "url": "https://stock.example/items", "headers": { "x": "y" }, "query": { "a": "b" }, "body": {} } },
        { "choice": { "when": [{ "condition": "true", "steps": [{ "log": { "message": "x" } }] }],
            "otherwise": [{ "throw": { "error": "no" } }] } },
        { "block": { "steps": [{ "jwtDecode": {} }], "onError": [{ "respond": { "body": {} } }] } },
        { "assert": { "condition": "true" } },
        { "jwtGenerate": { "scopes": ["a:b"], "expiresInMs": 1000 } }
    ]);
    let full = json!({ "type": "rest", "externalApi": true, "internalApi": true, "apiKey": true, "jwt": { "scopes": ["a:b"] },
        "routes": [{ "path": "/a/:id", "methods": ["GET"], "scopes": ["a:b"] }],
        "rateLimit": { "by": "consumer", "limits": [{ "interval": "minute", "limit": 600 }] },
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

impl PipelineView {
    pub(crate) fn of(pipeline: &Pipeline) -> Self {
        let mut steps = Vec::new();
        flatten(&pipeline.steps, "/steps", &mut steps);
        Self {
            trigger: Value::Object(trigger(&pipeline.trigger)),
            steps: Value::Array(steps),
            project: pipeline.project.as_str().into(),
            name: pipeline.name.as_str().into(),
            description: pipeline.description.as_str().into(),
        }
    }

    /// Returns what a root stands for.
    pub(super) fn root(&self, name: &str) -> &Value {
        match name {
            "trigger" => &self.trigger,
            "steps" => &self.steps,
            "project" => &self.project,
            "name" => &self.name,
            _ => &self.description,
        }
    }

    /// Returns what the roots stand for.
    pub(crate) fn roots(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        ROOTS.into_iter().map(|name| (name, self.root(name)))
    }
}

fn trigger(trigger: &Trigger) -> Map<String, Value> {
    let none = HttpTrigger::default();
    let http = trigger.http().unwrap_or(&none);
    let scopes: Vec<&str> = match &http.jwt {
        JwtSwitch::On(scopes) => scopes.iter().map(|scope| scope.as_str()).collect(),
        JwtSwitch::Off => Vec::new(),
    };
    let methods: Vec<&str> = match trigger {
        Trigger::Scheduler(_) => Vec::new(),
        _ => http.methods.as_slice().iter().map(|method| method.as_str()).collect(),
    };
    let routes: Vec<Value> = http
        .routes
        .iter()
        .map(|route| {
            let own = route.methods.as_ref();
            json!({
                "path": route.path.as_str(),
                "methods": own.map_or(methods.clone(), |own| own.as_slice().iter().map(|it| it.as_str()).collect()),
                "scopes": route.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
            })
        })
        .collect();
    let (cron, time_zone) = match trigger {
        Trigger::Scheduler(schedule) => match serde_json::to_value(schedule) {
            Ok(value) => {
                let text = |name| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                (text("cron"), text("timeZone"))
            }
            Err(_) => Default::default(),
        },
        _ => Default::default(),
    };
    let mut view = Map::from_iter([
        ("type".to_owned(), trigger.type_name().into()),
        ("methods".to_owned(), methods.into()),
        ("externalApi".to_owned(), http.external_api.into()),
        ("internalApi".to_owned(), http.internal_api.into()),
        ("apiKey".to_owned(), http.api_key.is_on().into()),
        ("apiKeyInQuery".to_owned(), (http.api_key == ApiKeySwitch::OnWithQuery).into()),
        ("jwt".to_owned(), http.jwt.is_on().into()),
        ("scopes".to_owned(), scopes.into()),
        ("basicAuth".to_owned(), http.basic_auth.into()),
        ("timeoutMs".to_owned(), http.timeout_ms.get().into()),
        ("maxRequestBytes".to_owned(), http.max_request_bytes.get().into()),
        ("routes".to_owned(), routes.into()),
        ("removePrefix".to_owned(), http.remove_prefix.into()),
        (
            "responseHeaders".to_owned(),
            serde_json::to_value(&http.response_headers).unwrap_or_else(|_| json!({})),
        ),
        ("requestContentTypes".to_owned(), http.request_content_types.clone().into()),
        ("responseContentType".to_owned(), http.response_content_type.clone().unwrap_or_default().into()),
        ("cron".to_owned(), cron.into()),
        ("timeZone".to_owned(), time_zone.into()),
    ]);
    if let Some(Ok(limit)) = http.rate_limit.as_ref().map(serde_json::to_value) {
        view.insert("rateLimit".to_owned(), limit);
    }
    if let Some(cors) = &http.cors {
        view.insert(
            "cors".to_owned(),
            json!({
                "allowOrigins": cors.allow_origins, "allowHeaders": cors.allow_headers, "exposeHeaders": cors.expose_headers,
                "allowMethods": cors.allow_methods.iter().map(|it| it.as_str()).collect::<Vec<_>>(),
            }),
        );
    }
    view
}

fn flatten(steps: &[Step], pointer: &str, out: &mut Vec<Value>) {
    for (index, step) in steps.iter().enumerate() {
        let pointer = format!("{pointer}/{index}");
        out.push(step_view(step, &pointer));
        match &step.kind {
            StepKind::Choice(choice) => {
                for (branch, it) in choice.when.iter().enumerate() {
                    flatten(&it.steps, &format!("{pointer}/choice/when/{branch}/steps"), out);
                }
                if let Some(otherwise) = &choice.otherwise {
                    flatten(otherwise, &format!("{pointer}/choice/otherwise"), out);
                }
            }
            StepKind::Block(block) => {
                flatten(&block.steps, &format!("{pointer}/block/steps"), out);
                if let Some(on_error) = &block.on_error {
                    flatten(on_error, &format!("{pointer}/block/onError"), out);
                }
            }
            _ => {}
        }
    }
}

fn step_view(step: &Step, pointer: &str) -> Value {
    let mut view = json!({
        "type": step.type_name(), "name": step.name.clone().unwrap_or_default(), "pointer": pointer,
        "failOnError": step.fail_on_error, "condition": "", "method": "", "url": "", "scheme": "", "host": "",
        "headers": {}, "query": {}, "connectTimeoutMs": 0, "readTimeoutMs": 0, "maxResponseBytes": 0, "status": 0,
        "error": "", "level": "", "message": "", "scopes": [], "expiresInMs": 0,
    });
    // What a step is called by its own settings is called the same here.
    let settings = match &step.kind {
        StepKind::Json(body) => json!({ "body": body }),
        StepKind::Choice(_) | StepKind::Block(_) | StepKind::JwtDecode(_) => json!({}),
        StepKind::Assert(it) => json!({ "condition": it.condition, "status": it.status, "error": it.error }),
        StepKind::Http(it) => {
            let (scheme, host) = target(&it.url);
            let mut settings = serde_json::to_value(it).unwrap_or_default();
            if let Value::Object(settings) = &mut settings {
                settings.insert("scheme".to_owned(), scheme.into());
                settings.insert("host".to_owned(), host.into());
            }
            settings
        }
        StepKind::Respond(it) => serde_json::to_value(it).unwrap_or_default(),
        StepKind::Log(it) => serde_json::to_value(it).unwrap_or_default(),
        StepKind::Throw(it) => json!({ "status": it.status, "error": it.error }),
        StepKind::JwtGenerate(it) => serde_json::to_value(it).unwrap_or_default(),
    };
    if let (Value::Object(view), Value::Object(settings)) = (&mut view, settings) {
        view.extend(settings);
    }
    view
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
            for (name, value) in sample.view.roots() {
                compare(value, root(name).expect("a root"), name);
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
