//! Realms, environments and projects.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::de::Unexpected;
use serde::{Deserialize, Deserializer, Serialize};

use crate::names::{EnvironmentName, ProjectName, RealmName};
use crate::networks::Network;
use crate::triggers::Cors;

/// The organisation: everything else belongs to one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Realm {
    /// Its name; part of every URL.
    pub name: RealmName,
    /// When it was made.
    pub created_at: Timestamp,
    /// What the realm decided about itself.
    #[serde(default)]
    pub settings: RealmSettings,
}

/// What a realm decided about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RealmSettings {
    /// How long a waiver can last, in days: 1 to 365.
    pub max_waiver_days: WaiverDays,
    /// What one person asks for and another must approve.
    #[serde(skip_serializing_if = "FourEyes::is_off")]
    pub four_eyes: FourEyes,
    /// Whether users need a second factor. Users live in realm `default`: elsewhere it stays optional.
    #[serde(skip_serializing_if = "SecondFactorRule::is_optional")]
    pub second_factor: SecondFactorRule,
    /// Networks that flows may call although they are those of the machine itself, of its link, or special otherwise. All
    /// others they may call anyway.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_upstreams: Vec<Network>,
    /// What pages of other origins may do where a trigger does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
}

/// What one person asks for and another must approve. While any of it is on, so are the realm's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FourEyes {
    /// Whatever makes a version of the policies.
    pub policies: bool,
    /// Waivers made and extended.
    pub waivers: bool,
}

/// Whether users need a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SecondFactorRule {
    /// Whoever wants one has one.
    #[default]
    Optional,
    /// Without one a session can do nothing but enrol one, and an API token nothing at all.
    Required,
}

/// Days of a waiver: 1 to 365.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct WaiverDays(#[schemars(range(min = 1, max = 365))] u16);

/// Where pipelines run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Environment {
    /// Its name.
    pub name: EnvironmentName,
    /// When it was made.
    pub created_at: Timestamp,
    /// Where its listeners are, besides those that the process was started with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub listeners: BTreeMap<Exposure, SocketAddr>,
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

// === impl FourEyes ===

impl FourEyes {
    /// Tells whether nothing needs a second person.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }
}

// === impl SecondFactorRule ===

impl SecondFactorRule {
    /// Tells whether users can do without one.
    pub fn is_optional(&self) -> bool {
        *self == Self::Optional
    }
}

// === impl WaiverDays ===

impl WaiverDays {
    /// Returns the number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl Default for WaiverDays {
    fn default() -> Self {
        Self(30)
    }
}

impl<'de> Deserialize<'de> for WaiverDays {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let days = u64::deserialize(deserializer)?;
        match u16::try_from(days) {
            Ok(days @ 1..=365) => Ok(Self(days)),
            _ => Err(serde::de::Error::invalid_value(Unexpected::Unsigned(days), &"1 to 365 days")),
        }
    }
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
