//! API keys in the builder: what a gateway needs of them is packed when they come, and their JSON is not kept. With a million
//! keys it would be four times of all the rest.

use std::collections::BTreeMap;

use tollgate_model::consumers::ApiKey;
use tollgate_model::ids::KeyId;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::objects::Kind;

use super::{Builder, Snapshot, Stale};
use crate::keys::PackedKey;

/// An environment of a realm.
pub(crate) type Home = (RealmName, EnvironmentName);

/// Keys that change before they are put in their places.
const MANY: usize = 16_384;

/// What becomes of the keys of environments; `None` takes one away.
#[derive(Default)]
pub(super) struct KeyChanges {
    of: BTreeMap<Home, BTreeMap<KeyId, Option<PackedKey>>>,
    count: usize,
}

// === impl KeyChanges ===

impl KeyChanges {
    /// Tells whether there are so many that they should be put in their places before further ones are taken.
    pub(super) fn are_many(&self) -> bool {
        self.count >= MANY
    }
}

// === impl Builder ===

impl Builder {
    /// Notes what becomes of a key.
    pub(super) fn take_key(&mut self, realm: RealmName, key: String, body: Option<&str>, stale: &mut Stale) {
        let place = place_of(&key);
        let packed = body.zip(place.as_ref()).and_then(|(body, (_, id))| pack(body, *id));
        if body.is_some() && packed.is_none() {
            self.unreadable.insert((realm.clone(), Kind::ApiKey, key));
        } else {
            self.unreadable.remove(&(realm.clone(), Kind::ApiKey, key));
        }
        if let Some((environment, id)) = place {
            stale.keys.of.entry((realm, environment)).or_default().insert(id, packed);
            stale.keys.count += 1;
        }
    }

    /// Puts keys that changed in their places, and into the scopes of environments that there are. Everything else is
    /// shared with what was before.
    pub(super) fn make_keys(&mut self, stale: &mut Stale, next: &mut Snapshot) {
        for ((realm, environment), changes) in std::mem::take(&mut stale.keys).of {
            let home = (realm, environment);
            let keys = self.keys.entry(home.clone()).or_default();
            keys.change(changes);
            let keys = keys.clone();
            let (realm, environment) = &home;
            if keys.is_empty() {
                self.keys.remove(&home);
            }
            if let Some(scope) = next.scopes.get_mut(realm).and_then(|scopes| scopes.get_mut(environment)) {
                std::sync::Arc::make_mut(scope).keys = keys;
            }
        }
    }
}

/// Returns the environment of a stored key and its id.
fn place_of(key: &str) -> Option<(EnvironmentName, KeyId)> {
    let (environment, id) = key.split_once('/')?;
    Some((EnvironmentName::parse(environment).ok()?, KeyId::parse(id).ok()?))
}

/// Packs the JSON of a key; `None` when it does not parse, or says that it is another key.
fn pack(body: &str, id: KeyId) -> Option<PackedKey> {
    let key: ApiKey = serde_json::from_str(body).ok()?;
    if key.id == id { PackedKey::new(&key) } else { None }
}
