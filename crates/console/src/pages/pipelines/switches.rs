//! The switches of a trigger, as data: another switch is one more line of [`SWITCHES`].

use serde_json::Value;

/// What a switch is called, and what it does.
struct Kind {
    /// The field of the trigger.
    field: &'static str,
    label: &'static str,
    help: &'static str,
}

/// Every switch, in the order of the form.
const SWITCHES: [Kind; 6] = [
    Kind { field: "externalApi", label: "External API", help: "Reachable from outside" },
    Kind { field: "internalApi", label: "Internal API", help: "Reachable from inside" },
    Kind { field: "apiKey", label: "API Key", help: "Callers show a key of an associated consumer" },
    Kind { field: "mtls", label: "mTLS", help: "Callers show a client certificate of a consumer" },
    Kind {
        field: "jwt",
        label: "Token JWT",
        help: "Callers show a token of a login flow or of a listed issuer",
    },
    Kind {
        field: "basicAuth",
        label: "Basic Auth",
        help: "Callers show a user and a password of a consumer",
    },
];

/// A switch of a trigger, as it is turned.
pub(super) struct Switch {
    pub(super) field: &'static str,
    pub(super) label: &'static str,
    pub(super) help: &'static str,
    pub(super) on: bool,
    /// What it demands besides.
    pub(super) more: String,
}

/// Returns the switches of a document's trigger; none when it exposes nothing.
pub(super) fn of(document: &Value) -> Vec<Switch> {
    let Some(trigger) = trigger(document) else { return Vec::new() };
    let switch = |&Kind { field, label, help }: &Kind| {
        let value = trigger.get(field).unwrap_or(&Value::Null);
        Switch {
            field,
            label,
            help,
            on: !matches!(value, Value::Null | Value::Bool(false)),
            more: more(value),
        }
    };
    SWITCHES.iter().map(switch).collect()
}

/// Tells whether a field of the trigger is a switch.
pub(super) fn is_switch(field: &str) -> bool {
    SWITCHES.iter().any(|it| it.field == field)
}

/// Says what is lost when a switch is turned off whose place has more than on or off; `None` when nothing is.
pub(super) fn lost(document: &Value, field: &str) -> Option<String> {
    let kind = SWITCHES.iter().find(|it| it.field == field)?;
    let map = trigger(document)?.get(field)?.as_object().filter(|map| !map.is_empty())?;
    let written = Value::Object(map.clone());
    Some(format!("{} is off, and {written} is no longer in the file.", kind.label))
}

/// Returns the trigger of a document, when it can expose something.
pub(super) fn trigger(document: &Value) -> Option<&Value> {
    let trigger = document.get("trigger").filter(|it| it.is_object())?;
    matches!(trigger.get("type").and_then(Value::as_str), Some("rest" | "http" | "httpFile"))
        .then_some(trigger)
}

/// Says what the long form of a switch adds.
fn more(value: &Value) -> String {
    let listed = |field: &str| {
        let names = value.get(field)?.as_array().filter(|names| !names.is_empty())?;
        let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
        Some(format!("{field}: {}", names.join(", ")))
    };
    let lists: Vec<_> = [listed("issuers"), listed("scopes")].into_iter().flatten().collect();
    if !lists.is_empty() {
        return lists.join("; ");
    }
    if value.get("query") == Some(&Value::Bool(true)) { "also in the URL".to_owned() } else { String::new() }
}
