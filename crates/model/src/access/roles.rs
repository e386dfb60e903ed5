//! Roles: sets of permissions. Some belong to the product and never change; a realm can have its own beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Permission;
use crate::names::RoleName;

/// A set of permissions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Role {
    /// Its name.
    pub name: RoleName,
    /// Who it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it allows.
    pub permissions: BTreeSet<Permission>,
}

/// The roles of a realm: those of the product, and its own.
#[derive(Debug, Clone, Default)]
pub struct Roles {
    own: BTreeMap<RoleName, Role>,
}

/// What the roles of the product have, and why no more than that. What everybody may do with what is their own is not
/// here, nor in any other role: everybody who signs in may do it.
const SYSTEM: [(&str, &str, Contents); 8] = [
    ("administrator", "everything", Contents::All),
    // Sees how things stand, and no credentials, not even their names: those are of use to nobody who only looks.
    ("viewer", "sees pipelines, deployments, policies, consumers and usage", Contents::These(VIEWER)),
    // Saves pipelines and reads what their flows name. Deploys nothing: saving changes nothing that runs.
    ("developer", "writes pipelines", Contents::These(DEVELOPER)),
    // Decides what runs, by rules that others set: neither policies nor waivers, or the governed would edit the rule.
    // No pipelines either: what is deployed is what developers saved.
    ("deployer", "deploys, promotes, rolls back and stops pipelines", Contents::These(DEPLOYER)),
    // Sets the rules and waives violations, and sees what both mean for those who call. Neither saves nor deploys what
    // the rules judge, and does not change the realm's settings, which may demand a second person.
    ("governance-manager", "sets policies and grants waivers", Contents::These(GOVERNANCE_MANAGER)),
    // Decides who can call, and holds what flows need to know. Neither what runs nor the rules.
    (
        "credential-manager",
        "manages consumers, their credentials, and values, secrets and signing keys of environments",
        Contents::These(CREDENTIAL_MANAGER),
    ),
    // Manages people and what groups grant; by itself nothing of what is granted: who hands something out holds it, too.
    ("access-manager", "manages users, groups and roles", Contents::These(ACCESS_MANAGER)),
    // Reads everything and changes nothing, so that nobody can say that the auditor did it.
    ("auditor", "reads everything, the journal included, and changes nothing", Contents::Reading),
];

/// What a role of the product has.
#[derive(Clone, Copy)]
enum Contents {
    All,
    Reading,
    These(&'static [Permission]),
}

const VIEWER: &[Permission] = &[
    Permission::ConsumerRead,
    Permission::DeploymentRead,
    Permission::EnvironmentRead,
    Permission::GlobalRead,
    Permission::IssuerRead,
    Permission::PipelineRead,
    Permission::PolicyRead,
    Permission::RealmRead,
    Permission::UsageRead,
    Permission::WaiverRead,
];

const DEVELOPER: &[Permission] = &[
    Permission::AccountRead,
    Permission::ConsumerRead,
    Permission::DeploymentRead,
    Permission::EnvironmentRead,
    Permission::GlobalRead,
    Permission::IssuerRead,
    Permission::PipelineDelete,
    Permission::PipelineRead,
    Permission::PipelineUpdate,
    Permission::PolicyRead,
    Permission::RealmRead,
    Permission::UsageRead,
    Permission::WaiverRead,
];

const DEPLOYER: &[Permission] = &[
    Permission::DeploymentCreate,
    Permission::DeploymentDelete,
    Permission::DeploymentRead,
    Permission::EnvironmentRead,
    Permission::PipelineRead,
    Permission::PolicyRead,
    Permission::RealmRead,
    Permission::WaiverRead,
];

const GOVERNANCE_MANAGER: &[Permission] = &[
    Permission::ChangeRequestApprove,
    Permission::ChangeRequestRead,
    Permission::DeploymentRead,
    Permission::EnvironmentRead,
    Permission::PipelineRead,
    Permission::PolicyRead,
    Permission::PolicyUpdate,
    Permission::RealmRead,
    Permission::UsageRead,
    Permission::WaiverCreate,
    Permission::WaiverEnd,
    Permission::WaiverRead,
];

const CREDENTIAL_MANAGER: &[Permission] = &[
    Permission::AccessRead,
    Permission::AccountRead,
    Permission::AccountUpdate,
    Permission::ApiKeyCreate,
    Permission::ApiKeyRead,
    Permission::ApiKeyRevoke,
    Permission::BasicAuthCreate,
    Permission::BasicAuthRead,
    Permission::BasicAuthRevoke,
    Permission::CallExplain,
    Permission::CertificateCreate,
    Permission::CertificateRead,
    Permission::CertificateRevoke,
    Permission::ConsumerCreate,
    Permission::ConsumerDelete,
    Permission::ConsumerRead,
    Permission::ConsumerUpdate,
    Permission::DeploymentRead,
    Permission::EnvironmentRead,
    Permission::GlobalRead,
    Permission::GlobalUpdate,
    Permission::IssuerRead,
    Permission::IssuerUpdate,
    Permission::PipelineRead,
    Permission::RealmRead,
    Permission::SigningKeyRead,
    Permission::SigningKeyUpdate,
    Permission::TokenRevoke,
    Permission::UsageRead,
];

const ACCESS_MANAGER: &[Permission] = &[
    Permission::EnvironmentRead,
    Permission::GroupCreate,
    Permission::GroupDelete,
    Permission::GroupRead,
    Permission::GroupUpdate,
    Permission::RealmRead,
    Permission::RoleCreate,
    Permission::RoleDelete,
    Permission::RoleRead,
    Permission::RoleUpdate,
    Permission::UserCreate,
    Permission::UserDelete,
    Permission::UserRead,
    Permission::UserTokenRead,
    Permission::UserTokenRevoke,
    Permission::UserUpdate,
];

static SYSTEM_ROLES: LazyLock<Vec<Role>> = LazyLock::new(|| {
    let role = |(name, description, contents): (&str, &str, Contents)| {
        let all = Permission::ALL.iter().copied();
        let permissions = match contents {
            Contents::All => all.collect(),
            Contents::Reading => all.filter(|permission| permission.only_reads()).collect(),
            Contents::These(these) => these.iter().copied().collect(),
        };
        Some(Role { name: RoleName::parse(name).ok()?, description: description.to_owned(), permissions })
    };
    SYSTEM.into_iter().filter_map(role).collect()
});

// === impl Role ===

impl Role {
    /// Returns the roles of the product.
    pub fn system() -> &'static [Self] {
        &SYSTEM_ROLES
    }

    /// Tells whether a name is that of a role of the product.
    pub fn is_system(name: &RoleName) -> bool {
        Self::system().iter().any(|role| role.name == *name)
    }
}

// === impl Roles ===

impl Roles {
    /// Returns the roles of a realm that has these of its own. One of its own that is named as one of the product does
    /// not count.
    pub fn new(own: impl IntoIterator<Item = Role>) -> Self {
        Self { own: own.into_iter().map(|role| (role.name.clone(), role)).collect() }
    }

    /// Returns a role by name.
    pub fn get(&self, name: &RoleName) -> Option<&Role> {
        Role::system().iter().find(|role| role.name == *name).or_else(|| self.own.get(name))
    }

    /// Returns all: those of the product first.
    pub fn iter(&self) -> impl Iterator<Item = &Role> {
        let own = self.own.values().filter(|role| !Role::is_system(&role.name));
        Role::system().iter().chain(own)
    }
}
