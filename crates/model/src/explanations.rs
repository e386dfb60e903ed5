//! Why a call is answered as it is: the gateway's checks one by one, for a call that somebody asks about and for one that
//! was refused.
//!
//! Nothing here holds a secret: of a key only what tells keys apart, of a token what it says of itself.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::environments::Exposure;
use crate::ids::{CertificateId, KeyId, RequestId};
use crate::names::{ConsumerName, EnvironmentName, PipelineName};
use crate::versions::Version;

macro_rules! checks {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// A check of the gateway, in the order in which they are made.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Check { $($(#[$doc])* $variant,)* }

        impl Check {
            /// Every check, the first one first.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the name, as programs read it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

checks! {
    /// The head has one reading and is within its limits.
    RequestForm = "request-form";
    /// The gateway has something to answer from.
    Configuration = "configuration";
    /// Something answers the path.
    Route = "route";
    /// A browser's question what is allowed is answered at once.
    CorsPreflight = "cors-preflight";
    /// The route offers the method.
    Method = "method";
    /// The policies do not refuse the deployment.
    Enforcement = "enforcement";
    /// The body is not declared to be too long.
    DeclaredLength = "declared-length";
    /// An API key was sent, and one only.
    ApiKeyPresent = "api-key-present";
    /// It looks like a key.
    ApiKeyForm = "api-key-form";
    /// It is a key of this environment.
    ApiKeyEnvironment = "api-key-environment";
    /// Its last characters fit the rest.
    ApiKeyChecksum = "api-key-checksum";
    /// It is somebody's key.
    ApiKeyKnown = "api-key-known";
    /// It was not revoked.
    ApiKeyNotRevoked = "api-key-not-revoked";
    /// Its time has not passed.
    ApiKeyNotExpired = "api-key-not-expired";
    /// Its consumer may call the pipeline.
    ApiKeyAssociation = "api-key-association";
    /// A client certificate was shown in the TLS handshake.
    CertificatePresent = "certificate-present";
    /// A CA of the listener issued it; it is valid at this time, and on no revocation list.
    CertificateValid = "certificate-valid";
    /// It is one consumer's, and that was not revoked and has not expired.
    CertificateKnown = "certificate-known";
    /// It is of the consumer whose API key was sent.
    CertificateBinding = "certificate-binding";
    /// Its consumer may call the pipeline.
    CertificateAssociation = "certificate-association";
    /// Basic Auth credentials were sent.
    BasicAuthPresent = "basic-auth-present";
    /// User name and password are right.
    BasicAuthValid = "basic-auth-valid";
    /// They are of the consumer whose API key or client certificate was shown.
    BasicAuthBinding = "basic-auth-binding";
    /// Their consumer may call the pipeline.
    BasicAuthAssociation = "basic-auth-association";
    /// A bearer token was sent.
    TokenPresent = "token-present";
    /// It is a token of the kind that is taken.
    TokenForm = "token-form";
    /// A key of the environment signed it, by its own account.
    TokenKey = "token-key";
    /// The signature is that key's.
    TokenSignature = "token-signature";
    /// It was issued here.
    TokenIssuer = "token-issuer";
    /// It is meant for here.
    TokenAudience = "token-audience";
    /// It is valid at this time.
    TokenTimes = "token-times";
    /// The consumer that it was issued to exists.
    TokenConsumer = "token-consumer";
    /// It was not revoked.
    TokenNotRevoked = "token-not-revoked";
    /// It was issued to the consumer whose other credentials the call carries.
    TokenBinding = "token-binding";
    /// Its consumer may call the pipeline.
    TokenAssociation = "token-association";
    /// It carries every scope that the route demands.
    Scopes = "scopes";
    /// The caller has calls left.
    RateLimit = "rate-limit";
    /// The flow and what it needs can be used.
    FlowReady = "flow-ready";
    /// The trigger takes the content type of the body.
    ContentType = "content-type";
    /// The body arrives in time, is not too long, and is what it says it is.
    Body = "body";
    /// The flow answers.
    Flow = "flow";
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The call passed it.
    Passed,
    /// The call was refused by it.
    Failed,
    /// It could not be made, so the call was refused.
    Unavailable,
    /// Nothing demands it of this call.
    NotDemanded,
    /// The call was answered before it.
    NotReached,
}

/// One check of a call. Stored as `[check, letter of the outcome, words]`: every refusal that is kept has all checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredReport", into = "StoredReport")]
pub struct CheckReport {
    /// Which one.
    pub check: Check,
    /// How it went.
    pub outcome: CheckOutcome,
    /// What was found, in words.
    pub why: Option<String>,
}

/// A [`CheckReport`] as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredReport {
    Told(Check, Letter, String),
    Silent(Check, Letter),
}

/// The letter of an outcome.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Letter {
    P,
    F,
    U,
    D,
    R,
}

/// The credentials that a call carries, as far as they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SentCredentials {
    /// Its API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SentApiKey>,
    /// The SHA-256 fingerprint of its client certificate, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The scheme of its `Authorization` header: `Bearer`, `Basic` or `other`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<String>,
    /// What its bearer token says of itself. Nobody verified it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenFacts>,
}

/// An API key as it is shown: by its beginning and its end when it is one of ours, else by its length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SentApiKey {
    /// `header` or `query`.
    pub place: String,
    /// `tg_test_…nMx1`, or how many characters it has.
    pub shown: String,
}

/// What a token says of itself, each text cut to a bounded length.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenFacts {
    /// Which key signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Who issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// To whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// When it was issued, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// When it ends, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
}

/// What a call reaches, and whose it is, once that is known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reached {
    /// The pipeline that the path belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<PipelineName>,
    /// The version that is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The route, as its author wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The consumer whose credentials the call carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<ConsumerName>,
    /// The API key that the call carries, when it is one of the environment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// The client certificate that the call carries, when it is one of the environment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateId>,
}

/// A call that somebody asks about. Its `Debug` hides the call: it holds credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct CallToExplain {
    /// The environment whose listener is called.
    pub environment: EnvironmentName,
    /// Which of its listeners.
    pub exposure: Exposure,
    /// The method, as sent.
    pub method: String,
    /// A URL, or a path with or without a query.
    pub url: String,
    /// Header fields, as sent.
    pub headers: Vec<(String, String)>,
    /// The declared length of the body.
    pub body_length: Option<u64>,
    /// The client certificate of the connection, PEM, with those that come with it.
    pub certificate: Option<String>,
    /// From where.
    pub remote: IpAddr,
}

/// What a gateway would answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedAnswer {
    /// The status; `None` when the flow decides it.
    pub status: Option<u16>,
    /// The code of a refusal.
    pub code: Option<String>,
}

/// What a gateway would answer to a call, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// As of when.
    pub at: Timestamp,
    /// The journal entry up to which the gateway knows everything; `None` when it knows nothing yet.
    pub revision: Option<u64>,
    /// The answer.
    pub answer: ExplainedAnswer,
    /// What the call reaches.
    pub reached: Reached,
    /// The credentials that it carries.
    pub sent: SentCredentials,
    /// Every check.
    pub checks: Vec<CheckReport>,
}

/// A call that a gateway refused, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The id that the answer carried.
    pub request_id: RequestId,
    /// When.
    pub at: Timestamp,
    /// On a listener of this environment.
    pub environment: EnvironmentName,
    /// On which.
    pub exposure: Exposure,
    /// The method; `other` when it is none that a pipeline can offer.
    pub method: String,
    /// The path without its query, cut to a bounded length.
    pub path: String,
    /// From where.
    pub remote: IpAddr,
    /// The status of the answer.
    pub status: u16,
    /// Its code.
    pub code: String,
    /// What the call reached.
    #[serde(flatten)]
    pub reached: Reached,
    /// The credentials that it carried.
    pub sent: SentCredentials,
    /// The journal entry up to which the gateway knew everything.
    pub revision: u64,
    /// Every check.
    pub checks: Vec<CheckReport>,
}

// === impl Check ===

impl Check {
    /// Finds a check by its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|check| check.as_str() == name)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Check {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| serde::de::Error::custom(format!("there is no check `{name}`")))
    }
}

// === impl CheckOutcome ===

impl CheckOutcome {
    /// Returns the word that programs read.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Unavailable => "unavailable",
            Self::NotDemanded => "notDemanded",
            Self::NotReached => "notReached",
        }
    }
}

impl From<CheckReport> for StoredReport {
    fn from(report: CheckReport) -> Self {
        let letter = match report.outcome {
            CheckOutcome::Passed => Letter::P,
            CheckOutcome::Failed => Letter::F,
            CheckOutcome::Unavailable => Letter::U,
            CheckOutcome::NotDemanded => Letter::D,
            CheckOutcome::NotReached => Letter::R,
        };
        match report.why {
            Some(why) => Self::Told(report.check, letter, why),
            None => Self::Silent(report.check, letter),
        }
    }
}

impl From<StoredReport> for CheckReport {
    fn from(stored: StoredReport) -> Self {
        let (check, letter, why) = match stored {
            StoredReport::Told(check, letter, why) => (check, letter, Some(why)),
            StoredReport::Silent(check, letter) => (check, letter, None),
        };
        let outcome = match letter {
            Letter::P => CheckOutcome::Passed,
            Letter::F => CheckOutcome::Failed,
            Letter::U => CheckOutcome::Unavailable,
            Letter::D => CheckOutcome::NotDemanded,
            Letter::R => CheckOutcome::NotReached,
        };
        Self { check, outcome, why }
    }
}

// === impl CallToExplain ===

impl fmt::Debug for CallToExplain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallToExplain({}, …)", self.environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_a_name_of_its_own() {
        for check in Check::ALL {
            assert_eq!(Check::parse(check.as_str()), Some(*check));
        }
        assert_eq!(Check::parse("nothing"), None);
    }

    #[test]
    fn a_report_is_stored_in_few_letters_and_reads_back() {
        use CheckOutcome as O;
        let report = |outcome, why: Option<&str>| CheckReport {
            check: Check::Route,
            outcome,
            why: why.map(str::to_owned),
        };
        for (report, stored) in [
            (report(O::Passed, None), r#"["route","p"]"#),
            (report(O::Failed, Some("no")), r#"["route","f","no"]"#),
            (report(O::Unavailable, None), r#"["route","u"]"#),
            (report(O::NotDemanded, None), r#"["route","d"]"#),
            (report(O::NotReached, None), r#"["route","r"]"#),
        ] {
            assert_eq!(serde_json::to_string(&report).expect("writes"), stored);
            assert_eq!(serde_json::from_str::<CheckReport>(stored).expect("reads"), report);
        }
    }

    #[test]
    fn debug_hides_what_a_call_carries() {
        let call = CallToExplain {
            environment: EnvironmentName::test(),
            exposure: Exposure::External,
            method: "GET".to_owned(),
            url: "/a?apikey=secret-in-the-query".to_owned(),
            headers: vec![("apikey".to_owned(), "secret-in-a-header".to_owned())],
            body_length: None,
            certificate: None,
            remote: IpAddr::from([127, 0, 0, 1]),
        };
        let shown = format!("{call:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}
