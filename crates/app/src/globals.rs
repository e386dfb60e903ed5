//! Globals: values that flows read, per environment; not secret.

use serde_json::Value;
use tollgate_model::names::{EnvironmentName, ValueName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_model::values::Global;
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::changes::{Draft, expect};
use crate::errors::Error;

/// Longest value, in bytes of JSON.
const MAX_BYTES: usize = 64 * 1024;
/// Deepest nesting, as in documents: what is stored must be readable within a list, and by every client.
const MAX_DEPTH: usize = 64;

/// Use cases of globals.
pub struct Globals(pub(crate) App);

// === impl Globals ===

impl Globals {
    /// Returns every global of an environment.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment.
    pub async fn list(&self, op: &Op, environment: &EnvironmentName) -> Result<Vec<Stored<Global>>, Error> {
        op.demand_in(Permission::GlobalRead, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        self.0.all::<Global>(&op.realm, &format!("{environment}/")).await
    }

    /// Sets a global.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`], [`crate::errors::ErrorKind::Invalid`] when the value is larger than 64 KiB or
    /// nested more than 64 deep, [`crate::errors::ErrorKind::PreconditionFailed`].
    pub async fn set(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: ValueName,
        value: Value,
        if_match: Option<u64>,
    ) -> Result<Stored<Global>, Error> {
        let global = self.checked(op, environment, name, value).await?;
        let mut draft = Draft::new(op, "global.set");
        draft.guard_environment(environment);
        draft.put(&global, if_match.map_or(Expect::Any, Expect::Revision))?;
        let revision = self.0.commit(op, draft).await?;
        Ok(Stored { value: global, revision })
    }

    /// Makes a global that is not there yet.
    ///
    /// # Errors
    ///
    /// As [`Globals::set`]; [`crate::errors::ErrorKind::Conflict`] when there is one of this name.
    pub async fn create(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: ValueName,
        value: Value,
    ) -> Result<Stored<Global>, Error> {
        let global = self.checked(op, environment, name, value).await?;
        let mut draft = Draft::new(op, "global.create");
        draft.guard_environment(environment);
        draft.put(&global, Expect::Absent)?;
        let taken = || {
            let message = format!("there is a global `{}` in {environment} already", global.name);
            Error::conflict("already-exists", message)
                .hint("change that one, or choose another name")
                .next(NextStep::ListGlobals { environment: environment.clone() })
        };
        let revision = self.0.create(op, draft, taken).await?;
        Ok(Stored { value: global, revision })
    }

    async fn checked(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: ValueName,
        value: Value,
    ) -> Result<Global, Error> {
        op.demand_in(Permission::GlobalUpdate, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        if value.to_string().len() > MAX_BYTES {
            return Err(
                Error::invalid("the value is larger than 64 KiB").hint("keep large data in an upstream")
            );
        }
        if is_deeper(&value, MAX_DEPTH) {
            return Err(Error::invalid(format!("the value is nested more than {MAX_DEPTH} deep"))
                .hint("write it flatter"));
        }
        Ok(Global { name, environment: environment.clone(), value, updated_at: op.now })
    }

    /// Deletes a global.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`], [`crate::errors::ErrorKind::PreconditionFailed`].
    pub async fn delete(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: &ValueName,
        if_match: Option<u64>,
    ) -> Result<(), Error> {
        op.demand_in(Permission::GlobalUpdate, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        let key = keys::global(environment, name);
        let stored = self.0.store().get::<Global>(&op.realm, &key).await?;
        let stored = stored.ok_or_else(|| Self::absent(environment, name))?;
        let mut draft = Draft::new(op, "global.delete");
        draft.delete::<Global>(key, expect(&stored, if_match));
        self.0.commit(op, draft).await?;
        Ok(())
    }

    pub(crate) fn absent(environment: &EnvironmentName, name: &ValueName) -> Error {
        Error::not_found(format!("there is no global `{name}` in {environment}"))
            .hint("see those that exist")
            .next(NextStep::ListGlobals { environment: environment.clone() })
    }
}

/// Tells whether a value has more than this many levels of lists and objects.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let inner = |value: &Value| levels.checked_sub(1).is_none_or(|levels| is_deeper(value, levels));
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(inner),
        Value::Object(fields) => levels == 0 || fields.values().any(inner),
        _ => false,
    }
}
