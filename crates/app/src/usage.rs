//! When credentials of consumers were last used: gathered by gateways, written now and then, outside the call path.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::Timestamp;
use tollgate_model::ids::CredentialId;
use tollgate_model::names::RealmName;
use tollgate_store::{NewRecord, RecordTable};

use crate::App;
use crate::errors::Error;

/// How many last uses are written at once: with a transaction each, those of some thousands would take longer than they come.
const BATCH: usize = 500;

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
        for uses in uses.chunks(BATCH) {
            let known = self.0.last_uses(uses.iter().map(|(credential, _)| *credential)).await?;
            let is_news = |(credential, at): &&(CredentialId, Timestamp)| {
                known.get(credential).is_none_or(|known| known < at)
            };
            let record = |(credential, at): &(CredentialId, Timestamp)| NewRecord {
                // Ids of credentials are unique across realms, so these records need none.
                realm: RealmName::default(),
                key: credential.to_string(),
                body: at.to_string(),
                expires_at: None,
            };
            let mut records: Vec<_> = uses.iter().filter(is_news).map(record).collect();
            // Two processes that write the same ones take them in the same order, so that neither waits for the other.
            records.sort_by(|one, other| one.key.cmp(&other.key));
            let written = self.0.store().put_records(RecordTable::LastUse, &records).await;
            written.map_err(Error::unavailable)?;
        }
        Ok(())
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
