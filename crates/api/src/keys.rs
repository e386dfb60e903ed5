//! API keys.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::access::Permission;
use tollgate_app::keys::{KeyDigest, KeyView as Key, NewKey, ShownKey, UntilUnused};
use tollgate_model::consumers::{ApiKey, CredentialState};
use tollgate_model::ids::KeyId;
use tollgate_model::names::{ConsumerName, CredentialName, EnvironmentName};

use crate::Api;
use crate::answers::{Answer, Created, ListView};
use crate::extract::{Ask, Body, Caller, In};
use crate::operations::{Access, Operation};

/// An API key.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyView {
    id: String,
    name: String,
    consumer: String,
    environment: String,
    /// The key in plain: only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Its last four characters.
    hint: String,
    /// `active`, `expired` or `revoked`.
    state: &'static str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
    /// To about ten seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
    /// The key that took its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced_by: Option<String>,
    /// When it was rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    rotated_at: Option<String>,
    /// It ends when it had no call for so long, in seconds, and at `expiresAt` in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    retire_unused_seconds: Option<u32>,
    /// The journal entry that last changed it: gateways that answer by it know of the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    journal_entry: Option<u64>,
    /// Whether it came from another system.
    imported: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewKeyBody {
    #[serde(default = "default_name")]
    name: CredentialName,
    /// RFC 3339; without, until it is revoked.
    #[schemars(with = "Option<String>")]
    expires_at: Option<Timestamp>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ImportKeyBody {
    #[serde(default = "default_name")]
    name: CredentialName,
    /// The key: 16 to 256 visible ASCII characters.
    key: String,
    /// RFC 3339; without, until it is revoked.
    #[schemars(with = "Option<String>")]
    expires_at: Option<Timestamp>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RotateKeyBody {
    /// How long the old key goes on working.
    #[serde(default = "day")]
    overlap_seconds: u32,
    /// Ends the old key before, when it had no call for so long; at least 60.
    until_unused_seconds: Option<u32>,
    /// What to call the new key; the old one's name when absent.
    name: Option<CredentialName>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IdentifyKeysBody {
    /// SHA-256 of each key, 64 lower-case hexadecimal digits; at most 500.
    #[schemars(with = "Vec<String>")]
    digests: Vec<KeyDigest>,
}

/// A key that has one of the digests.
#[derive(Serialize, JsonSchema)]
struct IdentifiedKeyView {
    /// The digest that was sent.
    digest: String,
    key: KeyView,
}

fn day() -> u32 {
    86_400
}

/// The name of a key that nobody named.
pub(crate) fn default_name() -> CredentialName {
    CredentialName::parse("default").unwrap_or_else(|_| unreachable!("`default` is a credential name"))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExpiringQuery {
    /// Within so many days: 1 to 90, 14 when absent.
    days: Option<u16>,
    /// Taken for the sake of clients that page every list; this one is always whole, and 100 long at most.
    #[serde(rename = "limit")]
    _limit: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ExpiringView {
    environment: String,
    consumer: String,
    id: String,
    name: String,
    /// The end of it.
    hint: String,
    expires_at: String,
    /// Whether another key takes its place: it was rotated.
    replaced: bool,
}

#[derive(Deserialize)]
struct OfEnvironment {
    environment: EnvironmentName,
}

#[derive(Deserialize)]
struct OfConsumer {
    environment: EnvironmentName,
    consumer: ConsumerName,
}

#[derive(Deserialize)]
struct OneKey {
    environment: EnvironmentName,
    id: KeyId,
}

pub(crate) fn operations() -> Vec<Operation> {
    let (read, create) = (Access::Needs(Permission::ApiKeyRead), Access::Needs(Permission::ApiKeyCreate));
    vec![
        Operation::get(
            "/realms/{realm}/expiring-keys",
            read,
            "Lists the keys that stop working by themselves soon, the first of them first",
            expiring,
        )
        .asks::<ExpiringQuery>()
        .answers::<ListView<ExpiringView>>(),
        Operation::get(
            "/realms/{realm}/environments/{environment}/consumers/{consumer}/keys",
            read,
            "Lists a consumer's keys",
            list,
        )
        .answers::<ListView<KeyView>>(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/consumers/{consumer}/keys",
            create,
            "Makes a key and shows it once",
            issue,
        )
        .takes::<NewKeyBody>()
        .answers::<KeyView>()
        .creates(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/consumers/{consumer}/keys/import",
            create,
            "Takes over a key from another system",
            import,
        )
        .takes::<ImportKeyBody>()
        .answers::<KeyView>()
        .creates(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/keys/{id}/rotate",
            create,
            "Makes a key that takes another's place; both work during the overlap",
            rotate,
        )
        .takes::<RotateKeyBody>()
        .answers::<KeyView>()
        .creates(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/keys/{id}/revoke",
            Access::Needs(Permission::ApiKeyRevoke),
            "Revokes a key",
            revoke,
        )
        .answers::<KeyView>(),
        Operation::post(
            "/realms/{realm}/environments/{environment}/keys/identify",
            read,
            "Tells whose keys have these digests: those that were issued here, not imported ones",
            identify,
        )
        .takes::<IdentifyKeysBody>()
        .answers::<ListView<IdentifiedKeyView>>(),
    ]
}

async fn list(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OfConsumer>,
) -> Answer<Json<ListView<KeyView>>> {
    let keys = api.app.keys().list(&op, &path.environment, &path.consumer).await?;
    Ok(ListView::whole(keys, |key| KeyView::listed(&key, op.now)))
}

async fn expiring(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(query): Ask<ExpiringQuery>,
) -> Answer<Json<ListView<ExpiringView>>> {
    let keys = api.app.keys().expiring(&op, query.days.unwrap_or(14)).await?;
    Ok(ListView::whole(keys, |it| ExpiringView {
        environment: it.expiry.environment.to_string(),
        consumer: it.expiry.consumer.to_string(),
        id: it.expiry.key.to_string(),
        name: it.name,
        hint: it.hint,
        expires_at: it.expiry.at.to_string(),
        replaced: it.replaced,
    }))
}

async fn issue(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OfConsumer>,
    Body(body): Body<NewKeyBody>,
) -> Answer<Created<KeyView>> {
    let NewKeyBody { name, expires_at } = body;
    let shown =
        api.app.keys().create(&op, &path.environment, &path.consumer, NewKey { name, expires_at }).await?;
    Ok(Created(KeyView::shown(&shown, op.now)))
}

async fn import(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OfConsumer>,
    Body(body): Body<ImportKeyBody>,
) -> Answer<Created<KeyView>> {
    let ImportKeyBody { name, key, expires_at } = body;
    let keys = api.app.keys();
    let shown =
        keys.import(&op, &path.environment, &path.consumer, NewKey { name, expires_at }, &key).await?;
    Ok(Created(KeyView::shown(&shown, op.now)))
}

async fn rotate(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OneKey>,
    Body(body): Body<RotateKeyBody>,
) -> Answer<Created<KeyView>> {
    let RotateKeyBody { overlap_seconds, until_unused_seconds, name } = body;
    let (keys, environment) = (api.app.keys(), &path.environment);
    let shown = match until_unused_seconds {
        None => keys.rotate(&op, environment, path.id, overlap_seconds, name).await?,
        Some(unused_seconds) => {
            let until = UntilUnused { unused_seconds, at_latest_seconds: overlap_seconds };
            keys.rotate_until_unused(&op, environment, path.id, until, name).await?
        }
    };
    Ok(Created(KeyView::shown(&shown, op.now)))
}

async fn revoke(State(api): State<Api>, Caller(op): Caller, In(path): In<OneKey>) -> Answer<Json<KeyView>> {
    let key = api.app.keys().revoke(&op, &path.environment, path.id).await?;
    Ok(Json(KeyView::listed(&key, op.now)))
}

async fn identify(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<OfEnvironment>,
    Body(body): Body<IdentifyKeysBody>,
) -> Answer<Json<ListView<IdentifiedKeyView>>> {
    let known = api.app.keys().identify(&op, &path.environment, &body.digests).await?;
    Ok(ListView::whole(known, |(digest, key)| IdentifiedKeyView {
        digest: digest.to_string(),
        key: KeyView::listed(&key, op.now),
    }))
}

// === impl KeyView ===

impl KeyView {
    /// Shows a new key in plain.
    pub(crate) fn shown(shown: &ShownKey, now: Timestamp) -> Self {
        let plain = shown.plain.as_ref().map(|plain| plain.expose_secret().to_owned());
        Self { key: plain, ..Self::new(&shown.key, &shown.consumer, now) }
    }

    fn listed(view: &Key, now: Timestamp) -> Self {
        let last_used_at = view.last_used_at.map(|at| at.to_string());
        let journal_entry = Some(view.revision);
        Self { last_used_at, journal_entry, ..Self::new(&view.key, &view.consumer, now) }
    }

    fn new(key: &ApiKey, consumer: &ConsumerName, now: Timestamp) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name.to_string(),
            consumer: consumer.to_string(),
            environment: key.environment.to_string(),
            key: None,
            hint: key.hint.clone(),
            state: match key.state(now) {
                CredentialState::Active => "active",
                CredentialState::Expired => "expired",
                CredentialState::Revoked => "revoked",
            },
            created_at: key.created_at.to_string(),
            expires_at: key.expires_at.map(|at| at.to_string()),
            revoked_at: key.revoked_at.map(|at| at.to_string()),
            last_used_at: None,
            replaced_by: key.replaced_by.map(|id| id.to_string()),
            rotated_at: key.rotated_at.map(|at| at.to_string()),
            retire_unused_seconds: key.retire_unused_seconds,
            journal_entry: None,
            imported: key.imported,
        }
    }
}
