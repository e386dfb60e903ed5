//! Globals and accounts: values and secrets that flows read, per environment.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::{EnvironmentName, ValueName};

/// A value that flows read as `globals["name"]`; not a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Global {
    /// Its name.
    pub name: ValueName,
    /// Where it has this value.
    pub environment: EnvironmentName,
    /// The value: any JSON.
    pub value: serde_json::Value,
    /// When it was last set.
    pub updated_at: Timestamp,
}

/// A set of secret fields that flows read as `accounts.name.field`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Account {
    /// Its name.
    pub name: ValueName,
    /// Where it has these fields.
    pub environment: EnvironmentName,
    /// Field names with their values, sealed under the master key (base64 text of `tollgate-credential`'s
    /// sealed form).
    pub fields: BTreeMap<String, String>,
    /// When it was last set.
    pub updated_at: Timestamp,
}
