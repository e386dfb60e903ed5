//! Fields of forms that write into a file: what a field shows of the document, and what a text that was typed into it
//! changes there.
//!
//! A text that is no value of the field's kind is written all the same, as a text: the check of the whole file then says
//! what is wrong with it, and the form shows that at the field.

use serde_json::{Map, Value, json};
use tollgate_model::document::{Edit, parse_value, to_yaml};

/// How a field is written and read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Widget {
    /// One line.
    Text,
    /// Some lines.
    Long,
    Number,
    /// A list, an item a line.
    Lines,
    /// A map of texts, `name: value` a line.
    Pairs,
    /// Anything, as YAML.
    Yaml,
    Tick,
    /// One of these: values and what they are called.
    Pick(Vec<(String, String)>),
    /// Whether the API key may stand in the URL: the long form of its switch.
    KeyInQuery,
    /// Scopes of the token: the long form of its switch.
    Scopes,
    /// The limit of an interval, in the list of a rate limit.
    Limit(&'static str),
}

/// A field.
#[derive(Debug, Clone)]
pub(super) struct Field {
    /// Names it in the form; its pointer, and more where several fields write one place.
    pub(super) id: String,
    /// JSON pointer of what it writes.
    pub(super) pointer: String,
    /// JSON pointer of what it shows: what is wrong there is wrong with it.
    pub(super) place: String,
    pub(super) label: String,
    pub(super) help: String,
    pub(super) widget: Widget,
    /// What stands in it.
    pub(super) shown: String,
    /// What holds when nothing does.
    pub(super) placeholder: String,
    pub(super) required: bool,
    /// What is wrong with it.
    pub(super) faults: Vec<String>,
}

// === impl Field ===

impl Field {
    pub(super) fn new(document: &Value, pointer: &str, label: &str, help: &str, widget: Widget) -> Self {
        let id = match &widget {
            Widget::Limit(interval) => format!("{pointer}#{interval}"),
            Widget::KeyInQuery | Widget::Scopes => format!("{pointer}#more"),
            _ => pointer.to_owned(),
        };
        let value = document.pointer(pointer).filter(|it| !it.is_null());
        let widget = fitting(widget, value);
        let place = match &widget {
            Widget::Limit(interval) => {
                let items = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let index =
                    items.iter().position(|it| it.get("interval").and_then(Value::as_str) == Some(interval));
                index.map_or_else(|| id.clone(), |index| format!("{pointer}/{index}"))
            }
            _ => pointer.to_owned(),
        };
        Self {
            id,
            place,
            pointer: pointer.to_owned(),
            label: label.to_owned(),
            help: help.to_owned(),
            shown: value.map(|value| shown(&widget, value)).unwrap_or_default(),
            widget,
            placeholder: String::new(),
            required: false,
            faults: Vec::new(),
        }
    }

    pub(super) fn required(mut self, required: bool) -> Self {
        self.required = required;
        self
    }

    pub(super) fn placeholder(mut self, text: impl Into<String>) -> Self {
        self.placeholder = text.into();
        // What is ticked when nothing says so.
        if self.widget == Widget::Tick && self.shown.is_empty() && self.placeholder == "true" {
            self.shown = "yes".to_owned();
        }
        self
    }

    /// Returns the kind of the widget, for the template.
    pub(super) fn kind(&self) -> &'static str {
        match self.widget {
            Widget::Text => "text",
            Widget::Number | Widget::Limit(_) => "number",
            Widget::Long | Widget::Lines | Widget::Pairs | Widget::Scopes => "long",
            Widget::Yaml => "yaml",
            Widget::Tick | Widget::KeyInQuery => "tick",
            Widget::Pick(_) => "pick",
        }
    }

    /// Returns what can be chosen: value, label, and whether it is.
    pub(super) fn choices(&self) -> Vec<(String, String, bool)> {
        let Widget::Pick(choices) = &self.widget else { return Vec::new() };
        let now = if self.shown.is_empty() { &self.placeholder } else { &self.shown };
        let mut all: Vec<_> =
            choices.iter().map(|(value, label)| (value.clone(), label.clone(), value == now)).collect();
        if !all.iter().any(|(.., chosen)| *chosen) && !now.is_empty() {
            all.push((now.clone(), now.clone(), true));
        }
        all
    }

    /// Returns how many lines it has room for.
    pub(super) fn rows(&self) -> usize {
        self.shown.lines().count().clamp(2, 16)
    }

    /// Returns what a text that was typed into it changes in the document.
    ///
    /// # Errors
    ///
    /// A sentence, when the text cannot stand in the document at all.
    pub(super) fn edits(&self, document: &Value, typed: &str) -> Result<Vec<Edit>, String> {
        let set = |value: Value| vec![Edit::Set(self.pointer.clone(), value)];
        let remove = || vec![Edit::Remove(self.pointer.clone())];
        let typed = typed.replace("\r\n", "\n");
        let text = typed.trim();
        Ok(match &self.widget {
            Widget::Tick => {
                let (on, default) = (!text.is_empty(), self.placeholder == "true");
                if on == default { remove() } else { set(on.into()) }
            }
            Widget::KeyInQuery if text.is_empty() => set(true.into()),
            Widget::KeyInQuery => set(json!({ "query": true })),
            Widget::Scopes if text.is_empty() => set(true.into()),
            Widget::Scopes => set(json!({ "scopes": list(text) })),
            Widget::Limit(interval) => self.limit(document, interval, text),
            _ if text.is_empty() && !self.required => self.cleared(),
            Widget::Text | Widget::Long => set(typed.trim_end_matches('\n').into()),
            Widget::Number => set(number(text)),
            Widget::Lines => set(list(text)),
            Widget::Pairs => set(pairs(text)),
            Widget::Yaml => set(parse_value(&typed).map_err(|error| error.to_string())?),
            Widget::Pick(_) => set(text.into()),
        })
    }

    /// Takes the value out, and what means nothing without it.
    fn cleared(&self) -> Vec<Edit> {
        let whole = self.pointer.strip_suffix("/allowOrigins").unwrap_or(&self.pointer);
        vec![Edit::Remove(whole.to_owned())]
    }

    /// Writes the limit of one interval, among those of the others.
    fn limit(&self, document: &Value, interval: &str, text: &str) -> Vec<Edit> {
        let mut limits =
            document.pointer(&self.pointer).and_then(Value::as_array).cloned().unwrap_or_default();
        let of = |it: &Value| it.get("interval").and_then(Value::as_str) == Some(interval);
        match (limits.iter_mut().find(|it| of(it)), text.is_empty()) {
            (_, true) => limits.retain(|it| !of(it)),
            (Some(limit), false) => *limit = json!({ "interval": interval, "limit": number(text) }),
            (None, false) => limits.push(json!({ "interval": interval, "limit": number(text) })),
        }
        match self.pointer.rsplit_once('/') {
            Some((whole, _)) if limits.is_empty() => vec![Edit::Remove(whole.to_owned())],
            _ => vec![Edit::Set(self.pointer.clone(), limits.into())],
        }
    }
}

/// Returns the widget, or one for YAML when what stands there is not what the widget is for.
fn fitting(widget: Widget, value: Option<&Value>) -> Widget {
    let is_text = |it: &Value| it.is_string() || it.is_number() || it.is_boolean();
    let fits = match (&widget, value) {
        (Widget::Lines, Some(value)) => value.as_array().is_some_and(|items| items.iter().all(is_text)),
        (Widget::Pairs, Some(value)) => value.as_object().is_some_and(|fields| fields.values().all(is_text)),
        (Widget::Text | Widget::Long | Widget::Number | Widget::Pick(_), Some(value)) => is_text(value),
        _ => true,
    };
    if fits { widget } else { Widget::Yaml }
}

/// Writes a value as it stands in a field.
fn shown(widget: &Widget, value: &Value) -> String {
    let lines = |value: Option<&Value>| {
        let items = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        items.iter().map(text_of).collect::<Vec<_>>().join("\n")
    };
    match widget {
        Widget::Text | Widget::Long | Widget::Number | Widget::Pick(_) => text_of(value),
        Widget::Lines => lines(Some(value)),
        Widget::Pairs => {
            let fields = value.as_object().into_iter().flatten();
            fields.map(|(name, value)| format!("{name}: {}", text_of(value))).collect::<Vec<_>>().join("\n")
        }
        Widget::Yaml => to_yaml(value).trim_end().to_owned(),
        Widget::Tick => if *value == Value::Bool(false) { "" } else { "yes" }.to_owned(),
        Widget::KeyInQuery => {
            if value.get("query") == Some(&Value::Bool(true)) { "yes" } else { "" }.to_owned()
        }
        Widget::Scopes => lines(value.get("scopes")),
        Widget::Limit(interval) => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let limit = items.iter().find(|it| it.get("interval").and_then(Value::as_str) == Some(interval));
            limit.and_then(|it| it.get("limit")).map(text_of).unwrap_or_default()
        }
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number(text: &str) -> Value {
    text.parse::<u64>().map_or_else(|_| text.into(), Value::from)
}

fn list(text: &str) -> Value {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Value::from).collect()
}

fn pairs(text: &str) -> Value {
    let mut fields = Map::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        fields.insert(name.trim().to_owned(), value.trim().into());
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(widget: Widget, before: Value, text: &str) -> Vec<Edit> {
        let document = json!({ "a": before });
        Field::new(&document, "/a", "A", "", widget).edits(&document, text).expect("it can stand there")
    }

    fn set(value: Value) -> Vec<Edit> {
        vec![Edit::Set("/a".to_owned(), value)]
    }

    #[test]
    fn a_field_shows_what_it_writes() {
        for (widget, value, text) in [
            (Widget::Text, json!("b"), "b"),
            (Widget::Long, json!("b\nc"), "b\nc"),
            (Widget::Number, json!(5), "5"),
            (Widget::Lines, json!(["b", "c"]), "b\nc"),
            (Widget::Pairs, json!({ "b": "c: d", "e": "" }), "b: c: d\ne: "),
            (Widget::Yaml, json!({ "b": [1, "{{ c }}"] }), "b: [1, \"{{ c }}\"]"),
            (Widget::Scopes, json!({ "scopes": ["a:b"] }), "a:b"),
            (Widget::KeyInQuery, json!({ "query": true }), "yes"),
            (Widget::Limit("minute"), json!([{ "interval": "minute", "limit": 5 }]), "5"),
        ] {
            let document = json!({ "a": value });
            let field = Field::new(&document, "/a", "A", "", widget.clone());
            assert_eq!(field.shown, text, "{widget:?}");
            assert_eq!(typed(widget.clone(), value.clone(), text), set(value), "{widget:?}");
        }
    }

    #[test]
    fn what_is_not_of_its_kind_is_shown_and_written_all_the_same() {
        assert_eq!(typed(Widget::Number, json!(5), "many"), set(json!("many")));
        let document = json!({ "a": { "b": [{}] } });
        assert_eq!(Field::new(&document, "/a", "A", "", Widget::Text).widget, Widget::Yaml);
        let field = Field::new(&document, "/a", "A", "", Widget::Yaml);
        assert!(field.edits(&document, "{ b").is_err(), "this would make the file unreadable");
    }

    #[test]
    fn an_empty_field_takes_the_setting_out() {
        assert_eq!(typed(Widget::Lines, json!(["a"]), " \r\n"), vec![Edit::Remove("/a".to_owned())]);
        assert_eq!(
            typed(Widget::Scopes, json!({ "scopes": ["a"] }), ""),
            set(json!(true)),
            "the switch stays on"
        );
        let limits = json!({ "limits": [{ "interval": "day", "limit": 1 }] });
        let document = json!({ "a": limits });
        let field = Field::new(&document, "/a/limits", "A", "", Widget::Limit("day"));
        assert_eq!(
            field.edits(&document, ""),
            Ok(vec![Edit::Remove("/a".to_owned())]),
            "no limit is no rate limit"
        );
    }
}
