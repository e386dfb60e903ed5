//! Which globals and accounts a flow reads, told from its expressions without running it.

use std::collections::BTreeSet;

use serde_json::Value;
use tollgate_expression::lexer::end_of_expression;
use tollgate_expression::{FLOWS, keys_below};
use tollgate_model::pipelines::Pipeline;

/// The globals and accounts that a flow reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValueNames {
    /// Of the globals.
    pub globals: Names,
    /// Of the accounts.
    pub accounts: Names,
}

/// Names that a flow reads of one root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Those that stand in it.
    known: BTreeSet<String>,
    /// Whether it reads the root whole, or by a name that it computes.
    any: bool,
}

/// How it is known that a flow reads a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The name stands in the flow.
    Named,
    /// The flow computes a name, which may be this one.
    Computed,
}

// === impl ValueNames ===

impl ValueNames {
    /// Finds them in the steps of a pipeline. What is no expression reads nothing: none of it was saved.
    pub fn of(pipeline: &Pipeline) -> Self {
        let mut names = Self::default();
        if let Ok(steps) = serde_json::to_value(&pipeline.steps) {
            names.visit(&steps, "");
        }
        names
    }

    fn visit(&mut self, value: &Value, key: &str) {
        match value {
            Value::String(text) if text.contains("{{") => self.template(text),
            // The conditions of `assert` and `choice` are expressions by themselves.
            Value::String(text) if key == "condition" => self.expression(text),
            Value::Array(items) => items.iter().for_each(|item| self.visit(item, "")),
            Value::Object(fields) => fields.iter().for_each(|(key, field)| self.visit(field, key)),
            _ => {}
        }
    }

    fn template(&mut self, text: &str) {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once("{{") {
            let Ok(Some(end)) = end_of_expression(after) else { return };
            let (source, after) = after.split_at(end);
            self.expression(source);
            rest = after;
        }
    }

    fn expression(&mut self, source: &str) {
        // Most expressions read neither, and parsing takes its time.
        if !source.contains("globals") && !source.contains("accounts") {
            return;
        }
        let Ok(parsed) = tollgate_expression::parse(source, &FLOWS) else { return };
        for (root, names) in [("globals", &mut self.globals), ("accounts", &mut self.accounts)] {
            names.any |= keys_below(parsed.program.expression(), root, &mut names.known);
        }
    }
}

// === impl Names ===

impl Names {
    /// Tells whether a name is read, and how that is known.
    pub fn reading(&self, name: &str) -> Option<Reading> {
        if self.known.contains(name) {
            return Some(Reading::Named);
        }
        self.any.then_some(Reading::Computed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(steps: &Value) -> ValueNames {
        let pipeline = json!({ "name": "orders", "project": "store",
            "trigger": { "type": "rest" }, "steps": steps });
        ValueNames::of(&serde_json::from_value(pipeline).expect("a pipeline"))
    }

    #[test]
    fn a_name_is_found_in_every_way_of_writing_it_and_in_every_step() {
        let steps = json!([
            { "assert": { "condition": "message.body.user == globals[\"portal-user\"]", "status": 401, "error": "no" } },
            { "choice": { "when": [{ "condition": "has(globals.rate)", "steps": [
                { "http": { "url": "{{ globals.base }}/x", "headers": { "x": "{{ accounts.shop.token }}" } } }
            ] }] } },
            { "json": { "a": ["for {{ [1].map(i, globals.prices[i]) }} and {{ message.globals }}"] } },
        ]);
        let found = names(&steps);
        for name in ["portal-user", "rate", "base", "prices"] {
            assert_eq!(found.globals.reading(name), Some(Reading::Named), "{name}: {found:?}");
        }
        assert_eq!(found.globals.reading("token"), None);
        assert_eq!(found.accounts.reading("shop"), Some(Reading::Named));
        assert_eq!(found.accounts.reading("bank"), None);
    }

    #[test]
    fn a_name_that_is_computed_may_be_any() {
        for source in ["{{ globals[message.body.key] }}", "{{ globals }}", "{{ size(globals) }}"] {
            let found = names(&json!([{ "json": source }]));
            assert_eq!(found.globals.reading("region"), Some(Reading::Computed), "{source}");
            assert_eq!(found.accounts.reading("region"), None, "{source}");
        }
        let text =
            names(&json!([{ "json": { "condition": "globals are not read here", "a": "globals.region" } }]));
        assert_eq!(text, ValueNames::default());
    }
}
