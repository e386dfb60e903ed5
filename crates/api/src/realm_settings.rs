//! One realm, and what it decided about itself.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::Stored;
use tollgate_app::access::Permission;
use tollgate_app::change_requests::Proposal;
use tollgate_model::environments::{FourEyes, Realm, RealmSettings, SecondFactorRule, WaiverDays};
use tollgate_model::networks::Network;
use tollgate_model::triggers::Cors;

use crate::Api;
use crate::answers::{Answer, Tagged};
use crate::change_requests::asked;
use crate::extract::{Body, Caller, IfMatch};
use crate::operations::{Access, Operation};
use crate::past::Then;

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
    /// What one person asks for and another must approve; kept as it is when it is left out. While any of it is on, so are
    /// the settings.
    four_eyes: Option<FourEyes>,
    /// Whether users need a second factor; kept as it is when it is left out.
    second_factor: Option<SecondFactorRule>,
    /// Networks that flows may call although they are those of the machine itself, of its link, or special otherwise; kept
    /// as they are when they are left out.
    allow_upstreams: Option<Vec<Network>>,
    /// What pages of other origins may do where a trigger does not say; kept as it is when it is left out, nothing when it
    /// is null.
    #[serde(default, deserialize_with = "said")]
    #[schemars(with = "Option<Cors>")]
    cors: Option<Option<Cors>>,
    /// Why, for the journal.
    #[serde(default)]
    reason: String,
}

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/realms/{realm}",
            Access::Needs(Permission::RealmRead),
            "Returns a realm with its settings",
            get,
        )
        .of_the_past()
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
        .under_four_eyes()
        .also_needs(Permission::RealmRead)
        .takes::<SettingsBody>()
        .answers::<RealmView>(),
    ]
}

async fn get(Then(api): Then, Caller(op): Caller) -> Answer<Tagged<RealmView>> {
    Ok(tagged(api.app.realms().get(&op).await?))
}

async fn set(
    State(api): State<Api>,
    Caller(op): Caller,
    IfMatch(if_match): IfMatch,
    Body(body): Body<SettingsBody>,
) -> Answer<Response> {
    let before = api.app.realms().get(&op).await?;
    let SettingsBody { max_waiver_days, four_eyes, second_factor, allow_upstreams, cors, reason } = body;
    // A client that does not know a setting must not change it, nor write over what somebody else made of it meanwhile.
    let left_out =
        four_eyes.is_none() || second_factor.is_none() || allow_upstreams.is_none() || cors.is_none();
    let if_match = if_match.or(Some(before.revision).filter(|_| left_out));
    let before = before.value.settings;
    let settings = RealmSettings {
        max_waiver_days,
        four_eyes: four_eyes.unwrap_or(before.four_eyes),
        second_factor: second_factor.unwrap_or(before.second_factor),
        allow_upstreams: allow_upstreams.unwrap_or(before.allow_upstreams),
        cors: cors.unwrap_or(before.cors),
    };
    let proposal = Proposal::Settings { settings: &settings, if_match };
    if let Some(response) = asked(&api, &op, proposal, &reason).await? {
        return Ok(response);
    }
    Ok(tagged(api.app.realms().update_because(&op, settings, &reason, if_match).await?).into_response())
}

/// Tells null from a field that was left out.
fn said<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn tagged(stored: Stored<Realm>) -> Tagged<RealmView> {
    let Realm { name, created_at, settings } = stored.value;
    let view = RealmView { name: name.to_string(), created_at: created_at.to_string(), settings };
    Tagged(view, stored.revision)
}
