//! Who may do what, and where.
//!
//! A *permission* names one thing that somebody may do. A *role* is a set of permissions. A *group* has members and
//! grants; a grant is a role, everywhere in the realm or limited to environments, to projects, or to both. The *rights*
//! of a user in a realm are the sum of what the groups of that realm grant: nothing is ever taken away by a grant, and
//! what no grant gives is refused.
//!
//! Each thing that is done is done at a [`Place`]. A place that does not name an environment means all of them, those to
//! come included, and only a grant that is not limited to environments reaches it: whoever is limited to something never
//! has a right over the whole.

mod groups;
mod permissions;
mod places;
mod rights;
mod roles;

pub use groups::{Grant, Group};
pub use permissions::{ParsePermissionError, Permission, Scope};
pub use places::{Extent, Place, Reach};
pub use rights::Rights;
pub use roles::{Role, Roles};

#[cfg(test)]
mod tests;
