//! Consumers, and what is kept of their credentials: never the secret itself.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{BasicAuthId, ConsumerId, KeyId};
use crate::names::{ConsumerName, CredentialName, EnvironmentName, PipelineName};

/// A named caller in one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Consumer {
    /// Never given to another consumer; the `sub` of its tokens.
    pub id: ConsumerId,
    /// Its name, unique in the environment.
    pub name: ConsumerName,
    /// Where it may call.
    pub environment: EnvironmentName,
    /// What it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The pipelines that it may call, in any of their majors.
    pub pipelines: BTreeSet<PipelineName>,
    /// Tokens issued to it before this time are revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_revoked_before: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What is kept of an API key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKey {
    /// Names the key.
    pub id: KeyId,
    /// Whose it is.
    pub consumer: ConsumerId,
    /// Where it works.
    pub environment: EnvironmentName,
    /// For its owner to tell keys apart.
    pub name: CredentialName,
    /// SHA-256 of the key, 64 lower-case hexadecimal digits; see `tollgate-credential`.
    pub digest: String,
    /// The end of the key, to recognise it by: its last four characters, checksum included.
    pub hint: String,
    /// When it was made or imported.
    pub created_at: Timestamp,
    /// When it stops working by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// The key that took its place by rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<KeyId>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<Timestamp>,
    /// It ends when it had no call for so long after it was rotated, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retire_unused_seconds: Option<u32>,
    /// Whether it came from another system.
    #[serde(default)]
    pub imported: bool,
}

/// What is kept of a Basic Auth credential.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicAuth {
    /// Names the credential.
    pub id: BasicAuthId,
    /// Whose it is.
    pub consumer: ConsumerId,
    /// Where it works.
    pub environment: EnvironmentName,
    /// The user name, unique in the environment.
    pub username: String,
    /// Argon2id hash of the password in PHC string format.
    pub password_hash: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// What a credential is good for at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CredentialState {
    /// It works.
    Active,
    /// Its time has passed.
    Expired,
    /// Somebody revoked it.
    Revoked,
}

// === impl CredentialState ===

impl CredentialState {
    /// Returns what a credential that was revoked and expires at these times is good for at `now`.
    pub(crate) fn at(now: Timestamp, revoked_at: Option<Timestamp>, expires_at: Option<Timestamp>) -> Self {
        if revoked_at.is_some_and(|at| at <= now) {
            Self::Revoked
        } else if expires_at.is_some_and(|at| at <= now) {
            Self::Expired
        } else {
            Self::Active
        }
    }
}

// === impl ApiKey ===

impl ApiKey {
    /// Returns what the key is good for at `now`.
    pub fn state(&self, now: Timestamp) -> CredentialState {
        CredentialState::at(now, self.revoked_at, self.expires_at)
    }
}
