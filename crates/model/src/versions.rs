//! Versions `major.minor`, of pipelines and of a realm's policies.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A version `major.minor`, for example `1.2`. The major of a pipeline stands in its URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Which contract with its callers.
    pub major: u32,
    /// Which change within that contract.
    pub minor: u32,
}

/// Why a version was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version: write `major.minor`, for example `1.2`")]
pub struct ParseVersionError(String);

// === impl Version ===

impl Version {
    /// The first version of anything: `1.0`.
    pub const FIRST: Self = Self { major: 1, minor: 0 };

    /// Returns the version after a change within the same major.
    #[must_use]
    pub fn next_minor(self) -> Self {
        Self { major: self.major, minor: self.minor.saturating_add(1) }
    }

    /// Returns the first version of the next major.
    #[must_use]
    pub fn next_major(self) -> Self {
        Self { major: self.major.saturating_add(1), minor: 0 }
    }

    /// Parses `major.minor`; majors start at 1.
    ///
    /// # Errors
    ///
    /// [`ParseVersionError`] for anything else.
    pub fn parse(input: &str) -> Result<Self, ParseVersionError> {
        let number = |text: &str| {
            let plain = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
            let canonical = text == "0" || !text.starts_with('0');
            if plain && canonical { text.parse::<u32>().ok() } else { None }
        };
        input
            .split_once('.')
            .and_then(|(major, minor)| Some(Self { major: number(major)?, minor: number(minor)? }))
            .filter(|version| version.major >= 1)
            .ok_or_else(|| ParseVersionError(input.chars().take(40).collect()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        Self::parse(input)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_back_and_order_by_number() {
        assert_eq!(Version::parse("1.10"), Ok(Version { major: 1, minor: 10 }));
        assert!(Version::parse("1.10").expect("valid") > Version::parse("1.9").expect("valid"));
        for bad in ["", "1", "1.", ".1", "0.1", "1.2.3", "01.2", "+1.2", "1.-1", "9999999999.0"] {
            assert!(Version::parse(bad).is_err(), "{bad} was taken");
        }
    }
}
