//! Maps whose keys are ids of Tollgate's own, or names that it is configured with. Nobody who calls chooses what is in those,
//! so they are hashed by something quicker than what withstands those who do, with a seed of each process.

use std::collections::HashMap;

/// What hashes such keys.
pub type IdHasher = foldhash::fast::RandomState;

/// A map by such keys.
pub type ByIds<K, V> = HashMap<K, V, IdHasher>;

/// Chooses one of so many shards by an id, whose last bits are random.
pub fn shard_of<const SHARDS: usize>(id: u128) -> usize {
    usize::try_from(id % SHARDS as u128).unwrap_or_default()
}
