use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// A stored key. Its digest is that of other keys where `digest` is: a secret that was imported twice.
fn stored(n: u16, digest: u16, what: u8) -> ApiKey {
    let spread = |n: u16| format!("{:016x}", u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut key = json!({ "id": format!("key_{:016x}{}", n % 7, spread(n)), "consumer": format!("con_{:032x}", n % 5),
        "environment": "test", "name": "k", "digest": spread(digest).repeat(4), "hint": "abcd",
        "createdAt": "2026-01-01T00:00:00Z" });
    if what & 1 != 0 {
        key["expiresAt"] = "2026-03-01T00:00:00.123456789Z".into();
    }
    if what & 2 != 0 {
        key["revokedAt"] = "2026-02-01T00:00:00Z".into();
    }
    if what & 4 != 0 {
        key["replacedBy"] = format!("key_{:032x}", 1).into();
    }
    if what & 8 != 0 {
        key["retireUnusedSeconds"] = 3_600.into();
    }
    serde_json::from_value(key).expect("a key")
}

fn entry_of(key: &ApiKey) -> KeyEntry {
    let micros = |at: Timestamp| Timestamp::from_microsecond(at.as_microsecond()).expect("a time");
    KeyEntry {
        id: key.id,
        consumer: key.consumer,
        expires_at: key.expires_at.filter(|_| key.revoked_at.is_none()).map(micros),
        revoked_at: key.revoked_at,
        replaced: key.replaced_by.is_some(),
        retires_unused: key.retire_unused_seconds.is_some(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn it_does_what_looking_through_all_of_them_does(
        // Which key, what it is from then on (made, rotated, revoked, expired), with which secret; or it is deleted.
        batches in proptest::collection::vec(
            proptest::collection::vec((0..400_u16, 0..16_u8, proptest::option::of(0..4_u16), any::<bool>()), 0..250), 1..6)
    ) {
        let (mut keys, mut model) = (Keys::default(), BTreeMap::<KeyId, ApiKey>::new());
        for batch in batches {
            let mut changes = BTreeMap::new();
            for (n, what, twin, stays) in batch {
                let key = stored(n, twin.map_or(n, |twin| twin + 10_000), what);
                changes.insert(key.id, stays.then(|| PackedKey::new(&key).expect("a digest")));
                if stays { model.insert(key.id, key) } else { model.remove(&key.id) };
            }
            keys.change(changes);
            prop_assert_eq!(keys.len(), model.len());
            // Of two with one digest the older counts.
            let mut by_digest = BTreeMap::new();
            for key in model.values() {
                by_digest.entry(KeyDigest::from_hex(&key.digest).expect("a digest")).or_insert_with(|| entry_of(key));
            }
            for (digest, entry) in &by_digest {
                prop_assert_eq!(keys.get(digest), Some(*entry));
            }
            prop_assert_eq!(keys.iter().collect::<BTreeMap<_, _>>(), by_digest.clone());
            let ids = |of: Vec<KeyEntry>| of.into_iter().map(|key| key.id).collect::<std::collections::BTreeSet<_>>();
            let among = |is: fn(&KeyEntry) -> bool| ids(by_digest.values().copied().filter(is).collect());
            prop_assert_eq!(ids(keys.expiring().collect()), among(|key| key.expires_at.is_some()));
            prop_assert_eq!(ids(keys.retiring().collect()), among(|key| key.retires_unused));
            let unknown = KeyDigest::from_bytes([0xEE; 32]);
            prop_assert_eq!(keys.get(&unknown), None);
        }
    }

    #[test]
    fn bytes_read_back(n in any::<u16>(), what in 0..16_u8) {
        let packed = PackedKey::new(&stored(n, n, what)).expect("a digest");
        prop_assert!(PackedKey::from_bytes(&packed.to_bytes()) == Some(packed));
    }
}

#[test]
fn a_key_never_works_longer_than_it_says() {
    let key = stored(1, 1, 1);
    let expires_at = key.expires_at.expect("it expires");
    let entry = PackedKey::new(&key).expect("a digest").entry();
    assert!(!entry.works(expires_at));
    assert!(entry.works(expires_at - jiff::SignedDuration::from_micros(1)));
}

#[test]
fn a_digest_that_begins_as_another_is_another() {
    let key = PackedKey::new(&stored(1, 1, 0)).expect("a digest");
    let mut keys = Keys::default();
    keys.insert(vec![key]);
    for at in 0..32 {
        let mut digest = key.digest;
        digest[at] ^= 1;
        assert_eq!(keys.get(&KeyDigest::from_bytes(digest)), None, "byte {at}");
    }
}

#[test]
fn a_time_that_is_none_is_no_key() {
    let mut bytes = PackedKey::new(&stored(1, 1, 1)).expect("a digest").to_bytes();
    bytes[64..72].fill(0x7F);
    assert!(PackedKey::from_bytes(&bytes).is_none());
}
