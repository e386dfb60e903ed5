//! One realm, and what it decided about itself.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::Stored;
use tollgate_app::access::Permission;
use tollgate_model::environments::{Realm, RealmSettings, WaiverDays};

use crate::Api;
use crate::answers::{Answer, Tagged};
use crate::extract::{Body, Caller, IfMatch};
use crate::operations::{Access, Operation};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RealmView {
    name: String,
    created_at: String,
    settings: RealmSettings,
}

/// All settings of a realm.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SettingsBody {
    /// How long a waiver can last, in days: 1 to 365.
    max_waiver_days: WaiverDays,
}

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/realms/{realm}",
            Access::Needs(Permission::RealmRead),
            "Returns a realm with its settings",
            get,
        )
        .tagged()
        .answers::<RealmView>(),
        Operation::put(
            "/realms/{realm}/settings",
            Access::Needs(Permission::RealmUpdate),
            "Gives a realm other settings",
            set,
        )
        .tagged()
        .conditional()
        .takes::<SettingsBody>()
        .answers::<RealmView>(),
    ]
}

async fn get(State(api): State<Api>, Caller(op): Caller) -> Answer<Tagged<RealmView>> {
    Ok(tagged(api.app.realms().get(&op).await?))
}

async fn set(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    Body(body): Body<SettingsBody>,
) -> Answer<Tagged<RealmView>> {
    let settings = RealmSettings { max_waiver_days: body.max_waiver_days };
    Ok(tagged(api.app.realms().update(&op, settings, if_match).await?))
}

fn tagged(stored: Stored<Realm>) -> Tagged<RealmView> {
    let Realm { name, created_at, settings } = stored.value;
    let view = RealmView { name: name.to_string(), created_at: created_at.to_string(), settings };
    Tagged(view, stored.revision)
}
