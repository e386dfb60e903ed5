//! Rights: permissions, each with how far it reaches.

use std::collections::{BTreeMap, BTreeSet};

use super::{Extent, Permission, Place, Reach};
use crate::names::{EnvironmentName, ProjectName};

/// What somebody may do in one realm, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rights {
    /// Invariants: no list is empty, and no reach contains another of its list.
    by_permission: BTreeMap<Permission, Vec<Reach>>,
}

// === impl Rights ===

impl Rights {
    /// Returns no rights at all.
    pub const fn none() -> Self {
        Self { by_permission: BTreeMap::new() }
    }

    /// Returns every right there is.
    pub fn all() -> Self {
        Self::of(Permission::ALL.iter().copied(), &Reach::EVERYTHING)
    }

    /// Returns permissions that reach equally far.
    pub fn of(permissions: impl IntoIterator<Item = Permission>, reach: &Reach) -> Self {
        let mut rights = Self::default();
        for permission in permissions {
            rights.add(permission, reach.clone());
        }
        rights
    }

    /// Adds a right.
    pub fn add(&mut self, permission: Permission, reach: Reach) {
        let reaches = self.by_permission.entry(permission).or_default();
        if reaches.iter().any(|known| known.contains(&reach)) {
            return;
        }
        reaches.retain(|known| !reach.contains(known));
        reaches.push(reach);
    }

    /// Takes a permission away, wherever it reached.
    pub fn remove(&mut self, permission: Permission) {
        self.by_permission.remove(&permission);
    }

    /// Returns each permission with its reaches: it is held wherever one of them reaches.
    pub fn iter(&self) -> impl Iterator<Item = (Permission, &[Reach])> {
        self.by_permission.iter().map(|(permission, reaches)| (*permission, reaches.as_slice()))
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_permission.is_empty()
    }

    /// Tells whether something may be done in all of a place.
    ///
    /// One reach must have it: of a place that stands for all environments, those to come included, several that are
    /// limited to some can never have all.
    pub fn allows(&self, permission: Permission, place: Place<'_>) -> bool {
        self.reaches(permission).iter().any(|reach| reach.has(place))
    }

    /// Tells whether something may be done at some place.
    pub fn allows_anywhere(&self, permission: Permission) -> bool {
        !self.reaches(permission).is_empty()
    }

    /// Tells whether something may be done for some project of an environment.
    pub fn allows_somewhere_in(&self, permission: Permission, environment: &EnvironmentName) -> bool {
        self.reaches(permission).iter().any(|reach| reach.environments.has(Some(environment)))
    }

    /// Tells whether something may be done for a project in some environment.
    pub fn allows_somewhere_for(&self, permission: Permission, project: &ProjectName) -> bool {
        self.reaches(permission).iter().any(|reach| reach.projects.has(Some(project)))
    }

    /// Returns what either has.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        for (permission, reaches) in other.iter() {
            for reach in reaches {
                self.add(permission, reach.clone());
            }
        }
        self
    }

    /// Returns what both have.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for (permission, reaches) in self.iter() {
            for reach in reaches {
                for common in other.reaches(permission).iter().filter_map(|other| reach.intersect(other)) {
                    both.add(permission, common);
                }
            }
        }
        both
    }

    /// Tells whether these rights have all that the others have, at every place that there is or may come to be.
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(permission, reaches)| {
            let own = self.reaches(permission);
            reaches.iter().all(|reach| covered(own, reach))
        })
    }

    fn reaches(&self, permission: Permission) -> &[Reach] {
        self.by_permission.get(&permission).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Tells whether several reaches together have all of another one.
///
/// Whether a place is had depends only on which of the names that stand in `own` it has, so the named ones and one that
/// stands for all others (`None`) are enough to look at.
fn covered(own: &[Reach], reach: &Reach) -> bool {
    if own.iter().any(|it| it.contains(reach)) {
        return true;
    }
    let environments = samples(&reach.environments, own.iter().map(|it| &it.environments));
    let projects = samples(&reach.projects, own.iter().map(|it| &it.projects));
    environments.iter().all(|environment| {
        projects.iter().all(|project| {
            let place = Place { environment: *environment, project: *project };
            own.iter().any(|it| it.has(place))
        })
    })
}

/// Returns the names at which an extent must be looked at beside others.
fn samples<'a, N: Ord + Clone + 'a>(
    extent: &'a Extent<N>,
    others: impl Iterator<Item = &'a Extent<N>>,
) -> BTreeSet<Option<&'a N>> {
    match extent {
        Extent::Only(names) => names.iter().map(Some).collect(),
        Extent::All => others.flat_map(Extent::names).map(Some).chain([None]).collect(),
    }
}

#[cfg(test)]
mod tests;
