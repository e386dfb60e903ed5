//! Whose keys these are, told by their digests: for keys that were found where they should not be.

use std::collections::{HashMap, HashSet};

use tollgate_model::consumers::{ApiKey, Consumer};
use tollgate_model::names::EnvironmentName;
use tollgate_store::Stored;

use super::{KeyDigest, KeyView, Keys};
use crate::access::{Op, Permission, Place};
use crate::errors::Error;

/// Most digests that are looked up at once.
pub const MAX_IDENTIFIED: usize = 500;

impl Keys {
    /// Returns the keys of an environment that have one of these digests, each with its digest; of those that no key
    /// has nothing is returned.
    ///
    /// Imported keys are left out. What another system made may be guessable, and whoever may read keys must not be
    /// able to try guesses here, past the gateway and its log.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`]; [`crate::errors::ErrorKind::Invalid`] for more than [`MAX_IDENTIFIED`].
    pub async fn identify(
        &self,
        op: &Op,
        environment: &EnvironmentName,
        digests: &[KeyDigest],
    ) -> Result<Vec<(KeyDigest, KeyView)>, Error> {
        op.demand_in(Permission::ApiKeyRead, Place::environment(environment))?;
        if digests.len() > MAX_IDENTIFIED {
            return Err(Error::invalid(format!("at most {MAX_IDENTIFIED} digests are looked up at once"))
                .hint("send the others in a request of their own"));
        }
        self.0.environment(&op.realm, environment).await?;
        let prefix = format!("{environment}/");
        let wanted: HashMap<String, KeyDigest> =
            digests.iter().map(|digest| (digest.to_string(), *digest)).collect();
        let mut keys = Vec::new();
        for digest in wanted.keys() {
            keys.extend(self.0.store().with_handle::<ApiKey>(&op.realm, &prefix, digest).await?);
        }
        keys.retain(|key| !key.value.imported);
        keys.sort_by_key(|key| key.value.id);
        let owners: HashSet<_> = keys.iter().map(|key| key.value.consumer).collect();
        let mut names = HashMap::new();
        for owner in owners {
            let found =
                self.0.store().with_handle::<Consumer>(&op.realm, &prefix, &owner.to_string()).await?;
            names.extend(found.into_iter().map(|stored| (stored.value.id, stored.value.name)));
        }
        let used = self.0.last_uses(keys.iter().map(|stored| stored.value.id)).await?;
        let mut all = Vec::with_capacity(keys.len());
        for Stored { value: key, revision } in keys {
            // A consumer that was deleted at this moment took its keys along.
            let (Some(digest), Some(consumer)) = (wanted.get(&key.digest), names.get(&key.consumer)) else {
                continue;
            };
            let last_used_at = used.get(&key.id).copied();
            all.push((*digest, KeyView { key, consumer: consumer.clone(), last_used_at, revision }));
        }
        Ok(all)
    }
}
