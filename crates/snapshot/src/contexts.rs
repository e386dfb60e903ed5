//! The places to which sealed secrets are bound: whoever seals and whoever opens must agree on them.

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
