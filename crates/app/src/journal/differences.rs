//! What a change made of an object, field by field.

use serde_json::Value;
use tollgate_model::objects::Kind;

use super::masking::{MASK, may_be_seen};

/// One field that a change made, altered or took away.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldChange {
    /// Where (RFC 6901).
    pub pointer: String,
    /// What stood there before; `None` when nothing did.
    pub before: Option<Value>,
    /// What stands there from then on; `None` when nothing does.
    pub after: Option<Value>,
}

/// Compares an object with what it was, and masks what may not be seen.
pub(super) fn differences(kind: Kind, before: Option<&str>, after: Option<&str>) -> Vec<FieldChange> {
    // What does not parse is shown as one value that differs.
    let parse = |body: &str| serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
    let (before, after) = (before.map(parse), after.map(parse));
    let mut changes = Vec::new();
    compare("", before.as_ref(), after.as_ref(), &mut changes);
    for change in changes.iter_mut().filter(|change| !may_be_seen(kind, &change.pointer)) {
        let mask = |value: &mut Option<Value>| {
            if let Some(value) = value {
                *value = MASK.into();
            }
        };
        mask(&mut change.before);
        mask(&mut change.after);
    }
    changes
}

fn compare(pointer: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<FieldChange>) {
    if before == after {
        return;
    }
    let is_branch = |value: &Value| match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    // A branch that comes or goes is told leaf by leaf, too.
    match (before, after) {
        (Some(Value::Object(_)) | None, Some(Value::Object(_)) | None)
            if before.is_some_and(is_branch) || after.is_some_and(is_branch) =>
        {
            let fields = |value: Option<&Value>| -> Vec<String> {
                let fields = value.and_then(Value::as_object);
                fields.map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
            };
            let mut names = fields(before);
            names.extend(
                fields(after).into_iter().filter(|name| before.is_none_or(|it| it.get(name).is_none())),
            );
            for name in names {
                let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                let of = |value: Option<&Value>| value.and_then(|value| value.get(&name)).cloned();
                compare(&pointer, of(before).as_ref(), of(after).as_ref(), changes);
            }
        }
        (Some(Value::Array(_)) | None, Some(Value::Array(_)) | None)
            if before.is_some_and(is_branch) || after.is_some_and(is_branch) =>
        {
            let length = |value: Option<&Value>| value.and_then(Value::as_array).map_or(0, Vec::len);
            for index in 0..length(before).max(length(after)) {
                let of = |value: Option<&Value>| value.and_then(|value| value.get(index)).cloned();
                let pointer = format!("{pointer}/{index}");
                compare(&pointer, of(before).as_ref(), of(after).as_ref(), changes);
            }
        }
        _ => changes.push(FieldChange {
            pointer: pointer.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: Kind, before: Option<&str>, after: Option<&str>) -> Vec<String> {
        let text = |value: Option<Value>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let changes = differences(kind, before, after).into_iter();
        changes.map(|it| format!("{} {} {}", it.pointer, text(it.before), text(it.after))).collect()
    }

    #[test]
    fn each_field_is_told_with_what_it_was_and_is() {
        let before = r#"{"name":"a","tags":["x","y"],"deep":{"a/b":1,"same":true},"gone":{"x":null}}"#;
        let after = r#"{"name":"b","tags":["x"],"deep":{"a/b":[],"same":true},"new":{}}"#;
        let told_of = told(Kind::Project, Some(before), Some(after));
        let expected =
            ["/name \"a\" \"b\"", "/tags/1 \"y\" -", "/deep/a~1b 1 []", "/gone/x null -", "/new - {}"];
        assert_eq!(told_of, expected);
        assert_eq!(told(Kind::Project, Some("{}"), Some("{}")), Vec::<String>::new());
        assert_eq!(
            told(Kind::Project, None, Some(r#"{"name":"a","at":[1]}"#)),
            ["/name - \"a\"", "/at/0 - 1"]
        );
        assert_eq!(told(Kind::Project, Some(r#"{"name":"a"}"#), None), ["/name \"a\" -"]);
        assert_eq!(told(Kind::Project, Some("{}"), None), [" {} -"]);
    }

    #[test]
    fn that_a_secret_changed_is_told_and_the_secret_is_not() {
        let user = |hash: &str| format!(r#"{{"name":"ada","passwordHash":"{hash}"}}"#);
        let told_of = told(Kind::User, Some(&user("$argon2id$1")), Some(&user("$argon2id$2")));
        assert_eq!(told_of, ["/passwordHash \"(masked)\" \"(masked)\""]);
        let fields = told(Kind::Account, None, Some(r#"{"name":"crm","fields":{"password":"c2VhbGVk"}}"#));
        assert_eq!(fields, ["/name - \"crm\"", "/fields/password - \"(masked)\""]);
        assert_eq!(told(Kind::Account, None, Some("secret")), [" - \"(masked)\""]);
    }
}
