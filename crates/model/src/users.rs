//! Users of the management API, their sessions and API tokens, and their second factors.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ids::{UserId, UserTokenId};
use crate::names::{EnvironmentName, ProjectName, UserName};

/// How long a sign-in lasts whose token does not say what it is, as those before sessions were told from API tokens.
const UNMARKED_SESSION: SignedDuration = SignedDuration::from_hours(30 * 24);

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
    /// Whether somebody else chose the password: a session can do nothing but change it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub password_is_temporary: bool,
}

/// What is kept of a session or an API token of a user (`tgu_…`).
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
    /// The sign-in that made it; `None` for an API token, and for sign-ins of before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// Whether it was made as an API token. Neither this nor a session: it is of before the two were told apart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_api_token: bool,
    /// What it may be used for at most; `None` for whatever its user may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<TokenScope>>,
    /// The API token that made it, and whose end is its end; `None` when a session did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<UserTokenId>,
}

/// A sign-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Session {
    /// What signed in.
    pub client: SessionClient,
    /// From where: a remote address.
    pub source: String,
    /// What the client called itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// How long it may go unused, in seconds; `None` for until it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_seconds: Option<u32>,
}

/// What signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SessionClient {
    /// A browser: the token is a cookie.
    Browser,
    /// A program, as the command line.
    Program,
}

/// One permission that a token may use, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenScope {
    /// The name of the permission, `resource:verb`. One that does not exist allows nothing.
    pub permission: String,
    /// In which environments only; absent for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeSet<String>>")]
    pub environments: Option<BTreeSet<EnvironmentName>>,
    /// In which projects only; absent for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeSet<String>>")]
    pub projects: Option<BTreeSet<ProjectName>>,
}

/// A second factor: time-based one-time passwords (RFC 6238) and recovery codes. At most one for each user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecondFactor {
    /// Whose it is.
    pub user: UserId,
    /// The shared secret, sealed under the master key.
    pub sealed_secret: String,
    /// When the secret was made.
    pub created_at: Timestamp,
    /// When a first code was shown; until then it counts for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_at: Option<Timestamp>,
    /// The time step of the last code that was taken. Invariant: it only grows, so that no code is taken twice.
    #[serde(default)]
    pub last_step: u64,
    /// SHA-256 of the recovery codes that are left, 64 lower-case hexadecimal digits each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovery_digests: Vec<String>,
}

// === impl UserToken ===

impl UserToken {
    /// Tells whether it was made by signing in; else it is an API token.
    pub fn is_session(&self) -> bool {
        let lifetime = self.expires_at.map(|at| at.duration_since(self.created_at));
        self.session.is_some() || (!self.is_api_token && lifetime == Some(UNMARKED_SESSION))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_before_reads_on_and_tells_sign_ins_from_api_tokens() {
        let user = r#"{"id":"usr_01a20b6db916733abfb8ee4528c1c378","name":"ann","passwordHash":"x","createdAt":"2026-01-01T00:00:00Z"}"#;
        let read: User = serde_json::from_str(user).expect("reads");
        assert!(!read.password_is_temporary);
        assert_eq!(serde_json::to_string(&read).expect("writes"), user);
        let token = |expires: &str| {
            let text = format!(
                r#"{{"id":"utk_01a20b6db916733abfb8ee4528c1c378","user":"usr_01a20b6db916733abfb8ee4528c1c378","name":"x","digest":"","createdAt":"2026-01-01T00:00:00Z"{expires}}}"#
            );
            serde_json::from_str::<UserToken>(&text).expect("reads")
        };
        assert!(token(r#","expiresAt":"2026-01-31T00:00:00Z""#).is_session());
        assert!(!token(r#","expiresAt":"2026-02-01T00:00:00Z""#).is_session());
        assert!(!token("").is_session());
        let marked = token(r#","expiresAt":"2026-01-31T00:00:00Z","isApiToken":true"#);
        assert!(!marked.is_session(), "an API token must never pass for a session");
    }
}
