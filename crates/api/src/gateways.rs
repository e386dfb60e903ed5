//! Gateways, and how far they are.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::access::Permission;
use tollgate_app::gateways::{Confirmation, GatewayBeat, GatewayState};

use crate::Api;
use crate::answers::Answer;
use crate::extract::{Ask, Caller};
use crate::operations::{Access, Operation};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EntryQuery {
    /// The journal entry that is asked about.
    entry: u64,
}

#[derive(Serialize, JsonSchema)]
struct ConfirmationView {
    entry: u64,
    /// Whether every gateway that was heard of in the last minute answers calls by this entry.
    confirmed: bool,
    gateways: Vec<GatewayView>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct GatewayView {
    id: String,
    name: String,
    /// `confirmed`; `lagging`: it does not serve the entry yet; `silent`: the same, and it was not heard of for a minute.
    state: &'static str,
    /// The entry by which it answers calls.
    entry: u64,
    seen_at: String,
}

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/realms/{realm}/gateways",
            Access::Needs(Permission::EnvironmentRead),
            "Tells which gateways answer calls by a journal entry",
            confirmation,
        )
        .asks::<EntryQuery>()
        .answers::<ConfirmationView>(),
    ]
}

async fn confirmation(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(query): Ask<EntryQuery>,
) -> Answer<Json<ConfirmationView>> {
    let Confirmation { entry, confirmed, gateways } =
        api.app.gateways().confirmation(&op, query.entry).await?;
    let gateways = gateways.into_iter().map(GatewayView::from).collect();
    Ok(Json(ConfirmationView { entry, confirmed, gateways }))
}

impl From<(GatewayBeat, GatewayState)> for GatewayView {
    fn from((beat, state): (GatewayBeat, GatewayState)) -> Self {
        let state = match state {
            GatewayState::Confirmed => "confirmed",
            GatewayState::Lagging => "lagging",
            GatewayState::Silent => "silent",
        };
        Self { id: beat.id, name: beat.name, state, entry: beat.entry, seen_at: beat.seen_at.to_string() }
    }
}
