//! Groups: who holds which roles, and where.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Extent, Permission, Reach, Rights, Roles};
use crate::ids::UserId;
use crate::names::{EnvironmentName, GroupName, ProjectName, RoleName};

/// Users who hold the same roles in a realm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// Who is in it, and what for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its members, by id: a name may be another user's tomorrow.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub members: BTreeSet<UserId>,
    /// What its members hold.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub grants: BTreeSet<Grant>,
}

/// A role, and where it is held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grant {
    /// Which role.
    pub role: RoleName,
    /// Only in these environments; in all when left out.
    #[serde(default, skip_serializing_if = "Extent::is_all")]
    pub environments: Extent<EnvironmentName>,
    /// Only for these projects; for all when left out.
    #[serde(default, skip_serializing_if = "Extent::is_all")]
    pub projects: Extent<ProjectName>,
}

// === impl Group ===

impl Group {
    /// Returns the group that a realm begins with; whoever makes the realm is in it.
    pub fn first(members: BTreeSet<UserId>) -> Self {
        Self {
            name: GroupName::administrators(),
            description: "Those who may do everything".to_owned(),
            members,
            grants: BTreeSet::from([Grant::everywhere(RoleName::administrator())]),
        }
    }

    /// Returns what its members may do. A role that is not there gives nothing.
    pub fn rights(&self, roles: &Roles) -> Rights {
        self.grants.iter().fold(Rights::none(), |rights, grant| rights.union(&grant.rights(roles)))
    }

    /// Returns what a user may do by these groups.
    pub fn rights_of<'a>(user: UserId, groups: impl IntoIterator<Item = &'a Self>, roles: &Roles) -> Rights {
        let of = groups.into_iter().filter(|group| group.members.contains(&user));
        of.fold(Rights::none(), |rights, group| rights.union(&group.rights(roles)))
    }
}

// === impl Grant ===

impl Grant {
    /// Returns a role without limits.
    pub fn everywhere(role: RoleName) -> Self {
        Self { role, environments: Extent::All, projects: Extent::All }
    }

    /// Returns how far it reaches.
    pub fn reach(&self) -> Reach {
        Reach { environments: self.environments.clone(), projects: self.projects.clone() }
    }

    /// Returns what it allows; nothing when there is no such role.
    pub fn rights(&self, roles: &Roles) -> Rights {
        let permissions = roles.get(&self.role).map(|role| role.permissions.iter().copied());
        Rights::of(permissions.into_iter().flatten(), &self.reach())
    }

    /// Returns the permissions of the role of which these limits leave nothing.
    pub fn without_effect(&self, roles: &Roles) -> Vec<Permission> {
        let reach = self.reach();
        let permissions = roles.get(&self.role).map(|role| role.permissions.iter().copied());
        permissions.into_iter().flatten().filter(|permission| !permission.counts_within(&reach)).collect()
    }
}
