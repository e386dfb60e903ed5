//! Texts with expressions in double braces.
//!
//! `"{{ message.body.user }}"` alone keeps the value's type; inside text the value is written into the text: strings as
//! they are, anything else as JSON. To write two braces themselves, write `{{ "{{" }}`.

use serde_json::{Map, Value};

use crate::expressions::{EvaluateError, Expression, Scope};
use tollgate_expression::lexer::end_of_expression;

/// A JSON value in whose texts expressions may stand.
#[derive(Debug)]
pub(crate) enum Template {
    Constant(Value),
    Text(TextTemplate),
    List(Vec<Template>),
    Map(Vec<(String, Template)>),
}

/// A text in which expressions may stand.
#[derive(Debug)]
pub(crate) struct TextTemplate {
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug)]
pub(crate) enum Part {
    Literal(String),
    Expression(Expression),
}

/// What is wrong in a template, and at which JSON pointer below it.
pub(crate) type TemplateError = (String, String);

// === impl Template ===

impl Template {
    pub(crate) fn parse(value: &Value) -> Result<Self, TemplateError> {
        match value {
            Value::String(text) => {
                let text = TextTemplate::parse(text).map_err(|message| (String::new(), message))?;
                Ok(match text.literal() {
                    Some(literal) => Self::Constant(Value::String(literal)),
                    None => Self::Text(text),
                })
            }
            Value::Array(items) => {
                let parts = items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| {
                        Self::parse(item).map_err(|(at, message)| (format!("/{i}{at}"), message))
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                let constant = parts.iter().all(|part| matches!(part, Self::Constant(_)));
                Ok(if constant { Self::Constant(value.clone()) } else { Self::List(parts) })
            }
            Value::Object(fields) => {
                let parts = fields
                    .iter()
                    .map(|(name, field)| {
                        let escaped = || name.replace('~', "~0").replace('/', "~1");
                        let part = Self::parse(field)
                            .map_err(|(at, message)| (format!("/{}{at}", escaped()), message))?;
                        Ok::<_, TemplateError>((name.clone(), part))
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                let constant = parts.iter().all(|(_, part)| matches!(part, Self::Constant(_)));
                Ok(if constant { Self::Constant(value.clone()) } else { Self::Map(parts) })
            }
            other => Ok(Self::Constant(other.clone())),
        }
    }

    pub(crate) fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, EvaluateError> {
        Ok(match self {
            Self::Constant(value) => {
                scope.budget.spend_value(value).map_err(EvaluateError::of_step)?;
                value.clone()
            }
            Self::Text(text) => text.value(scope)?,
            Self::List(items) => {
                Value::Array(items.iter().map(|item| item.evaluate(scope)).collect::<Result<_, _>>()?)
            }
            Self::Map(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(name, field)| Ok((name.clone(), field.evaluate(scope)?)))
                    .collect::<Result<Map<_, _>, _>>()?,
            ),
        })
    }
}

// === impl TextTemplate ===

impl TextTemplate {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once("{{") {
            let end = end_of_expression(after)?
                .ok_or_else(|| "an expression begins with `{{` and does not end with `}}`".to_owned())?;
            let (source, after) = after.split_at(end);
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            let expression = Expression::parse(source)?;
            if expression.is_slow() {
                return Err("verifyPassword can stand only in the condition of assert or choice".to_owned());
            }
            parts.push(Part::Expression(expression));
            rest = after.strip_prefix("}}").unwrap_or(after);
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// Returns the text when no expression stands in it.
    pub(crate) fn literal(&self) -> Option<String> {
        match self.parts.as_slice() {
            [] => Some(String::new()),
            [Part::Literal(text)] => Some(text.clone()),
            _ => None,
        }
    }

    /// Returns the value: of its own type when the text is one expression, else a text.
    pub(crate) fn value(&self, scope: &Scope<'_>) -> Result<Value, EvaluateError> {
        match self.parts.as_slice() {
            [Part::Expression(expression)] => expression.evaluate(scope),
            _ => self.text(scope).map(Value::String),
        }
    }

    /// Returns the text.
    pub(crate) fn text(&self, scope: &Scope<'_>) -> Result<String, EvaluateError> {
        self.write(scope, |_, value| value)
    }

    /// Returns the text, each value passed through `each` before it is written.
    pub(crate) fn write(
        &self,
        scope: &Scope<'_>,
        each: impl Fn(&Expression, Value) -> Value,
    ) -> Result<String, EvaluateError> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Expression(expression) => {
                    write_value(&mut out, &each(expression, expression.evaluate(scope)?))
                }
            }
        }
        Ok(out)
    }
}

/// Writes a value into a text.
pub(crate) fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => out.push_str(text),
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::budget::Budget;
    use crate::messages::Client;
    use crate::values::Values;

    fn evaluate(template: &Value, message: &Value) -> Result<Value, String> {
        let (values, null) = (Values::default(), Value::Null);
        let scope = Scope {
            message,
            values: &values,
            claims: &null,
            consumer: &null,
            client: &Client::default(),
            metadata: &null,
            budget: &Budget::new(1 << 20),
        };
        let template = Template::parse(template).map_err(|(at, message)| format!("{at}: {message}"))?;
        template.evaluate(&scope).map_err(|error| error.to_string())
    }

    #[test]
    fn a_lone_expression_keeps_its_type_and_one_in_text_is_written() {
        let message = json!({ "n": 1, "user": "ana", "list": [1, 2], "nothing": null });
        for (template, value) in [
            (json!("{{ message.n }}"), json!(1)),
            (json!("n={{message.n}}, {{ message.user }}!"), json!("n=1, ana!")),
            (json!("{{ message.list }}"), json!([1, 2])),
            (json!(" {{ message.list }}"), json!(" [1,2]")),
            (json!("{{ message.nothing }}"), json!(null)),
            (json!("{{ {\"a\": {\"b\": message.n}} }}"), json!({ "a": { "b": 1 } })),
            (json!("{{ \"}}\" }} and {{ \"{{\" }}"), json!("}} and {{")),
            (
                json!({ "a": ["{{ message.n }}", { "b": "x" }], "c": true }),
                json!({ "a": [1, { "b": "x" }], "c": true }),
            ),
        ] {
            assert_eq!(evaluate(&template, &message), Ok(value), "{template}");
        }
    }

    #[test]
    fn a_mistake_is_found_where_it_stands() {
        let error = evaluate(&json!({ "a/b": [1, "{{ mesage }}"] }), &Value::Null).expect_err("unknown name");
        assert!(error.starts_with("/a~1b/1: unknown name `mesage`"), "{error}");
        assert!(evaluate(&json!("{{ message"), &Value::Null).is_err());
        assert!(evaluate(&json!("{{ }}"), &Value::Null).is_err());
        assert!(evaluate(&json!("{{ verifyPassword(\"a\", \"b\") }}"), &Value::Null).is_err());
    }

    proptest! {
        #[test]
        fn text_without_braces_is_itself(text in "[^{]*") {
            prop_assert_eq!(evaluate(&json!(text.clone()), &Value::Null), Ok(json!(text)));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC*", source in "[a-z0-9\\[\\](){}.\"'+?:&|!<>= -]{0,60}") {
            let _ = TextTemplate::parse(&text);
            let _ = TextTemplate::parse(&format!("{{{{{source}}}}}"));
        }
    }
}
