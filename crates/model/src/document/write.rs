//! Writes values as YAML, the way the files of our documentation look: maps and lists in lines of their own, short lists
//! of words in brackets, quotes only where a text would read as something else.

use saphyr_parser::ScalarStyle;
use serde_json::Value;

use super::tree::{Content, scalar};

/// Longest list that is written in brackets, in characters.
const MAX_INLINE: usize = 72;

/// Writes a document.
pub(super) fn whole(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out.push('\n');
    out
}

/// Writes `key: value`, whose further lines are indented from `indent` on.
pub(super) fn entry(key_text: &str, value: &Value, indent: usize, out: &mut String) {
    out.push_str(&key(key_text));
    out.push(':');
    match value {
        _ if fits_inline(value) => {
            out.push(' ');
            inline(value, out);
        }
        Value::Object(_) | Value::Array(_) => {
            newline(indent + 2, out);
            block(value, indent + 2, out);
        }
        _ => {
            out.push(' ');
            block(value, indent + 2, out);
        }
    }
}

/// Writes a value where the text stands, its further lines indented by `indent`.
pub(super) fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (key, value)) in fields.iter().enumerate() {
                if index > 0 {
                    newline(indent, out);
                }
                entry(key, value, indent, out);
            }
        }
        Value::Array(items) if !fits_inline(value) => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    newline(indent, out);
                }
                out.push_str("- ");
                block(item, indent + 2, out);
            }
        }
        Value::String(text) if reads_as_lines(text) => {
            out.push_str(if text.ends_with('\n') { "|" } else { "|-" });
            for line in text.lines() {
                out.push('\n');
                if !line.is_empty() {
                    out.push_str(&" ".repeat(indent));
                    out.push_str(line);
                }
            }
        }
        _ => inline(value, out),
    }
}

/// Writes a value on one line.
pub(super) fn inline(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) if fields.is_empty() => out.push_str("{}"),
        Value::Object(fields) => {
            out.push_str("{ ");
            for (index, (name, value)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                out.push_str(&key(name));
                out.push_str(": ");
                inline(value, out);
            }
            out.push_str(" }");
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                inline(item, out);
            }
            out.push(']');
        }
        Value::String(text) if is_plain(text) => out.push_str(text),
        other => out.push_str(&other.to_string()),
    }
}

/// Writes a key without quotes where YAML takes it for a text without.
pub(super) fn key(key: &str) -> String {
    if is_plain(key) && !key.contains(':') { key.to_owned() } else { Value::from(key).to_string() }
}

/// Tells whether a text reads as itself without quotes, in brackets too.
fn is_plain(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || "-_./:+= ".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && text.chars().all(word)
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.starts_with("---")
        && scalar(text, ScalarStyle::Plain) == Ok(Content::Text(text.to_owned()))
}

/// Tells whether a value is short and holds nothing that has lines of its own.
fn fits_inline(value: &Value) -> bool {
    match value {
        Value::Array(items) => {
            let simple = |item: &Value| match item {
                Value::String(text) => !text.contains('\n'),
                other => !other.is_object() && !other.is_array(),
            };
            items.iter().all(simple)
                && items.iter().map(|item| item.to_string().len() + 2).sum::<usize>() < MAX_INLINE
        }
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => !reads_as_lines(text),
        _ => true,
    }
}

/// Tells whether a text can be written line by line, indented.
fn reads_as_lines(text: &str) -> bool {
    let shows =
        |c: char| c == '\n' || !c.is_control() && c != '\u{feff}' && !('\u{2028}'..='\u{2029}').contains(&c);
    text.contains('\n')
        && !text.starts_with([' ', '\n'])
        && !text.ends_with("\n\n")
        && text.chars().all(shows)
        && text.lines().all(|line| !line.ends_with(' '))
}

fn newline(indent: usize, out: &mut String) {
    out.push('\n');
    out.push_str(&" ".repeat(indent));
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::document::parse_value;

    #[test]
    fn values_look_as_people_write_them() {
        let value = json!({
            "kind": "Pipeline", "trigger": { "type": "rest", "methods": ["GET", "POST"], "routes": [{ "path": "/a/:id" }] },
            "steps": [{ "json": { "a": "{{ message.body }}", "no": "no", "yes": "true", "n": "1.5", "t": "a\nb\n" } }],
            "none": {}, "list": [],
        });
        assert_eq!(
            whole(&value),
            "kind: Pipeline\ntrigger:\n  type: rest\n  methods: [GET, POST]\n  routes:\n    - path: /a/:id\nsteps:\n  \
             - json:\n      a: \"{{ message.body }}\"\n      no: no\n      yes: \"true\"\n      n: \"1.5\"\n      t: |\n        \
             a\n        b\nnone: {}\nlist: []\n"
        );
    }

    pub(in crate::document) fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~\n]{0,12}".prop_map(Value::from),
            "\\PC{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-zA-Z0-9 :#-]{1,6}", inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_what_it_was(value in values()) {
            let value = json!({ "a": value });
            prop_assert_eq!(parse_value(&whole(&value)), Ok(value));
        }
    }
}
