//! The API keys of one environment, found by digest: 73 bytes each and little beside them, since there may be a million.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use tollgate_credential::keys::KeyDigest;
use tollgate_model::consumers::ApiKey;
use tollgate_model::ids::{ConsumerId, KeyId};

use crate::packed::{Packed, PackedSet};

const EXPIRES: u8 = 1;
const REVOKED: u8 = 2;
const REPLACED: u8 = 4;
const RETIRES_UNUSED: u8 = 8;

/// API keys by digest; expired and revoked ones are among them. Cheap to clone: a clone shares everything.
#[derive(Clone, Default)]
pub struct Keys {
    by_digest: PackedSet<PackedKey>,
    /// Where in `by_digest` the key of an id is, since a change names keys by their ids.
    by_id: PackedSet<KeyPlace>,
    /// How many end by themselves, and how many end when nobody uses them: who looks for those need not look at all.
    expiring: usize,
    retiring: usize,
}

/// An API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyEntry {
    /// Names the key.
    pub id: KeyId,
    /// Whose it is.
    pub consumer: ConsumerId,
    /// When it stops working by itself, to the microsecond; `None` when it was revoked.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Whether another key took its place.
    pub replaced: bool,
    /// Whether it ends when nobody uses it any more.
    pub retires_unused: bool,
}

/// What is kept of a key. All of it are bytes, so that there are none between.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedKey {
    digest: [u8; 32],
    id: [u8; 16],
    consumer: [u8; 16],
    /// When it expires, or when it was revoked, in microseconds since 1970.
    until: [u8; 8],
    marks: u8,
}

/// The beginning of the digest of the key that has an id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct KeyPlace {
    /// The random end of the id.
    id: u64,
    digest: u64,
}

// === impl Keys ===

impl Keys {
    /// Returns the key of a digest. Of two keys with one digest the older counts, in whatever order they came: a key that
    /// was revoked can't be brought back, nor taken over, by importing it again.
    pub fn get(&self, digest: &KeyDigest) -> Option<KeyEntry> {
        let digest = digest.as_bytes();
        self.by_digest
            .from(&(*digest, [0; 16]))
            .first()
            .filter(|key| key.digest == *digest)
            .map(PackedKey::entry)
    }

    /// Returns how many keys there are.
    pub fn len(&self) -> usize {
        self.by_digest.len()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Goes through the keys that count, by digest.
    pub fn iter(&self) -> impl Iterator<Item = (KeyDigest, KeyEntry)> {
        let mut last = None;
        // Those with one digest stand together, the oldest first.
        let count = self.by_digest.iter().filter(move |key| last.replace(key.digest) != Some(key.digest));
        count.map(|key| (KeyDigest::from_bytes(key.digest), key.entry()))
    }

    /// Goes through the keys that stop working by themselves. It looks at all keys when there is one.
    pub fn expiring(&self) -> impl Iterator<Item = KeyEntry> {
        let all = (self.expiring > 0).then(|| self.iter());
        all.into_iter().flatten().map(|(_, key)| key).filter(|key| key.expires_at.is_some())
    }

    /// Goes through the keys that end when nobody uses them. It looks at all keys when there is one.
    pub fn retiring(&self) -> impl Iterator<Item = KeyEntry> {
        let all = (self.retiring > 0).then(|| self.iter());
        all.into_iter().flatten().map(|(_, key)| key).filter(|key| key.retires_unused)
    }

    /// Puts keys in the place of those that have their ids; takes those away that are `None`.
    pub(crate) fn change(&mut self, changes: BTreeMap<KeyId, Option<PackedKey>>) {
        for id in changes.keys() {
            // A key may have got another digest: the one before must not stay.
            if let Some(before) = self.of_id(*id) {
                self.count(&before, |count, by| *count = count.saturating_sub(by));
                self.by_digest.remove(&before.place());
                self.by_id.remove(&KeyPlace::of(&before));
            }
        }
        self.insert(changes.into_values().flatten().collect());
    }

    /// Adds keys whose ids are not among them.
    pub(crate) fn insert(&mut self, keys: Vec<PackedKey>) {
        for key in &keys {
            self.count(key, |count, by| *count += by);
        }
        self.by_id.insert(keys.iter().map(KeyPlace::of).collect());
        self.by_digest.insert(keys);
    }

    /// Goes through all keys in the order of their places.
    pub(crate) fn packed(&self) -> impl Iterator<Item = &PackedKey> {
        self.by_digest.iter()
    }

    fn of_id(&self, id: KeyId) -> Option<PackedKey> {
        let bits = KeyPlace::bits(id);
        let places = self.by_id.from(&KeyPlace { id: bits, digest: 0 });
        places.iter().take_while(|place| place.id == bits).find_map(|place| {
            let mut digest = [0; 32];
            digest.first_chunk_mut::<8>()?.copy_from_slice(&place.digest.to_be_bytes());
            let keys = self.by_digest.from(&(digest, [0; 16])).iter();
            let mut keys = keys.take_while(|key| begin(&key.digest) == place.digest);
            keys.find(|key| key.id == id.as_u128().to_be_bytes()).copied()
        })
    }

    fn count(&mut self, key: &PackedKey, change: impl Fn(&mut usize, usize)) {
        change(&mut self.expiring, usize::from(key.marks & EXPIRES != 0));
        change(&mut self.retiring, usize::from(key.marks & RETIRES_UNUSED != 0));
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.len())
    }
}

// === impl KeyEntry ===

impl KeyEntry {
    /// Tells whether the key works now.
    pub fn works(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| now < at)
    }

    /// Tells whether the key works, ends by itself before a time, and no other took its place.
    pub fn runs_out(&self, now: Timestamp, before: Timestamp) -> bool {
        self.works(now) && !self.replaced && self.expires_at.is_some_and(|at| at <= before)
    }
}

// === impl PackedKey ===

impl PackedKey {
    /// Its length on disk.
    pub(crate) const LEN: usize = 73;

    /// Packs a stored key; `None` when its digest is none.
    pub(crate) fn new(key: &ApiKey) -> Option<Self> {
        let (until, end) = match (key.revoked_at, key.expires_at) {
            (Some(revoked), _) => (Some(revoked), REVOKED),
            (None, Some(expires)) => (Some(expires), EXPIRES),
            (None, None) => (None, 0),
        };
        let replaced = if key.replaced_by.is_some() { REPLACED } else { 0 };
        let retires_unused = if key.retire_unused_seconds.is_some() { RETIRES_UNUSED } else { 0 };
        Some(Self {
            digest: *KeyDigest::from_hex(&key.digest).ok()?.as_bytes(),
            id: key.id.as_u128().to_be_bytes(),
            consumer: key.consumer.as_u128().to_be_bytes(),
            until: until.map_or(0, Timestamp::as_microsecond).to_be_bytes(),
            marks: end | replaced | retires_unused,
        })
    }

    /// Returns its bytes.
    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let parts = [&self.digest[..], &self.id, &self.consumer, &self.until, &[self.marks]].concat();
        bytes.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
        bytes
    }

    /// Reads its bytes; `None` when they are of no key.
    pub(crate) fn from_bytes(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let (digest, rest) = bytes.split_first_chunk()?;
        let (id, rest) = rest.split_first_chunk()?;
        let (consumer, rest) = rest.split_first_chunk()?;
        let (until, rest) = rest.split_first_chunk()?;
        let [marks] = *rest else { return None };
        let key = Self { digest: *digest, id: *id, consumer: *consumer, until: *until, marks };
        // No time beyond those that there are.
        Timestamp::from_microsecond(i64::from_be_bytes(*until)).is_ok().then_some(key)
    }

    fn entry(&self) -> KeyEntry {
        let until = |mark| {
            // Times beyond all others were refused when it was packed; a key that would have one is over.
            let at = || Timestamp::from_microsecond(i64::from_be_bytes(self.until)).unwrap_or(Timestamp::MIN);
            (self.marks & mark != 0).then(at)
        };
        KeyEntry {
            id: KeyId::from_u128(u128::from_be_bytes(self.id)),
            consumer: ConsumerId::from_u128(u128::from_be_bytes(self.consumer)),
            expires_at: until(EXPIRES),
            revoked_at: until(REVOKED),
            replaced: self.marks & REPLACED != 0,
            retires_unused: self.marks & RETIRES_UNUSED != 0,
        }
    }
}

impl Packed for PackedKey {
    type Place = ([u8; 32], [u8; 16]);

    fn place(&self) -> Self::Place {
        (self.digest, self.id)
    }

    fn spread((digest, _): &Self::Place) -> u64 {
        begin(digest)
    }
}

fn begin(digest: &[u8; 32]) -> u64 {
    digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

// === impl KeyPlace ===

impl KeyPlace {
    fn of(key: &PackedKey) -> Self {
        Self { id: Self::bits(KeyId::from_u128(u128::from_be_bytes(key.id))), digest: begin(&key.digest) }
    }

    /// Returns the random bits of an id, without the two before them that are always the same.
    fn bits(id: KeyId) -> u64 {
        (id.as_u128() as u64) << 2
    }
}

impl Packed for KeyPlace {
    type Place = Self;

    fn place(&self) -> Self {
        *self
    }

    fn spread(place: &Self) -> u64 {
        place.id
    }
}

#[cfg(test)]
mod tests;
