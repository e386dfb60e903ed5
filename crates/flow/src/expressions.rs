//! Expressions of flows, checked when a pipeline is saved and bounded when they run.
//!
//! A path such as `message.body.user` is read straight from the JSON; only other expressions go through the
//! interpreter, after [`MAX_WORK`] bounded their work.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use serde_json::Value;
use tollgate_credential::passwords::{self, Password};
use tollgate_expression::{
    Context, Cost, FLOWS, Parsed, Program, base_context, cut, execute, keys_below, path_from,
};

use crate::budget::{Budget, MAX_STEP_BYTES};
use crate::messages::Client;
use crate::values::Values;

/// Most work that one expression may cost: about a quarter of a second.
const MAX_WORK: u64 = 20_000_000;

/// The function that is slow on purpose.
const VERIFY_PASSWORD: &str = "verifyPassword";
/// The root of what the gateway knows of whoever sent the call.
const CLIENT: &str = "client";

/// A checked expression.
#[derive(Debug)]
pub(crate) struct Expression {
    source: String,
    kind: Kind,
    roots: Vec<&'static str>,
    fields: Vec<String>,
    computed_fields: bool,
    cost: Cost,
    slow: bool,
}

#[derive(Debug)]
enum Kind {
    /// `message.body.user`: the root and the keys below it.
    Path(&'static str, Vec<String>),
    Program(Arc<Program>),
}

/// What names stand for while an expression runs.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) message: &'a Value,
    pub(crate) values: &'a Values,
    pub(crate) claims: &'a Value,
    pub(crate) consumer: &'a Value,
    pub(crate) client: &'a Client,
    pub(crate) metadata: &'a Value,
    pub(crate) budget: &'a Budget,
}

/// An expression taken together with the data that it names, to run elsewhere.
pub(crate) struct Detached {
    program: Arc<Program>,
    data: Vec<(&'static str, Value)>,
}

/// Why an expression gave no value. Holds no data of the call: it goes to the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expression `{source_text}`: {reason}")]
pub(crate) struct EvaluateError {
    source_text: String,
    reason: String,
}

static ROOT: LazyLock<Context<'static, 'static>> = LazyLock::new(|| {
    let mut context = base_context();
    let added = context.add_function(VERIFY_PASSWORD, |password: Arc<String>, hash: Arc<String>| {
        Password::parse(&password).is_ok_and(|password| passwords::verify(&password, Some(&hash)))
    });
    debug_assert!(added.is_ok(), "the standard library has no function of this name");
    context
});

// === impl Expression ===

impl Expression {
    /// Parses and checks an expression.
    ///
    /// # Errors
    ///
    /// A sentence for the author.
    pub(crate) fn parse(source: &str) -> Result<Self, String> {
        let source = source.trim();
        let Parsed { program, roots, fields, computed_fields, cost, slow, .. } =
            tollgate_expression::parse(source, &FLOWS)?;
        if roots.contains(&CLIENT) {
            check_client(&program)?;
        }
        let kind = match path_from(program.expression(), FLOWS.roots) {
            Some((root, keys)) => Kind::Path(root, keys),
            None => Kind::Program(program),
        };
        Ok(Self { source: source.to_owned(), kind, roots, fields, computed_fields, cost, slow })
    }

    /// Tells whether it hashes a password, which must not happen on a thread that serves calls.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow
    }

    /// Tells whether all that it reads was set by operators, not by callers.
    pub(crate) fn is_trusted(&self) -> bool {
        self.roots.iter().all(|root| matches!(*root, "globals" | "accounts" | "metadata"))
    }

    /// Returns the names of the fields that it reads, for masking sensitive ones: what it gives may be made of any.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(String::as_str)
    }

    /// Tells whether it computes the name of a field that it reads, which can then be any.
    pub(crate) fn reads_any_field(&self) -> bool {
        self.computed_fields
    }

    /// Evaluates the expression here.
    pub(crate) fn evaluate(&self, scope: &Scope<'_>) -> Result<Value, EvaluateError> {
        match &self.kind {
            Kind::Path(root, keys) => {
                let mut value = scope.get(root);
                for key in keys {
                    value = match value {
                        Value::Object(fields) => fields.get(key),
                        _ => None,
                    }
                    .ok_or_else(|| self.error(format!("there is no `{}`", cut(key))))?;
                }
                scope.budget.spend_value(value).map_err(|reason| self.error(reason))?;
                Ok(value.clone())
            }
            Kind::Program(program) => {
                self.check_work(scope)?;
                let data = self.roots.iter().map(|root| (*root, scope.get(root)));
                execute(program, &ROOT, data, scope.budget).map_err(|reason| self.error(reason))
            }
        }
    }

    /// Takes the expression and the data that it names, to evaluate it on another thread.
    pub(crate) fn detach(&self, scope: &Scope<'_>) -> Result<Detached, EvaluateError> {
        self.check_work(scope)?;
        let program = match &self.kind {
            Kind::Program(program) => Arc::clone(program),
            Kind::Path(..) => return Err(self.error("it hashes no password".to_owned())),
        };
        Ok(Detached {
            program,
            data: self.roots.iter().map(|root| (*root, scope.get(root).clone())).collect(),
        })
    }

    pub(crate) fn error(&self, reason: String) -> EvaluateError {
        EvaluateError { source_text: cut(&self.source), reason }
    }

    /// Refuses before it starts what could take too long.
    fn check_work(&self, scope: &Scope<'_>) -> Result<(), EvaluateError> {
        let work =
            self.cost.work(&self.roots, |root| scope.get(root)).map_err(|reason| self.error(reason))?;
        if work > MAX_WORK {
            Err(self.error("it would take too long on this much data".to_owned()))
        } else {
            scope.budget.spend_work(work).map_err(|reason| self.error(reason))
        }
    }
}

// === impl EvaluateError ===

impl EvaluateError {
    /// Makes the error of a step that has spent its budget outside of an expression.
    pub(crate) fn of_step(reason: String) -> Self {
        Self { source_text: "{{ … }}".to_owned(), reason }
    }
}

// === impl Detached ===

impl Detached {
    /// Evaluates the expression.
    pub(crate) fn evaluate(&self) -> Result<Value, String> {
        let data = self.data.iter().map(|(root, value)| (*root, value));
        execute(&self.program, &ROOT, data, &Budget::new(MAX_STEP_BYTES))
    }
}

// === impl Scope ===

impl<'a> Scope<'a> {
    fn get(&self, root: &str) -> &'a Value {
        match root {
            "message" => self.message,
            "globals" => &self.values.globals,
            "accounts" => &self.values.accounts,
            "claims" => self.claims,
            "consumer" => self.consumer,
            CLIENT => self.client.value(),
            _ => self.metadata,
        }
    }
}

/// Refuses fields of `client` that it never has.
fn check_client(program: &Program) -> Result<(), String> {
    let mut keys = BTreeSet::new();
    keys_below(program.expression(), CLIENT, &mut keys);
    match keys.iter().find(|key| !Client::FIELDS.contains(&key.as_str())) {
        Some(key) => {
            Err(format!("`{CLIENT}` has no field `{}`: there is {}", cut(key), Client::FIELDS.join(", ")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
