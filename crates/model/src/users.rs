//! Users of the management API, and their API tokens.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{UserId, UserTokenId};
use crate::names::UserName;

/// The cookie of a browser's session at the management API and the console: an API token.
pub const SESSION_COOKIE: &str = "tollgate_session";

/// Somebody who signs in to the management API or the console.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    /// Never given to another.
    pub id: UserId,
    /// What they sign in with.
    pub name: UserName,
    /// Argon2id hash of the password in PHC string format.
    pub password_hash: String,
    /// When they were made.
    pub created_at: Timestamp,
    /// Since when they can't sign in, nor do anything with a token; `None` when they can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_at: Option<Timestamp>,
    /// Whether somebody else set their password: they are to choose another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub password_is_temporary: bool,
}

/// What is kept of a user's API token (`tgu_…`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserToken {
    /// Names the token.
    pub id: UserTokenId,
    /// Whose it is.
    pub user: UserId,
    /// For its owner to tell tokens apart.
    pub name: String,
    /// SHA-256 of the token, 64 lower-case hexadecimal digits.
    pub digest: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}
