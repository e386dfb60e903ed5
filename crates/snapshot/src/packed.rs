//! A sorted set of small values of one size, for a million of them: persistent, so that a change copies a few kilobytes
//! and shares the rest with the snapshot before, and packed, so that a value costs little more than its own bytes.
//!
//! It is a radix tree of 32-way branches over evenly spread bits (of a digest, or the random part of an id). Its leaves are
//! sorted arrays without any slack:
//!
//! ```text
//! branch ─ 5 bits ─► branch ─ 5 bits ─► leaf [value value value …]   up to 128 values, about 30 of a million
//! ```
//!
//! A leaf that outgrows its size becomes a branch. Where a value stands in its leaf is guessed from its next bits, so that
//! finding one costs the few steps down and the line of the cache that it is in.

use std::sync::Arc;

/// Bits that a branch decides by, and how many ways there are.
const BITS: u32 = 5;
const WAYS: usize = 1 << BITS;
/// Values in a leaf, unless they cannot be told apart by their bits.
const FULL: usize = 128;
/// Branches on one way.
const DEEPEST: u32 = u64::BITS / BITS;

/// What a [`PackedSet`] holds.
pub(crate) trait Packed: Copy {
    /// What a value is found by; there is one value of each.
    type Place: Ord;

    /// Returns its place.
    fn place(&self) -> Self::Place;

    /// Returns 64 bits of a place that are spread evenly. Their order is that of the places.
    fn spread(place: &Self::Place) -> u64;
}

/// A sorted set; cheap to clone.
#[derive(Clone)]
pub(crate) struct PackedSet<E> {
    len: usize,
    root: Node<E>,
}

#[derive(Clone)]
enum Node<E> {
    /// Sorted by place.
    Leaf(Arc<[E]>),
    Branch(Arc<[Node<E>; WAYS]>),
}

/// Goes through the values in order.
pub(crate) struct Iter<'a, E> {
    branches: Vec<std::slice::Iter<'a, Node<E>>>,
    leaf: std::slice::Iter<'a, E>,
}

// === impl PackedSet ===

impl<E> Default for PackedSet<E> {
    fn default() -> Self {
        Self { len: 0, root: Node::Leaf(Arc::default()) }
    }
}

impl<E: Packed> PackedSet<E> {
    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the values from the first that is not before a place; all that have the same spread bits as the place are
    /// among them, and then some.
    pub(crate) fn from(&self, place: &E::Place) -> &[E] {
        let spread = E::spread(place);
        let (mut node, mut depth) = (&self.root, 0);
        loop {
            match node {
                Node::Branch(branch) => node = way(branch, spread, depth),
                Node::Leaf(leaf) => return leaf.get(find(leaf, place, depth)..).unwrap_or_default(),
            }
            depth += 1;
        }
    }

    /// Adds values, each instead of the one that has its place. Of two with one place the later counts.
    pub(crate) fn insert(&mut self, mut values: Vec<E>) {
        // Stable, and reversed on both sides: the last of equal ones comes first, and is what stays.
        values.reverse();
        values.sort_by_key(E::place);
        values.dedup_by_key(|value| value.place());
        self.len += insert(&mut self.root, &values, 0);
    }

    /// Takes a value away; tells whether it was there.
    pub(crate) fn remove(&mut self, place: &E::Place) -> bool {
        let found = self.from(place).first().is_some_and(|value| value.place() == *place);
        if found {
            remove(&mut self.root, place, 0);
            self.len -= 1;
        }
        found
    }

    /// Goes through the values in order.
    pub(crate) fn iter(&self) -> Iter<'_, E> {
        Iter { branches: vec![std::slice::from_ref(&self.root).iter()], leaf: [].iter() }
    }
}

impl<E: Packed> FromIterator<E> for PackedSet<E> {
    fn from_iter<I: IntoIterator<Item = E>>(values: I) -> Self {
        let mut set = Self::default();
        set.insert(values.into_iter().collect());
        set
    }
}

// === impl Iter ===

impl<'a, E> Iterator for Iter<'a, E> {
    type Item = &'a E;

    fn next(&mut self) -> Option<&'a E> {
        loop {
            if let Some(value) = self.leaf.next() {
                return Some(value);
            }
            match self.branches.last_mut()?.next() {
                Some(Node::Leaf(leaf)) => self.leaf = leaf.iter(),
                Some(Node::Branch(branch)) => self.branches.push(branch.iter()),
                None => drop(self.branches.pop()),
            }
        }
    }
}

/// Returns which way of a branch bits lead.
fn slot(spread: u64, depth: u32) -> usize {
    let rest = spread.checked_shl(depth * BITS).unwrap_or_default();
    usize::try_from(rest >> (u64::BITS - BITS)).unwrap_or_default()
}

fn way<E>(branch: &[Node<E>; WAYS], spread: u64, depth: u32) -> &Node<E> {
    branch.get(slot(spread, depth)).expect("five bits are one of 32 ways")
}

/// Returns where the first value stands that is not before a place.
fn find<E: Packed>(leaf: &[E], place: &E::Place, depth: u32) -> usize {
    if leaf.len() > FULL {
        // They have all their bits in common: there is nothing to guess by.
        return leaf.partition_point(|value| value.place() < *place);
    }
    let rest = E::spread(place).checked_shl(depth * BITS).unwrap_or_default() >> u32::BITS;
    let mut at = usize::try_from((rest * leaf.len() as u64) >> u32::BITS).unwrap_or_default();
    while leaf.get(at).is_some_and(|value| value.place() < *place) {
        at += 1;
    }
    while at > 0 && leaf.get(at - 1).is_some_and(|value| value.place() >= *place) {
        at -= 1;
    }
    at
}

/// Adds sorted values; returns by how many there are more.
fn insert<E: Packed>(node: &mut Node<E>, values: &[E], depth: u32) -> usize {
    if values.is_empty() {
        return 0;
    }
    match node {
        Node::Branch(branch) => {
            let (mut rest, mut added) = (values, 0);
            for (way, node) in Arc::make_mut(branch).iter_mut().enumerate() {
                let these;
                (these, rest) = of_way(rest, way, depth);
                added += insert(node, these, depth + 1);
            }
            added
        }
        Node::Leaf(leaf) => {
            let before = leaf.len();
            let merged = merge(leaf, values);
            let added = merged.len() - before;
            *node = grow(&merged, depth);
            added
        }
    }
}

/// Splits sorted values into those of a way and those of the ways behind it.
fn of_way<E: Packed>(values: &[E], way: usize, depth: u32) -> (&[E], &[E]) {
    let these = values.partition_point(|value| slot(E::spread(&value.place()), depth) <= way);
    values.split_at_checked(these).unwrap_or((values, &[]))
}

/// Merges two sorted lists; of two values with one place that of `new` counts.
fn merge<E: Packed>(old: &[E], new: &[E]) -> Vec<E> {
    let mut merged = Vec::with_capacity(old.len() + new.len());
    let mut old = old.iter().peekable();
    for value in new {
        let place = value.place();
        while let Some(before) = old.next_if(|it| it.place() < place) {
            merged.push(*before);
        }
        old.next_if(|it| it.place() == place);
        merged.push(*value);
    }
    merged.extend(old);
    merged
}

/// Makes the node of sorted values.
fn grow<E: Packed>(values: &[E], depth: u32) -> Node<E> {
    if values.is_empty() {
        return Node::Leaf(Arc::default());
    }
    if values.len() <= FULL || depth >= DEEPEST {
        return Node::Leaf(values.into());
    }
    let mut rest = values;
    Node::Branch(Arc::new(std::array::from_fn(|way| {
        let these;
        (these, rest) = of_way(rest, way, depth);
        grow(these, depth + 1)
    })))
}

/// Takes a value away that is there.
fn remove<E: Packed>(node: &mut Node<E>, place: &E::Place, depth: u32) {
    match node {
        Node::Leaf(leaf) => *leaf = leaf.iter().copied().filter(|value| value.place() != *place).collect(),
        Node::Branch(branch) => {
            let ways = Arc::make_mut(branch);
            if let Some(node) = ways.get_mut(slot(E::spread(place), depth)) {
                remove(node, place, depth + 1);
            }
            // Much smaller than what makes a branch, so that a set on the border does not change all the time.
            if let Some(left) = few(ways) {
                *node = Node::Leaf(left);
            }
        }
    }
}

/// Returns all values of a branch when they fit well into one leaf.
fn few<E: Copy>(ways: &[Node<E>; WAYS]) -> Option<Arc<[E]>> {
    let mut count = 0;
    for node in ways {
        let Node::Leaf(leaf) = node else { return None };
        count += leaf.len();
    }
    let leaves = ways.iter().filter_map(|node| match node {
        Node::Leaf(leaf) => Some(leaf.iter().copied()),
        Node::Branch(_) => None,
    });
    (count <= FULL / 2).then(|| leaves.flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A place, and something that changes.
    impl Packed for (u64, u8) {
        type Place = u64;

        fn place(&self) -> u64 {
            self.0
        }

        fn spread(place: &u64) -> u64 {
            // The last bits do not count: some values cannot be told apart by the others.
            place & !0xff
        }
    }

    /// Few places, evenly spread, in one corner, or in each other's way.
    fn any_place() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            0..400_u64,
            (0..400_u64).prop_map(|n| n << 40),
            (0..600_u64).prop_map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        ]
    }

    fn all(set: &PackedSet<(u64, u8)>) -> Vec<(u64, u8)> {
        set.iter().copied().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn it_does_what_a_map_does_and_a_clone_never_changes(
            rounds in proptest::collection::vec((proptest::collection::vec((any_place(), any::<u8>()), 0..300),
                proptest::collection::vec(any_place(), 0..200)), 1..5)
        ) {
            let (mut set, mut model) = (PackedSet::default(), BTreeMap::new());
            for (puts, removals) in rounds {
                let (before, held) = (set.clone(), all(&set));
                set.insert(puts.clone());
                model.extend(puts);
                for place in removals {
                    prop_assert_eq!(set.remove(&place), model.remove(&place).is_some());
                }
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(all(&set), model.iter().map(|(place, value)| (*place, *value)).collect::<Vec<_>>());
                for (place, value) in &model {
                    prop_assert_eq!(set.from(place).first(), Some(&(*place, *value)));
                }
                prop_assert_eq!(all(&before), held);
            }
        }
    }

    #[test]
    fn a_change_of_one_value_shares_almost_everything_with_the_set_before() {
        let spread = |n: u64| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15), 0);
        let before: PackedSet<_> = (0..50_000).map(spread).collect();
        let mut after = before.clone();
        after.insert(vec![spread(50_001)]);
        after.remove(&spread(7).0);
        let leaves = |set: &PackedSet<(u64, u8)>| {
            fn of(node: &Node<(u64, u8)>, found: &mut Vec<*const (u64, u8)>) {
                match node {
                    Node::Leaf(leaf) => found.push(leaf.as_ptr()),
                    Node::Branch(branch) => branch.iter().for_each(|node| of(node, found)),
                }
            }
            let mut found = Vec::new();
            of(&set.root, &mut found);
            found
        };
        let (before, after) = (leaves(&before), leaves(&after));
        let other = after.iter().filter(|leaf| !before.contains(leaf)).count();
        assert!(before.len() > 500 && other <= 2, "{other} of {} leaves were made anew", before.len());
    }

    #[test]
    fn what_is_taken_away_leaves_no_empty_branches() {
        let places: Vec<u64> = (0..20_000_u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        let mut set: PackedSet<(u64, u8)> = places.iter().map(|place| (*place, 0)).collect();
        assert!(matches!(set.root, Node::Branch(_)));
        for place in &places {
            assert!(set.remove(place));
        }
        assert!(matches!(&set.root, Node::Leaf(leaf) if leaf.is_empty()));
    }
}
