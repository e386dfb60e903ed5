//! Everything a gateway needs to answer, as one immutable value.
//!
//! A [`Builder`] holds the stored objects and makes a [`Snapshot`] of them; each change makes the next one, which shares
//! with the one before whatever did not change. What can't be built (a flow that does not compile, a key that does not
//! open) is [`Broken`]: it answers 503 and takes nothing else down.

mod builder;
mod by_ids;
mod certificates;
pub mod contexts;
mod endpoints;
mod enforcement;
mod files;
mod issuers;
mod keys;
mod packed;
mod places;
mod routes;
#[cfg(test)]
mod samples;
mod scopes;
mod series;
mod shared;

pub use builder::{Builder, KINDS, Loading, ObjectChange, Snapshot};
pub use by_ids::{ByIds, IdHasher, shard_of};
pub use certificates::{CertificateEntry, Certificates};
pub use endpoints::{ApiId, Endpoint, EndpointRoute, Schedule};
pub use enforcement::{Enforced, Enforcer};
pub use files::{Disk, Image, LogChanges, RestoreError, Restored};
pub use issuers::{FetchedKeys, IssuerEntry, KeyRing, KeySlot, KeySource, REFETCH_AFTER};
pub use keys::{KeyEntry, Keys};
pub use places::{CallPlace, CallPlaces, NoPlace};
pub use routes::{ExposedPath, Found, OfferedRoute, Routes, exposed_paths, offered_routes};
pub use scopes::{BasicEntry, ConsumerEntry, Scope};
pub use series::CallSeries;
pub use shared::SharedSnapshot;

/// A part that could not be built. Whoever needs it must answer 503 `check-unavailable`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);
