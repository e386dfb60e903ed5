//! Realms: a new one begins with `test` and `prod`, an API key demanded everywhere, and a key that signs tokens.

use std::collections::BTreeSet;

use tollgate_model::access::Group;
use tollgate_model::environments::{Environment, FourEyes, Realm, RealmSettings};
use tollgate_model::ids::UserId;
use tollgate_model::keysets::Algorithm;
use tollgate_model::names::{EnvironmentName, GroupName, RealmName};
use tollgate_model::objects::keys;
use tollgate_model::policies::{Policies, PolicyVersion};
use tollgate_model::users::User;
use tollgate_store::Expect;

use crate::App;
use crate::access::{Op, Permission};
use crate::change_requests::Leave;
use crate::changes::{Draft, expect_or_absent};
use crate::errors::{Error, ErrorKind};

/// Use cases of realms.
pub struct Realms(pub(crate) App);

// === impl Realms ===

impl Realms {
    /// Returns the realms in which the actor may read something of it; all of them to whoever makes realms.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`] when there is none, [`ErrorKind::Unavailable`].
    pub async fn list(&self, op: &Op) -> Result<Vec<Realm>, Error> {
        let mut realms: Vec<Realm> =
            self.0.store().realms().await?.into_iter().map(|stored| stored.value).collect();
        if op.demand_server(Permission::RealmCreate).is_ok() {
            return Ok(realms);
        }
        let mut visible = BTreeSet::new();
        for realm in &realms {
            let actor = self.0.actor_in(&op.actor, &realm.name).await?;
            if actor.rights().allows_anywhere(Permission::RealmRead) {
                visible.insert(realm.name.clone());
            }
        }
        if visible.is_empty() {
            op.demand_anywhere(Permission::RealmRead)?;
        }
        realms.retain(|realm| visible.contains(&realm.name));
        Ok(realms)
    }

    /// Turns an operation of realm `default` into one of another realm, with what the actor may do there by now.
    ///
    /// Whoever may make realms learns which there are. To all others one that is not there is like one where they may
    /// nothing: what is demanded of them next is refused.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], [`ErrorKind::Unavailable`].
    pub async fn enter(&self, op: &Op, realm: RealmName) -> Result<Op, Error> {
        if realm == op.realm {
            return Ok(op.clone());
        }
        let actor = self.0.actor_in(&op.actor, &realm).await?;
        let entered = Op { actor, realm, ..op.clone() };
        if op.demand_server(Permission::RealmCreate).is_ok() {
            self.0.realm(&entered).await?;
        }
        Ok(entered)
    }

    /// Makes a realm with all that it begins with, in one transaction. Whoever makes it may do everything in it; what needs a
    /// second person in realm `default` needs one there, too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when it exists.
    pub async fn create(&self, op: &Op, name: RealmName) -> Result<Realm, Error> {
        op.demand_server(Permission::RealmCreate)?;
        let settings =
            RealmSettings { four_eyes: self.inherited_four_eyes().await?, ..RealmSettings::default() };
        let realm = Realm { name: name.clone(), created_at: op.now, settings };
        let environments = BTreeSet::from([EnvironmentName::test(), EnvironmentName::prod()]);
        let leave = Leave::of_new_realm();
        let mut draft = Draft::new(op, "realm.create").realm(name.clone()).with(&leave);
        draft.put(&realm, Expect::Absent)?;
        draft.put(&Group::first(op.actor.user.into_iter().collect()), Expect::Absent)?;
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
        if name == RealmName::default() {
            // The first one of a server; it signs for all realms.
            draft.put(&self.0.make_evidence_key(op.now)?.0, Expect::Absent)?;
        }
        let policies = Policies::initial(&environments);
        draft.put(&policies, Expect::Absent)?;
        let version = PolicyVersion {
            policies,
            created_at: op.now,
            created_by: op.actor.name.clone(),
            reason: "a new realm demands API keys everywhere".to_owned(),
            approved_by: None,
        };
        draft.put(&version, Expect::Absent)?;
        let taken = || {
            Error::conflict("already-exists", format!("there is a realm `{name}` already"))
                .hint("choose another name")
        };
        self.0.create(op, draft, taken).await?;
        Ok(realm)
    }

    /// Returns what needs a second person in realm `default`, where users live: whoever needs one there must not get
    /// along without in a realm that they make for themselves.
    async fn inherited_four_eyes(&self) -> Result<FourEyes, Error> {
        let name = RealmName::default();
        let realm = self.0.store().get::<Realm>(&name, &keys::realm(&name)).await?;
        Ok(realm.map(|realm| realm.value.settings.four_eyes).unwrap_or_default())
    }

    /// Makes realm `default` when there is none, as the first start of the process does; and gives each realm of a store
    /// from before there were groups its group of administrators, with all users in it, because each could do everything.
    /// A store from before there was evidence gets the key that signs it.
    ///
    /// Safe when several processes start at once: one of them makes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn initialise(&self, op: &Op) -> Result<(), Error> {
        let name = RealmName::default();
        if self.0.store().realms().await?.iter().any(|stored| stored.value.name == name) {
            op.demand_server(Permission::RealmCreate)?;
            self.0.evidence().initialise(op).await?;
            return self.0.found_administrators(op).await;
        }
        match self.create(op, name).await {
            Err(error) if error.kind == ErrorKind::Conflict => self.0.found_administrators(op).await,
            other => other.map(drop),
        }
    }
}

// === impl App ===

impl App {
    /// Makes the group of administrators, with all users in it, in each realm that has none.
    ///
    /// A realm begins with this group and it can't be deleted, so a realm that has none is from before there were groups.
    async fn found_administrators(&self, op: &Op) -> Result<(), Error> {
        let key = keys::group(&GroupName::administrators());
        for realm in self.store().realms().await? {
            let realm = realm.value.name;
            if self.store().get::<Group>(&realm, &key).await?.is_some() {
                continue;
            }
            let users = self.all::<User>(&RealmName::default(), "").await?;
            let members = users.into_iter().map(|stored| stored.value.id).collect();
            let mut draft = Draft::new(op, "group.create")
                .realm(realm)
                .reason("every user from before there were groups could do everything");
            draft.put(&Group::first(members), Expect::Absent)?;
            // Another process was faster.
            self.commit_decided(op, draft).await?;
        }
        Ok(())
    }

    /// Puts a new user into the group of administrators of a realm.
    pub(crate) async fn join_administrators(
        &self,
        realm: &RealmName,
        user: UserId,
        draft: &mut Draft,
    ) -> Result<(), Error> {
        let key = keys::group(&GroupName::administrators());
        let stored = self.store().get::<Group>(realm, &key).await?;
        let expected = expect_or_absent(stored.as_ref(), None);
        let mut group = stored.map_or_else(|| Group::first(BTreeSet::new()), |stored| stored.value);
        group.members.insert(user);
        draft.put(&group, expected)
    }
}
