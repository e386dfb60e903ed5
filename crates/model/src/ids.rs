//! Ids: one newtype each, a UUID of version 7 (RFC 9562) behind a prefix that says what it names.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Why an id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{input}` is not an id of this kind: expected `{prefix}_` and 32 hexadecimal digits")]
pub struct ParseIdError {
    input: String,
    prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes an id from the time of its making and ten random bytes.
            pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
                let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            /// Parses the form that [`fmt::Display`] writes.
            ///
            /// # Errors
            ///
            /// [`ParseIdError`] when the prefix or the digits are wrong.
            pub fn parse(input: &str) -> Result<Self, ParseIdError> {
                let error = || ParseIdError { input: input.chars().take(60).collect(), prefix: $prefix };
                let digits = input
                    .strip_prefix(concat!($prefix, "_"))
                    .filter(|digits| digits.len() == 32)
                    .ok_or_else(error)?;
                Uuid::try_parse(digits).map(Self).map_err(|_| error())
            }

            /// Length of the id as text, in bytes.
            pub const TEXT_BYTES: usize = concat!($prefix, "_").len() + 32;

            /// Returns the id as [`fmt::Display`] writes it, without an allocation.
            pub fn to_text(&self) -> [u8; Self::TEXT_BYTES] {
                let mut text = [0; Self::TEXT_BYTES];
                let prefix = concat!($prefix, "_").as_bytes();
                let (head, digits) = text.split_at_mut(prefix.len());
                head.copy_from_slice(prefix);
                self.0.simple().encode_lower(digits);
                text
            }

            /// Returns the id that [`Self::as_u128`] gives this number.
            pub fn from_u128(number: u128) -> Self {
                Self(Uuid::from_u128(number))
            }

            /// Returns the id as a number. Its last 62 bits are random.
            pub fn as_u128(&self) -> u128 {
                self.0.as_u128()
            }

            /// Returns when the id was made, by its own account, to the millisecond.
            pub fn made_at(&self) -> Timestamp {
                // The first 48 bits (RFC 9562 section 5.7) are milliseconds; made up, they may be beyond all times.
                let millis = i64::try_from(self.0.as_u128() >> 80).unwrap_or_default();
                Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(input: &str) -> Result<Self, Self::Err> {
                Self::parse(input)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// Names an attestation.
    AttestationId,
    "att"
);
id!(
    /// A change request.
    ChangeRequestId,
    "chg"
);
id!(
    /// A waiver.
    WaiverId,
    "wvr"
);
id!(
    /// Names a consumer; never given to another, so that a token outlives no consumer of the same name.
    ConsumerId,
    "con"
);
id!(
    /// Names an API key.
    KeyId,
    "key"
);
id!(
    /// Names a Basic Auth credential.
    BasicAuthId,
    "bas"
);
id!(
    /// Names a client certificate of a consumer.
    CertificateId,
    "crt"
);
id!(
    /// Names a deployment.
    DeploymentId,
    "dep"
);
id!(
    /// Names a user.
    UserId,
    "usr"
);
id!(
    /// Names a user's API token.
    UserTokenId,
    "utk"
);
id!(
    /// Names a request, from the listener to the log and the journal.
    RequestId,
    "req"
);
id!(
    /// Names one run of a flow.
    ExecutionId,
    "exe"
);

/// Names a credential of a consumer, whichever kind it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CredentialId {
    /// An API key.
    Key(KeyId),
    /// A client certificate.
    Certificate(CertificateId),
    /// A Basic Auth credential.
    BasicAuth(BasicAuthId),
}

// === impl CredentialId ===

impl CredentialId {
    /// Parses the id of any kind of credential: its prefix tells which.
    ///
    /// # Errors
    ///
    /// [`ParseIdError`] when it is of no such kind.
    pub fn parse(input: &str) -> Result<Self, ParseIdError> {
        let key = KeyId::parse(input).map(Self::Key);
        key.or_else(|error| {
            let certificate = CertificateId::parse(input).map(Self::Certificate);
            certificate.or_else(|_| BasicAuthId::parse(input).map(Self::BasicAuth)).map_err(|_| error)
        })
    }

    /// Returns the id as a number. Its last 62 bits are random.
    pub fn as_u128(&self) -> u128 {
        match self {
            Self::Key(id) => id.as_u128(),
            Self::Certificate(id) => id.as_u128(),
            Self::BasicAuth(id) => id.as_u128(),
        }
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => id.fmt(f),
            Self::Certificate(id) => id.fmt(f),
            Self::BasicAuth(id) => id.fmt(f),
        }
    }
}

impl From<KeyId> for CredentialId {
    fn from(id: KeyId) -> Self {
        Self::Key(id)
    }
}

impl From<CertificateId> for CredentialId {
    fn from(id: CertificateId) -> Self {
        Self::Certificate(id)
    }
}

impl From<BasicAuthId> for CredentialId {
    fn from(id: BasicAuthId) -> Self {
        Self::BasicAuth(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_credential_tells_its_kind() {
        let (at, random) = (Timestamp::UNIX_EPOCH, [7; 10]);
        let all: [CredentialId; 3] = [
            KeyId::new(at, random).into(),
            CertificateId::new(at, random).into(),
            BasicAuthId::new(at, random).into(),
        ];
        for id in all {
            assert_eq!(CredentialId::parse(&id.to_string()), Ok(id));
        }
        assert!(CredentialId::parse(&ConsumerId::new(at, random).to_string()).is_err());
    }

    #[test]
    fn an_id_reads_back_and_keeps_its_kind() {
        let id = ConsumerId::new(Timestamp::UNIX_EPOCH, [7; 10]);
        assert_eq!(ConsumerId::parse(&id.to_string()), Ok(id));
        assert!(KeyId::parse(&id.to_string()).is_err());
        assert!(ConsumerId::parse("con_").is_err());
    }

    #[test]
    fn an_id_tells_when_it_was_made_and_a_made_up_one_harms_nobody() {
        let at: Timestamp = "2026-11-24T20:24:35.976Z".parse().expect("a time");
        assert_eq!(RequestId::new(at, [7; 10]).made_at(), at);
        let made_up = RequestId::parse(&format!("req_{}", "f".repeat(32))).expect("an id");
        assert!(made_up.made_at() > at);
    }
}
