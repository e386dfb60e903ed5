//! The places to which sealed secrets are bound: whoever seals and whoever opens must agree on them.
//!
//! No two secrets share a place, or one could be put where the other is read. A place that ends in what a caller chose
//! freely begins with a word and `:`, which no name holds.

use tollgate_model::ids::UserId;
use tollgate_model::names::{EnvironmentName, RealmName, ValueName};

/// Returns the place of a field of an account.
pub fn account_field(
    realm: &RealmName,
    environment: &EnvironmentName,
    account: &ValueName,
    field: &str,
) -> String {
    format!("{realm}/{environment}/account/{account}/{field}")
}

/// Returns the place of the private half of a signing key.
pub fn signing_key(realm: &RealmName, environment: &EnvironmentName, kid: &str) -> String {
    format!("{realm}/{environment}/signing-key/{kid}")
}

/// Returns the place of the private half of a key that signs evidence; there is one set of them for all realms.
pub fn evidence_key(kid: &str) -> String {
    format!("evidence-key:{kid}")
}

/// Returns the place of an answer that is kept for an `Idempotency-Key`.
pub fn kept_answer(realm: &RealmName, actor: &str, key: &str) -> String {
    format!("kept-answer:{realm}/{actor}/{key}")
}

/// Returns the place of the secret of a user's second factor.
pub fn second_factor(user: UserId) -> String {
    format!("second-factor:{user}")
}
