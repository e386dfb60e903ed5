//! What a realm decided about itself.

use tollgate_model::environments::{Realm, RealmSettings};
use tollgate_model::objects::keys;
use tollgate_store::Stored;

use crate::App;
use crate::access::{Op, Permission};
use crate::changes::{Draft, expect};
use crate::errors::Error;
use crate::realms::Realms;

// === impl Realms ===

impl Realms {
    /// Returns the realm that the operation is in, with its settings and its revision.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`].
    pub async fn get(&self, op: &Op) -> Result<Stored<Realm>, Error> {
        op.demand_anywhere(Permission::RealmRead)?;
        self.0.realm(op).await
    }

    /// Gives the realm other settings. What was decided under the ones before stands.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`]; [`crate::errors::ErrorKind::PreconditionFailed`] when somebody changed them
    /// since `if_match`, or at the same moment.
    pub async fn update(
        &self,
        op: &Op,
        settings: RealmSettings,
        if_match: Option<u64>,
    ) -> Result<Stored<Realm>, Error> {
        op.demand(Permission::RealmUpdate)?;
        let before = self.0.realm(op).await?;
        let realm = Realm { settings, ..before.value.clone() };
        let mut draft = Draft::new(op, "realm.update");
        draft.put(&realm, expect(&before, if_match))?;
        let revision = self.0.commit(op, draft).await?;
        Ok(Stored { value: realm, revision })
    }
}

// === impl App ===

impl App {
    pub(crate) async fn realm(&self, op: &Op) -> Result<Stored<Realm>, Error> {
        self.store().get::<Realm>(&op.realm, &keys::realm(&op.realm)).await?.ok_or_else(|| {
            Error::not_found(format!("there is no realm `{}`", op.realm))
                .hint("`tollgate realm list` shows the realms")
        })
    }
}
