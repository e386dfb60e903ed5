//! Who is in which group and what that grants, in one realm at one moment; read anew for each request and each decision.
//!
//! A decision about rights is made on lists: who else can administer, what a group grants by now, what the actor still
//! may. So what is committed guards that none of it was touched since the lists were read, and of two such changes at once
//! the second is decided again, by what the first left.

use std::collections::BTreeMap;

use tollgate_model::access::{Group, Permission, Reach, Rights, Role, Roles};
use tollgate_model::ids::UserId;
use tollgate_model::names::{GroupName, RealmName, UserName};
use tollgate_model::objects::Kind;
use tollgate_model::users::User;
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Actor, Op};
use crate::changes::Draft;
use crate::errors::{Error, ErrorKind};

/// The groups and roles of a realm.
pub(crate) struct Directory {
    pub(crate) realm: RealmName,
    /// The journal entry before they were read.
    pub(crate) seq: u64,
    pub(crate) groups: Vec<Stored<Group>>,
    pub(crate) roles: Roles,
}

/// Everybody who can sign in to the server.
pub(crate) struct People {
    /// The journal entry before they were read.
    seq: u64,
    by_id: BTreeMap<UserId, User>,
}

// === impl Directory ===

impl Directory {
    /// Returns what a user may do: what the groups grant, and what everybody may do with what is their own.
    pub(crate) fn rights_of(&self, user: UserId) -> Rights {
        let groups = self.groups.iter().map(|stored| &stored.value);
        Group::rights_of(user, groups, &self.roles).union(&own_rights())
    }

    /// Returns what an actor may do by now.
    pub(crate) fn rights_of_actor(&self, actor: &Actor) -> Rights {
        match actor.user {
            Some(user) => actor.limited_to(self.rights_of(user)),
            None => actor.rights().clone(),
        }
    }

    /// Returns the operation as of now, in this realm: with what the actor may do by what was read.
    pub(crate) fn renew(&self, op: &Op) -> Op {
        let actor = match op.actor.user {
            Some(user) => op.actor.with_rights(self.rights_of(user), &self.realm),
            None => op.actor.clone(),
        };
        Op { actor, realm: self.realm.clone(), ..op.clone() }
    }

    pub(crate) fn group(&self, name: &GroupName) -> Option<&Stored<Group>> {
        self.groups.iter().find(|stored| stored.value.name == *name)
    }

    /// Returns the names of the groups that a user is in.
    pub(crate) fn groups_of(&self, user: UserId) -> Vec<GroupName> {
        let of = self.groups.iter().filter(|stored| stored.value.members.contains(&user));
        of.map(|stored| stored.value.name.clone()).collect()
    }

    /// Makes a change fail when a group or a role of this realm was touched since.
    pub(crate) fn guard(&self, draft: &mut Draft) {
        for kind in [Kind::Group, Kind::Role] {
            draft.guard_in(&self.realm, kind, "", Expect::UntouchedSince(self.seq));
        }
    }

    /// Returns the same with one group as it is to be, or without it.
    pub(crate) fn with_group(&self, name: &GroupName, group: Option<&Group>) -> Self {
        let mut groups: Vec<_> = self.groups.iter().filter(|it| it.value.name != *name).cloned().collect();
        groups.extend(group.map(|group| Stored { value: group.clone(), revision: 0 }));
        Self { realm: self.realm.clone(), seq: self.seq, groups, roles: self.roles.clone() }
    }

    /// Returns the users who can sign in and may do everything here.
    fn administrators<'a>(&'a self, people: &'a People) -> impl Iterator<Item = &'a User> {
        let all = Rights::all();
        people.active().filter(move |user| self.rights_of(user.id).covers(&all))
    }

    /// Refuses a change that leaves nobody who may do everything here, where there was somebody before.
    pub(crate) fn refuse_orphaning(
        &self,
        after: &Self,
        people: &People,
        people_after: &People,
    ) -> Result<(), Error> {
        let Some(last) = self.administrators(people).next() else { return Ok(()) };
        if after.administrators(people_after).next().is_some() {
            return Ok(());
        }
        let message = format!(
            "nobody would be left who can administer realm `{}`: `{}` is the last who may do everything there",
            self.realm, last.name
        );
        Err(Error::conflict("last-administrator", message)
            .hint("put somebody else into a group with the role `administrator` first"))
    }
}

// === impl People ===

impl People {
    pub(crate) fn get(&self, id: UserId) -> Option<&User> {
        self.by_id.get(&id)
    }

    pub(crate) fn by_name(&self, name: &UserName) -> Option<&User> {
        self.by_id.values().find(|user| user.name == *name)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &User> {
        self.by_id.values()
    }

    fn active(&self) -> impl Iterator<Item = &User> {
        self.all().filter(|user| user.disabled_at.is_none())
    }

    /// Returns the same without one of them.
    pub(crate) fn without(&self, id: UserId) -> Self {
        let others = self.by_id.iter().filter(|(other, _)| **other != id);
        Self { seq: self.seq, by_id: others.map(|(id, user)| (*id, user.clone())).collect() }
    }

    /// Makes a change fail when a user was touched since.
    pub(crate) fn guard(&self, draft: &mut Draft) {
        draft.guard_in(&RealmName::default(), Kind::User, "", Expect::UntouchedSince(self.seq));
    }
}

// === impl App ===

impl App {
    /// Reads the groups and roles of a realm.
    pub(crate) async fn directory(&self, realm: &RealmName) -> Result<Directory, Error> {
        let seq = self.store().head().await?;
        let groups = self.all::<Group>(realm, "").await?;
        let roles = self.all::<Role>(realm, "").await?;
        let roles = Roles::new(roles.into_iter().map(|stored| stored.value));
        Ok(Directory { realm: realm.clone(), seq, groups, roles })
    }

    /// Reads the groups and roles of every realm.
    pub(crate) async fn directories(&self) -> Result<Vec<Directory>, Error> {
        let mut all = Vec::new();
        for realm in self.store().realms().await? {
            all.push(self.directory(&realm.value.name).await?);
        }
        Ok(all)
    }

    /// Reads who can sign in.
    pub(crate) async fn people(&self) -> Result<People, Error> {
        let seq = self.store().head().await?;
        let users = self.all::<User>(&RealmName::default(), "").await?;
        Ok(People { seq, by_id: users.into_iter().map(|stored| (stored.value.id, stored.value)).collect() })
    }

    /// Returns an actor with what they may do in a realm by now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] when that can't be told.
    pub async fn actor_in(&self, actor: &Actor, realm: &RealmName) -> Result<Actor, Error> {
        match actor.user {
            Some(user) => Ok(actor.with_rights(self.directory(realm).await?.rights_of(user), realm)),
            None => Ok(actor.clone()),
        }
    }
}

/// Refuses to hand out, or to have power over, what the actor does not have.
pub(crate) fn demand_cover(held: &Rights, given: &Rights, what: &str) -> Result<(), Error> {
    if held.covers(given) {
        return Ok(());
    }
    let lacking = given.iter().find_map(|(permission, reaches)| {
        let lacks = |reach: &&Reach| !held.covers(&Rights::of([permission], reach));
        reaches.iter().find(lacks).map(|reach| (permission, reach))
    });
    let lacking = lacking.map(|(permission, reach)| format!(": `{permission}` {reach}")).unwrap_or_default();
    let message = format!("{what} needs rights that you do not have yourself{lacking}");
    Err(Error::new(ErrorKind::Forbidden, "rights-exceeded", message)
        .hint("ask somebody who has these rights, or to be given them first"))
}

/// Returns what everybody who signs in may do with what is their own.
fn own_rights() -> Rights {
    Rights::of([Permission::UserTokenManage], &Reach::EVERYTHING)
}
