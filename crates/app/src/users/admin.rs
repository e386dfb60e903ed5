//! Administration of users: who can sign in to this server at all.
//!
//! Users live in realm `default` and are members of groups in any realm, so what is done to one takes power over all that
//! they may do: whoever sets another's password can be them from then on. It is refused to those whose own rights do not
//! have all of that user's, in every realm.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tollgate_credential::passwords::Password;
use tollgate_model::access::{Grant, Group, Permission, Reach};
use tollgate_model::ids::UserId;
use tollgate_model::names::{GroupName, RealmName, RoleName, UserName};
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::{Object as _, keys};
use tollgate_model::users::{SecondFactor, User, UserToken};
use tollgate_store::{Expect, Page, Stored};

use super::{Users, demand_power_by};
use crate::access::{Op, Place, Rights};
use crate::changes::{Draft, check_if_match, overtaken};
use crate::directory::{Directory, People, demand_cover};
use crate::errors::Error;
use crate::lists::{ListPage, ListRequest};

/// Names of which the journal would not tell whether a user is meant.
const RESERVED: [&str; 3] = ["system", "nobody", "anonymous"];

/// A user as they are shown: never anything of their password.
#[derive(Debug, Clone, PartialEq)]
pub struct UserView {
    /// Never given to another.
    pub id: UserId,
    /// What they sign in with.
    pub name: UserName,
    /// When they were made.
    pub created_at: Timestamp,
    /// Since when they can't sign in.
    pub disabled_at: Option<Timestamp>,
    /// Whether they are to choose another password.
    pub password_is_temporary: bool,
    /// The groups that they are in, in the realms whose groups the actor may read.
    pub groups: BTreeMap<RealmName, Vec<GroupName>>,
}

/// A user to make.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Their name.
    pub name: UserName,
    /// Their first password; one is made up when there is none.
    pub password: Option<Password>,
    /// Groups of realm `default` to put them into.
    pub groups: BTreeSet<GroupName>,
}

/// A user whose password was set.
#[derive(Debug)]
pub struct UserWithPassword {
    /// The user.
    pub user: UserView,
    /// The password, shown this once; `None` when the caller brought it.
    pub password: Option<Password>,
}

/// What a user may do in a realm.
#[derive(Debug, Clone, PartialEq)]
pub struct UserRights {
    /// Who.
    pub user: UserName,
    /// Whether they can't do any of it now, because they are disabled.
    pub is_disabled: bool,
    /// The groups that they are in.
    pub groups: Vec<GroupName>,
    /// Each permission that they hold, with where, and through what, ordered by permission.
    pub held: Vec<HeldRight>,
}

/// A permission, where it is held, and through what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldRight {
    /// What they may do.
    pub permission: Permission,
    /// Where.
    pub reach: Reach,
    /// Through which group.
    pub group: GroupName,
    /// Through which of its roles.
    pub role: RoleName,
}

/// What somebody may do in a realm.
#[derive(Debug, Clone, PartialEq)]
pub struct RealmRights {
    /// The realm.
    pub realm: RealmName,
    /// The groups that they are in.
    pub groups: Vec<GroupName>,
    /// What they may do.
    pub rights: Rights,
}

/// A user who is to be changed, with what the decision is based on.
struct Managed {
    user: Stored<User>,
    people: People,
    directories: Vec<Directory>,
}

// === impl Users ===

impl Users {
    /// Returns users by name, a page at a time: those whose names hold a text, in whatever capitals; all for none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`], [`ErrorKind::Unavailable`].
    pub async fn search(
        &self,
        op: &Op,
        text: &str,
        request: ListRequest,
    ) -> Result<ListPage<UserView>, Error> {
        op.demand_server(Permission::UserRead)?;
        let home = RealmName::default();
        let page = if text.is_empty() {
            self.0.page::<User>(&home, String::new(), request).await?
        } else {
            let after = request.cursor.clone();
            let page = Page { prefix: String::new(), after, limit: request.size() + 1 };
            let found = self.0.store().search::<User>(&home, &page, text).await?;
            ListPage::of(found.into_iter(), request, |stored| stored.value.key())
        };
        let directories = self.0.directories().await?;
        Ok(page.map(|stored| shown(op, &stored.value, &directories)))
    }

    /// Returns one user with their revision.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`].
    pub async fn get(&self, op: &Op, name: &UserName) -> Result<Stored<UserView>, Error> {
        op.demand_server(Permission::UserRead)?;
        let Stored { value, revision } = self.stored_user(name).await?;
        Ok(Stored { value: shown(op, &value, &self.0.directories().await?), revision })
    }

    /// Makes a user, in groups of realm `default` when that is asked for. Their password is temporary, whoever chose it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] when the name is taken, also in other capitals; [`ErrorKind::Invalid`] for a name that the
    /// journal has another use for; [`ErrorKind::NotFound`] for an unknown group; [`ErrorKind::Forbidden`] with code
    /// `rights-exceeded` for a group that grants what the actor does not have.
    pub async fn create(&self, op: &Op, input: NewUser) -> Result<UserWithPassword, Error> {
        let NewUser { name, password, groups } = input;
        demand_creation(op, &groups)?;
        check_name(&name)?;
        let (plain, made_up) = self.chosen(password)?;
        let password_hash = self.0.hash_password(plain.clone()).await?;
        let user = User {
            id: UserId::new(op.now, self.0.id_bytes()?),
            name,
            password_hash,
            created_at: op.now,
            disabled_at: None,
            password_is_temporary: true,
        };
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let (people, directory) = (self.0.people().await?, self.0.directory(&op.realm).await?);
            let op = &directory.renew(op);
            demand_creation(op, &groups)?;
            let same = |other: &&User| other.name.as_str().eq_ignore_ascii_case(user.name.as_str());
            if let Some(other) = people.all().find(same) {
                let message = format!("there is a user `{}` already", other.name);
                return Err(Error::conflict("already-exists", message)
                    .hint("choose another name")
                    .next(NextStep::SeeUser { user: other.name.clone() }));
            }
            let mut draft = Draft::new(op, "user.create");
            people.guard(&mut draft);
            for name in &groups {
                let stored = directory.group(name).ok_or_else(|| {
                    Error::not_found(format!("there is no group `{name}` in realm `{}`", op.realm))
                        .hint("see the groups")
                        .next(NextStep::ListGroups)
                })?;
                let rights = stored.value.rights(&directory.roles);
                let what = format!("to put somebody into group `{name}`");
                demand_cover(op.rights(), &rights, &what)?;
                let mut group = stored.value.clone();
                group.members.insert(user.id);
                draft.put(&group, Expect::Revision(stored.revision))?;
            }
            if !groups.is_empty() {
                directory.guard(&mut draft);
            }
            draft.put(&user, Expect::Absent)?;
            if self.0.commit_decided(op, draft).await?.is_some() {
                let user = shown(op, &user, &self.0.directories().await?);
                return Ok(UserWithPassword { user, password: made_up.then_some(plain) });
            }
        }
        Err(overtaken())
    }

    /// Keeps a user from signing in and from all that their tokens could do, at once. Disabling again changes nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Forbidden`] with code `rights-exceeded` when the user may do what the actor
    /// may not; [`ErrorKind::Conflict`] with code `last-administrator`; [`ErrorKind::PreconditionFailed`].
    pub async fn disable(
        &self,
        op: &Op,
        name: &UserName,
        if_match: Option<u64>,
    ) -> Result<Stored<UserView>, Error> {
        let change = |user: &mut User| {
            user.disabled_at.get_or_insert(op.now);
        };
        self.change(op, name, if_match, "user.disable", change).await
    }

    /// Lets a user sign in again; tokens that were not deleted work again.
    ///
    /// # Errors
    ///
    /// As [`Users::disable`].
    pub async fn enable(
        &self,
        op: &Op,
        name: &UserName,
        if_match: Option<u64>,
    ) -> Result<Stored<UserView>, Error> {
        self.change(op, name, if_match, "user.enable", |user| user.disabled_at = None).await
    }

    /// Gives another user a temporary password, and deletes all their tokens: whoever had them knows no more.
    ///
    /// # Errors
    ///
    /// As [`Users::disable`]; [`ErrorKind::Conflict`] with code `own-password` for the actor's own: whoever found a session
    /// open must not get the account with it.
    pub async fn reset_password(
        &self,
        op: &Op,
        name: &UserName,
        password: Option<Password>,
    ) -> Result<UserWithPassword, Error> {
        op.demand_server(Permission::UserUpdate)?;
        let (plain, made_up) = self.chosen(password)?;
        let password_hash = self.0.hash_password(plain.clone()).await?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let managed = self.managed(op, Permission::UserUpdate, name).await?;
            let mut user = managed.user.value.clone();
            if op.actor.user == Some(user.id) {
                let message = "this is your own password, and who you are is not proven by a session alone";
                return Err(Error::conflict("own-password", message)
                    .hint("change it with the one that you have, or ask another administrator"));
            }
            user.password_hash.clone_from(&password_hash);
            user.password_is_temporary = true;
            let mut draft = Draft::new(op, "user.reset-password");
            managed.guard(&mut draft);
            self.delete_tokens(user.id, &mut draft).await?;
            draft.put(&user, Expect::Revision(managed.user.revision))?;
            if self.0.commit_decided(op, draft).await?.is_some() {
                let user = shown(op, &user, &managed.directories);
                return Ok(UserWithPassword { user, password: made_up.then_some(plain) });
            }
        }
        Err(overtaken())
    }

    /// Deletes all tokens of a user, sign-ins and API tokens alike.
    ///
    /// # Errors
    ///
    /// As [`Users::disable`].
    pub async fn end_sessions(&self, op: &Op, name: &UserName) -> Result<usize, Error> {
        op.demand_server(Permission::UserUpdate)?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let managed = self.managed(op, Permission::UserUpdate, name).await?;
            let mut draft = Draft::new(op, "user.end-sessions");
            managed.guard(&mut draft);
            let ended = self.delete_tokens(managed.user.value.id, &mut draft).await?;
            if ended == 0 || self.0.commit_decided(op, draft).await?.is_some() {
                return Ok(ended);
            }
        }
        Err(overtaken())
    }

    /// Deletes a user with their tokens, and takes them out of all groups. Their id is never given to another, so neither
    /// membership nor token passes to the next user of their name.
    ///
    /// # Errors
    ///
    /// As [`Users::disable`].
    pub async fn delete(&self, op: &Op, name: &UserName, if_match: Option<u64>) -> Result<(), Error> {
        op.demand_server(Permission::UserDelete)?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let managed = self.managed(op, Permission::UserDelete, name).await?;
            check_if_match(keys::user(name), Some(&managed.user), if_match)?;
            let id = managed.user.value.id;
            managed.refuse_orphaning()?;
            let mut draft = Draft::new(op, "user.delete");
            managed.guard(&mut draft);
            draft.delete::<User>(keys::user(name), Expect::Revision(managed.user.revision));
            self.delete_tokens(id, &mut draft).await?;
            if self.second_factor_of(id).await?.is_some() {
                draft.delete::<SecondFactor>(keys::second_factor(id), Expect::Any);
            }
            for Stored { value: group, revision } in managed.groups_of(id, &op.realm) {
                let members = group.members.iter().copied().filter(|member| *member != id).collect();
                draft.put(&Group { members, ..group.clone() }, Expect::Revision(*revision))?;
            }
            if self.0.commit_decided(op, draft).await?.is_some() {
                drop(attempts);
                if let Err(error) = self.0.forget_member(op, id).await {
                    tracing::warn!(%error, user = %id, "a group of another realm still names a deleted user");
                }
                return Ok(());
            }
        }
        Err(overtaken())
    }

    /// Returns what a user may do in the realm of the operation, and through what.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`] without the permission to read groups, unless the actor asks about themselves;
    /// [`ErrorKind::NotFound`], also for a user who is in none of its groups when the actor may not read users.
    pub async fn rights(&self, op: &Op, name: &UserName) -> Result<UserRights, Error> {
        let (people, directory) = (self.0.people().await?, self.0.directory(&op.realm).await?);
        let user = people.by_name(name);
        if op.actor.user.is_none() || user.map(|user| user.id) != op.actor.user {
            op.demand(Permission::GroupRead)?;
        }
        let user = user.ok_or_else(|| no_user(name))?;
        let groups = directory.groups_of(user.id);
        if groups.is_empty() && op.actor.user != Some(user.id) {
            let actor = self.0.actor_in(&op.actor, &RealmName::default()).await?;
            if !actor.rights().allows(Permission::UserRead, Place::REALM) {
                return Err(no_user(name));
            }
        }
        let mut held = Vec::new();
        for name in &groups {
            let Some(group) = directory.group(name) else { continue };
            for grant in &group.value.grants {
                held.extend(held_through(grant, name, &directory));
            }
        }
        held.sort();
        Ok(UserRights { user: user.name.clone(), is_disabled: user.disabled_at.is_some(), groups, held })
    }

    /// Returns what the actor may do in each realm in which they may do anything that groups grant.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`].
    pub async fn own_rights(&self, op: &Op) -> Result<Vec<RealmRights>, Error> {
        let mut all = Vec::new();
        for directory in self.0.directories().await? {
            let groups = op.actor.user.map(|user| directory.groups_of(user)).unwrap_or_default();
            if !groups.is_empty() || op.actor.user.is_none() {
                let rights = directory.rights_of_actor(&op.actor);
                all.push(RealmRights { realm: directory.realm, groups, rights });
            }
        }
        Ok(all)
    }

    /// Changes whether a user can sign in.
    async fn change(
        &self,
        op: &Op,
        name: &UserName,
        if_match: Option<u64>,
        action: &str,
        change: impl Fn(&mut User),
    ) -> Result<Stored<UserView>, Error> {
        op.demand_server(Permission::UserUpdate)?;
        let mut attempts = self.0.attempts();
        while attempts.next().await {
            let managed = self.managed(op, Permission::UserUpdate, name).await?;
            check_if_match(keys::user(name), Some(&managed.user), if_match)?;
            let mut user = managed.user.value.clone();
            change(&mut user);
            let view = shown(op, &user, &managed.directories);
            if user == managed.user.value {
                return Ok(Stored { value: view, revision: managed.user.revision });
            }
            if user.disabled_at.is_some() {
                managed.refuse_orphaning()?;
            }
            let mut draft = Draft::new(op, action);
            managed.guard(&mut draft);
            draft.put(&user, Expect::Revision(managed.user.revision))?;
            if let Some(revision) = self.0.commit_decided(op, draft).await? {
                return Ok(Stored { value: view, revision });
            }
        }
        Err(overtaken())
    }

    /// Reads all that a decision about a user is based on, and refuses it to whoever has less rights than they.
    async fn managed(&self, op: &Op, permission: Permission, name: &UserName) -> Result<Managed, Error> {
        let (people, directories) = (self.0.people().await?, self.0.directories().await?);
        let home = directories.iter().find(|directory| directory.realm == op.realm);
        home.ok_or_else(overtaken)?.renew(op).demand_server(permission)?;
        let user = self.stored_user(name).await?;
        demand_power_by(&directories, op, &user.value)?;
        Ok(Managed { user, people, directories })
    }

    async fn stored_user(&self, name: &UserName) -> Result<Stored<User>, Error> {
        let stored = self.0.store().get::<User>(&RealmName::default(), &keys::user(name)).await?;
        stored.ok_or_else(|| no_user(name))
    }

    /// Puts the end of all tokens of a user into a change; tells how many there are.
    async fn delete_tokens(&self, user: UserId, draft: &mut Draft) -> Result<usize, Error> {
        let tokens = self.0.all::<UserToken>(&RealmName::default(), "").await?;
        let of_user: Vec<_> = tokens.iter().filter(|token| token.value.user == user).collect();
        for token in &of_user {
            draft.delete::<UserToken>(token.value.key(), Expect::Any);
        }
        Ok(of_user.len())
    }

    /// Returns the password that was brought, or one that is made up, and whether it is.
    fn chosen(&self, password: Option<Password>) -> Result<(Password, bool), Error> {
        match password {
            Some(password) => Ok((password, false)),
            None => Ok((Password::generate(self.0.random())?, true)),
        }
    }
}

// === impl Managed ===

impl Managed {
    fn guard(&self, draft: &mut Draft) {
        self.people.guard(draft);
        for directory in &self.directories {
            directory.guard(draft);
        }
    }

    /// Refuses to leave a realm without anybody who may do everything.
    fn refuse_orphaning(&self) -> Result<(), Error> {
        let after = self.people.without(self.user.value.id);
        self.directories
            .iter()
            .try_for_each(|directory| directory.refuse_orphaning(directory, &self.people, &after))
    }

    fn groups_of(&self, user: UserId, realm: &RealmName) -> impl Iterator<Item = &Stored<Group>> {
        let here = self.directories.iter().filter(move |directory| directory.realm == *realm);
        here.flat_map(|directory| &directory.groups)
            .filter(move |stored| stored.value.members.contains(&user))
    }
}

/// Returns the realms whose groups the actor may read.
fn readable<'a>(op: &Op, directories: &'a [Directory]) -> Vec<&'a Directory> {
    let may_read = |directory: &&Directory| {
        directory.rights_of_actor(&op.actor).allows(Permission::GroupRead, Place::REALM)
    };
    directories.iter().filter(may_read).collect()
}

fn is_own(op: &Op, user: &User) -> bool {
    op.actor.user == Some(user.id)
}

/// Shows a user with the groups that the actor may know of.
fn shown(op: &Op, user: &User, directories: &[Directory]) -> UserView {
    let known = if is_own(op, user) { directories.iter().collect() } else { readable(op, directories) };
    view(user, known)
}

fn view(user: &User, directories: Vec<&Directory>) -> UserView {
    let groups =
        directories.into_iter().map(|directory| (directory.realm.clone(), directory.groups_of(user.id)));
    UserView {
        id: user.id,
        name: user.name.clone(),
        created_at: user.created_at,
        disabled_at: user.disabled_at,
        password_is_temporary: user.password_is_temporary,
        groups: groups.filter(|(_, groups)| !groups.is_empty()).collect(),
    }
}

fn held_through<'a>(
    grant: &'a Grant,
    group: &'a GroupName,
    directory: &'a Directory,
) -> impl Iterator<Item = HeldRight> + 'a {
    let reach = grant.reach();
    let permissions = directory.roles.get(&grant.role).map(|role| role.permissions.iter().copied());
    let counts = move |permission: &Permission| permission.counts_within(&grant.reach());
    permissions.into_iter().flatten().filter(counts).map(move |permission| HeldRight {
        permission,
        reach: reach.clone(),
        group: group.clone(),
        role: grant.role.clone(),
    })
}

/// Making a user takes that permission; putting them into groups takes that of changing groups, too.
fn demand_creation(op: &Op, groups: &BTreeSet<GroupName>) -> Result<(), Error> {
    op.demand_server(Permission::UserCreate)?;
    if groups.is_empty() { Ok(()) } else { op.demand_server(Permission::GroupUpdate) }
}

fn check_name(name: &UserName) -> Result<(), Error> {
    if RESERVED.iter().any(|reserved| name.as_str().eq_ignore_ascii_case(reserved)) {
        return Err(Error::invalid(format!(
            "no user can be called `{name}`: the journal means others by it"
        ))
        .hint("choose another name"));
    }
    Ok(())
}

fn no_user(name: &UserName) -> Error {
    Error::not_found(format!("there is no user `{name}`")).hint("see the users").next(NextStep::ListUsers)
}
