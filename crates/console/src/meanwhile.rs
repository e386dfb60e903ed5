//! What changed while somebody wrote: shown with what they wrote when they were overtaken.

use serde_json::Value;

/// Something that is not what it was when a form was made. Its template is `parts/meanwhile.html`, which takes a list as
/// `meanwhile`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Meanwhile {
    pub(crate) what: String,
    pub(crate) then: String,
    pub(crate) now: String,
}

// === impl Meanwhile ===

impl Meanwhile {
    /// Lists what is not the same any more, of fields that are named by JSON pointers.
    ///
    /// `read` is what the form carried along of them; what is no JSON differs in everything. It decides nothing.
    pub(crate) fn of_fields(read: &str, now: &Value, fields: &[(&str, &str)]) -> Vec<Self> {
        let read: Value = serde_json::from_str(read).unwrap_or_default();
        let told = |(pointer, what): &(&str, &str)| {
            let (then, now) = (shown(read.pointer(pointer)), shown(now.pointer(pointer)));
            (then != now).then(|| Self { what: (*what).to_owned(), then, now })
        };
        fields.iter().filter_map(told).collect()
    }
}

/// Writes a value for people.
fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "nothing".to_owned(),
        Some(Value::Bool(on)) => if *on { "on" } else { "off" }.to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.is_empty() => "nothing".to_owned(),
        Some(Value::Array(items)) => items.iter().map(|it| shown(Some(it))).collect::<Vec<_>>().join(", "),
        Some(Value::Object(fields)) => {
            let line = |(name, value): (&String, &Value)| format!("{name} = {}", shown(Some(value)));
            fields.iter().map(line).collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_is_told_and_what_a_browser_made_up_differs() {
        let now = json!({ "a": "x", "b": ["y", "z"], "c": true, "e": { "client-7": "shop" } });
        let fields = [("/a", "A"), ("/b", "B"), ("/c", "C"), ("/d", "D"), ("/e", "E")];
        let told = |read: &str| {
            let all = Meanwhile::of_fields(read, &now, &fields);
            all.into_iter().map(|it| (it.what, it.then, it.now)).collect::<Vec<_>>()
        };
        let line = |what: &str, then: &str, now: &str| (what.to_owned(), then.to_owned(), now.to_owned());
        let lines = [line("B", "y", "y, z"), line("C", "off", "on"), line("E", "nothing", "client-7 = shop")];
        assert_eq!(told(r#"{"a":"x","b":["y"],"c":false}"#), lines);
        assert_eq!(told("<script>").len(), 4);
    }
}
