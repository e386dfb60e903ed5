//! An issuer of tokens outside: a server with discovery and keys that rotate, and that fails as asked.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Acceptor;

/// An issuer on a free loopback port; stops answering when it is dropped.
pub struct FakeIssuer {
    base: Arc<str>,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

/// How a [`FakeIssuer`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssuerMood {
    /// As it should.
    Well,
    /// Never.
    Silent,
    /// With an error.
    Broken,
    /// With more bytes than anybody wants.
    Huge,
    /// With a redirect to its own keys.
    Redirecting,
    /// With a page instead of keys.
    Confused,
}

struct State {
    mood: IssuerMood,
    keys: Vec<(String, EcdsaKeyPair)>,
    made: usize,
    asked: usize,
}

// === impl FakeIssuer ===

impl FakeIssuer {
    /// Starts an issuer with one key.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> io::Result<Self> {
        Self::start_behind(Acceptor::default()).await
    }

    /// Starts an issuer with one key, which takes connections as it is told; behind TLS it is called `localhost`.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start_behind(acceptor: Acceptor) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let base: Arc<str> = acceptor.base(address).into();
        let state =
            Arc::new(Mutex::new(State { mood: IssuerMood::Well, keys: Vec::new(), made: 0, asked: 0 }));
        let (shared, at) = (Arc::clone(&state), Arc::clone(&base));
        let accepting =
            acceptor.serve(listener, move |request| serve(Arc::clone(&shared), Arc::clone(&at), request));
        let issuer = Self { base, state, accepting };
        issuer.rotate();
        Ok(issuer)
    }

    /// Returns its URL: the `iss` of its tokens.
    pub fn url(&self) -> String {
        self.base.to_string()
    }

    /// Signs with a new key from now on, and publishes only that.
    ///
    /// # Panics
    ///
    /// When there is no randomness.
    pub fn rotate(&self) {
        let mut state = lock(&self.state);
        state.made += 1;
        let kid = format!("k{}", state.made);
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("randomness");
        state.keys = vec![(kid, key)];
    }

    /// Answers otherwise from now on.
    pub fn mood(&self, mood: IssuerMood) {
        lock(&self.state).mood = mood;
    }

    /// Returns how often its keys were asked for.
    pub fn asked(&self) -> usize {
        lock(&self.state).asked
    }

    /// Issues an access token with these claims; `iss` is its own.
    ///
    /// # Panics
    ///
    /// When the key does not sign.
    pub fn token(&self, claims: &Value) -> String {
        let mut claims = claims.clone();
        if let Some(claims) = claims.as_object_mut() {
            claims.insert("iss".to_owned(), self.url().into());
        }
        let state = lock(&self.state);
        let (kid, key) = state.keys.first().expect("an issuer has a key");
        let header = json!({ "alg": "ES256", "kid": kid, "typ": "at+jwt" });
        let signed = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).expect("signs");
        format!("{signed}.{}", base64url(signature))
    }
}

impl Drop for FakeIssuer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(
    state: Arc<Mutex<State>>,
    base: Arc<str>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = match request.uri().path() {
        "/.well-known/openid-configuration" => {
            json!({ "issuer": base, "jwks_uri": format!("{base}/keys") }).to_string()
        }
        "/keys" | "/moved" => {
            let mood = {
                let mut state = lock(&state);
                state.asked += 1;
                state.mood
            };
            let answer = |status, body: String| {
                let mut response = Response::new(Full::from(body));
                *response.status_mut() = status;
                response
            };
            match mood {
                IssuerMood::Well => jwks(&state),
                IssuerMood::Silent => std::future::pending().await,
                IssuerMood::Broken => return Ok(answer(StatusCode::INTERNAL_SERVER_ERROR, jwks(&state))),
                IssuerMood::Huge => " ".repeat(8 * 1024 * 1024),
                IssuerMood::Confused => "<html>down for maintenance</html>".to_owned(),
                IssuerMood::Redirecting => {
                    let mut response = answer(StatusCode::FOUND, String::new());
                    if let Ok(to) = format!("{base}/moved").parse() {
                        response.headers_mut().insert(header::LOCATION, to);
                    }
                    return Ok(response);
                }
            }
        }
        _ => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(response);
        }
    };
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}

fn jwks(state: &Mutex<State>) -> String {
    let state = lock(state);
    let keys = state.keys.iter().filter_map(|(kid, key)| {
        let (x, y) = key.public_key().as_ref().strip_prefix(&[4])?.split_at_checked(32)?;
        Some(json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": kid, "x": base64url(x), "y": base64url(y) }))
    });
    json!({ "keys": keys.collect::<Vec<_>>() }).to_string()
}

/// base64url without padding (RFC 4648 section 5).
fn base64url(bytes: impl AsRef<[u8]>) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.as_ref().chunks(3) {
        let bits = chunk.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let letter = ALPHABET.get(bits >> (18 - 6 * place) & 63).copied().unwrap_or_default();
            text.push(letter.into());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_that_of_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("\u{3ff}", "z78")]
        {
            assert_eq!(base64url(bytes), text);
        }
    }
}
