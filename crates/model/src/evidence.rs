//! Evidence: the keys that sign statements about what the server did, and losses of journal entries that somebody
//! answered for. Both belong to the whole server and are kept in realm `default`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::attestations::Envelope;

/// `payloadType` of the envelope of a [`LossStatement`].
pub const LOSS_PAYLOAD: &str = "application/vnd.tollgate.journal-loss+json";

/// A key that signs evidence (Ed25519). One is active; those before it stay for ever, to verify what they signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceKey {
    /// Its JWK thumbprint (RFC 7638).
    pub kid: String,
    /// The public JWK (RFC 8037).
    pub public_jwk: serde_json::Value,
    /// The private key, sealed under the master key; gone once the key is retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_private: Option<String>,
    /// Since when it signs.
    pub created_at: Timestamp,
    /// Since when it signs no more; `None` for the one that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_at: Option<Timestamp>,
}

/// Entries of the journal that are gone, as after a restored backup, and that somebody answered for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JournalLoss {
    /// When; also its key.
    pub accepted_at: Timestamp,
    /// The signed [`LossStatement`]: whoever can write the database alone cannot make one.
    pub envelope: Envelope,
}

/// What is accepted with a [`JournalLoss`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LossStatement {
    /// The journal, by the origin line of its checkpoints.
    pub origin: String,
    /// So many entries are known to be those that were there.
    pub kept_entries: u64,
    /// Hash of the last of them, in hexadecimal digits.
    pub kept_hash: String,
    /// So many entries there were, by a checkpoint.
    pub seen_entries: u64,
    /// When it was accepted: checkpoints from before count as explained.
    pub accepted_at: Timestamp,
    /// By whom.
    pub accepted_by: String,
    /// In which request.
    pub request_id: String,
    /// Why, in their words.
    pub reason: String,
    /// How many checkpoints from before cannot be verified, because their key went with the entries or they are of
    /// another journal; 0 when none are accepted.
    pub unverifiable: u64,
}
