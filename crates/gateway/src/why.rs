//! Why a check refused a call, beyond what the caller is told.
//!
//! A refusal carries it as it stands in memory; words are made of it only for an explanation, or for a refusal that is
//! kept. So a flood of refused calls pays nothing for words that nobody reads.

use std::fmt::{Display, Write as _};
use std::sync::Arc;

use jiff::Timestamp;
use tollgate_credential::keys::ParseKeyError;
use tollgate_credential::keysets::{LEEWAY_SECONDS, VerifyTokenError};
use tollgate_listener::ClientCertificateError;
use tollgate_model::explanations::{Check, SentCredentials, TokenFacts};
use tollgate_model::keysets::SigningKeyState;
use tollgate_snapshot::{
    BasicEntry, Broken, CertificateEntry, ConsumerEntry, EndpointRoute, IssuerEntry, KeyEntry, Scope,
};

use crate::problem::{Code, Problem};

/// Why a check refused a call.
#[derive(Debug, Clone)]
pub(crate) enum Why {
    /// There is no more to say.
    Nothing,
    /// One sentence.
    Said(&'static str),
    /// Part of the configuration is broken.
    Broken(String),
    /// What was sent is no key of this environment by its shape.
    KeyShape(ParseKeyError),
    /// The key that was sent was revoked, or has expired.
    Key(Arc<KeyEntry>, Option<Arc<ConsumerEntry>>),
    /// The client certificate is not good, or nobody can say whether it is.
    Certificate(ClientCertificateError),
    /// The client certificate was bound, and the binding was revoked or has expired.
    Binding(Arc<CertificateEntry>, Option<Arc<ConsumerEntry>>),
    /// The client certificate is of this consumer.
    CertificateOf(Arc<ConsumerEntry>),
    /// The consumer may not call the pipeline.
    NotAssociated(Arc<ConsumerEntry>),
    /// The credential exists, and what was sent does not fit it.
    Basic(Arc<BasicEntry>),
    /// The token was not verified.
    Token(VerifyTokenError),
    /// The token of an issuer outside was not verified.
    IssuerToken(Arc<IssuerEntry>, VerifyTokenError),
    /// The Basic Auth credentials are of this consumer.
    BasicOf(Arc<ConsumerEntry>),
    /// The token is of this consumer.
    TokenOf(Arc<ConsumerEntry>),
    /// Every token that was issued to this consumer until a time was revoked.
    TokensRevoked(Arc<ConsumerEntry>),
    /// The token's scopes.
    Scopes(String),
}

/// What the words are about.
pub(crate) struct About<'a> {
    pub(crate) sent: &'a SentCredentials,
    pub(crate) scope: Option<&'a Scope>,
    pub(crate) route: Option<&'a EndpointRoute>,
    pub(crate) now: Timestamp,
}

// === impl Why ===

impl Why {
    /// Returns the refusal of a call for which a part of the configuration is needed that is broken.
    pub(crate) fn broken(broken: &Broken, code: Code, check: Check) -> Problem {
        Problem::new(code).at(check).because(Self::Broken(broken.0.clone()))
    }

    /// Returns the API key that was sent, when it is known.
    pub(crate) fn key(&self) -> Option<(&KeyEntry, Option<&Arc<ConsumerEntry>>)> {
        match self {
            Self::Key(key, consumer) => Some((key, consumer.as_ref())),
            _ => None,
        }
    }

    /// Returns the client certificate that was shown, when it was bound once.
    pub(crate) fn certificate(&self) -> Option<(&CertificateEntry, Option<&Arc<ConsumerEntry>>)> {
        match self {
            Self::Binding(entry, consumer) => Some((entry, consumer.as_ref())),
            _ => None,
        }
    }

    /// Returns the words; `None` when there are none.
    pub(crate) fn words(&self, about: &About<'_>) -> Option<String> {
        let words = match self {
            Self::Nothing => return None,
            Self::Said(words) => (*words).to_owned(),
            Self::Broken(words) => words.clone(),
            Self::KeyShape(error) => key_shape(*error, about),
            Self::Key(key, consumer) => ended(key.id, consumer.as_deref(), key.revoked_at, key.expires_at),
            Self::Certificate(error) => error.to_string(),
            Self::Binding(it, consumer) => ended(it.id, consumer.as_deref(), it.revoked_at, it.expires_at),
            Self::CertificateOf(consumer) => {
                format!("the client certificate is that of consumer {}", consumer.name)
            }
            Self::NotAssociated(consumer) => {
                format!("consumer {} is not associated with this pipeline", consumer.name)
            }
            Self::Basic(entry) => format!("the password is not that of {}", entry.id),
            Self::Token(error) => token(*error, about),
            Self::IssuerToken(entry, error) => {
                format!("{error}, by what issuer {} demands", entry.issuer.name)
            }
            Self::BasicOf(consumer) => format!("the user name is that of consumer {}", consumer.name),
            Self::TokenOf(consumer) => format!("the token was issued to consumer {}", consumer.name),
            Self::TokensRevoked(consumer) => {
                let until = consumer.tokens_revoked_before.map(|at| at.to_string()).unwrap_or_default();
                format!("every token issued to consumer {} until {until} was revoked", consumer.name)
            }
            Self::Scopes(has) => {
                let has = if has.is_empty() { "none" } else { has };
                let demanded = about.route.map(|route| route.scopes.as_slice()).unwrap_or_default();
                let demanded: Vec<_> = demanded.iter().map(|scope| scope.as_str()).collect();
                format!("the route demands {}; the token has {has}", demanded.join(" "))
            }
        };
        Some(words)
    }
}

/// Says of a credential that works no more when it ended.
fn ended(
    id: impl Display,
    consumer: Option<&ConsumerEntry>,
    revoked_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
) -> String {
    let whose = consumer.map_or_else(String::new, |it| format!(" of consumer {}", it.name));
    match (revoked_at, expires_at) {
        (Some(at), _) => format!("{id}{whose} was revoked at {at}"),
        (None, Some(at)) => format!("{id}{whose} expired at {at}"),
        (None, None) => format!("{id}{whose}"),
    }
}

fn key_shape(error: ParseKeyError, about: &About<'_>) -> String {
    let here = about.scope.map(|scope| scope.environment.as_str()).unwrap_or_default();
    let sent = about.sent.api_key.as_ref().map(|key| key.shown.as_str()).unwrap_or_default();
    match error {
        ParseKeyError::Shape => {
            "this has not the shape of an API key: tg_, the environment, and 38 letters and digits".to_owned()
        }
        // Only a whole key shows of which environment it is.
        ParseKeyError::Environment => match sent.strip_prefix("tg_").and_then(|rest| rest.split_once('_')) {
            Some((other, _)) => format!("this is a key of {other}, and here is {here}"),
            None => format!("this is a key of another environment, and here is {here}"),
        },
        ParseKeyError::Checksum => error.to_string(),
    }
}

fn token(error: VerifyTokenError, about: &About<'_>) -> String {
    let none = TokenFacts::default();
    let facts = about.sent.token.as_ref().unwrap_or(&none);
    let key_set = about.scope.and_then(|scope| scope.key_set.as_ref().ok());
    let said =
        |text: &Option<String>| text.as_ref().map_or_else(|| "nothing".to_owned(), |it| format!("`{it}`"));
    let mut words = error.to_string();
    // Writing to a string cannot fail.
    let _ = match error {
        VerifyTokenError::Malformed
        | VerifyTokenError::Header
        | VerifyTokenError::Signature
        | VerifyTokenError::Lifetime => Ok(()),
        VerifyTokenError::UnknownKey => {
            let state = facts.kid.as_deref().and_then(|kid| key_set?.state_of(kid));
            let state = match state {
                None => "which is not in the key set".to_owned(),
                Some(SigningKeyState::Revoked { at }) => format!("which was revoked at {at}"),
                Some(SigningKeyState::Retiring { until }) => format!("which verified until {until}"),
                Some(SigningKeyState::Active) => "which does not verify it".to_owned(),
            };
            write!(words, ": its header names kid {}, {state}", said(&facts.kid))
        }
        VerifyTokenError::Algorithm => write!(words, ": its header names kid {}", said(&facts.kid)),
        VerifyTokenError::Issuer => {
            let ours = key_set.map(|set| set.issuer()).unwrap_or_default();
            write!(words, ": it says {}, and here is `{ours}`", said(&facts.iss))
        }
        VerifyTokenError::Audience => {
            let ours = key_set.map(|set| set.audience()).unwrap_or_default();
            write!(words, ": it says {}, and here is `{ours}`", said(&facts.aud))
        }
        VerifyTokenError::Expired => {
            write!(words, ": its `exp` is {}, and it is {}", instant(facts.exp), about.now)
        }
        VerifyTokenError::NotYetValid => write!(
            words,
            ": its `iat` is {}, and it is {}; clocks may differ by {LEEWAY_SECONDS} s",
            instant(facts.iat),
            about.now
        ),
    };
    words
}

fn instant(seconds: Option<i64>) -> String {
    seconds
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or("no time".to_owned(), |at| at.to_string())
}
