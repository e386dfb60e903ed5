//! When keys were last used: gathered by gateways, written now and then, outside the call path.

use jiff::Timestamp;
use tollgate_model::ids::KeyId;
use tollgate_model::names::RealmName;
use tollgate_store::RecordTable;

use crate::App;
use crate::errors::Error;

/// The record of when keys were last used.
pub struct KeyUsage(pub(crate) App);

// === impl KeyUsage ===

impl KeyUsage {
    /// Writes the last uses that a gateway gathered; an earlier time never replaces a later one of this process.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Unavailable`]; what was not written can be handed over again.
    pub async fn flush(&self, uses: &[(KeyId, Timestamp)]) -> Result<(), Error> {
        // Ids of keys are unique across realms, so these records need none.
        let realm = RealmName::default();
        for (key, at) in uses {
            if self.0.last_used(&realm, *key).await?.is_some_and(|known| known >= *at) {
                continue;
            }
            let (key, body) = (key.to_string(), at.to_string());
            self.0
                .store()
                .put_record(RecordTable::LastUse, &realm, &key, &body, None)
                .await
                .map_err(Error::unavailable)?;
        }
        Ok(())
    }
}

// === impl App ===

impl App {
    /// Returns when a key was last used.
    pub(crate) async fn last_used(&self, _: &RealmName, key: KeyId) -> Result<Option<Timestamp>, Error> {
        let record = self
            .store()
            .get_record(RecordTable::LastUse, &RealmName::default(), &key.to_string())
            .await
            .map_err(Error::unavailable)?;
        record.map(|text| text.parse().map_err(Error::internal)).transpose()
    }
}
