//! Realms, environments and projects.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::{EnvironmentName, ProjectName, RealmName};

/// The organisation: everything else belongs to one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Realm {
    /// Its name; part of every URL.
    pub name: RealmName,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Where pipelines run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Environment {
    /// Its name.
    pub name: EnvironmentName,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A named group of pipelines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Project {
    /// Its name.
    pub name: ProjectName,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Which of an environment's listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exposure {
    /// Open to the outside.
    External,
    /// Open to the inside only.
    Internal,
}

// === impl Exposure ===

impl Exposure {
    /// Both, external first.
    pub const ALL: [Self; 2] = [Self::External, Self::Internal];

    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::Internal => "internal",
        }
    }
}
