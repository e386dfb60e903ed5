//! Keys that stop working soon: asked of the gateway of this process, which has all of them in memory.

use jiff::{SignedDuration, Timestamp};
use tollgate_model::consumers::ApiKey;
use tollgate_model::ids::KeyId;
use tollgate_model::names::{ConsumerName, EnvironmentName};
use tollgate_model::objects::keys;

use super::Keys;
use crate::access::{Op, Permission, Place};
use crate::errors::Error;
use crate::explanations::no_gateway;

/// Most keys that are told.
const MAX_EXPIRING: usize = 100;

/// Longest look ahead, in days.
const MAX_DAYS: u16 = 90;

/// A key that works and stops working soon, as a gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// Where.
    pub environment: EnvironmentName,
    /// Whose it is.
    pub consumer: ConsumerName,
    /// Which key.
    pub key: KeyId,
    /// When.
    pub at: Timestamp,
}

/// A key that stops working soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiringKey {
    /// When, which key and whose.
    pub expiry: Expiry,
    /// Its name.
    pub name: String,
    /// The end of it.
    pub hint: String,
    /// Whether another key takes its place: it was rotated.
    pub replaced: bool,
}

// === impl Keys ===

impl Keys {
    /// Returns the keys that work and stop working by themselves within some days, the first of them first, where the actor
    /// may read keys: 100 at most.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Invalid`] unless it is 1 to 90 days; [`crate::errors::ErrorKind::Unavailable`] without
    /// a gateway.
    pub async fn expiring(&self, op: &Op, days: u16) -> Result<Vec<ExpiringKey>, Error> {
        op.demand_anywhere(Permission::ApiKeyRead)?;
        if !(1..=MAX_DAYS).contains(&days) {
            return Err(Error::invalid(format!("`days` is {days}"))
                .hint(format!("write a number from 1 to {MAX_DAYS}")));
        }
        let until = op.now + SignedDuration::from_hours(24 * i64::from(days));
        let mut known = self.0.gateway().ok_or_else(no_gateway)?.expiring_keys(&op.realm, op.now, until);
        known.retain(|it| op.may(Permission::ApiKeyRead, Place::environment(&it.environment)));
        known.sort_by_key(|it| (it.at, it.key));
        let mut expiring = Vec::new();
        for expiry in known.into_iter().take(MAX_EXPIRING) {
            let key = keys::api_key(&expiry.environment, expiry.key);
            // One that was deleted with its consumer since is not told.
            if let Some(stored) = self.0.store().get::<ApiKey>(&op.realm, &key).await? {
                let ApiKey { name, hint, replaced_by, .. } = stored.value;
                let (name, replaced) = (name.to_string(), replaced_by.is_some());
                expiring.push(ExpiringKey { expiry, name, hint, replaced });
            }
        }
        Ok(expiring)
    }
}
