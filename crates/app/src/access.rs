//! Who does what, from where: every use case takes an [`Op`] and begins with a demand.
//!
//! Which demand is the use case's decision, and the narrowest that will do is the right one: [`Op::demand`] for what
//! concerns the realm as a whole, [`Op::demand_in`] for what lies in an environment or a project, [`Op::demand_anywhere`]
//! for what everybody needs who may do the like somewhere, before it is known where this is. Lists show what [`Op::may`]
//! allows, without telling that there is more; and what lies where one may not read is answered as if it were not there
//! ([`Op::demand_of`]).

use std::sync::Arc;

use jiff::Timestamp;
use tollgate_model::ids::{RequestId, UserId};
use tollgate_model::names::{EnvironmentName, RealmName};

use crate::errors::{Error, ErrorKind};

pub use tollgate_model::access::{
    Extent, Grant, Group, Permission, Place, Reach, Rights, Role, Roles, Scope,
};

/// One call of a use case.
#[derive(Debug, Clone)]
pub struct Op {
    /// Who.
    pub actor: Actor,
    /// From where: a remote address, `cli` or `system`.
    pub source: String,
    /// Which request.
    pub request_id: RequestId,
    /// When.
    pub now: Timestamp,
    /// In which realm.
    pub realm: RealmName,
}

/// No rights.
static NOTHING: Rights = Rights::none();

/// Who acts.
#[derive(Debug, Clone)]
pub struct Actor {
    /// The user; `None` for the system itself.
    pub user: Option<UserId>,
    /// The name that the journal shows.
    pub name: String,
    /// What they may do.
    rights: Arc<Rights>,
    /// In which realm they may: an operation in another finds them without rights. `None` is in each, for the system.
    realm: Option<RealmName>,
    /// What they are limited to whatever their groups grant, as by the scopes of an API token.
    limit: Option<Arc<Rights>>,
}

// === impl Op ===

impl Op {
    /// Refuses unless the actor has a permission in the whole realm.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`] naming the permission.
    pub fn demand(&self, permission: Permission) -> Result<(), Error> {
        self.demand_in(permission, Place::REALM)
    }

    /// Refuses unless the actor has a permission in all of a place.
    ///
    /// The refusal names the place. Where that is not what the actor said, but what an object was found to lie in, use
    /// [`Op::demand_of`].
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`] naming the permission and where it would be needed.
    pub fn demand_in(&self, permission: Permission, place: Place<'_>) -> Result<(), Error> {
        if self.may(permission, place) { Ok(()) } else { Err(self.refusal(permission, place)) }
    }

    /// Refuses unless the actor has a permission somewhere in the realm.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`] naming the permission.
    pub fn demand_anywhere(&self, permission: Permission) -> Result<(), Error> {
        if self.rights().allows_anywhere(permission) {
            return Ok(());
        }
        Err(self.refusal(permission, Place::REALM))
    }

    /// Refuses unless the actor has a permission for some project of an environment: for lists of what is there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`] naming the permission and the environment.
    pub fn demand_somewhere_in(
        &self,
        permission: Permission,
        environment: &EnvironmentName,
    ) -> Result<(), Error> {
        if self.may_somewhere_in(permission, environment) {
            return Ok(());
        }
        Err(self.refusal(permission, Place::environment(environment)))
    }

    /// Refuses unless the actor has a permission where an object lies, which they named without saying where that is.
    ///
    /// To an actor who may neither do this there nor read it (`is_known`), it is as if there were no such object: `absent`
    /// must be the answer to a name that nothing has, too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`] naming the permission and the place; `absent`.
    pub fn demand_of(
        &self,
        permission: Permission,
        place: Place<'_>,
        is_known: bool,
        absent: impl FnOnce() -> Error,
    ) -> Result<(), Error> {
        match (self.may(permission, place), is_known) {
            (true, _) => Ok(()),
            (false, true) => Err(self.refusal(permission, place)),
            (false, false) => Err(absent().concealing()),
        }
    }

    /// Refuses unless the actor has a permission of the whole server: realm `default` grants those.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`] naming the permission; also in every other realm, whatever its groups grant.
    pub fn demand_server(&self, permission: Permission) -> Result<(), Error> {
        if self.realm != RealmName::default() {
            return Err(self.refusal(permission, Place::REALM).hint(format!(
                "this concerns the whole server: groups of realm `{}` grant it",
                RealmName::default()
            )));
        }
        self.demand(permission)
    }

    /// Tells whether the actor has a permission in all of a place.
    pub fn may(&self, permission: Permission, place: Place<'_>) -> bool {
        self.rights().allows(permission, place)
    }

    /// Tells whether the actor has a permission for some project of an environment.
    pub fn may_somewhere_in(&self, permission: Permission, environment: &EnvironmentName) -> bool {
        self.rights().allows_somewhere_in(permission, environment)
    }

    /// Returns what the actor may do in the realm of the operation; nothing when what is known of them is of another.
    pub fn rights(&self) -> &Rights {
        match &self.actor.realm {
            Some(realm) if *realm != self.realm => &NOTHING,
            _ => &self.actor.rights,
        }
    }

    fn refusal(&self, permission: Permission, place: Place<'_>) -> Error {
        // Whoever has it nowhere has no use for knowing where.
        let message = if self.rights().allows_anywhere(permission) {
            format!("this needs the permission `{permission}` {place}")
        } else {
            format!("this needs the permission `{permission}`")
        };
        Error::new(ErrorKind::Forbidden, "forbidden", message)
            .hint("ask an administrator of the realm for it")
    }
}

// === impl Actor ===

impl Actor {
    /// Returns the actor of what the process does by itself.
    pub fn system() -> Self {
        Self::new(None, "system", Rights::all())
    }

    /// Returns an actor who is nobody and may do nothing.
    pub fn nobody() -> Self {
        Self::new(None, "nobody", Rights::none())
    }

    /// Returns somebody with these rights, whatever the realm.
    pub fn new(user: Option<UserId>, name: impl Into<String>, rights: Rights) -> Self {
        Self { user, name: name.into(), rights: Arc::new(rights), realm: None, limit: None }
    }

    /// Returns what they may do in the realm that they were looked up in.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Limits them: from now on they may do what their groups grant and this has, too. Limiting again limits further.
    #[must_use]
    pub fn limited(self, limit: Rights) -> Self {
        let limit = match &self.limit {
            Some(known) => known.intersect(&limit),
            None => limit,
        };
        let rights = Arc::new(self.rights.intersect(&limit));
        Self { rights, limit: Some(Arc::new(limit)), ..self }
    }

    /// Returns the same actor with what groups of a realm grant them by now.
    #[must_use]
    pub(crate) fn with_rights(&self, granted: Rights, realm: &RealmName) -> Self {
        let rights = self.limited_to(granted);
        Self { rights: Arc::new(rights), realm: Some(realm.clone()), ..self.clone() }
    }

    /// Returns what is left of rights by the actor's limit.
    pub(crate) fn limited_to(&self, granted: Rights) -> Rights {
        match &self.limit {
            Some(limit) => granted.intersect(limit),
            None => granted,
        }
    }

    /// Takes a permission away.
    #[must_use]
    pub fn without(self, permission: Permission) -> Self {
        let mut rights = Rights::clone(&self.rights);
        rights.remove(permission);
        Self { rights: Arc::new(rights), ..self }
    }
}
