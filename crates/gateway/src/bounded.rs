//! A map with a bound on its memory that forgets what was not used for long.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

/// Two generations of entries. What is used moves to the young one; when that is full it becomes the old one, and
/// the old one is forgotten. So at most twice the capacity is kept, every operation costs the same, and whatever is
/// used at least once per generation stays.
#[derive(Debug)]
pub(crate) struct BoundedMap<K, V, S = RandomState> {
    young: HashMap<K, V, S>,
    old: HashMap<K, V, S>,
    capacity: usize,
}

// === impl BoundedMap ===

impl<K: Eq + Hash, V, S: BuildHasher + Default> BoundedMap<K, V, S> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), capacity: capacity.max(1) }
    }

    /// Returns an entry, without counting that as a use.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Changes an entry, which is the default one when there is none.
    pub(crate) fn change<R>(&mut self, key: K, change: impl FnOnce(&mut V) -> R) -> R
    where
        V: Default,
    {
        if let Some(value) = self.young.get_mut(&key) {
            return change(value);
        }
        let mut value = self.old.remove(&key).unwrap_or_default();
        let result = change(&mut value);
        self.insert(key, value);
        result
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// Puts an entry into the young generation.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let mut map: BoundedMap<u32, u32> = BoundedMap::new(10);
        map.insert(u32::MAX, 7);
        for n in 0..1_000 {
            map.insert(n, 0);
            map.change(u32::MAX, |value| assert_eq!(*value, 7, "used all the time"));
            assert!(map.young.len() + map.old.len() <= 20);
        }
        assert_eq!(map.remove(&u32::MAX), Some(7));
        assert_eq!(map.remove(&1), None, "not used for long");
    }
}
