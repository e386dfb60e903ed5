//! Fetches the keys of an issuer: bounded in size and time, over verified TLS, without redirects.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url};
use serde::Deserialize;
use tollgate_credential::issuers::{IssuerKeys, ParseIssuerKeysError};
use tollgate_model::issuers::{IssuerSettings, IssuerUrl};
use tollgate_model::networks::is_special;

use super::addresses::{InternalName, PublicNames};

/// Longest time for one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of one answer.
const MAX_BYTES: usize = 512 * 1024;

/// Fetches keys.
pub(super) struct Fetcher {
    /// For issuers that may be at public addresses only.
    public: Client,
    /// For those that may be anywhere.
    anywhere: Client,
}

/// Why keys could not be fetched. Says where it happened and nothing that the issuer answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("`{0}` is no URL that can be asked")]
    Url(String),
    #[error("`{0}` is at an internal address, which the settings do not allow")]
    Internal(String),
    #[error("`{0}` cannot be reached: {1}")]
    Unreachable(String, String),
    #[error("`{0}` did not answer within 10 s")]
    Timeout(String),
    #[error("`{0}` answered {1}, where 200 is expected; redirects are not followed")]
    Status(String, u16),
    #[error("`{0}` answered more than 512 KiB")]
    TooLarge(String),
    #[error("`{0}` is no discovery document with the members `issuer` and `jwks_uri`")]
    Discovery(String),
    #[error("the discovery document at `{0}` is of another issuer")]
    OtherIssuer(String),
    #[error("`{0}`: {1}")]
    Keys(String, #[source] ParseIssuerKeysError),
}

/// What is read of a discovery document (OpenID Connect Discovery 1.0 section 3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: IssuerUrl,
}

// === impl Fetcher ===

impl Fetcher {
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        let builder = || {
            Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                // Between two fetches lie minutes.
                .pool_max_idle_per_host(0)
        };
        Ok(Self {
            public: builder().dns_resolver(Arc::new(PublicNames)).build()?,
            anywhere: builder().build()?,
        })
    }

    /// Fetches the keys of an issuer, with the text that they were read from.
    pub(super) async fn fetch(&self, settings: &IssuerSettings) -> Result<(IssuerKeys, Vec<u8>), FetchError> {
        let url = match &settings.jwks_url {
            Some(url) => url.clone(),
            None => self.discover(settings).await?,
        };
        let jwks = self.get(url.as_str(), settings).await?;
        let keys = IssuerKeys::parse(&jwks).map_err(|error| FetchError::Keys(url.to_string(), error))?;
        Ok((keys, jwks))
    }

    /// Asks the issuer where its keys are.
    async fn discover(&self, settings: &IssuerSettings) -> Result<IssuerUrl, FetchError> {
        let base = settings.issuer.as_str();
        let url = format!("{}/.well-known/openid-configuration", base.trim_end_matches('/'));
        let document = self.get(&url, settings).await?;
        let found: Discovery =
            serde_json::from_slice(&document).map_err(|_| FetchError::Discovery(url.clone()))?;
        // Whoever answers there could otherwise send us to the keys of somebody else.
        if found.issuer != base {
            return Err(FetchError::OtherIssuer(url));
        }
        Ok(found.jwks_uri)
    }

    async fn get(&self, text: &str, settings: &IssuerSettings) -> Result<Vec<u8>, FetchError> {
        let said = || text.to_owned();
        let url = Url::parse(text).map_err(|_| FetchError::Url(said()))?;
        let is_allowed = url.scheme() == "https" || (url.scheme() == "http" && settings.internal_addresses);
        if !is_allowed {
            return Err(FetchError::Url(said()));
        }
        // An address that is written out is never resolved.
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let written: Option<IpAddr> = host.parse().ok();
        if !settings.internal_addresses && written.is_some_and(is_special) {
            return Err(FetchError::Internal(said()));
        }
        let client = if settings.internal_addresses { &self.anywhere } else { &self.public };
        let failed = |error: reqwest::Error| failure(text, &error);
        let request = client.get(url).header("accept", "application/json");
        let mut response = request.send().await.map_err(failed)?;
        if response.status() != http::StatusCode::OK {
            return Err(FetchError::Status(said(), response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(FetchError::TooLarge(said()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn failure(url: &str, error: &reqwest::Error) -> FetchError {
    if error.is_timeout() {
        return FetchError::Timeout(url.to_owned());
    }
    let mut cause: &dyn std::error::Error = error;
    let mut is_internal = false;
    while let Some(inner) = cause.source() {
        is_internal |= inner.is::<InternalName>();
        cause = inner;
    }
    if is_internal || cause.is::<InternalName>() {
        return FetchError::Internal(url.to_owned());
    }
    // The innermost cause says most: a certificate, a refused connection.
    FetchError::Unreachable(url.to_owned(), cause.to_string())
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode};
    use serde_json::json;
    use tollgate_testkit::{Answer, Upstream};

    use super::*;

    fn settings(issuer: &str, jwks: Option<&str>, internal: bool) -> IssuerSettings {
        serde_json::from_value(
            json!({ "issuer": issuer, "jwksUrl": jwks, "audience": "a", "algorithms": ["EdDSA"],
            "consumer": { "name": "shop" }, "internalAddresses": internal }),
        )
        .expect("settings")
    }

    /// The key of RFC 8037 appendix A.
    fn jwks() -> serde_json::Value {
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k1",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }] })
    }

    async fn outcome(settings: &IssuerSettings) -> Result<usize, String> {
        let fetched = Fetcher::new().expect("a client").fetch(settings).await;
        fetched.map(|(keys, _)| keys.names().count()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn keys_are_found_by_discovery_or_where_the_settings_say() {
        let upstream = Upstream::start().await.expect("a server");
        let base = upstream.url("");
        upstream.answer(Answer::json(
            StatusCode::OK,
            &json!({ "issuer": base, "jwks_uri": upstream.url("/keys") }),
        ));
        upstream.answer(Answer::json(StatusCode::OK, &jwks()));
        assert_eq!(outcome(&settings(&base, None, true)).await, Ok(1));
        let asked: Vec<_> = upstream.requests().into_iter().map(|it| it.target).collect();
        assert_eq!(asked, ["/.well-known/openid-configuration", "/keys"]);
        upstream.answer(Answer::json(StatusCode::OK, &jwks()));
        assert_eq!(outcome(&settings(&base, Some(&upstream.url("/jwks.json")), true)).await, Ok(1));
    }

    #[tokio::test]
    async fn whatever_else_is_answered_gives_no_keys() {
        let upstream = Upstream::start().await.expect("a server");
        let keys = upstream.url("/keys");
        let away = HeaderValue::try_from(upstream.url("/elsewhere")).expect("a URL");
        for (what, answer, error) in [
            (
                "a redirect",
                Answer::new(StatusCode::FOUND, "").header(http::header::LOCATION, away),
                "answered 302",
            ),
            ("an error", Answer::new(StatusCode::INTERNAL_SERVER_ERROR, jwks().to_string()), "answered 500"),
            ("no set", Answer::new(StatusCode::OK, "<html>"), "no JWK Set"),
            ("nothing", Answer::new(StatusCode::OK, ""), "no JWK Set"),
            ("too much", Answer::new(StatusCode::OK, vec![b' '; MAX_BYTES + 1]), "more than 512 KiB"),
            ("no key of use", Answer::json(StatusCode::OK, &json!({ "keys": [] })), "no key of the set"),
        ] {
            upstream.answer(answer);
            let got = outcome(&settings("https://login.example", Some(&keys), true)).await.expect_err(what);
            assert!(got.contains(error), "{what}: {got}");
        }
        assert_eq!(upstream.requests().len(), 6, "nothing was followed");
        let base = upstream.url("");
        upstream.answer(Answer::json(
            StatusCode::OK,
            &json!({ "issuer": "https://other.example", "jwks_uri": keys }),
        ));
        let got = outcome(&settings(&base, None, true)).await.expect_err("another issuer");
        assert!(got.contains("another issuer"), "{got}");
        upstream.answer(Answer::json(
            StatusCode::OK,
            &json!({ "issuer": base, "jwks_uri": "file:///etc/passwd" }),
        ));
        let got = outcome(&settings(&base, None, true)).await.expect_err("no URL");
        assert!(got.contains("no discovery document"), "{got}");
    }

    #[tokio::test]
    async fn internal_addresses_are_asked_only_where_the_settings_allow_it() {
        let upstream = Upstream::start().await.expect("a server");
        let port = upstream.address().port();
        for host in [
            "127.0.0.1",
            "localhost",
            "127.1",
            "0x7f000001",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "169.254.169.254",
        ] {
            let url = format!("https://{host}:{port}/keys");
            let got = outcome(&settings("https://login.example", Some(&url), false)).await.expect_err(host);
            assert!(got.contains("internal address"), "{host}: {got}");
        }
        let got = outcome(&settings("https://login.example", Some(&upstream.url("/keys")), false)).await;
        assert!(got.expect_err("plain http").contains("no URL"));
        assert!(upstream.requests().is_empty());
        // Discovery leads nowhere where its issuer may not be.
        let secure = format!("https://127.0.0.1:{port}/keys");
        let got =
            outcome(&settings("https://login.example", Some(&secure), true)).await.expect_err("no TLS there");
        assert!(got.contains("cannot be reached"), "{got}");
    }
}
