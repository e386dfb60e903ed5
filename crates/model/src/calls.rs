//! Counted calls: what a rollup of calls is about.

use std::fmt;
use std::str::FromStr;

use crate::ids::CredentialId;
use crate::names::{ConsumerName, EnvironmentName, PipelineName, RealmName};
use crate::verdicts::ViolationCode;

/// What calls were counted for: one deployment, one caller, one set of credentials, one minute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountedCalls {
    /// Whose deployment.
    pub realm: RealmName,
    /// Where.
    pub environment: EnvironmentName,
    /// What was called.
    pub pipeline: PipelineName,
    /// In which major.
    pub major: u32,
    /// When: minutes since 1970.
    pub minute: i64,
    /// Who called.
    pub caller: CountedCaller,
    /// What the calls showed.
    pub credentials: ShownCredentials,
}

/// Who called, as far as the calls told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CountedCaller {
    /// Nobody knows: the trigger demands no credentials.
    Unknown,
    /// A consumer, with the credential that told who it is, where that was not a token: the API key where the trigger
    /// demands one, else the client certificate, else Basic Auth.
    Consumer(ConsumerName, Option<CredentialId>),
    /// Whoever came when there were too many callers to tell them apart.
    Others,
}

/// What a call showed of one kind of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Shown {
    /// None.
    #[default]
    Nothing,
    /// Something, which was not looked at: the trigger does not demand it.
    Sent,
    /// A good one.
    Verified,
}

/// Which credentials a call showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShownCredentials {
    /// In the `apikey` header, or the query where the trigger takes it there.
    pub api_key: Shown,
    /// A client certificate, in the TLS handshake.
    pub certificate: Shown,
    /// A bearer token.
    pub token: Shown,
    /// Basic Auth.
    pub basic_auth: Shown,
}

/// Why a text names no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no credentials of a call")]
pub struct ParseShownError(String);

// === impl ShownCredentials ===

impl ShownCredentials {
    /// How a call without credentials is written.
    const NONE: &str = "none";

    /// Returns a word for each that was shown: `api-key`, `certificate`, `token`, `basic-auth`; with `-sent` behind it where it was not
    /// looked at.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let words = |shown, verified, sent| match shown {
            Shown::Nothing => None,
            Shown::Sent => Some(sent),
            Shown::Verified => Some(verified),
        };
        [
            words(self.api_key, "api-key", "api-key-sent"),
            words(self.certificate, "certificate", "certificate-sent"),
            words(self.token, "token", "token-sent"),
            words(self.basic_auth, "basic-auth", "basic-auth-sent"),
        ]
        .into_iter()
        .flatten()
    }

    /// Tells whether a call with these credentials lacked what mends a violation: it would be refused from then on.
    pub fn lack(self, code: ViolationCode) -> bool {
        match code {
            // A certificate that was verified counts as a key; one that nobody looked at may be anybody's.
            ViolationCode::MissingApiKey | ViolationCode::LoginApiKey => {
                self.api_key == Shown::Nothing && self.certificate != Shown::Verified
            }
            ViolationCode::MissingJwt => self.token == Shown::Nothing,
            // Nothing that a caller could send.
            ViolationCode::TokenLifetime
            | ViolationCode::UnnamedClaims
            | ViolationCode::PlainPassword
            | ViolationCode::Rule
            | ViolationCode::BrokenRule => false,
        }
    }
}

impl fmt::Display for ShownCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for word in self.words() {
            write!(f, "{separator}{word}")?;
            separator = "+";
        }
        if separator.is_empty() { f.write_str(Self::NONE) } else { Ok(()) }
    }
}

impl FromStr for ShownCredentials {
    type Err = ParseShownError;

    fn from_str(input: &str) -> Result<Self, Self::Err> {
        let mut shown = Self::default();
        for word in input.split('+').filter(|_| input != Self::NONE) {
            let (place, value) = match word {
                "api-key" => (&mut shown.api_key, Shown::Verified),
                "api-key-sent" => (&mut shown.api_key, Shown::Sent),
                "certificate" => (&mut shown.certificate, Shown::Verified),
                "certificate-sent" => (&mut shown.certificate, Shown::Sent),
                "token" => (&mut shown.token, Shown::Verified),
                "token-sent" => (&mut shown.token, Shown::Sent),
                "basic-auth" => (&mut shown.basic_auth, Shown::Verified),
                "basic-auth-sent" => (&mut shown.basic_auth, Shown::Sent),
                _ => return Err(ParseShownError(input.chars().take(80).collect())),
            };
            *place = value;
        }
        Ok(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Shown; 3] = [Shown::Nothing, Shown::Sent, Shown::Verified];

    #[test]
    fn every_set_of_credentials_reads_back() {
        for api_key in ALL {
            for certificate in ALL {
                for token in ALL {
                    for basic_auth in ALL {
                        let shown = ShownCredentials { api_key, certificate, token, basic_auth };
                        assert_eq!(shown.to_string().parse(), Ok(shown));
                    }
                }
            }
        }
        assert_eq!(ShownCredentials::default().to_string(), "none");
        for bad in ["", "key", "api-key+", "none+token", "token token"] {
            assert!(bad.parse::<ShownCredentials>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_call_lacks_what_it_did_not_even_send() {
        let key = |api_key| ShownCredentials { api_key, ..ShownCredentials::default() };
        for (api_key, lacks) in [(Shown::Nothing, true), (Shown::Sent, false), (Shown::Verified, false)] {
            assert_eq!(key(api_key).lack(ViolationCode::MissingApiKey), lacks);
            assert_eq!(key(api_key).lack(ViolationCode::LoginApiKey), lacks);
            assert!(key(api_key).lack(ViolationCode::MissingJwt));
            assert!(!key(api_key).lack(ViolationCode::Rule));
        }
        for (certificate, lacks) in [(Shown::Nothing, true), (Shown::Sent, true), (Shown::Verified, false)] {
            let shown = ShownCredentials { certificate, ..ShownCredentials::default() };
            assert_eq!(shown.lack(ViolationCode::MissingApiKey), lacks, "{certificate:?}");
        }
    }
}
