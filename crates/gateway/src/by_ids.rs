//! Maps whose keys are ids of Tollgate's own. Nobody outside chooses those, so they are hashed by something quicker than what
//! withstands those who do, with a seed of each process.

use std::collections::HashMap;

/// What hashes such keys.
pub(crate) type IdHasher = foldhash::fast::RandomState;

/// A map by such keys.
pub(crate) type ByIds<K, V> = HashMap<K, V, IdHasher>;

/// Chooses one of so many shards by an id, whose last bits are random.
pub(crate) fn shard_of<const SHARDS: usize>(id: u128) -> usize {
    usize::try_from(id % SHARDS as u128).unwrap_or_default()
}
