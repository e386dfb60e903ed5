//! When keys and client certificates were last used: gathered by gateways, written now and then, outside the call path.

use std::collections::HashMap;

use jiff::Timestamp;
use tollgate_model::ids::{CertificateId, KeyId};
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
        for (key, at) in uses {
            self.put_last_use(&key.to_string(), *at).await?;
        }
        Ok(())
    }

    /// Writes the last uses of client certificates, as [`KeyUsage::flush`] does those of keys.
    ///
    /// # Errors
    ///
    /// As [`KeyUsage::flush`].
    pub async fn flush_certificates(&self, uses: &[(CertificateId, Timestamp)]) -> Result<(), Error> {
        for (certificate, at) in uses {
            self.put_last_use(&certificate.to_string(), *at).await?;
        }
        Ok(())
    }

    async fn put_last_use(&self, id: &str, at: Timestamp) -> Result<(), Error> {
        if self.0.last_use(id).await?.is_some_and(|known| known >= at) {
            return Ok(());
        }
        // Ids of credentials are unique across realms, so these records need none.
        let (realm, body) = (RealmName::default(), at.to_string());
        let written = self.0.store().put_record(RecordTable::LastUse, &realm, id, &body, None);
        written.await.map_err(Error::unavailable)
    }
}

// === impl App ===

impl App {
    /// Returns when each of these keys was last used, of those that were.
    pub(crate) async fn last_uses(
        &self,
        keys: impl Iterator<Item = KeyId>,
    ) -> Result<HashMap<KeyId, Timestamp>, Error> {
        let keys: HashMap<String, KeyId> = keys.map(|key| (key.to_string(), key)).collect();
        let names: Vec<String> = keys.keys().cloned().collect();
        let realm = RealmName::default();
        let records = self.store().get_records(RecordTable::LastUse, &realm, &names).await;
        let mut used = HashMap::new();
        for (name, text) in records.map_err(Error::unavailable)? {
            if let Some(key) = keys.get(&name) {
                used.insert(*key, text.parse().map_err(Error::internal)?);
            }
        }
        Ok(used)
    }

    /// Returns when a key was last used.
    pub(crate) async fn last_used(&self, key: KeyId) -> Result<Option<Timestamp>, Error> {
        self.last_use(&key.to_string()).await
    }

    /// Returns when a client certificate was last shown.
    pub(crate) async fn last_shown(&self, certificate: CertificateId) -> Result<Option<Timestamp>, Error> {
        self.last_use(&certificate.to_string()).await
    }

    async fn last_use(&self, id: &str) -> Result<Option<Timestamp>, Error> {
        let record = self
            .store()
            .get_record(RecordTable::LastUse, &RealmName::default(), id)
            .await
            .map_err(Error::unavailable)?;
        record.map(|text| text.parse().map_err(Error::internal)).transpose()
    }
}
