//! Sensitive fields: written as `***` wherever a value of a flow is logged.
//!
//! What a value is called decides, at any depth: `email` hides every field of that name. An expression that reads such
//! a field is hidden whole, since what it gives may be made of it; so is one that computes which field it reads, which
//! could be any. What a flow copied into a field of another name is not followed.

use serde_json::Value;
use tollgate_model::policies::SensitiveFields;

use crate::expressions::Expression;

/// What stands in the place of a sensitive value.
const HIDDEN: &str = "***";

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
        let covers = |name: &str| self.covers(name) || wholes.contains(&name);
        if expression.reads_any_field() || expression.fields().any(covers) {
            return HIDDEN.into();
        }
        walk(&mut value, &covers);
        value
    }

    fn covers(&self, name: &str) -> bool {
        self.own.iter().any(|own| own == name) || self.policy.contains(name)
    }

    /// Returns the fields of a first message that hold a sensitive one as part of a text: the path a parameter of the
    /// route, the body of a form its fields.
    fn wholes(&self, message: &Value) -> Vec<&'static str> {
        let holds = |part: &str| {
            let fields = message.get(part).and_then(Value::as_object);
            fields.is_some_and(|fields| fields.keys().any(|name| self.covers(name)))
        };
        let parts = [("queryAndPath", "path"), ("form", "body")];
        parts.into_iter().filter(|(part, _)| holds(part)).map(|(_, whole)| whole).collect()
    }
}

fn walk(value: &mut Value, covers: &dyn Fn(&str) -> bool) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                if covers(name) {
                    *field = HIDDEN.into();
                } else {
                    walk(field, covers);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, covers)),
        _ => {}
    }
}
