//! Issuers outside: what is demanded of their tokens, which the snapshot says, and their keys, which are fetched.
//!
//! Keys come from elsewhere at times of their own, so they are no part of a snapshot. They stand in a [`KeyRing`] that
//! outlives snapshots, under the digest of all that says where they come from: keys that were fetched under other settings
//! are never found again. Calls read it without a lock; whoever fetches is the only one to write.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_lc_rs::digest::{Context, SHA256};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tollgate_credential::issuers::IssuerKeys;
use tollgate_model::issuers::Issuer;
use tollgate_model::names::{EnvironmentName, RealmName};

use crate::{Snapshot, files};

/// How soon after keys were fetched an unknown key id does not have them fetched again: then the id is wrong.
pub const REFETCH_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// Names where an issuer's keys come from: a digest of realm, environment, name and the settings that lead there.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeySource([u8; 32]);

/// An issuer whose tokens an environment takes.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuerEntry {
    /// The realm.
    pub realm: RealmName,
    /// What is stored of it.
    pub issuer: Issuer,
    /// Where its keys come from.
    pub source: KeySource,
}

/// The keys of all issuers, as far as they were fetched.
#[derive(Debug, Default)]
pub struct KeyRing {
    slots: ArcSwap<HashMap<KeySource, Arc<KeySlot>>>,
    /// Whether each issuer was asked once since the start. It stays true.
    begun: AtomicBool,
}

/// The place for the keys of one issuer.
#[derive(Debug, Default)]
pub struct KeySlot {
    keys: ArcSwapOption<FetchedKeys>,
    /// Whether a call needs newer keys.
    wanted: AtomicBool,
}

/// Keys that an issuer published.
#[derive(Debug)]
pub struct FetchedKeys {
    /// The keys.
    pub keys: IssuerKeys,
    /// The JWK Set that they were read from.
    pub jwks: Vec<u8>,
    /// When they were fetched.
    pub fetched_at: Timestamp,
}

/// How fetched keys stand in a file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeptKeys {
    source: String,
    fetched_at: Timestamp,
    jwks: String,
}

// === impl KeySource ===

impl KeySource {
    /// Returns where the keys of an issuer of a realm come from.
    pub fn of(realm: &RealmName, issuer: &Issuer) -> Self {
        let settings = &issuer.settings;
        let internal = if settings.internal_addresses { "internal" } else { "" };
        let jwks_url = settings.jwks_url.as_ref().map_or("", |url| url.as_str());
        let mut context = Context::new(&SHA256);
        for part in [
            realm.as_str(),
            issuer.environment.as_str(),
            issuer.name.as_str(),
            settings.issuer.as_str(),
            jwks_url,
            internal,
        ] {
            // None of them holds a line end.
            context.update(part.as_bytes());
            context.update(b"\n");
        }
        // Keys that somebody else vouched for are other keys. Issuers without CAs of their own keep the digest that they had.
        if let Some(certificates) = &settings.ca_certificates {
            context.update(certificates.as_str().as_bytes());
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self(digest)
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySource({self})")
    }
}

// === impl IssuerEntry ===

impl IssuerEntry {
    pub(crate) fn new(realm: &RealmName, issuer: Issuer) -> Self {
        Self { realm: realm.clone(), source: KeySource::of(realm, &issuer), issuer }
    }
}

// === impl KeyRing ===

impl KeyRing {
    /// Returns the place for the keys of an issuer; `None` when nobody fetches them yet.
    pub fn slot(&self, source: &KeySource) -> Option<Arc<KeySlot>> {
        self.slots.load().get(source).cloned()
    }

    /// Has a place for each of these issuers and forgets all others.
    pub fn keep(&self, sources: &HashSet<KeySource>) {
        let held = self.slots.load();
        if held.len() == sources.len() && sources.iter().all(|source| held.contains_key(source)) {
            return;
        }
        let slot = |source| held.get(source).cloned().unwrap_or_default();
        self.slots.store(Arc::new(sources.iter().map(|source| (*source, slot(source))).collect()));
    }

    /// Notes that each issuer was asked once, or that nobody waits for those that were not.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Tells whether [`KeyRing::begin`] was called.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Tells whether there are keys of an issuer that count now.
    pub fn has_keys_of(&self, entry: &IssuerEntry, now: Timestamp) -> bool {
        let keys = self.slot(&entry.source).and_then(|slot| slot.keys());
        keys.is_some_and(|keys| keys.are_fresh(&entry.issuer, now))
    }

    /// Tells whether an environment can be called as far as the keys of its issuers are concerned: they are there, or each
    /// issuer was asked once. One that is out of reach thus holds up a start, and nothing after it.
    pub fn is_ready(&self, snapshot: &Snapshot, environment: &EnvironmentName, now: Timestamp) -> bool {
        let mut issuers = snapshot.issuers().filter(|entry| entry.issuer.environment == *environment);
        self.has_begun() || issuers.all(|entry| self.has_keys_of(entry, now))
    }

    /// Writes all keys to a file, whole or not at all, so that a gateway starts with them while issuers are out of reach.
    /// Keys are public; their age counts from when they were fetched, also after a start.
    ///
    /// # Errors
    ///
    /// When the directory is not writable or the disk is full; the file that was there stays.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let held = self.slots.load();
        let fetched = held.iter().filter_map(|(source, slot)| Some((source, slot.keys()?)));
        let mut kept: Vec<KeptKeys> = fetched
            .map(|(source, keys)| KeptKeys {
                source: source.to_string(),
                fetched_at: keys.fetched_at,
                jwks: String::from_utf8_lossy(&keys.jwks).into_owned(),
            })
            .collect();
        kept.sort_by(|a, b| a.source.cmp(&b.source));
        let kept = serde_json::to_vec(&kept)?;
        files::replace(path, |file| file.write_all(&kept))
    }

    /// Reads what [`KeyRing::save`] wrote, by the text of its source. What does not parse is left out, and fetched.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is damaged.
    pub fn restore(path: &Path) -> std::io::Result<HashMap<String, FetchedKeys>> {
        let kept: Vec<KeptKeys> = serde_json::from_slice(&std::fs::read(path)?)?;
        let keys = kept.into_iter().filter_map(|KeptKeys { source, fetched_at, jwks }| {
            let keys = IssuerKeys::parse(jwks.as_bytes()).ok()?;
            Some((source, FetchedKeys { keys, jwks: jwks.into_bytes(), fetched_at }))
        });
        Ok(keys.collect())
    }
}

// === impl KeySlot ===

impl KeySlot {
    /// Returns the keys that were fetched last.
    pub fn keys(&self) -> Option<Arc<FetchedKeys>> {
        self.keys.load_full()
    }

    /// Puts keys that were fetched in place.
    pub fn put(&self, keys: FetchedKeys) {
        self.keys.store(Some(Arc::new(keys)));
    }

    /// Asks for newer keys. Costs nothing when somebody asked already.
    pub fn want(&self) {
        if !self.wanted.load(Ordering::Relaxed) {
            self.wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Tells whether newer keys were asked for since the last time.
    pub fn take_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }
}

// === impl FetchedKeys ===

impl FetchedKeys {
    /// Tells whether they still count for an issuer.
    pub fn are_fresh(&self, issuer: &Issuer, now: Timestamp) -> bool {
        let bound = SignedDuration::from_secs(issuer.settings.max_stale_seconds.into());
        now.duration_since(self.fetched_at) <= bound
    }

    /// Tells whether a key that is not among them may have been published since.
    pub fn may_lack_some(&self, now: Timestamp) -> bool {
        now.duration_since(self.fetched_at) >= REFETCH_AFTER
    }
}

#[cfg(test)]
mod tests {
    use tollgate_model::issuers::IssuerUrl;

    use super::*;

    fn issuer() -> Issuer {
        serde_json::from_value(serde_json::json!({ "name": "corp", "environment": "test",
            "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
            "settings": { "issuer": "https://a.example", "audience": "a", "algorithms": ["ES256"], "consumer": { "name": "shop" } } }))
        .expect("an issuer")
    }

    #[test]
    fn keys_of_other_settings_are_never_found() {
        let realm = RealmName::default();
        let mut sources = HashSet::from([KeySource::of(&realm, &issuer())]);
        let mut other = |change: fn(&mut Issuer)| {
            let mut issuer = issuer();
            change(&mut issuer);
            assert!(sources.insert(KeySource::of(&realm, &issuer)));
        };
        other(|it| it.name = "other".parse().expect("a name"));
        other(|it| it.environment = tollgate_model::names::EnvironmentName::prod());
        other(|it| it.settings.issuer = IssuerUrl::parse("https://b.example").expect("a URL"));
        other(|it| it.settings.jwks_url = IssuerUrl::parse("https://a.example").ok());
        other(|it| it.settings.internal_addresses = true);
        let mut same = issuer();
        same.settings.audience = "b".to_owned();
        assert!(sources.contains(&KeySource::of(&realm, &same)), "leads to the same keys");
    }

    #[test]
    fn a_ring_keeps_what_is_wanted_and_forgets_the_rest() {
        let (ring, source) = (KeyRing::default(), KeySource([1; 32]));
        assert!(ring.slot(&source).is_none());
        ring.keep(&[source].into());
        ring.slot(&source).expect("a place").want();
        ring.keep(&[source, KeySource([2; 32])].into());
        let slot = ring.slot(&source).expect("a place");
        assert!(slot.take_wanted(), "it is the same place");
        assert!(!slot.take_wanted());
        ring.keep(&HashSet::new());
        assert!(ring.slot(&source).is_none());
    }
}
