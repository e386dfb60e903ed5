//! Jobs, good credentials, and those that every contender must refuse before it counts.

use std::str::FromStr;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tollgate_credential::keys::IssuedKey;
use tollgate_model::keysets::Algorithm;
use tollgate_model::names::EnvironmentName;

use crate::ground::SystemRandom;
use crate::{BODY, Contender, plain_http};

/// What is checked of each call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    Key,
    KeyHs256,
    KeyEs256,
    KeyEs256New,
    Proxied,
}

/// The credentials of a call; no token where none is demanded.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) token: String,
}

/// What is wrong with credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    NoKey,
    OtherKey,
    OtherCase,
    NoToken,
    OtherSignature,
    ExpiredToken,
    OtherIssuer,
    AlgorithmNone,
}

// === impl Job ===

impl Job {
    pub(crate) const ALL: [Self; 5] =
        [Self::Key, Self::KeyHs256, Self::KeyEs256, Self::KeyEs256New, Self::Proxied];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Key => "key: API key",
            Self::KeyHs256 => "hs256: API key and HS256 token, tokens that repeat",
            Self::KeyEs256 => "es256: API key and ES256 token, tokens that repeat",
            Self::KeyEs256New => "es256-new: API key and ES256 token, every token new",
            Self::Proxied => "proxied: API key and HS256 token, answered by an upstream",
        }
    }

    pub(crate) fn has_token(self) -> bool {
        self != Self::Key
    }

    pub(crate) fn algorithm(self) -> Option<Algorithm> {
        match self {
            Self::Key => None,
            Self::KeyHs256 | Self::Proxied => Some(Algorithm::Hs256),
            Self::KeyEs256 | Self::KeyEs256New => Some(Algorithm::Es256),
        }
    }

    pub(crate) fn uses_each_token_once(self) -> bool {
        self == Self::KeyEs256New
    }
}

impl FromStr for Job {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let named = |job: &Self| job.title().split(':').next() == Some(name);
        Self::ALL.into_iter().find(named).with_context(|| {
            format!("there is no job `{name}`: there are key, hs256, es256, es256-new and proxied")
        })
    }
}

// === impl Pair ===

impl Pair {
    pub(crate) fn new(key: &str, token: &str) -> Self {
        Self { key: key.to_owned(), token: token.to_owned() }
    }

    /// Returns a request with these credentials.
    pub(crate) fn request(&self, path: &str) -> String {
        let mut request = format!("GET {path} HTTP/1.1\r\nhost: bench.example\r\naccept: */*\r\n");
        if !self.key.is_empty() {
            request.push_str(&format!("apikey: {}\r\n", self.key));
        }
        if !self.token.is_empty() {
            request.push_str(&format!("authorization: Bearer {}\r\n", self.token));
        }
        request + "\r\n"
    }
}

// === impl Bad ===

impl Bad {
    /// Spoils the key; the token stays.
    pub(crate) fn of_keys(key: &str, token: &str) -> anyhow::Result<Vec<(Self, Pair)>> {
        let other = IssuedKey::generate(&EnvironmentName::test(), &SystemRandom)?;
        // Behind the environment; what stands before it is written in small letters by everybody.
        let (start, rest) = key.rsplit_once('_').context("a key has underscores")?;
        let swap =
            |c: char| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        let swapped: String = rest.chars().map(swap).collect();
        Ok(vec![
            (Self::NoKey, Pair::new("", token)),
            (Self::OtherKey, Pair::new(other.plain.expose_secret(), token)),
            (Self::OtherCase, Pair::new(&format!("{start}_{swapped}"), token)),
        ])
    }

    /// Spoils the token; the key stays.
    pub(crate) fn of_tokens(key: &str, token: &str) -> anyhow::Result<Vec<(Self, Pair)>> {
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
            bail!("a token has three parts");
        };
        let flip = |c: char| if c == 'A' { 'B' } else { 'A' };
        let turned: String = signature.chars().take(1).map(flip).chain(signature.chars().skip(1)).collect();
        let none = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        Ok(vec![
            (Self::NoToken, Pair::new(key, "")),
            (Self::OtherSignature, Pair::new(key, &format!("{header}.{claims}.{turned}"))),
            (Self::AlgorithmNone, Pair::new(key, &format!("{none}.{claims}."))),
        ])
    }
}

/// Fails unless a contender answers good credentials and refuses each kind of bad ones.
pub(crate) fn verify(contender: &Contender, job: Job) -> anyhow::Result<()> {
    for pair in contender.pairs.iter().take(3) {
        let (status, body) = plain_http::exchange(contender.address, &pair.request(contender.path))?;
        if status != 200 || body != BODY {
            bail!("it answers good credentials {status} {body}");
        }
    }
    for (bad, pair) in &contender.bad {
        let (status, body) = plain_http::exchange(contender.address, &pair.request(contender.path))?;
        if !(400..500).contains(&status) || body == BODY {
            bail!("it lets {bad:?} through ({status}) in {}", job.title());
        }
    }
    Ok(())
}
