//! Keys that sign evidence, checkpoints of the journal, and losses of its entries.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_app::access::Permission;
use tollgate_app::evidence::{KeptCheckpoint, LossStatement, Proof};
use tollgate_model::hex::hex;

use crate::Api;
use crate::answers::{Answer, Created};
use crate::extract::{Body, Caller};
use crate::operations::{Access, Operation};

/// Where the keys are published, for everybody and without the prefix of the API.
pub(crate) const PUBLISHED_KEYS: &str = "/.well-known/tollgate-evidence-keys.json";

#[derive(Serialize, JsonSchema)]
struct EvidenceKeysView {
    /// JWKs (RFC 7517) of Ed25519 keys (RFC 8037), each with `notBefore` and, once it signs no more, `retiredAt`.
    keys: Vec<Value>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct EvidenceKeyView {
    /// The JWK thumbprint (RFC 7638).
    kid: String,
    not_before: String,
    /// The public JWK.
    public_jwk: Value,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckpointView {
    /// The journal: from the hash of its first entry.
    origin: String,
    /// How many entries it had.
    entries: u64,
    /// Hash of the last one, in hexadecimal digits.
    hash: String,
    at: String,
    /// The key that signed.
    kid: String,
    /// The signed text, to be kept as it is.
    note: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LossView {
    /// So many entries are those that were there.
    kept_entries: u64,
    /// So many there were, by a checkpoint.
    seen_entries: u64,
    accepted_at: String,
    accepted_by: String,
    reason: String,
}

/// What checkpoints say of the journal.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckpointsView {
    /// How many fit, one for each state of the journal.
    fitting: usize,
    /// The newest that fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<CheckpointView>,
    /// The one given, if it fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    given: Option<CheckpointView>,
    /// Losses of entries that somebody answered for.
    losses: Vec<LossView>,
    /// What is not wrong and should be known.
    remarks: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LossBody {
    /// Why entries are gone.
    reason: String,
}

pub(crate) fn operations() -> Vec<Operation> {
    let read = Access::Needs(Permission::AuditRead);
    vec![
        Operation::get(
            "/evidence-keys",
            Access::Needs(Permission::EvidenceKeyRead),
            "Returns the keys that sign evidence, as published at /.well-known/tollgate-evidence-keys.json",
            keys,
        )
        .answers::<EvidenceKeysView>(),
        Operation::post(
            "/evidence-keys/rotate",
            Access::Needs(Permission::EvidenceKeyUpdate),
            "Makes a new key that signs evidence; the ones before verify for ever what they signed",
            rotate,
        )
        .answers::<EvidenceKeyView>()
        .creates(),
        Operation::get(
            "/realms/{realm}/journal/checkpoint",
            read,
            "Returns the newest kept checkpoint of the journal",
            newest,
        )
        .answers::<CheckpointView>(),
        Operation::post(
            "/realms/{realm}/journal/checkpoint",
            read,
            "Returns a checkpoint of the journal as it is now, made if need be",
            make,
        )
        .answers::<CheckpointView>(),
        Operation::post(
            "/realms/{realm}/journal/losses",
            Access::Needs(Permission::AuditAccept),
            "Answers for journal entries that checkpoints show to be gone",
            accept_loss,
        )
        .takes::<LossBody>()
        .answers::<LossView>()
        .creates(),
    ]
}

/// Returns the keys to whoever asks: they are public, and verifying must need no account.
pub(crate) async fn published(State(api): State<Api>) -> Answer<Json<Value>> {
    Ok(Json(api.app.evidence().published().await?))
}

async fn keys(State(api): State<Api>, Caller(op): Caller) -> Answer<Json<Value>> {
    api.app.evidence().keys(&op).await?;
    Ok(Json(api.app.evidence().published().await?))
}

async fn rotate(State(api): State<Api>, Caller(op): Caller) -> Answer<Created<EvidenceKeyView>> {
    let key = api.app.evidence().rotate(&op).await?;
    Ok(Created(EvidenceKeyView {
        kid: key.kid,
        not_before: key.created_at.to_string(),
        public_jwk: key.public_jwk,
    }))
}

async fn newest(State(api): State<Api>, Caller(op): Caller) -> Answer<Json<CheckpointView>> {
    Ok(Json(api.app.evidence().newest_checkpoint(&op).await?.into()))
}

async fn make(State(api): State<Api>, Caller(op): Caller) -> Answer<Json<CheckpointView>> {
    Ok(Json(api.app.evidence().checkpoint(&op).await?.into()))
}

async fn accept_loss(
    State(api): State<Api>,
    Caller(op): Caller,
    Body(body): Body<LossBody>,
) -> Answer<Created<LossView>> {
    Ok(Created(api.app.evidence().accept_loss(&op, &body.reason).await?.into()))
}

impl From<KeptCheckpoint> for CheckpointView {
    fn from(kept: KeptCheckpoint) -> Self {
        let KeptCheckpoint { checkpoint, kid, note } = kept;
        Self {
            origin: checkpoint.origin,
            entries: checkpoint.entries,
            hash: hex(&checkpoint.hash),
            at: checkpoint.at.to_string(),
            kid,
            note,
        }
    }
}

impl From<LossStatement> for LossView {
    fn from(loss: LossStatement) -> Self {
        Self {
            kept_entries: loss.kept_entries,
            seen_entries: loss.seen_entries,
            accepted_at: loss.accepted_at.to_string(),
            accepted_by: loss.accepted_by,
            reason: loss.reason,
        }
    }
}

impl From<Proof> for CheckpointsView {
    fn from(proof: Proof) -> Self {
        Self {
            fitting: proof.fitting,
            newest: proof.newest.map(CheckpointView::from),
            given: proof.given.map(CheckpointView::from),
            losses: proof.losses.into_iter().map(LossView::from).collect(),
            remarks: proof.remarks,
        }
    }
}
