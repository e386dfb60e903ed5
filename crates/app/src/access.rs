//! Who does what, from where: every use case takes an [`Op`] and begins with [`Op::demand`].

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use tollgate_model::ids::{RequestId, UserId};
use tollgate_model::names::RealmName;

use crate::errors::{Error, ErrorKind};

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

/// Who acts.
#[derive(Debug, Clone)]
pub struct Actor {
    /// The user; `None` for the system itself.
    pub user: Option<UserId>,
    /// The name that the journal shows.
    pub name: String,
    /// What they may do.
    pub permissions: BTreeSet<Permission>,
}

macro_rules! permissions {
    ($($(#[$doc:meta])* $permission:ident = $text:literal,)*) => {
        /// What somebody may do; each use case demands one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Permission { $($(#[$doc])* $permission,)* }

        impl Permission {
            /// Every permission.
            pub const ALL: &'static [Self] = &[$(Self::$permission,)*];

            /// Returns the name, `resource:verb`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$permission => $text,)* }
            }
        }
    };
}

permissions! {
    /// Read accounts: names of fields only.
    AccountRead = "account:read",
    /// Set and delete accounts.
    AccountUpdate = "account:update",
    /// Read API keys: never the secret.
    ApiKeyRead = "api-key:read",
    /// Create, rotate and import API keys.
    ApiKeyCreate = "api-key:create",
    /// Revoke API keys.
    ApiKeyRevoke = "api-key:revoke",
    /// Read and verify the journal.
    AuditRead = "audit:read",
    /// Read Basic Auth credentials: never the password.
    BasicAuthRead = "basic-auth:read",
    /// Create Basic Auth credentials.
    BasicAuthCreate = "basic-auth:create",
    /// Revoke Basic Auth credentials.
    BasicAuthRevoke = "basic-auth:revoke",
    /// Read consumers.
    ConsumerRead = "consumer:read",
    /// Create consumers.
    ConsumerCreate = "consumer:create",
    /// Associate and dissociate consumers.
    ConsumerUpdate = "consumer:update",
    /// Delete consumers.
    ConsumerDelete = "consumer:delete",
    /// Read deployments, their history and runs.
    DeploymentRead = "deployment:read",
    /// Deploy, promote and roll back.
    DeploymentCreate = "deployment:create",
    /// Undeploy.
    DeploymentDelete = "deployment:delete",
    /// Read environments.
    EnvironmentRead = "environment:read",
    /// Make environments.
    EnvironmentCreate = "environment:create",
    /// Delete environments.
    EnvironmentDelete = "environment:delete",
    /// Read globals.
    GlobalRead = "global:read",
    /// Set and delete globals.
    GlobalUpdate = "global:update",
    /// Read pipelines.
    PipelineRead = "pipeline:read",
    /// Save pipelines.
    PipelineUpdate = "pipeline:update",
    /// Delete pipelines.
    PipelineDelete = "pipeline:delete",
    /// Read policies, impact and conformance.
    PolicyRead = "policy:read",
    /// Change policies.
    PolicyUpdate = "policy:update",
    /// Read realms.
    RealmRead = "realm:read",
    /// Create realms.
    RealmCreate = "realm:create",
    /// Change the settings of a realm.
    RealmUpdate = "realm:update",
    /// Read signing keys: public parts only; inspect tokens.
    SigningKeyRead = "signing-key:read",
    /// Rotate and revoke signing keys.
    SigningKeyUpdate = "signing-key:update",
    /// Revoke tokens.
    TokenRevoke = "token:revoke",
    /// Read how many calls there were, and of whom.
    UsageRead = "usage:read",
    /// Manage one's own API tokens.
    UserTokenManage = "user-token:manage",
    /// Read waivers.
    WaiverRead = "waiver:read",
    /// Waive violations.
    WaiverCreate = "waiver:create",
    /// End and replace waivers.
    WaiverEnd = "waiver:end",
}

// === impl Op ===

impl Op {
    /// Refuses unless the actor has a permission.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forbidden`] naming the permission.
    pub fn demand(&self, permission: Permission) -> Result<(), Error> {
        if self.actor.permissions.contains(&permission) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Forbidden,
            "forbidden",
            format!("this needs the permission `{permission}`"),
        )
        .hint("ask an administrator of the realm for it"))
    }
}

// === impl Actor ===

impl Actor {
    /// Returns the actor of what the process does by itself.
    pub fn system() -> Self {
        Self { user: None, name: "system".to_owned(), permissions: Permission::ALL.iter().copied().collect() }
    }
}

// === impl Permission ===

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
