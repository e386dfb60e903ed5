//! When credentials of consumers were last used: gathered by gateways, written now and then, outside the call path.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::Timestamp;
use tollgate_model::ids::CredentialId;
use tollgate_model::names::RealmName;
use tollgate_store::RecordTable;

use crate::App;
use crate::errors::Error;

/// The record of when credentials were last used.
pub struct CredentialUsage(pub(crate) App);

// === impl CredentialUsage ===

impl CredentialUsage {
    /// Writes the last uses that a gateway gathered; an earlier time never replaces a later one of this process.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Unavailable`]; what was not written can be handed over again.
    pub async fn flush(&self, uses: &[(CredentialId, Timestamp)]) -> Result<(), Error> {
        for (credential, at) in uses {
            self.put_last_use(*credential, *at).await?;
        }
        Ok(())
    }

    async fn put_last_use(&self, id: CredentialId, at: Timestamp) -> Result<(), Error> {
        if self.0.last_used(id).await?.is_some_and(|known| known >= at) {
            return Ok(());
        }
        // Ids of credentials are unique across realms, so these records need none.
        let (realm, id, body) = (RealmName::default(), id.to_string(), at.to_string());
        let written = self.0.store().put_record(RecordTable::LastUse, &realm, &id, &body, None);
        written.await.map_err(Error::unavailable)
    }
}

// === impl App ===

impl App {
    /// Returns when each of these credentials was last used, of those that were.
    pub(crate) async fn last_uses<Id>(
        &self,
        ids: impl Iterator<Item = Id>,
    ) -> Result<HashMap<Id, Timestamp>, Error>
    where
        Id: Into<CredentialId> + Copy + Eq + Hash,
    {
        let ids: HashMap<String, Id> = ids.map(|id| (id.into().to_string(), id)).collect();
        let names: Vec<String> = ids.keys().cloned().collect();
        let realm = RealmName::default();
        let records = self.store().get_records(RecordTable::LastUse, &realm, &names).await;
        let mut used = HashMap::new();
        for (name, text) in records.map_err(Error::unavailable)? {
            if let Some(id) = ids.get(&name) {
                used.insert(*id, text.parse().map_err(Error::internal)?);
            }
        }
        Ok(used)
    }

    /// Returns when a credential was last used.
    pub(crate) async fn last_used(&self, id: impl Into<CredentialId>) -> Result<Option<Timestamp>, Error> {
        let id = id.into().to_string();
        let record = self
            .store()
            .get_record(RecordTable::LastUse, &RealmName::default(), &id)
            .await
            .map_err(Error::unavailable)?;
        record.map(|text| text.parse().map_err(Error::internal)).transpose()
    }
}
