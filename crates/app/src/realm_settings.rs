//! What a realm decided about itself.

use tollgate_model::environments::{Realm, RealmSettings, SecondFactorRule};
use tollgate_model::names::RealmName;
use tollgate_model::next_steps::NextStep;
use tollgate_model::objects::keys;
use tollgate_model::users::SecondFactor;
use tollgate_store::Stored;

use crate::App;
use crate::access::{Op, Permission};
use crate::change_requests::{Leave, Subject};
use crate::changes::{Draft, expect_read};
use crate::errors::Error;
use crate::policies::check_reason;
use crate::realms::Realms;

/// Most networks of upstreams that a realm allows; each call's connections are checked against them.
const MAX_NETWORKS: usize = 64;

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
    /// A second factor is demanded by somebody who has one: so nobody shuts out everybody including themselves.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`]; [`crate::errors::ErrorKind::Conflict`] with code `four-eyes` while the realm
    /// wants a second person for anything, and with `second-factor-missing`; [`crate::errors::ErrorKind::Invalid`] when a
    /// realm without users is to demand a second factor; [`crate::errors::ErrorKind::PreconditionFailed`] when somebody changed them
    /// since `if_match`, or at the same moment.
    pub async fn update(
        &self,
        op: &Op,
        settings: RealmSettings,
        if_match: Option<u64>,
    ) -> Result<Stored<Realm>, Error> {
        self.update_because(op, settings, "", if_match).await
    }

    /// As [`Realms::update`], with a reason for the journal.
    ///
    /// # Errors
    ///
    /// As [`Realms::update`]; [`crate::errors::ErrorKind::Invalid`] when the reason is too long.
    pub async fn update_because(
        &self,
        op: &Op,
        settings: RealmSettings,
        reason: &str,
        if_match: Option<u64>,
    ) -> Result<Stored<Realm>, Error> {
        op.demand(Permission::RealmUpdate)?;
        check_reason(reason)?;
        let leave = self.0.leave(op, Subject::Settings).await?;
        let before = self.0.realm(op).await?;
        self.check_second_factor(op, &before.value, &settings).await?;
        let draft = self.drafted(op, &before, &settings, if_match, &leave)?.reason(reason);
        let revision = self.0.commit(op, draft).await?;
        Ok(Stored { value: Realm { settings, ..before.value }, revision })
    }

    /// Returns a change of the settings as it would be saved.
    pub(crate) fn drafted(
        &self,
        op: &Op,
        before: &Stored<Realm>,
        settings: &RealmSettings,
        if_match: Option<u64>,
        leave: &Leave,
    ) -> Result<Draft, Error> {
        if settings.allow_upstreams.len() > MAX_NETWORKS {
            return Err(Error::invalid(format!(
                "a realm allows at most {MAX_NETWORKS} networks of upstreams"
            )));
        }
        let realm = Realm { settings: settings.clone(), ..before.value.clone() };
        let mut draft = Draft::new(op, "realm.update").with(leave);
        draft.put(&realm, expect_read(before, if_match)?)?;
        Ok(draft)
    }

    /// Refuses to demand a second factor for somebody who has none.
    pub(crate) async fn check_second_factor(
        &self,
        op: &Op,
        before: &Realm,
        settings: &RealmSettings,
    ) -> Result<(), Error> {
        let required = SecondFactorRule::Required;
        if settings.second_factor != required || before.settings.second_factor == required {
            return Ok(());
        }
        let default = RealmName::default();
        if op.realm != default {
            return Err(Error::invalid(
                "users live in realm `default`: only there a second factor can be demanded",
            )
            .hint("change the setting of realm `default`"));
        }
        let Some(user) = op.actor.user else { return Ok(()) };
        let factor = self.0.store().get::<SecondFactor>(&default, &keys::second_factor(user)).await?;
        if factor.is_some_and(|factor| factor.value.confirmed_at.is_some()) {
            return Ok(());
        }
        Err(Error::conflict("second-factor-missing", "whoever demands a second factor needs one themselves")
            .hint("set up yours first")
            .next(NextStep::EnrolSecondFactor))
    }
}

// === impl App ===

impl App {
    pub(crate) async fn realm(&self, op: &Op) -> Result<Stored<Realm>, Error> {
        self.store().get::<Realm>(&op.realm, &keys::realm(&op.realm)).await?.ok_or_else(|| {
            Error::not_found(format!("there is no realm `{}`", op.realm))
                .hint("see the realms")
                .next(NextStep::ListRealms)
        })
    }
}
