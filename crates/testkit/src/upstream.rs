//! An HTTP server that answers as scripted and remembers what it was asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Acceptor;

/// A server on a free loopback port; stops accepting when it is dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    base: String,
    script: Arc<Mutex<Script>>,
    accepting: JoinHandle<()>,
}

/// One answer of an [`Upstream`].
#[derive(Debug, Clone)]
pub struct Answer {
    response: Option<Response<Bytes>>,
}

/// One request that an [`Upstream`] got.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its method.
    pub method: Method,
    /// Path and query as sent.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
}

#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<Answer>,
    requests: Vec<Recorded>,
}

// === impl Upstream ===

impl Upstream {
    /// Starts a server that answers `200 {}` until [`Upstream::answer`] says otherwise.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> io::Result<Self> {
        Self::start_behind(Acceptor::default()).await
    }

    /// Starts one that takes connections as it is told; behind TLS it is called `localhost`.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start_behind(acceptor: Acceptor) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let script = Arc::new(Mutex::new(Script::default()));
        let shared = Arc::clone(&script);
        let base = acceptor.base(address);
        let accepting = acceptor.serve(listener, move |request| serve(Arc::clone(&shared), request));
        Ok(Self { address, base, script, accepting })
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of a path on it, which starts with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Appends an answer: requests take them in order, and `200 {}` when none is left.
    pub fn answer(&self, answer: Answer) {
        lock(&self.script).answers.push_back(answer);
    }

    /// Returns the requests so far, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.script).requests.clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

// === impl Answer ===

impl Answer {
    /// Answers with a body and no content type.
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let mut response = Response::new(body.into());
        *response.status_mut() = status;
        Self { response: Some(response) }
    }

    /// Answers with JSON.
    pub fn json(status: StatusCode, body: &serde_json::Value) -> Self {
        Self::new(status, body.to_string())
            .header(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
    }

    /// Takes the request and never answers.
    pub fn never() -> Self {
        Self { response: None }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if let Some(response) = &mut self.response {
            response.headers_mut().append(name, value);
        }
        self
    }
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(
    script: Arc<Mutex<Script>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let target = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let answer = {
        let mut script = lock(&script);
        script.requests.push(Recorded { method: parts.method, target, headers: parts.headers, body });
        script.answers.pop_front()
    };
    match answer.unwrap_or_else(|| Answer::json(StatusCode::OK, &serde_json::json!({}))).response {
        Some(response) => Ok(response.map(Full::new)),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_come_in_order_and_requests_are_remembered() {
        let upstream = Upstream::start().await.unwrap();
        upstream.answer(Answer::new(StatusCode::IM_A_TEAPOT, "short"));
        let client = reqwest::Client::new();
        let first = client.post(upstream.url("/a?b=c")).body("hello").send().await.unwrap();
        assert_eq!(first.status().as_u16(), 418);
        assert_eq!(client.get(upstream.url("/")).send().await.unwrap().text().await.unwrap(), "{}");
        let requests = upstream.requests();
        assert_eq!((requests[0].target.as_str(), &requests[0].body[..]), ("/a?b=c", &b"hello"[..]));
        assert_eq!(requests.len(), 2);
    }
}
