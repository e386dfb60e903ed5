//! Fetches the keys of an issuer: bounded in size and time, over verified TLS, without redirects.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Url};
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
    timeout: Duration,
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
    #[error("the discovery document at `{0}` leads from https to plain http")]
    Downgrade(String),
    #[error("the certificates of CAs in the settings cannot be used")]
    Certificates,
    #[error("`{0}`: {1}")]
    Keys(String, #[source] ParseIssuerKeysError),
    #[error("reading what it answered failed, which is a fault of Tollgate")]
    Panicked,
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
        Self::with(TIMEOUT)
    }

    fn with(timeout: Duration) -> Result<Self, reqwest::Error> {
        Ok(Self {
            public: client(false, timeout).build()?,
            anywhere: client(true, timeout).build()?,
            timeout,
        })
    }

    /// Returns the client for an issuer. One with CAs of its own gets a client of its own, which trusts nobody else.
    fn client(&self, settings: &IssuerSettings) -> Result<Client, FetchError> {
        let Some(certificates) = &settings.ca_certificates else {
            return Ok(if settings.internal_addresses { &self.anywhere } else { &self.public }.clone());
        };
        let roots = Certificate::from_pem_bundle(certificates.as_str().as_bytes()).unwrap_or_default();
        // Without any, whom the client would trust were not said.
        if roots.is_empty() {
            return Err(FetchError::Certificates);
        }
        let client = client(settings.internal_addresses, self.timeout).tls_certs_only(roots);
        client.build().map_err(|_| FetchError::Certificates)
    }

    /// Fetches the keys of an issuer, with the text that they were read from.
    pub(super) async fn fetch(&self, settings: &IssuerSettings) -> Result<(IssuerKeys, Vec<u8>), FetchError> {
        let client = self.client(settings)?;
        let url = match &settings.jwks_url {
            Some(url) => url.clone(),
            None => discover(&client, settings).await?,
        };
        let jwks = get(&client, url.as_str(), settings).await?;
        let keys = IssuerKeys::parse(&jwks).map_err(|error| FetchError::Keys(url.to_string(), error))?;
        Ok((keys, jwks))
    }
}

fn client(anywhere: bool, timeout: Duration) -> ClientBuilder {
    let builder = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        // Between two fetches lie minutes.
        .pool_max_idle_per_host(0);
    if anywhere { builder } else { builder.dns_resolver(Arc::new(PublicNames)) }
}

/// Asks the issuer where its keys are.
async fn discover(client: &Client, settings: &IssuerSettings) -> Result<IssuerUrl, FetchError> {
    let base = settings.issuer.as_str();
    let url = format!("{}/.well-known/openid-configuration", base.trim_end_matches('/'));
    let document = get(client, &url, settings).await?;
    let found: Discovery =
        serde_json::from_slice(&document).map_err(|_| FetchError::Discovery(url.clone()))?;
    // Whoever answers there could otherwise send us to the keys of somebody else.
    if found.issuer != base {
        return Err(FetchError::OtherIssuer(url));
    }
    // What was fetched over TLS must not say that what counts may come without.
    if found.jwks_uri.is_plain() && !settings.issuer.is_plain() {
        return Err(FetchError::Downgrade(url));
    }
    Ok(found.jwks_uri)
}

async fn get(client: &Client, text: &str, settings: &IssuerSettings) -> Result<Vec<u8>, FetchError> {
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
    use tollgate_testkit::{Acceptor, Answer, Authority, Leaf, Upstream};

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
        fetched.map(|(keys, _)| keys.names(&settings.algorithms).count()).map_err(|error| error.to_string())
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

    fn trusting(issuer: &str, jwks: Option<&str>, ca: &Authority) -> IssuerSettings {
        let mut settings = settings(issuer, jwks, true);
        settings.ca_certificates = Some(ca.pem().parse().expect("certificates"));
        settings
    }

    async fn behind(leaf: &Leaf) -> Upstream {
        Upstream::start_behind(Acceptor::tls(leaf)).await.expect("a server")
    }

    #[tokio::test]
    async fn keys_come_over_tls_from_whom_a_configured_ca_vouches_for_and_nobody_else() {
        let (ca, other) = (Authority::new("Ours"), Authority::new("Theirs"));
        let good = ca.issue_for_server(&["dns:localhost"]);
        for (what, leaf, trusted, error) in [
            ("the CA in the settings", &good, Some(&ca), None),
            ("another CA", &good, Some(&other), Some("UnknownIssuer")),
            ("the system's CAs alone", &good, None, Some("UnknownIssuer")),
            (
                "another name",
                &ca.issue_for_server(&["dns:login.example"]),
                Some(&ca),
                Some("not valid for name"),
            ),
            (
                "a certificate that ended",
                &ca.issue_ended_for_server(&["dns:localhost"]),
                Some(&ca),
                Some("expired"),
            ),
            ("one for clients", &ca.issue(&["dns:localhost"]), Some(&ca), Some("extended key usage")),
        ] {
            let upstream = behind(leaf).await;
            upstream.answer(Answer::json(StatusCode::OK, &jwks()));
            let keys = upstream.url("/keys");
            let settings = match trusted {
                Some(trusted) => trusting("https://login.example", Some(&keys), trusted),
                None => settings("https://login.example", Some(&keys), true),
            };
            let got = outcome(&settings).await;
            match (error, got) {
                (None, got) => assert_eq!(got, Ok(1), "{what}"),
                (Some(error), Ok(_)) => panic!("{what} was taken, where `{error}` is expected"),
                (Some(error), Err(got)) => {
                    assert!(got.to_lowercase().contains(&error.to_lowercase()), "{what}: {got}");
                    assert!(upstream.requests().is_empty(), "{what}: it was asked");
                }
            }
        }
        let mut broken = settings("https://login.example", Some("https://localhost:1/"), true);
        broken.ca_certificates = Some(
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".parse().expect("looks like one"),
        );
        assert!(outcome(&broken).await.expect_err("no CA").contains("certificates of CAs"));
    }

    #[tokio::test]
    async fn nothing_leads_from_tls_to_plain_http() {
        let ca = Authority::new("Ours");
        let (secure, plain) =
            (behind(&ca.issue_for_server(&["dns:localhost"])).await, Upstream::start().await);
        let (base, plain) = (secure.url(""), plain.expect("a server"));
        let document = json!({ "issuer": base, "jwks_uri": plain.url("/keys") });
        secure.answer(Answer::json(StatusCode::OK, &document));
        let got = outcome(&trusting(&base, None, &ca)).await.expect_err("plain http");
        assert!(got.contains("from https to plain http"), "{got}");
        for to in [plain.url("/keys"), secure.url("/keys"), "https://login.example/keys".to_owned()] {
            let to = HeaderValue::try_from(to).expect("a URL");
            secure.answer(Answer::new(StatusCode::FOUND, "").header(http::header::LOCATION, to));
            let got = outcome(&trusting(&base, None, &ca)).await.expect_err("a redirect");
            assert!(got.contains("answered 302"), "{got}");
        }
        assert!(plain.requests().is_empty());
        let asked: Vec<_> = secure.requests().into_iter().map(|it| it.target).collect();
        assert_eq!(asked, ["/.well-known/openid-configuration"; 4], "nothing was followed");
        // Another host is where many issuers keep their keys; it must be vouched for as they are.
        let keys = behind(&ca.issue_for_server(&["dns:localhost"])).await;
        secure
            .answer(Answer::json(StatusCode::OK, &json!({ "issuer": base, "jwks_uri": keys.url("/keys") })));
        keys.answer(Answer::json(StatusCode::OK, &jwks()));
        assert_eq!(outcome(&trusting(&base, None, &ca)).await, Ok(1));
    }

    #[tokio::test]
    async fn an_issuer_that_takes_too_long_is_given_up() {
        let ca = Authority::new("Ours");
        let upstream = behind(&ca.issue_for_server(&["dns:localhost"])).await;
        upstream.answer(Answer::never());
        let fetcher = Fetcher::with(Duration::from_millis(500)).expect("a client");
        let settings = trusting("https://login.example", Some(&upstream.url("/keys")), &ca);
        let error = fetcher.fetch(&settings).await.expect_err("it never answers");
        assert!(matches!(error, FetchError::Timeout(_)), "{error}");
    }
}
