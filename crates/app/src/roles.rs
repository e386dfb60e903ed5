//! Roles: those of the product, and a realm's own.

use std::collections::BTreeSet;

use tollgate_model::access::{Reach, Rights, Role};
use tollgate_model::names::RoleName;
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Op, Permission};
use crate::changes::{Draft, check_if_match, expect_or_absent, overtaken};
use crate::directory::{Directory, demand_cover};
use crate::errors::Error;
use crate::groups::check_description;

/// Most own roles of a realm: they are read with each request.
const MAX_ROLES: usize = 200;

/// Use cases of roles.
pub struct RoleUseCases(pub(crate) App);

/// A role as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleView {
    /// The role.
    pub role: Role,
    /// Its revision; `None` for a role of the product, which never changes.
    pub revision: Option<u64>,
}

/// Whether a role must be there before it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Absent,
    Either,
}

// === impl RoleUseCases ===

impl RoleUseCases {
    /// Returns the roles of the product, then the realm's own.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn list(&self, op: &Op) -> Result<Vec<RoleView>, Error> {
        op.demand(Permission::RoleRead)?;
        let system = Role::system().iter().map(|role| RoleView { role: role.clone(), revision: None });
        let own = self.0.all::<Role>(&op.realm, "").await?.into_iter().map(RoleView::from);
        Ok(system.chain(own.filter(|view| !Role::is_system(&view.role.name))).collect())
    }

    /// Returns one role.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`].
    pub async fn get(&self, op: &Op, name: &RoleName) -> Result<RoleView, Error> {
        op.demand(Permission::RoleRead)?;
        if let Some(role) = Role::system().iter().find(|role| role.name == *name) {
            return Ok(RoleView { role: role.clone(), revision: None });
        }
        let stored = self.0.store().get::<Role>(&op.realm, &keys::role(name)).await?;
        stored.map(RoleView::from).ok_or_else(|| no_role(name))
    }

    /// Makes a role.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when it exists; [`ErrorKind::Forbidden`] with code `rights-exceeded` when it would have
    /// permissions that the actor does not have in the whole realm; [`ErrorKind::Invalid`]. Nothing is stored then.
    pub async fn create(&self, op: &Op, role: &Role) -> Result<RoleView, Error> {
        op.demand(Permission::RoleCreate)?;
        Ok(self.change(op, role, Before::Absent, None).await?.0)
    }

    /// Makes a role what is given, whether it is there or not; tells whether it is new. Whoever holds it holds at once what
    /// it has from then on, so it takes all of it, before and after, without limits.
    ///
    /// # Errors
    ///
    /// As [`RoleUseCases::create`]; [`ErrorKind::Conflict`] for a role of the product, and when nobody would be left who
    /// may do everything; [`ErrorKind::PreconditionFailed`].
    pub async fn put(&self, op: &Op, role: &Role, if_match: Option<u64>) -> Result<(RoleView, bool), Error> {
        if op.demand(Permission::RoleUpdate).is_err() {
            op.demand(Permission::RoleCreate)?;
        }
        self.change(op, role, Before::Either, if_match).await
    }

    /// Deletes a role that no group grants.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Conflict`] naming the groups that grant it, and for a role of the product;
    /// [`ErrorKind::Forbidden`]; [`ErrorKind::PreconditionFailed`].
    pub async fn delete(&self, op: &Op, name: &RoleName, if_match: Option<u64>) -> Result<(), Error> {
        op.demand(Permission::RoleDelete)?;
        refuse_system(name)?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let directory = self.0.directory(&op.realm).await?;
            let op = &directory.renew(op);
            op.demand(Permission::RoleDelete)?;
            let stored = self.0.store().get::<Role>(&op.realm, &keys::role(name)).await?;
            let stored = stored.ok_or_else(|| no_role(name))?;
            check_if_match(keys::role(name), Some(&stored), if_match)?;
            demand_held(op, &stored.value, &format!("to delete role `{name}`"))?;
            let granting = directory.groups.iter().map(|stored| &stored.value);
            let granting: Vec<_> = granting
                .filter(|group| group.grants.iter().any(|grant| grant.role == *name))
                .map(|group| format!("`{}`", group.name))
                .collect();
            if !granting.is_empty() {
                let message = format!("role `{name}` is granted by {}", granting.join(", "));
                return Err(Error::conflict("role-in-use", message)
                    .hint("take it away from these groups first")
                    .next(NextStep::UngrantRole));
            }
            let mut draft = Draft::new(op, "role.delete");
            directory.guard(&mut draft);
            draft.delete::<Role>(keys::role(name), Expect::Revision(stored.revision));
            if self.0.commit_decided(op, draft).await?.is_some() {
                return Ok(());
            }
        }
        Err(overtaken())
    }

    async fn change(
        &self,
        op: &Op,
        role: &Role,
        before: Before,
        if_match: Option<u64>,
    ) -> Result<(RoleView, bool), Error> {
        let name = &role.name;
        refuse_system(name)?;
        check_description(&role.description)?;
        if role.permissions.is_empty() {
            return Err(Error::invalid(format!("role `{name}` would have no permissions"))
                .hint("name at least one; see all there are")
                .next(NextStep::SeeAllPermissions));
        }
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let (directory, people) = (self.0.directory(&op.realm).await?, self.0.people().await?);
            let op = &directory.renew(op);
            let stored = self.0.store().get::<Role>(&op.realm, &keys::role(name)).await?;
            match (before, &stored) {
                (Before::Absent, _) => op.demand(Permission::RoleCreate)?,
                // Who may only change roles finds none to change.
                (Before::Either, None) => op.demand(Permission::RoleCreate).map_err(|_| no_role(name))?,
                (Before::Either, Some(_)) => op.demand(Permission::RoleUpdate)?,
            }
            if before == Before::Either {
                check_if_match(keys::role(name), stored.as_ref(), if_match)?;
            }
            match &stored {
                Some(_) if before == Before::Absent => {
                    return Err(Error::conflict(
                        "already-exists",
                        format!("there is a role `{name}` already"),
                    )
                    .hint("choose another name, or change that one")
                    .next(NextStep::SeeRole { role: name.clone() }));
                }
                Some(stored) => {
                    demand_held(op, &stored.value, &format!("to change role `{name}`, which has them,"))?;
                    if stored.value == *role {
                        return Ok((RoleView::from(stored.clone()), false));
                    }
                }
                None if directory.roles.iter().count() >= Role::system().len() + MAX_ROLES => {
                    return Err(Error::invalid(format!("a realm has at most {MAX_ROLES} roles of its own"))
                        .hint("delete one that no group grants"));
                }
                None => {}
            }
            demand_held(op, role, &format!("to give them to role `{name}`"))?;
            directory.refuse_orphaning(&directory.with_role(role), &people, &people)?;
            let action = if stored.is_some() { "role.set" } else { "role.create" };
            let mut draft = Draft::new(op, action);
            directory.guard(&mut draft);
            people.guard(&mut draft);
            draft.put(role, expect_or_absent(stored.as_ref(), None))?;
            if let Some(revision) = self.0.commit_decided(op, draft).await? {
                let view = RoleView { role: role.clone(), revision: Some(revision) };
                return Ok((view, stored.is_none()));
            }
        }
        Err(overtaken())
    }
}

// === impl Directory ===

impl Directory {
    /// Returns the same with one own role as it is to be.
    fn with_role(&self, role: &Role) -> Self {
        let others = self.roles.iter().filter(|it| it.name != role.name).cloned();
        let roles = tollgate_model::access::Roles::new(others.chain([role.clone()]));
        Self { realm: self.realm.clone(), seq: self.seq, groups: self.groups.clone(), roles }
    }
}

// === impl RoleView ===

impl From<Stored<Role>> for RoleView {
    fn from(stored: Stored<Role>) -> Self {
        Self { role: stored.value, revision: Some(stored.revision) }
    }
}

/// Refuses unless the actor has all of a role in the whole realm: nobody knows where it is granted tomorrow.
fn demand_held(op: &Op, role: &Role, what: &str) -> Result<(), Error> {
    let permissions: &BTreeSet<Permission> = &role.permissions;
    demand_cover(op.rights(), &Rights::of(permissions.iter().copied(), &Reach::EVERYTHING), what)
}

fn refuse_system(name: &RoleName) -> Result<(), Error> {
    if Role::is_system(name) {
        return Err(Error::conflict("role-built-in", format!("role `{name}` belongs to the product"))
            .hint("make one of your own under another name"));
    }
    Ok(())
}

fn no_role(name: &RoleName) -> Error {
    Error::not_found(format!("there is no role `{name}`")).hint("see the roles").next(NextStep::ListRoles)
}
