//! The first snapshot, of objects as they come: nobody has to hold all of them at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use imbl::OrdMap;
use tollgate_credential::seal::MasterKey;
use tollgate_model::names::RealmName;
use tollgate_model::objects::{Kind, StoredObject};

use super::api_keys::Home;
use super::{Builder, KINDS, ObjectChange, Snapshot, Stale};
use crate::keys::PackedKey;

/// A builder that does not know everything yet.
pub struct Loading {
    builder: Builder,
    stale: Stale,
}

// === impl Loading ===

impl Loading {
    /// Begins with nothing.
    pub fn new(master: Arc<MasterKey>) -> Self {
        let builder = Builder {
            master,
            objects: OrdMap::new(),
            keys: BTreeMap::new(),
            deployed: BTreeMap::new(),
            laws: HashMap::new(),
            unreadable: BTreeSet::new(),
            taken: Vec::new(),
            snapshot: Arc::default(),
        };
        Self { builder, stale: Stale::default() }
    }

    /// Takes an object; those that no gateway needs are passed over.
    pub fn add(&mut self, object: StoredObject) {
        let StoredObject { realm, kind, key, body, .. } = object;
        if !KINDS.contains(&kind) {
            return;
        }
        self.builder.take(ObjectChange { realm, kind, key, body: Some(body) }, &mut self.stale);
        if self.stale.keys.are_many() {
            // There are no scopes yet that they could be put into.
            self.builder.make_keys(&mut self.stale, &mut Snapshot::default());
        }
    }

    /// Takes keys that were packed before, and are not among those that it has.
    pub(crate) fn add_packed(&mut self, home: &Home, keys: Vec<PackedKey>) {
        self.builder.keys.entry(home.clone()).or_default().insert(keys);
    }

    /// Takes the key of a stored API key that does not parse.
    pub(crate) fn add_unreadable_key(&mut self, realm: RealmName, key: String) {
        self.builder.unreadable.insert((realm, Kind::ApiKey, key));
    }

    /// Makes the snapshot of all of it, as of a journal entry.
    pub fn finish(self, seq: u64) -> Builder {
        let Self { mut builder, stale } = self;
        let next = Snapshot { seq, ..Snapshot::default() };
        builder.make(next, stale);
        builder
    }
}
