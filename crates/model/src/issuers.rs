//! Issuers: systems outside whose tokens an environment takes, where a pipeline says so.
//!
//! Nothing is taken over from what an issuer publishes but its keys. Which algorithms count, for whom a token must be, and
//! whose it is stand here, so that whoever runs the issuer cannot widen what this side takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::names::{ConsumerName, EnvironmentName, IssuerName};

/// Longest URL or audience, in bytes.
const MAX_TEXT: usize = 512;
/// Most bytes of certificates of CAs.
const MAX_CERTIFICATES: usize = 64 * 1024;
/// Most values of a claim that stand for consumers.
const MAX_VALUES: usize = 1_000;

/// The issuer of tokens outside as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Issuer {
    /// What pipelines call it.
    pub name: IssuerName,
    /// Where its tokens are taken.
    pub environment: EnvironmentName,
    /// What is demanded of its tokens.
    pub settings: IssuerSettings,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its settings were last changed.
    pub updated_at: Timestamp,
    /// When somebody last asked every gateway to fetch its keys anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_asked_at: Option<Timestamp>,
}

/// What is demanded of an issuer's tokens, and where its keys are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuerSettings {
    /// The `iss` of its tokens, letter by letter: an `https` URL without query.
    pub issuer: IssuerUrl,
    /// Where its JWK Set is; without, `{issuer}/.well-known/openid-configuration` tells (OpenID Connect Discovery).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<IssuerUrl>,
    /// The `aud` that a token must carry.
    #[serde(deserialize_with = "audience")]
    #[schemars(length(min = 1, max = 512))]
    pub audience: String,
    /// The algorithms that count, at least one. A token and its key must both agree.
    #[serde(deserialize_with = "algorithms")]
    #[schemars(extend("minItems" = 1))]
    pub algorithms: BTreeSet<IssuerAlgorithm>,
    /// Whose a token is.
    pub consumer: TokenConsumer,
    /// The claim that holds the scopes: a text with spaces between, or a list.
    #[serde(default = "scope_claim", deserialize_with = "claim_name")]
    #[schemars(length(min = 1, max = 128))]
    pub scopes_claim: String,
    /// Whether only access tokens count (`typ: at+jwt`, RFC 9068), with `sub` and `jti`. Without, an ID token of the issuer
    /// counts too, if it is for the audience.
    #[serde(default = "yes")]
    pub access_tokens_only: bool,
    /// How far clocks may differ, in seconds.
    #[serde(default = "leeway", deserialize_with = "bounded::<0, 300, _>")]
    #[schemars(range(max = 300))]
    pub leeway_seconds: u32,
    /// How often keys are fetched, in seconds.
    #[serde(default = "refresh", deserialize_with = "bounded::<10, 86_400, _>")]
    #[schemars(range(min = 10, max = 86_400))]
    pub refresh_seconds: u32,
    /// How old keys may be when the issuer cannot be reached, in seconds; older ones count for nothing.
    #[serde(default = "stale", deserialize_with = "bounded::<10, 604_800, _>")]
    #[schemars(range(min = 10, max = 604_800))]
    pub max_stale_seconds: u32,
    /// Lets the issuer be at loopback and link-local addresses, and plain `http` be used there.
    #[serde(default)]
    pub internal_addresses: bool,
    /// Certificates of CAs in PEM that alone are trusted when its keys are fetched, in place of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificates: Option<CaCertificates>,
}

/// Certificates of CAs, PEM, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("maxLength" = 65_536))]
pub struct CaCertificates(Box<str>);

/// Why a text holds no certificates of CAs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseCaCertificatesError {
    /// Too long.
    #[error("the certificates of CAs are longer than 64 KiB")]
    TooLong,
    /// None in it.
    #[error("there is no certificate in PEM: it begins with `-----BEGIN CERTIFICATE-----`")]
    Nothing,
    /// A private key or something else, which must not be stored where everybody reads it.
    #[error("there is something else than certificates in it: a private key must never be written here")]
    NotOnlyCertificates,
}

/// Whose a token of an issuer is: always the same consumer's, or that whom a claim names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "TokenConsumerFields", into = "TokenConsumerFields")]
pub enum TokenConsumer {
    /// `{ name: shop }`.
    #[schemars(with = "TokenConsumerFields")]
    Fixed(ConsumerName),
    /// `{ claim: azp }`, where the claim is the consumer's name, or `{ claim: azp, values: { client-1: shop } }`, where
    /// only these values count.
    #[schemars(with = "TokenConsumerFields")]
    Claim {
        /// The claim: `azp`, `client_id`, `sub` or any other at the top.
        claim: String,
        /// Which consumer each value stands for; empty where the value is the name.
        values: BTreeMap<String, ConsumerName>,
    },
}

/// How [`TokenConsumer`] is written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TokenConsumerFields {
    /// The consumer of every token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<ConsumerName>,
    /// The claim that names the consumer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<String>,
    /// The consumer for each value of the claim; no other value counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    values: BTreeMap<String, ConsumerName>,
}

/// An algorithm of signatures that others verify (RFC 7518 section 3.1, RFC 8037). None is symmetric: who could verify
/// with it could issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum IssuerAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// ECDSA on P-521 with SHA-512.
    #[serde(rename = "ES512")]
    Es512,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// RSASSA-PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// RSASSA-PSS with SHA-384.
    #[serde(rename = "PS384")]
    Ps384,
    /// RSASSA-PSS with SHA-512.
    #[serde(rename = "PS512")]
    Ps512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    #[serde(rename = "RS512")]
    Rs512,
}

/// A text that names no such algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an algorithm for tokens of issuers: use ES256, ES384, ES512, EdDSA, PS256, PS384, PS512, RS256, RS384 \
     or RS512"
)]
pub struct ParseIssuerAlgorithmError(String);

/// The URL of an issuer or of its keys: `https`, or `http` for one at an internal address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("pattern" = "^https?://", "maxLength" = 512))]
pub struct IssuerUrl(Box<str>);

/// Why a text is no URL of an issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{input}` is not the URL of an issuer: {why}")]
pub struct ParseIssuerUrlError {
    input: String,
    why: &'static str,
}

// === impl IssuerSettings ===

impl IssuerSettings {
    /// Returns what is wrong between its fields; each by itself is right.
    pub fn contradiction(&self) -> Option<&'static str> {
        let plain =
            [Some(&self.issuer), self.jwks_url.as_ref()].into_iter().flatten().any(IssuerUrl::is_plain);
        if plain && !self.internal_addresses {
            return Some(
                "the URL is plain http, which anybody on the way can answer: use https, or allow internal addresses",
            );
        }
        (self.max_stale_seconds < self.refresh_seconds).then_some(
            "maxStaleSeconds is less than refreshSeconds: keys would count for nothing between two fetches",
        )
    }
}

fn yes() -> bool {
    true
}

fn scope_claim() -> String {
    "scope".to_owned()
}

fn leeway() -> u32 {
    30
}

fn refresh() -> u32 {
    600
}

fn stale() -> u32 {
    86_400
}

fn bounded<'de, const MIN: u32, const MAX: u32, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<u32, D::Error> {
    let seconds = u32::deserialize(deserializer)?;
    if (MIN..=MAX).contains(&seconds) {
        return Ok(seconds);
    }
    Err(D::Error::custom(format!("{seconds} is out of range: write {MIN} to {MAX} seconds")))
}

fn audience<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(&String::deserialize(deserializer)?, MAX_TEXT).map_err(D::Error::custom)
}

fn claim_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(&String::deserialize(deserializer)?, 128).map_err(D::Error::custom)
}

fn text(input: &str, most: usize) -> Result<String, String> {
    if (1..=most).contains(&input.len()) && !input.chars().any(char::is_control) {
        return Ok(input.to_owned());
    }
    Err(format!("write 1 to {most} characters, none of them a control character"))
}

fn algorithms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<IssuerAlgorithm>, D::Error> {
    let algorithms = BTreeSet::deserialize(deserializer)?;
    if algorithms.is_empty() {
        return Err(D::Error::custom("no algorithm would count: name at least one, for example ES256"));
    }
    Ok(algorithms)
}

// === impl TokenConsumer ===

impl TryFrom<TokenConsumerFields> for TokenConsumer {
    type Error = String;

    fn try_from(fields: TokenConsumerFields) -> Result<Self, Self::Error> {
        match fields {
            TokenConsumerFields { name: Some(name), claim: None, values } if values.is_empty() => Ok(Self::Fixed(name)),
            TokenConsumerFields { name: None, claim: Some(claim), values } => {
                if values.len() > MAX_VALUES || values.keys().any(|value| value.len() > MAX_TEXT) {
                    return Err(format!("at most {MAX_VALUES} values of {MAX_TEXT} characters each"));
                }
                Ok(Self::Claim { claim: text(&claim, 128)?, values })
            }
            _ => Err("write `name` for one consumer, or `claim` for the claim that names it, and `values` only with it"
                .to_owned()),
        }
    }
}

impl From<TokenConsumer> for TokenConsumerFields {
    fn from(consumer: TokenConsumer) -> Self {
        match consumer {
            TokenConsumer::Fixed(name) => Self { name: Some(name), claim: None, values: BTreeMap::new() },
            TokenConsumer::Claim { claim, values } => Self { name: None, claim: Some(claim), values },
        }
    }
}

// === impl IssuerAlgorithm ===

impl IssuerAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 10] = [
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
    ];

    /// Returns the name as registered with IANA.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }
}

impl fmt::Display for IssuerAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for IssuerAlgorithm {
    type Err = ParseIssuerAlgorithmError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == input)
            .ok_or_else(|| ParseIssuerAlgorithmError(input.chars().take(40).collect()))
    }
}

// === impl IssuerUrl ===

impl IssuerUrl {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// [`ParseIssuerUrlError`] for another scheme, a user or password, a fragment, or no host.
    pub fn parse(input: &str) -> Result<Self, ParseIssuerUrlError> {
        let wrong = |why| ParseIssuerUrlError { input: input.chars().take(80).collect(), why };
        let rest = input.strip_prefix("https://").or_else(|| input.strip_prefix("http://"));
        let rest = rest.ok_or_else(|| wrong("it begins with `https://`"))?;
        if input.len() > MAX_TEXT || !input.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("it has at most 512 visible ASCII characters"));
        }
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.is_empty() || authority.starts_with(':') {
            return Err(wrong("it has no host"));
        }
        if authority.contains('@') || rest.contains(['#', '\\']) {
            return Err(wrong("it has no user, password, fragment or backslash"));
        }
        Ok(Self(input.into()))
    }

    /// Returns it as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether it is plain `http`.
    pub fn is_plain(&self) -> bool {
        self.0.starts_with("http://")
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for IssuerUrl {
    type Err = ParseIssuerUrlError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        Self::parse(input)
    }
}

impl<'de> Deserialize<'de> for IssuerUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

// === impl CaCertificates ===

impl CaCertificates {
    /// Takes a text with certificates and nothing else. Whether each can be used shows when it is.
    ///
    /// # Errors
    ///
    /// [`ParseCaCertificatesError`].
    pub fn parse(input: &str) -> Result<Self, ParseCaCertificatesError> {
        const BEGIN: &str = "-----BEGIN ";
        if input.len() > MAX_CERTIFICATES {
            return Err(ParseCaCertificatesError::TooLong);
        }
        let mut kinds = input.split(BEGIN).skip(1).peekable();
        if kinds.peek().is_none() {
            return Err(ParseCaCertificatesError::Nothing);
        }
        if !kinds.all(|kind| kind.starts_with("CERTIFICATE-----")) {
            return Err(ParseCaCertificatesError::NotOnlyCertificates);
        }
        Ok(Self(input.into()))
    }

    /// Returns them as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CaCertificates {
    type Err = ParseCaCertificatesError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        Self::parse(input)
    }
}

impl<'de> Deserialize<'de> for CaCertificates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(change: &serde_json::Value) -> Result<IssuerSettings, serde_json::Error> {
        let mut settings = serde_json::json!({ "issuer": "https://login.example", "audience": "orders",
            "algorithms": ["ES256"], "consumer": { "claim": "azp" } });
        settings.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        serde_json::from_value(settings)
    }

    #[test]
    fn settings_are_strict_unless_they_say_otherwise() {
        let strict = settings(&serde_json::json!({})).expect("settings");
        assert!(strict.access_tokens_only && !strict.internal_addresses);
        assert_eq!((strict.leeway_seconds, strict.scopes_claim.as_str()), (30, "scope"));
        let again = serde_json::to_value(&strict).expect("JSON");
        assert_eq!(serde_json::from_value::<IssuerSettings>(again).expect("reads back"), strict);
        assert_eq!(strict.contradiction(), None);
    }

    #[test]
    fn an_algorithm_reads_back_under_the_one_name_that_it_has_everywhere() {
        for algorithm in IssuerAlgorithm::ALL {
            let name = algorithm.to_string();
            assert_eq!(name.parse(), Ok(algorithm));
            assert_eq!(serde_json::to_value(algorithm).expect("JSON"), name.as_str());
            let listed = settings(&serde_json::json!({ "algorithms": [name] })).expect("settings");
            assert_eq!(listed.algorithms, BTreeSet::from([algorithm]));
        }
        let refused = "HS256".parse::<IssuerAlgorithm>().expect_err("symmetric").to_string();
        assert!(IssuerAlgorithm::ALL.iter().all(|it| refused.contains(it.as_str())), "{refused}");
    }

    #[test]
    fn settings_that_would_take_too_much_are_refused() {
        for change in [
            serde_json::json!({ "issuer": "ftp://login.example" }),
            serde_json::json!({ "issuer": "https://" }),
            serde_json::json!({ "issuer": "https://trusted.example@evil.example" }),
            serde_json::json!({ "issuer": "https://login.example#fragment" }),
            serde_json::json!({ "issuer": "https://login.example/a b" }),
            serde_json::json!({ "jwksUrl": "file:///etc/passwd" }),
            serde_json::json!({ "audience": "" }),
            serde_json::json!({ "algorithms": [] }),
            serde_json::json!({ "algorithms": ["none"] }),
            serde_json::json!({ "algorithms": ["HS256"] }),
            serde_json::json!({ "algorithms": ["ES512", "HS512"] }),
            serde_json::json!({ "algorithms": ["ES521"] }),
            serde_json::json!({ "algorithms": ["es512"] }),
            serde_json::json!({ "consumer": {} }),
            serde_json::json!({ "consumer": { "name": "shop", "claim": "azp" } }),
            serde_json::json!({ "consumer": { "name": "shop", "values": { "a": "shop" } } }),
            serde_json::json!({ "leewaySeconds": 301 }),
            serde_json::json!({ "refreshSeconds": 9 }),
            serde_json::json!({ "maxStaleSeconds": 604_801 }),
            serde_json::json!({ "jku": "https://login.example/keys" }),
            serde_json::json!({ "caCertificates": "" }),
            serde_json::json!({ "caCertificates": "/etc/ssl/ca.pem" }),
            serde_json::json!({ "caCertificates": "-----BEGIN PRIVATE KEY-----\n" }),
            serde_json::json!({ "caCertificates": "-----BEGIN CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\n" }),
            serde_json::json!({ "caCertificates": format!("-----BEGIN CERTIFICATE-----\n{}", " ".repeat(65_536)) }),
        ] {
            assert!(settings(&change).is_err(), "{change}");
        }
        for change in [
            serde_json::json!({ "issuer": "http://login.example" }),
            serde_json::json!({ "jwksUrl": "http://login.example/keys" }),
            serde_json::json!({ "refreshSeconds": 600, "maxStaleSeconds": 599 }),
        ] {
            assert!(settings(&change).expect("each field is right").contradiction().is_some(), "{change}");
        }
    }
}
