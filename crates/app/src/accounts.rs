//! Accounts: secrets that flows read, sealed before they reach the store. Nothing reads them back but a gateway.

use std::collections::BTreeMap;

use tollgate_credential::passwords::Password;
use tollgate_model::names::{EnvironmentName, ValueName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_model::values::Account;
use tollgate_snapshot::contexts;
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::changes::{Draft, expect};
use crate::errors::Error;

/// Most fields of an account.
const MAX_FIELDS: usize = 50;

/// Use cases of accounts.
pub struct Accounts(pub(crate) App);

/// An account as lists show it: the values are shown to nobody.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountView {
    /// Its name.
    pub name: ValueName,
    /// The names of its fields.
    pub fields: Vec<String>,
    /// When it was last set.
    pub updated_at: jiff::Timestamp,
    /// Its revision.
    pub revision: u64,
}

/// The fields of an account to set; replaces all that it had.
#[derive(Debug, Default)]
pub struct AccountFields {
    /// Fields that flows read as they are.
    pub plain: BTreeMap<String, Password>,
    /// Fields of which flows read the Argon2id hash, for `verifyPassword`.
    pub hashed: BTreeMap<String, Password>,
}

// === impl Accounts ===

impl Accounts {
    /// Returns the accounts of an environment: names only.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment.
    pub async fn list(&self, op: &Op, environment: &EnvironmentName) -> Result<Vec<AccountView>, Error> {
        op.demand_in(Permission::AccountRead, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        let accounts = self.0.all::<Account>(&op.realm, &format!("{environment}/")).await?;
        Ok(accounts.into_iter().map(AccountView::from).collect())
    }

    /// Sets an account.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`], [`crate::errors::ErrorKind::Invalid`] for a field name that expressions can't
    /// read or that stands twice, [`crate::errors::ErrorKind::PreconditionFailed`].
    pub async fn set(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: ValueName,
        fields: AccountFields,
        if_match: Option<u64>,
    ) -> Result<AccountView, Error> {
        let account = self.sealed(op, environment, name, fields).await?;
        let mut draft = Draft::new(op, "account.set");
        draft.guard_environment(environment);
        draft.put(&account, if_match.map_or(Expect::Any, Expect::Revision))?;
        let revision = self.0.commit(op, draft).await?;
        Ok(Stored { value: account, revision }.into())
    }

    /// Makes an account that is not there yet.
    ///
    /// # Errors
    ///
    /// As [`Accounts::set`]; [`crate::errors::ErrorKind::Conflict`] when there is one of this name.
    pub async fn create(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: ValueName,
        fields: AccountFields,
    ) -> Result<AccountView, Error> {
        let account = self.sealed(op, environment, name, fields).await?;
        let mut draft = Draft::new(op, "account.create");
        draft.guard_environment(environment);
        draft.put(&account, Expect::Absent)?;
        let taken = || {
            let message = format!("there is an account `{}` in {environment} already", account.name);
            Error::conflict("already-exists", message)
                .hint("change that one, or choose another name")
                .next(NextStep::ListAccounts { environment: environment.clone() })
        };
        let revision = self.0.create(op, draft, taken).await?;
        Ok(Stored { value: account, revision }.into())
    }

    async fn sealed(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        name: ValueName,
        fields: AccountFields,
    ) -> Result<Account, Error> {
        op.demand_in(Permission::AccountUpdate, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        check_fields(&fields)?;
        let mut sealed = BTreeMap::new();
        for (field, secret) in fields.plain {
            let context = contexts::account_field(&op.realm, environment, &name, &field);
            let value = self.0.0.master.seal(&context, secret.expose_secret().as_bytes(), self.0.random())?;
            sealed.insert(field, value);
        }
        for (field, password) in fields.hashed {
            let hash = self.0.hash_password(password).await?;
            let context = contexts::account_field(&op.realm, environment, &name, &field);
            let value = self.0.0.master.seal(&context, hash.as_bytes(), self.0.random())?;
            sealed.insert(field, value);
        }
        Ok(Account { name, environment: environment.clone(), fields: sealed, updated_at: op.now })
    }

    /// Deletes an account.
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
        op.demand_in(Permission::AccountUpdate, Place::environment(environment))?;
        self.0.environment(&op.realm, environment).await?;
        let key = keys::account(environment, name);
        let stored = self.0.store().get::<Account>(&op.realm, &key).await?;
        let stored = stored.ok_or_else(|| Self::absent(environment, name))?;
        let mut draft = Draft::new(op, "account.delete");
        draft.delete::<Account>(key, expect(&stored, if_match));
        self.0.commit(op, draft).await?;
        Ok(())
    }

    pub(crate) fn absent(environment: &EnvironmentName, name: &ValueName) -> Error {
        Error::not_found(format!("there is no account `{name}` in {environment}"))
            .hint("see those that exist")
            .next(NextStep::ListAccounts { environment: environment.clone() })
    }
}

// === impl AccountView ===

impl From<Stored<Account>> for AccountView {
    fn from(Stored { value, revision }: Stored<Account>) -> Self {
        let Account { name, fields, updated_at, .. } = value;
        Self { name, fields: fields.into_keys().collect(), updated_at, revision }
    }
}

/// Field names are identifiers, so that `accounts.name.field` reads them.
fn check_fields(fields: &AccountFields) -> Result<(), Error> {
    let names = || fields.plain.keys().chain(fields.hashed.keys());
    if !(1..=MAX_FIELDS).contains(&names().count()) {
        return Err(
            Error::invalid(format!("an account has 1 to {MAX_FIELDS} fields")).hint("send its fields")
        );
    }
    for name in names() {
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        let rest = name.len() <= 63 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !first || !rest {
            return Err(Error::invalid("this is no name for a field of an account")
                .hint("use at most 63 letters, digits and `_`, not beginning with a digit"));
        }
    }
    if let Some(twice) = fields.plain.keys().find(|name| fields.hashed.contains_key(*name)) {
        return Err(Error::invalid(format!("field `{twice}` stands in `fields` and in `hashedFields`"))
            .hint("keep one of the two"));
    }
    Ok(())
}
