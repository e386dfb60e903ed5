//! Which form belongs to which part of a pipeline.
//!
//! The form of a step is made from the JSON Schema of its type, which is made from the type that reads it: a step that
//! gets another setting gets another field by itself. Lists of steps in a step are no fields; they are parts of the flow
//! with forms of their own.

use std::sync::LazyLock;

use serde_json::Value;
use tollgate_model::document;
use tollgate_model::steps::STEP_TYPES;

use super::fields::{Field, Widget};
use super::switches::{self, Switch};
use crate::flow_diagram::{branches, kind};
use crate::forms::capitalised;

/// The pointer of the form of the pipeline's own settings.
pub(super) const GENERAL: &str = "/general";
/// The pointer of the trigger, whose form stands open first.
pub(super) const TRIGGER: &str = "/trigger";

static SCHEMA: LazyLock<Value> = LazyLock::new(|| document::schema("pipeline").unwrap_or_default());

/// A form.
pub(super) struct Form {
    /// JSON pointer of what it is about.
    pub(super) open: String,
    pub(super) title: String,
    pub(super) about: String,
    pub(super) switches: Vec<Switch>,
    pub(super) methods: Vec<(&'static str, bool)>,
    pub(super) groups: Vec<Group>,
    /// What is wrong and belongs to no field.
    pub(super) faults: Vec<String>,
    /// What can be done with the step.
    pub(super) step: Option<StepActions>,
    /// Where a step can be added.
    pub(super) adds: Vec<Add>,
}

/// Fields that belong together.
pub(super) struct Group {
    pub(super) legend: String,
    pub(super) fields: Vec<Field>,
}

/// What can be done with a step.
pub(super) struct StepActions {
    pub(super) first: bool,
    pub(super) last: bool,
    /// Lists of steps that it can get: the turn that makes them, and its label.
    pub(super) more: Vec<(String, &'static str)>,
}

/// A place where a step can be added.
pub(super) struct Add {
    /// List and index.
    pub(super) place: String,
    pub(super) label: String,
}

/// A part of a schema, with everything that it refers to in place.
struct Part<'a> {
    schema: &'a Value,
    description: &'a str,
    default: Option<&'a Value>,
}

// === impl Form ===

impl Form {
    /// Returns the form of a part of a document; that of the trigger when there is no such part.
    pub(super) fn of(document: &Value, open: &str) -> Self {
        let mut form = Self {
            open: open.to_owned(),
            title: String::new(),
            about: String::new(),
            switches: Vec::new(),
            methods: Vec::new(),
            groups: Vec::new(),
            faults: Vec::new(),
            step: None,
            adds: Vec::new(),
        };
        match document.pointer(open).filter(|_| open.starts_with("/steps/")) {
            _ if open == GENERAL => form.general(document),
            Some(step) => form.step(document, step),
            None => form.trigger(document),
        }
        form
    }

    fn general(&mut self, document: &Value) {
        self.title = "Pipeline".to_owned();
        self.about =
            "What it is called, where it belongs, and what is never shown of its messages.".to_owned();
        let field = |pointer, label, help, widget| Field::new(document, pointer, label, help, widget);
        let fields = vec![
            field("/name", "Name", "Part of its URL; another name is another pipeline.", Widget::Text)
                .required(true),
            field("/project", "Project", "Decides who may see and change it.", Widget::Text).required(true),
            field("/description", "Description", "What it is for.", Widget::Long),
            field(
                "/sensitiveFields",
                "Sensitive fields",
                "Names of fields that are written as *** wherever messages are logged or shown; one a line.",
                Widget::Lines,
            ),
        ];
        self.groups.push(Group { legend: String::new(), fields });
        self.adds
            .push(Add { place: "/steps@0".to_owned(), label: "at the beginning of the flow".to_owned() });
    }

    fn trigger(&mut self, document: &Value) {
        TRIGGER.clone_into(&mut self.open);
        self.title = "Trigger".to_owned();
        self.about = "How the pipeline starts, and what it demands of its callers.".to_owned();
        self.adds
            .push(Add { place: "/steps@0".to_owned(), label: "at the beginning of the flow".to_owned() });
        if !document.get("trigger").is_some_and(Value::is_object) {
            return;
        }
        let types = [
            ("rest", "rest: JSON"),
            ("http", "http: any content type"),
            ("scheduler", "scheduler: by the clock"),
        ];
        let types = types.map(|(value, label)| (value.to_owned(), label.to_owned())).into();
        let help = "What starts it. Choosing another one keeps what both have.";
        let kind = Field::new(document, "/trigger/type", "Type", help, Widget::Pick(types)).required(true);
        self.groups.push(Group { legend: String::new(), fields: vec![kind] });
        let Some(trigger) = switches::trigger(document) else {
            self.groups.push(Group { legend: String::new(), fields: scheduler(document) });
            return;
        };
        self.switches = switches::of(document);
        self.methods = methods(trigger);
        self.groups.extend(endpoint(document, trigger, &self.switches));
    }

    fn step(&mut self, document: &Value, step: &Value) {
        let open = self.open.clone();
        let (list, index) = open.rsplit_once('/').unwrap_or_default();
        let index: usize = index.parse().unwrap_or_default();
        let siblings = document.pointer(list).and_then(Value::as_array).map_or(0, Vec::len);
        let kind = kind(step);
        self.title = match (step.get("name").and_then(Value::as_str), kind) {
            (Some(name), Some(kind)) => format!("Step {name}: {kind}"),
            (_, Some(kind)) => format!("Step {}: {kind}", index + 1),
            (_, None) => format!("Step {}", index + 1),
        };
        let lists = branches(step, &open);
        let mut more = Vec::new();
        if let Some(kind) = kind {
            self.about = about(kind).to_owned();
            self.groups.extend(step_groups(document, &open, kind));
            let lacks = |name: &str| step.get(kind).and_then(|it| it.get(name)).is_none_or(Value::is_null);
            match kind {
                "choice" => {
                    more.push((format!("when={open}"), "Add a branch"));
                    if lacks("otherwise") {
                        more.push((format!("otherwise={open}"), "Add what runs otherwise"));
                    }
                }
                "block" if lacks("onError") => {
                    more.push((format!("onError={open}"), "Add what runs on an error"))
                }
                _ => {}
            }
        }
        let field = |name: &str, label, help, widget| {
            Field::new(document, &format!("{open}/{name}"), label, help, widget)
        };
        let own = vec![
            field("name", "Name", "What people call the step, in logs and here.", Widget::Text),
            field(
                "failOnError",
                "An error ends the flow",
                "When not, an error becomes the message { success: false, error, code } and the flow goes on.",
                Widget::Tick,
            )
            .placeholder("true"),
        ];
        self.groups.push(Group { legend: "The step itself".to_owned(), fields: own });
        self.adds.push(Add { place: format!("{list}@{}", index + 1), label: "behind this one".to_owned() });
        for branch in lists {
            let label = format!("at the end of “{}”", branch.label);
            self.adds.push(Add { place: format!("{}@{}", branch.pointer, branch.steps), label });
        }
        self.step = Some(StepActions { first: index == 0, last: index + 1 >= siblings, more });
    }

    /// Puts what is wrong where it belongs.
    pub(super) fn tell(&mut self, pointer: &str, message: &str) {
        let below = |outer: &str, inner: &str| inner == outer || inner.starts_with(&format!("{outer}/"));
        let fields = self.groups.iter_mut().flat_map(|group| &mut group.fields);
        let nearest =
            fields.filter(|field| below(&field.place, pointer)).max_by_key(|field| field.place.len());
        if let Some(field) = nearest {
            field.faults.push(message.to_owned());
        } else if below(&self.open, pointer) {
            self.faults.push(message.to_owned());
        }
    }
}

/// Returns the fields of a trigger that exposes something.
fn endpoint(document: &Value, trigger: &Value, switches: &[Switch]) -> Vec<Group> {
    let field = |name: &str, label, help, widget| {
        Field::new(document, &format!("/trigger/{name}"), label, help, widget)
    };
    let group = |legend: &str, fields| Group { legend: legend.to_owned(), fields };
    let is_on = |name| switches.iter().any(|it| it.field == name && it.on);
    let mut groups = Vec::new();
    let mut credentials = Vec::new();
    if is_on("apiKey") {
        let help =
            "For callers that can send it in no header. Advised against: URLs are logged on their way.";
        credentials.push(field("apiKey", "API key also in the URL", help, Widget::KeyInQuery));
    }
    if is_on("jwt") {
        let help = "Scopes that the token must all carry, one a line; empty for any token.";
        credentials.push(field("jwt", "Scopes", help, Widget::Scopes));
    }
    if !credentials.is_empty() {
        groups.push(group("Credentials", credentials));
    }
    let routes = "Further paths, beside that of its name: /products, or { path: \"/products/:id\", methods: [GET], scopes: [a] }.";
    groups.push(group(
        "Routes",
        vec![
            field("routes", "Additional routes", routes, Widget::Yaml),
            field(
                "removePrefix",
                "At the root",
                "Puts the additional routes at the root of the listener.",
                Widget::Tick,
            ),
        ],
    ));
    let limits = ["second", "minute", "hour", "day", "month"].map(|interval| {
        let label = format!("Calls per {interval}");
        Field::new(document, "/trigger/rateLimit/limits", &label, "", Widget::Limit(interval))
    });
    let by = [("consumer", "all calls of one consumer"), ("credential", "all calls with one credential")];
    let by = by.map(|(value, label)| (value.to_owned(), label.to_owned())).into();
    let mut rate = Vec::from(limits);
    if trigger.get("rateLimit").is_some_and(Value::is_object) {
        let help = "Whose calls are counted together.";
        rate.push(field("rateLimit/by", "Counted together", help, Widget::Pick(by)).placeholder("consumer"));
    }
    groups.push(group("Rate limit, for each caller; empty for none", rate));
    groups.push(group(
        "Time and size",
        vec![
            field(
                "timeoutMs",
                "Timeout",
                "Longest run of the flow in milliseconds: 1 to 900000.",
                Widget::Number,
            )
            .placeholder("30000"),
            field(
                "maxRequestBytes",
                "Largest request",
                "Longest request body in bytes: 0 to 104857600.",
                Widget::Number,
            )
            .placeholder("5242880"),
        ],
    ));
    let mut cors = vec![field(
        "cors/allowOrigins",
        "Origins",
        "Origins of web pages that may call it from a browser, one a line, or *; empty for none.",
        Widget::Lines,
    )];
    if trigger.get("cors").is_some_and(Value::is_object) {
        cors.push(field(
            "cors/allowMethods",
            "Methods",
            "Methods that pages may use; the trigger's when empty.",
            Widget::Lines,
        ));
        cors.push(field(
            "cors/allowHeaders",
            "Request headers",
            "Headers that pages may send, one a line.",
            Widget::Lines,
        ));
        cors.push(field(
            "cors/exposeHeaders",
            "Response headers",
            "Headers that pages may read, one a line.",
            Widget::Lines,
        ));
        let help = "How long browsers may remember the answer, in seconds.";
        cors.push(field("cors/maxAgeSeconds", "Remembered for", help, Widget::Number));
    }
    groups.push(group("CORS", cors));
    let mut response = vec![field(
        "responseHeaders",
        "Response headers",
        "Headers that every response carries: name: value, one a line.",
        Widget::Pairs,
    )];
    if trigger.get("type").and_then(Value::as_str) == Some("http") {
        let help = "Content types that are taken, such as text/*, one a line; all when empty.";
        response.push(field("requestContentTypes", "Requests of type", help, Widget::Lines));
        let help = "Content type of the response when the flow sets none.";
        response.push(field("responseContentType", "Response of type", help, Widget::Text));
    }
    groups.push(group("Response", response));
    groups
}

fn scheduler(document: &Value) -> Vec<Field> {
    let field = |name: &str, label, help, widget| {
        Field::new(document, &format!("/trigger/{name}"), label, help, widget)
    };
    vec![
        field("cron", "When", "Five fields: minute hour day-of-month month day-of-week.", Widget::Text)
            .required(true),
        field("timeZone", "Time zone", "The IANA time zone in which the fields are read.", Widget::Text)
            .placeholder("UTC"),
        field(
            "timeoutMs",
            "Timeout",
            "Longest run of the flow in milliseconds: 1 to 900000.",
            Widget::Number,
        )
        .placeholder("30000"),
    ]
}

fn methods(trigger: &Value) -> Vec<(&'static str, bool)> {
    const ALL: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let offers = |name: &str| match trigger.get("methods").and_then(Value::as_array) {
        Some(methods) => methods.iter().any(|it| it.as_str() == Some(name)),
        None => matches!(name, "GET" | "POST"),
    };
    ALL.into_iter().map(|name| (name, offers(name))).collect()
}

/// Returns what a type of step does, in a sentence.
fn about(kind: &str) -> &'static str {
    match kind {
        "json" => "Makes the next message. {{ … }} keeps the type of what it gives.",
        "assert" => "Goes on only when a condition holds.",
        "choice" => "Takes the first branch whose condition holds.",
        "block" => "Runs steps together, with steps to run when one of them fails.",
        "http" => "Calls an upstream; the next message is its answer.",
        "respond" => "Ends the flow with a response.",
        "log" => "Writes a line to the log; the message passes unchanged.",
        "throw" => "Ends the flow with an error.",
        "jwtGenerate" => "Puts the message into a token and answers with it in Authorization.",
        "proxy" => "Passes the call on to an upstream, and its answer to the caller.",
        "jwtDecode" => "Verifies the caller's token and gives { dataToken: claims }.",
        _ => "",
    }
}

/// Returns the types of steps that can be added.
pub(super) fn kinds() -> Vec<(&'static str, &'static str)> {
    STEP_TYPES.into_iter().map(|kind| (kind, about(kind))).collect()
}

/// Returns a new step of a type, as it can be saved.
pub(super) fn new_step(kind: &str) -> Option<Value> {
    use serde_json::json;

    let say = || json!([{ "json": { "ok": true } }]);
    Some(match kind {
        "json" => json!({ "json": { "hello": "{{ message.method }}" } }),
        "assert" => {
            json!({ "assert": { "condition": "message.body != null", "status": 400, "error": "a body is needed" } })
        }
        "choice" => {
            json!({ "choice": { "when": [{ "condition": "message.method == \"POST\"", "steps": say() }] } })
        }
        "block" => json!({ "block": { "steps": say() } }),
        "http" => json!({ "http": { "method": "GET", "url": "https://upstream.example/" } }),
        "proxy" => json!({ "proxy": { "url": "https://upstream.example/" } }),
        "respond" => json!({ "respond": { "status": 200 } }),
        "log" => json!({ "log": { "level": "info", "message": "called by {{ message.method }}" } }),
        "throw" => json!({ "throw": { "status": 400, "error": "this is not possible" } }),
        "jwtGenerate" => json!({ "jwtGenerate": { "scopes": [], "expiresInMs": 900_000 } }),
        "jwtDecode" => json!({ "jwtDecode": {} }),
        _ => return None,
    })
}

// === fields from a schema ===

/// Returns the fields of a type of step at a place.
fn step_groups(document: &Value, at: &str, kind: &str) -> Vec<Group> {
    let Some(schema) = SCHEMA.pointer(&format!("/$defs/Step/properties/{kind}")) else { return Vec::new() };
    let part = Part::of(schema);
    let at = format!("{at}/{kind}");
    if part.schema.get("properties").is_none() {
        let field =
            Field::new(document, &at, "Message", "Any JSON, as YAML; {{ … }} may stand in it.", Widget::Yaml);
        return vec![Group { legend: String::new(), fields: vec![field.required(true)] }];
    }
    let mut groups = vec![Group { legend: String::new(), fields: Vec::new() }];
    fields(document, &at, &part, &mut groups);
    groups.retain(|group| !group.fields.is_empty());
    groups
}

/// Adds the fields of an object to the first group, and a group for each item of a list of things that hold steps.
fn fields(document: &Value, at: &str, part: &Part<'_>, groups: &mut Vec<Group>) {
    let required =
        part.schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (name, schema) in part.schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let (pointer, property) = (format!("{at}/{name}"), Part::of(schema));
        if let Some(items) = property.schema.get("items") {
            let item = Part::of(items);
            if is_step(items) {
                continue;
            }
            if item.schema.pointer("/properties/steps").is_some() {
                let list = document.pointer(&pointer).and_then(Value::as_array).map_or(0, Vec::len);
                for index in 0..list {
                    let mut inner =
                        vec![Group { legend: format!("Branch {}", index + 1), fields: Vec::new() }];
                    fields(document, &format!("{pointer}/{index}"), &item, &mut inner);
                    groups.append(&mut inner);
                }
                continue;
            }
        }
        let is_required = required.iter().any(|it| it.as_str() == Some(name));
        let field = Field::new(document, &pointer, &label(name), &property.help(), property.widget(name));
        let default = property.default.map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned));
        let default = default.filter(|it| !matches!(it.as_str(), "null" | "[]" | "{}"));
        let field = field.required(is_required).placeholder(default.unwrap_or_default());
        if let Some(group) = groups.first_mut() {
            group.fields.push(field);
        }
    }
}

fn is_step(schema: &Value) -> bool {
    schema.get("$ref").and_then(Value::as_str) == Some("#/$defs/Step")
}

/// Makes words of a name in camelCase.
fn label(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    capitalised(&words.replace(" ms", " (ms)").replace("url", "URL"))
}

// === impl Part ===

impl<'a> Part<'a> {
    fn of(schema: &'a Value) -> Self {
        let mut at = schema;
        let text = |it: &'a Value| it.get("description").and_then(Value::as_str);
        let mut description = text(schema);
        // A reference, or `null` beside it.
        for _ in 0..8 {
            let next = if let Some(name) = at.get("$ref").and_then(Value::as_str) {
                SCHEMA.pointer(name.trim_start_matches('#'))
            } else {
                let choices =
                    at.get("anyOf").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let mut real =
                    choices.iter().filter(|it| it.get("type").and_then(Value::as_str) != Some("null"));
                real.next().filter(|_| choices.len() == 2 && real.next().is_none())
            };
            let Some(next) = next else { break };
            description = description.or_else(|| text(next));
            at = next;
        }
        Self { schema: at, description: description.unwrap_or_default(), default: schema.get("default") }
    }

    fn help(&self) -> String {
        self.description.replace('`', "").replace('\n', " ")
    }

    fn is(&self, name: &str) -> bool {
        match self.schema.get("type") {
            Some(Value::String(one)) => one == name,
            Some(Value::Array(all)) => all.iter().any(|it| it.as_str() == Some(name)),
            _ => false,
        }
    }

    /// Returns what can be chosen, when that is a few words.
    fn choices(&self) -> Option<Vec<(String, String)>> {
        let one = |it: &Value| it.as_str().map(|text| (text.to_owned(), text.to_owned()));
        if let Some(all) = self.schema.get("enum").and_then(Value::as_array) {
            return all.iter().map(one).collect();
        }
        let all = self.schema.get("oneOf").and_then(Value::as_array)?;
        all.iter().map(|it| it.get("const").or_else(|| it.pointer("/enum/0")).and_then(one)).collect()
    }

    fn widget(&self, name: &str) -> Widget {
        if let Some(choices) = self.choices() {
            return Widget::Pick(choices);
        }
        let items = self.schema.get("items").map(Part::of);
        if self.is("boolean") {
            Widget::Tick
        } else if self.is("integer") {
            Widget::Number
        } else if self.is("string") {
            if matches!(name, "condition" | "error" | "message") { Widget::Long } else { Widget::Text }
        } else if items.is_some_and(|items| items.is("string")) {
            Widget::Lines
        } else if self.schema.pointer("/additionalProperties/type").and_then(Value::as_str) == Some("string")
        {
            Widget::Pairs
        } else {
            Widget::Yaml
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_type_of_step_has_a_form_from_its_schema_and_begins_as_one_that_can_be_saved() {
        for (kind, about) in kinds() {
            let step = new_step(kind).expect("a step");
            let document = json!({ "kind": "Pipeline", "name": "a", "project": "p", "trigger": { "type": "rest" }, "steps": [step] });
            document::parse_pipeline(&document.to_string()).unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert!(!about.is_empty(), "{kind}");
            let form = Form::of(&document, "/steps/0");
            let fields: Vec<_> = form.groups.iter().flat_map(|it| &it.fields).collect();
            assert!(fields.iter().all(|it| !it.help.is_empty()), "{kind}: {fields:#?}");
            // What the step has is what the form shows, but for lists of steps.
            for (name, value) in step_of(&document, kind) {
                let pointer = format!("/steps/0/{kind}/{name}");
                let field = fields.iter().find(|it| it.pointer.starts_with(&pointer));
                let holds_steps = value.is_array() && kind == "block";
                assert_eq!(field.is_none(), holds_steps, "{pointer}");
                assert!(
                    field.is_none_or(|it| !it.shown.is_empty() || value == json!([])),
                    "{pointer}: {field:?}"
                );
            }
        }
    }

    fn step_of(document: &Value, kind: &str) -> Vec<(String, Value)> {
        let step = document.pointer(&format!("/steps/0/{kind}")).expect("it");
        if kind == "json" {
            return Vec::new();
        }
        step.as_object().expect("a map").clone().into_iter().collect()
    }

    #[test]
    fn widgets_follow_the_schema() {
        let document =
            json!({ "steps": [{ "http": { "url": "https://a" } }, { "log": { "message": "a" } }] });
        let kinds = |pointer: &str| -> Vec<String> {
            let form = Form::of(&document, pointer);
            let fields = form.groups.iter().flat_map(|it| &it.fields);
            fields
                .map(|it| format!("{} {}{}", it.label, it.kind(), if it.required { " required" } else { "" }))
                .collect()
        };
        assert_eq!(
            kinds("/steps/0"),
            [
                "Method pick",
                "URL text",
                "Targets yaml",
                "Headers long",
                "Query long",
                "Body yaml",
                "Connect timeout (ms) number",
                "Read timeout (ms) number",
                "Max response bytes number",
                "Upstream yaml",
                "Name text",
                "An error ends the flow tick",
            ]
        );
        assert_eq!(
            kinds("/steps/1"),
            ["Level pick", "Message long required", "Name text", "An error ends the flow tick"]
        );
    }

    #[test]
    fn what_is_wrong_stands_at_the_nearest_field() {
        let limit = |interval| json!({ "interval": interval, "limit": 1 });
        let trigger = json!({
            "type": "rest",
            "cors": { "allowOrigins": ["x"] },
            "rateLimit": { "limits": [limit("day"), limit("minute")] },
        });
        let mut form = Form::of(&json!({ "trigger": trigger, "steps": [] }), TRIGGER);
        form.tell("/trigger/cors/allowOrigins/0", "no origin");
        form.tell("/trigger/cors", "no such field");
        form.tell("/steps/0", "elsewhere");
        form.tell("/trigger/rateLimit/limits/1/limit", "no number");
        let at = |form: &Form, pointer: &str| -> Vec<String> {
            form.groups
                .iter()
                .flat_map(|it| &it.fields)
                .filter(|it| it.pointer == pointer)
                .flat_map(|it| it.faults.clone())
                .collect()
        };
        assert_eq!(at(&form, "/trigger/cors/allowOrigins"), ["no origin"]);
        assert_eq!(form.faults, ["no such field"]);
        let fields = form.groups.iter().flat_map(|it| &it.fields);
        let wrong: Vec<_> =
            fields.filter(|it| it.faults == ["no number"]).map(|it| it.label.as_str()).collect();
        assert_eq!(wrong, ["Calls per minute"]);
    }
}
