//! Which gateways there are, and which journal entry each serves by now.
//!
//! Each process writes down, every second that something changed and every few seconds else, up to which entry it answers
//! calls. Whoever revoked a key can so wait until every gateway refuses it. A gateway that is cut off from the store goes
//! on with what it knows and cannot say so: it counts as lagging until it was silent for [`GONE_AFTER`], and is named as
//! silent from then on, for an hour. A process that ends says so.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tollgate_model::names::RealmName;
use tollgate_store::RecordTable;

use crate::App;
use crate::access::{Op, Permission};
use crate::errors::Error;

/// After how long without a word a gateway is taken for gone.
pub const GONE_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// How long a gateway that was silent is still named.
const NAMED_FOR: SignedDuration = SignedDuration::from_hours(1);
/// Most gateways that are looked at.
const MAX_GATEWAYS: u32 = 1_000;

/// Use cases of gateways.
pub struct Gateways(pub(crate) App);

/// What a gateway says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayBeat {
    /// Names the process; another one each time it starts.
    pub id: String,
    /// Where it runs, for people.
    pub name: String,
    /// The journal entry up to which it answers calls.
    pub entry: u64,
    /// When it said so.
    pub seen_at: Timestamp,
    /// Whether it has ended since.
    #[serde(default)]
    pub stopped: bool,
}

/// How far a gateway is with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayState {
    /// It serves the entry.
    Confirmed,
    /// It was heard of lately, and does not serve the entry yet.
    Lagging,
    /// It was not heard of for a while, and did not serve the entry then.
    Silent,
}

/// How far every gateway is with a journal entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// The entry.
    pub entry: u64,
    /// Whether every gateway that there is serves it.
    pub confirmed: bool,
    /// Each gateway, and how far it is.
    pub gateways: Vec<(GatewayBeat, GatewayState)>,
}

// === impl Gateways ===

impl Gateways {
    /// Writes down what a gateway says of itself.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Unavailable`].
    pub async fn beat(&self, beat: &GatewayBeat) -> Result<(), Error> {
        let body = serde_json::to_string(beat).map_err(Error::internal)?;
        // One that ended needs not be named.
        let expires_at = if beat.stopped { beat.seen_at } else { after(beat.seen_at, NAMED_FOR) };
        self.0
            .store()
            .put_record(RecordTable::Gateways, &RealmName::default(), &beat.id, &body, Some(expires_at))
            .await
            .map_err(Error::unavailable)
    }

    /// Tells how far every gateway is with a journal entry.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Invalid`] for an entry that is not there yet.
    pub async fn confirmation(&self, op: &Op, entry: u64) -> Result<Confirmation, Error> {
        op.demand_anywhere(Permission::EnvironmentRead)?;
        if entry > self.0.store().head().await? {
            return Err(Error::invalid(format!("the journal has no entry {entry} yet")));
        }
        let records = self
            .0
            .store()
            .list_records(RecordTable::Gateways, &RealmName::default(), "", MAX_GATEWAYS)
            .await
            .map_err(Error::unavailable)?;
        let mut gateways = Vec::new();
        for record in records {
            let beat: GatewayBeat = serde_json::from_str(&record.body).map_err(Error::internal)?;
            if beat.stopped || after(beat.seen_at, NAMED_FOR) <= op.now {
                continue;
            }
            let state = match beat.entry >= entry {
                true => GatewayState::Confirmed,
                false if op.now.duration_since(beat.seen_at) < GONE_AFTER => GatewayState::Lagging,
                false => GatewayState::Silent,
            };
            gateways.push((beat, state));
        }
        // Where nobody was ever heard of, nobody confirmed.
        let some = gateways.iter().any(|(_, state)| *state == GatewayState::Confirmed);
        let none_lags = gateways.iter().all(|(_, state)| *state != GatewayState::Lagging);
        Ok(Confirmation { entry, confirmed: some && none_lags, gateways })
    }
}

fn after(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}
