//! An issuer of tokens outside: a server with discovery and keys that rotate, and that fails as asked.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tollgate_model::issuers::IssuerAlgorithm;

use crate::Acceptor;
use crate::issuer_keys::IssuerKeyPair;

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
    keys: Vec<(String, IssuerKeyPair)>,
    made: usize,
    asked: usize,
}

// === impl FakeIssuer ===

impl FakeIssuer {
    /// Starts an issuer with one key, for ES256.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> io::Result<Self> {
        Self::start_behind(Acceptor::default()).await
    }

    /// Starts an issuer with one key, for ES256, which takes connections as it is told; behind TLS it is called `localhost`.
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

    /// Signs with a new key for ES256 from now on, and publishes only that.
    ///
    /// # Panics
    ///
    /// When there is no randomness.
    pub fn rotate(&self) {
        self.replace(vec![IssuerKeyPair::generate(IssuerAlgorithm::Es256)]);
    }

    /// Has a new key for each algorithm from now on, and publishes only those.
    ///
    /// # Panics
    ///
    /// When there is no randomness.
    pub fn rotate_to_every_algorithm(&self) {
        self.replace(IssuerKeyPair::of_every_algorithm());
    }

    fn replace(&self, keys: Vec<IssuerKeyPair>) {
        let mut state = lock(&self.state);
        state.keys.clear();
        for key in keys {
            state.made += 1;
            let kid = format!("k{}", state.made);
            state.keys.push((kid, key));
        }
    }

    /// Returns the names of the algorithms of its keys.
    pub fn algorithms(&self) -> Vec<&'static str> {
        lock(&self.state).keys.iter().map(|(_, key)| key.algorithm().as_str()).collect()
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
        self.sign(claims, |_| true)
    }

    /// As [`FakeIssuer::token`], signed with the algorithm of this name.
    ///
    /// # Panics
    ///
    /// When it has no key for the algorithm, or the key does not sign.
    pub fn token_with(&self, algorithm: &str, claims: &Value) -> String {
        self.sign(claims, |key| key.algorithm().as_str() == algorithm)
    }

    fn sign(&self, claims: &Value, fits: impl Fn(&IssuerKeyPair) -> bool) -> String {
        let mut claims = claims.clone();
        if let Some(claims) = claims.as_object_mut() {
            claims.insert("iss".to_owned(), self.url().into());
        }
        let state = lock(&self.state);
        let (kid, key) = state.keys.iter().find(|(_, key)| fits(key)).expect("the issuer has such a key");
        key.token(kid, &claims)
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
    let keys: Vec<_> = state.keys.iter().map(|(kid, key)| key.public_jwk(kid)).collect();
    json!({ "keys": keys }).to_string()
}
