//! Realms: a new one begins with `test` and `prod`, an API key demanded everywhere, and a key that signs tokens.

use std::collections::BTreeSet;

use tollgate_model::environments::{Environment, Realm, RealmSettings};
use tollgate_model::keysets::Algorithm;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::policies::{Policies, PolicyVersion};
use tollgate_store::Expect;

use crate::App;
use crate::access::{Op, Permission};
use crate::changes::Draft;
use crate::errors::{Error, ErrorKind};

/// Use cases of realms.
pub struct Realms(pub(crate) App);

// === impl Realms ===

impl Realms {
    /// Returns every realm.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn list(&self, op: &Op) -> Result<Vec<Realm>, Error> {
        op.demand(Permission::RealmRead)?;
        Ok(self.0.store().realms().await?.into_iter().map(|stored| stored.value).collect())
    }

    /// Makes a realm with all that it begins with, in one transaction.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when it exists.
    pub async fn create(&self, op: &Op, name: RealmName) -> Result<Realm, Error> {
        op.demand(Permission::RealmCreate)?;
        let realm = Realm { name: name.clone(), created_at: op.now, settings: RealmSettings::default() };
        let environments = BTreeSet::from([EnvironmentName::test(), EnvironmentName::prod()]);
        let mut draft = Draft::new(op, "realm.create").realm(name.clone());
        draft.put(&realm, Expect::Absent)?;
        for environment in &environments {
            let environment_object = Environment {
                name: environment.clone(),
                created_at: op.now,
                listeners: std::collections::BTreeMap::new(),
            };
            draft.put(&environment_object, Expect::Absent)?;
            let key = self.0.make_signing_key(&name, environment, Algorithm::Es256, op.now).await?;
            draft.put(&key, Expect::Absent)?;
        }
        let policies = Policies::initial(&environments);
        draft.put(&policies, Expect::Absent)?;
        let version = PolicyVersion {
            policies,
            created_at: op.now,
            created_by: op.actor.name.clone(),
            reason: "a new realm demands API keys everywhere".to_owned(),
        };
        draft.put(&version, Expect::Absent)?;
        let taken = || {
            Error::conflict("already-exists", format!("there is a realm `{name}` already"))
                .hint("choose another name")
        };
        self.0.create(op, draft, taken).await?;
        Ok(realm)
    }

    /// Makes realm `default` when there is none, as the first start of the process does.
    ///
    /// Safe when several processes start at once: one of them makes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn initialise(&self, op: &Op) -> Result<(), Error> {
        let name = RealmName::default();
        if self.0.store().realms().await?.iter().any(|stored| stored.value.name == name) {
            return op.demand(Permission::RealmCreate);
        }
        match self.create(op, name).await {
            Err(error) if error.kind == ErrorKind::Conflict => Ok(()),
            other => other.map(drop),
        }
    }
}
