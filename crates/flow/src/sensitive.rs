//! Sensitive fields: written as `***` wherever a value of a flow is logged.
//!
//! What a value is called decides, at any depth: `email` hides every field of that name. An expression that reads such
//! a field is hidden whole, since what it gives may be made of it; so is one that computes which field it reads, which
//! could be any. What a flow copied into a field of another name is not followed. Names are those that are written, but
//! for headers, whose names are the same in capitals and small letters (RFC 9110 section 5.1) and reach flows in small ones.

use serde_json::Value;
use tollgate_model::policies::SensitiveFields;

use crate::expressions::Expression;

/// What stands in the place of a sensitive value.
const HIDDEN: &str = "***";
/// The part of a message that holds headers.
const HEADERS: &str = "headers";

/// Names of fields that are not shown: the pipeline's own and those of the policy.
#[derive(Clone, Copy)]
pub(crate) struct Sensitive<'a> {
    pub(crate) own: &'a [String],
    pub(crate) policy: &'a SensitiveFields,
}

// === impl Sensitive ===

impl Sensitive<'_> {
    /// Returns what an expression gave as it may be logged, in a flow whose message is this one.
    pub(crate) fn hide(&self, expression: &Expression, mut value: Value, message: &Value) -> Value {
        if self.own.is_empty() && self.policy.is_empty() {
            return value;
        }
        let wholes = self.wholes(message);
        let covers = |name: &str, header: bool| {
            self.covers(name) || wholes.contains(&name) || header && self.covers_header(name)
        };
        let of_headers = expression.fields().any(|name| name == HEADERS);
        if expression.reads_any_field() || expression.fields().any(|name| covers(name, of_headers)) {
            return HIDDEN.into();
        }
        walk(&mut value, of_headers, &covers);
        value
    }

    /// Tells whether a field is hidden wherever it stands.
    pub(crate) fn hides(&self, name: &str, in_headers: bool) -> bool {
        self.covers(name) || in_headers && self.covers_header(name)
    }

    fn covers(&self, name: &str) -> bool {
        self.own.iter().any(|own| own == name) || self.policy.contains(name)
    }

    fn covers_header(&self, name: &str) -> bool {
        let policy = self.policy.iter().map(|name| name.as_str());
        self.own.iter().map(String::as_str).chain(policy).any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Returns the fields of a first message that hold a sensitive one as part of a text: the path a parameter of the
    /// route, the body of a form its fields.
    pub(crate) fn wholes(&self, message: &Value) -> Vec<&'static str> {
        let holds = |part: &str| {
            let fields = message.get(part).and_then(Value::as_object);
            fields.is_some_and(|fields| fields.keys().any(|name| self.covers(name)))
        };
        let parts = [("queryAndPath", "path"), ("form", "body")];
        parts.into_iter().filter(|(part, _)| holds(part)).map(|(_, whole)| whole).collect()
    }
}

fn walk(value: &mut Value, in_headers: bool, covers: &dyn Fn(&str, bool) -> bool) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                if covers(name, in_headers) {
                    *field = HIDDEN.into();
                } else {
                    walk(field, in_headers || name == HEADERS, covers);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, in_headers, covers)),
        _ => {}
    }
}
