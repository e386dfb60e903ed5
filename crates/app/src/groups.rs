//! Groups: who holds which roles in a realm, and where.
//!
//! Nobody hands out what they do not have: whoever changes a group must hold all that it gave before and all that it gives
//! from then on, wherever it gives it. So those who manage access can't make themselves more than they are, and can't take
//! the members of a more powerful group out of it either.

use std::collections::BTreeSet;

use tollgate_model::access::{Grant, Group};
use tollgate_model::document::GroupFile;
use tollgate_model::environments::Environment;
use tollgate_model::ids::UserId;
use tollgate_model::names::{EnvironmentName, GroupName, RealmName, UserName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_store::{Expect, Stored};

use crate::App;
use crate::access::{Op, Permission};
use crate::changes::{Draft, check_if_match, expect_or_absent, overtaken};
use crate::directory::{Directory, People, demand_cover};
use crate::errors::Error;

/// Most groups of a realm: they are read with each request.
const MAX_GROUPS: usize = 1000;
/// Most members of a group.
const MAX_MEMBERS: usize = 5000;
/// Most grants of a group.
const MAX_GRANTS: usize = 100;
/// Most names of a limit of a grant.
const MAX_NAMES: usize = 200;
/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 500;

/// Use cases of groups.
pub struct Groups(pub(crate) App);

/// A group as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupView {
    /// The group.
    pub group: Group,
    /// The names of its members.
    pub members: BTreeSet<UserName>,
    /// Its grants, each with the permissions of its role of which its limits leave nothing.
    pub grants: Vec<(Grant, Vec<Permission>)>,
    /// Its revision.
    pub revision: u64,
}

/// One change of a group.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupEdit {
    /// Puts users in.
    Add(BTreeSet<UserName>),
    /// Takes users out; those who are not in it are no fault.
    Remove(BTreeSet<UserName>),
    /// Grants something.
    Grant(Grant),
    /// Takes a grant away, with the very limits that it has.
    Ungrant(Grant),
}

/// Whether a group must be there before it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Absent,
    Present,
    Either,
}

// === impl Groups ===

impl Groups {
    /// Returns the groups of the realm.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn list(&self, op: &Op) -> Result<Vec<GroupView>, Error> {
        op.demand(Permission::GroupRead)?;
        let (directory, people) = (self.0.directory(&op.realm).await?, self.0.people().await?);
        Ok(directory.groups.iter().map(|stored| view(stored, &directory, &people)).collect())
    }

    /// Returns one group.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`].
    pub async fn get(&self, op: &Op, name: &GroupName) -> Result<GroupView, Error> {
        op.demand(Permission::GroupRead)?;
        let (directory, people) = (self.0.directory(&op.realm).await?, self.0.people().await?);
        let stored = directory.group(name).ok_or_else(|| no_group(name))?;
        Ok(view(stored, &directory, &people))
    }

    /// Makes a group.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when it exists; [`ErrorKind::Forbidden`] with code `rights-exceeded` when it would grant
    /// what the actor does not have; [`ErrorKind::NotFound`] for a role, an environment or a user that there is not;
    /// [`ErrorKind::Invalid`]. Nothing is stored then.
    pub async fn create(&self, op: &Op, file: &GroupFile) -> Result<GroupView, Error> {
        op.demand(Permission::GroupCreate)?;
        self.change(op, &file.name, Before::Absent, None, "group.create", |_, people| wanted(file, people))
            .await
    }

    /// Makes a group what a file says, whether it is there or not; tells whether it is new.
    ///
    /// # Errors
    ///
    /// As [`Groups::create`]; [`ErrorKind::Conflict`] with code `last-administrator` when nobody would be left who may do
    /// everything; [`ErrorKind::PreconditionFailed`].
    pub async fn put(
        &self,
        op: &Op,
        file: &GroupFile,
        if_match: Option<u64>,
    ) -> Result<(GroupView, bool), Error> {
        // Which of the two it needs is known when it is known whether the group is there.
        if op.demand(Permission::GroupUpdate).is_err() {
            op.demand(Permission::GroupCreate)?;
        }
        let is_new = self.0.store().get::<Group>(&op.realm, &keys::group(&file.name)).await?.is_none();
        let change = |_: Option<&Group>, people: &People| wanted(file, people);
        let view = self.change(op, &file.name, Before::Either, if_match, "group.set", change).await?;
        Ok((view, is_new))
    }

    /// Changes members or grants of a group.
    ///
    /// # Errors
    ///
    /// As [`Groups::put`]; [`ErrorKind::NotFound`] when there is no such group.
    pub async fn edit(
        &self,
        op: &Op,
        name: &GroupName,
        edit: &GroupEdit,
        if_match: Option<u64>,
    ) -> Result<GroupView, Error> {
        op.demand(Permission::GroupUpdate)?;
        let change = |before: Option<&Group>, people: &People| {
            let mut group = before.cloned().ok_or_else(|| no_group(name))?;
            match edit {
                GroupEdit::Add(names) => group.members.extend(ids(names, people)?),
                GroupEdit::Remove(names) => {
                    let gone = ids(names, people)?;
                    group.members.retain(|member| !gone.contains(member));
                }
                GroupEdit::Grant(grant) => {
                    group.grants.insert(grant.clone());
                }
                GroupEdit::Ungrant(grant) => {
                    if !group.grants.remove(grant) {
                        return Err(Error::not_found(format!(
                            "group `{name}` does not grant `{}` {}",
                            grant.role,
                            grant.reach()
                        ))
                        .hint("name the limits too, as the group shows them")
                        .next(NextStep::SeeGroup { group: name.clone() }));
                    }
                }
            }
            Ok(group)
        };
        self.change(op, name, Before::Present, if_match, edit.action(), change).await
    }

    /// Deletes a group; its members lose what it granted.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`], [`ErrorKind::PreconditionFailed`]; [`ErrorKind::Forbidden`] when it grants what the actor
    /// does not have; [`ErrorKind::Conflict`] for the group that the realm began with, and when nobody would be left who
    /// may do everything.
    pub async fn delete(&self, op: &Op, name: &GroupName, if_match: Option<u64>) -> Result<(), Error> {
        op.demand(Permission::GroupDelete)?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let (directory, people) = (self.0.directory(&op.realm).await?, self.0.people().await?);
            let op = &directory.renew(op);
            op.demand(Permission::GroupDelete)?;
            let stored = directory.group(name).ok_or_else(|| no_group(name))?;
            check_if_match(keys::group(name), Some(stored), if_match)?;
            if *name == GroupName::administrators() {
                return Err(Error::conflict("group-built-in", format!("group `{name}` can't be deleted"))
                    .hint("change its members and what it grants instead"));
            }
            let rights = stored.value.rights(&directory.roles);
            demand_cover(op.rights(), &rights, &format!("to delete group `{name}`"))?;
            directory.refuse_orphaning(&directory.with_group(name, None), &people, &people)?;
            let mut draft = Draft::new(op, "group.delete");
            directory.guard(&mut draft);
            people.guard(&mut draft);
            draft.delete::<Group>(keys::group(name), Expect::Revision(stored.revision));
            if self.0.commit_decided(op, draft).await?.is_some() {
                return Ok(());
            }
        }
        Err(overtaken())
    }

    async fn change(
        &self,
        op: &Op,
        name: &GroupName,
        before: Before,
        if_match: Option<u64>,
        action: &str,
        change: impl Fn(Option<&Group>, &People) -> Result<Group, Error>,
    ) -> Result<GroupView, Error> {
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let (directory, people) = (self.0.directory(&op.realm).await?, self.0.people().await?);
            let op = &directory.renew(op);
            let stored = directory.group(name);
            match (before, stored) {
                (Before::Absent, _) => op.demand(Permission::GroupCreate)?,
                // Who may only change groups finds none to change.
                (Before::Either, None) => op.demand(Permission::GroupCreate).map_err(|_| no_group(name))?,
                _ => op.demand(Permission::GroupUpdate)?,
            }
            match (before, stored) {
                (Before::Absent, Some(_)) => return Err(taken(name)),
                (Before::Present, None) => return Err(no_group(name)),
                _ => check_if_match(keys::group(name), stored, if_match)?,
            }
            let mut group = change(stored.map(|stored| &stored.value), &people)?;
            // Members who were deleted are gone for good: nobody gets their ids.
            group.members.retain(|member| people.get(*member).is_some());
            check_size(&group, &directory)?;
            let mut draft = Draft::new(op, action);
            self.check_grants(op, &group, &directory, &mut draft).await?;
            self.demand_cover(op, stored.map(|stored| &stored.value), &group, &directory)?;
            if let Some(stored) = stored.filter(|stored| stored.value == group) {
                return Ok(view(stored, &directory, &people));
            }
            let after = directory.with_group(name, Some(&group));
            directory.refuse_orphaning(&after, &people, &people)?;
            directory.guard(&mut draft);
            people.guard(&mut draft);
            draft.put(&group, expect_or_absent(stored, None))?;
            if let Some(revision) = self.0.commit_decided(op, draft).await? {
                return Ok(view(&Stored { value: group, revision }, &directory, &people));
            }
        }
        Err(overtaken())
    }

    fn demand_cover(
        &self,
        op: &Op,
        before: Option<&Group>,
        after: &Group,
        directory: &Directory,
    ) -> Result<(), Error> {
        let name = &after.name;
        let held = op.rights();
        if let Some(before) = before {
            let rights = before.rights(&directory.roles);
            demand_cover(held, &rights, &format!("to change group `{name}`, which has them,"))?;
        }
        let rights = after.rights(&directory.roles);
        demand_cover(held, &rights, &format!("to grant this to group `{name}`"))
    }

    /// Refuses grants of roles that there are not, or limited to environments that there are not, also when they are
    /// deleted at the same moment. Projects need not be there: their first pipeline makes them.
    async fn check_grants(
        &self,
        op: &Op,
        group: &Group,
        directory: &Directory,
        draft: &mut Draft,
    ) -> Result<(), Error> {
        let mut environments = BTreeSet::new();
        for grant in &group.grants {
            if directory.roles.get(&grant.role).is_none() {
                let names: Vec<_> = directory.roles.iter().map(|role| format!("`{}`", role.name)).collect();
                return Err(Error::not_found(format!("there is no role `{}`", grant.role))
                    .hint(format!("there are {}", names.join(", "))));
            }
            environments.extend(grant.environments.names());
        }
        if environments.is_empty() {
            return Ok(());
        }
        let known = self.0.all::<Environment>(&op.realm, "").await?;
        let known: BTreeSet<_> = known.iter().map(|stored| &stored.value.name).collect();
        for environment in environments {
            if !known.contains(environment) {
                let names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
                return Err(Error::not_found(format!(
                    "realm `{}` has no environment `{environment}`",
                    op.realm
                ))
                .hint(format!("it has {}", names.join(", "))));
            }
            draft.guard_environment(environment);
        }
        Ok(())
    }
}

// === impl GroupEdit ===

impl GroupEdit {
    fn action(&self) -> &'static str {
        match self {
            Self::Add(_) => "group.add",
            Self::Remove(_) => "group.remove",
            Self::Grant(_) => "group.grant",
            Self::Ungrant(_) => "group.ungrant",
        }
    }
}

// === impl App ===

impl App {
    /// Takes an environment out of the limits of every grant, so that none reaches the next one of its name. A grant that
    /// was limited to it alone goes: without names it would reach everywhere.
    pub(crate) async fn cut_grants(
        &self,
        realm: &RealmName,
        environment: &EnvironmentName,
        draft: &mut Draft,
    ) -> Result<(), Error> {
        let directory = self.directory(realm).await?;
        directory.guard(draft);
        for Stored { value: group, revision } in &directory.groups {
            let cut = |grant: &Grant| {
                let environments = grant.environments.without(environment)?;
                Some(Grant { environments, ..grant.clone() })
            };
            let grants: BTreeSet<Grant> = group.grants.iter().filter_map(cut).collect();
            if grants != group.grants {
                draft.put(&Group { grants, ..group.clone() }, Expect::Revision(*revision))?;
            }
        }
        Ok(())
    }

    /// Takes a user who was deleted out of the groups of other realms than `default`. An id that stays behind has no
    /// power, and is never given to another.
    pub(crate) async fn forget_member(&self, op: &Op, user: UserId) -> Result<(), Error> {
        for realm in self.store().realms().await? {
            let realm = realm.value.name;
            for Stored { value: mut group, revision } in self.all::<Group>(&realm, "").await? {
                if group.members.remove(&user) {
                    let mut draft =
                        Draft::new(op, "group.remove").realm(realm.clone()).reason("the member was deleted");
                    draft.put(&group, Expect::Revision(revision))?;
                    // Whoever changed it meanwhile took the member out as well.
                    self.commit_decided(op, draft).await?;
                }
            }
        }
        Ok(())
    }
}

fn wanted(file: &GroupFile, people: &People) -> Result<Group, Error> {
    let GroupFile { name, description, members, grants } = file;
    Ok(Group {
        name: name.clone(),
        description: description.clone(),
        members: ids(members, people)?,
        grants: grants.clone(),
    })
}

fn ids(names: &BTreeSet<UserName>, people: &People) -> Result<BTreeSet<UserId>, Error> {
    let id = |name| {
        people.by_name(name).map(|user| user.id).ok_or_else(|| {
            Error::not_found(format!("there is no user `{name}`"))
                .hint("make that user first")
                .next(NextStep::CreateUser)
        })
    };
    names.iter().map(id).collect()
}

fn view(stored: &Stored<Group>, directory: &Directory, people: &People) -> GroupView {
    let group = &stored.value;
    let members = group.members.iter().filter_map(|id| Some(people.get(*id)?.name.clone()));
    let without_effect = |grant: &Grant| (grant.clone(), grant.without_effect(&directory.roles));
    GroupView {
        members: members.collect(),
        grants: group.grants.iter().map(without_effect).collect(),
        group: group.clone(),
        revision: stored.revision,
    }
}

fn check_size(group: &Group, directory: &Directory) -> Result<(), Error> {
    check_description(&group.description)?;
    let names =
        group.grants.iter().map(|it| it.environments.names().count().max(it.projects.names().count()));
    let counts = [
        ("groups in a realm", directory.with_group(&group.name, Some(group)).groups.len(), MAX_GROUPS),
        ("members of a group", group.members.len(), MAX_MEMBERS),
        ("grants of a group", group.grants.len(), MAX_GRANTS),
        ("names in a limit of a grant", names.max().unwrap_or_default(), MAX_NAMES),
    ];
    match counts.iter().find(|(_, count, most)| count > most) {
        Some((what, count, most)) => Err(Error::invalid(format!("{count} are too many {what}"))
            .hint(format!("there can be {most}; grant by role and project rather than one by one"))),
        None => Ok(()),
    }
}

/// Refuses a description that nobody would read.
pub(crate) fn check_description(description: &str) -> Result<(), Error> {
    if description.chars().any(char::is_control) {
        return Err(
            Error::invalid("the description holds control characters").hint("write it in one line of text")
        );
    }
    match description.chars().count() {
        0..=MAX_DESCRIPTION => Ok(()),
        length => Err(Error::invalid(format!("the description has {length} characters"))
            .hint(format!("write at most {MAX_DESCRIPTION}"))),
    }
}

fn no_group(name: &GroupName) -> Error {
    Error::not_found(format!("there is no group `{name}`")).hint("see the groups").next(NextStep::ListGroups)
}

fn taken(name: &GroupName) -> Error {
    Error::conflict("already-exists", format!("there is a group `{name}` already"))
        .hint("choose another name, or change that one")
        .next(NextStep::SeeGroup { group: name.clone() })
}
