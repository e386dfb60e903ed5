//! The management API as the command line sees it.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::Value;

use crate::failure::Failure;
use crate::profile::Target;

/// A connection to a server's management API.
pub(crate) struct Client {
    http: reqwest::Client,
    server: String,
    token: Option<String>,
    realm: String,
    as_of: Option<Timestamp>,
}

/// Longest silence of a server that sends something long.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
/// Longest time that this may take as a whole.
const LONGEST_STREAM: Duration = Duration::from_secs(24 * 3600);

// === impl Client ===

impl Client {
    /// Makes a client for a target and a realm.
    pub(crate) fn new(target: Target, realm: String) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .timeout(Duration::from_secs(60))
            .read_timeout(LONGEST_SILENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| Failure::new(format!("cannot make an HTTP client: {error}")))?;
        Ok(Self { http, server: target.server, token: target.token, realm, as_of: None })
    }

    /// Reads as of a time from now on, when there is one.
    pub(crate) fn reading_then(mut self, at: Option<Timestamp>) -> Self {
        self.as_of = at;
        self
    }

    /// Tells whether it reads as of a time.
    pub(crate) fn reads_the_past(&self) -> bool {
        self.as_of.is_some()
    }

    /// Returns a client of the same kind for another target.
    pub(crate) fn with(&self, target: Target) -> Result<Self, Failure> {
        Self::new(target, self.realm.clone())
    }

    /// Returns the server's base URL.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Returns a path under this realm; each part is percent-encoded.
    pub(crate) fn realm_path(&self, parts: &[&str]) -> String {
        let mut path = format!("/realms/{}", segment(&self.realm));
        for part in parts {
            path.push('/');
            path.push_str(&segment(part));
        }
        path
    }

    /// Returns a path under an environment of this realm.
    pub(crate) fn environment_path(&self, environment: &str, parts: &[&str]) -> String {
        let mut all = vec!["environments", environment];
        all.extend_from_slice(parts);
        self.realm_path(&all)
    }

    /// Gets a resource.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        match self.as_of {
            Some(at) => {
                let mark = if path.contains('?') { '&' } else { '?' };
                self.send(Method::GET, &format!("{path}{mark}asOf={at}"), None).await
            }
            None => self.send(Method::GET, path, None).await,
        }
    }

    /// Gets something long, line by line, as it comes. Fails when it breaks off.
    pub(crate) async fn stream(&self, path: &str, mut line: impl FnMut(&str)) -> Result<(), Failure> {
        let request = self.request(Method::GET, path)?.timeout(LONGEST_STREAM);
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        if !(200..300).contains(&status) {
            let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
            return Err(Failure::Problem { status, body: self.parse(status, &bytes)? });
        }
        let broke_off = |error: &reqwest::Error| {
            Failure::new(format!("the answer of {} broke off: {error}", self.server))
                .hint("what was written is not all: try again")
        };
        let mut rest = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| broke_off(&error))? {
            rest.extend_from_slice(&chunk);
            if let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') {
                let lines: Vec<u8> = rest.drain(..=end).collect();
                String::from_utf8_lossy(&lines).split_inclusive('\n').for_each(&mut line);
            }
        }
        if !rest.is_empty() {
            line(&String::from_utf8_lossy(&rest));
        }
        Ok(())
    }

    /// Gets every page of a list, as one document `{ items: [...] }`.
    pub(crate) async fn list(&self, path: &str) -> Result<Value, Failure> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = self.page(path, 200, cursor.as_deref()).await?;
            let Value::Object(mut page) = page else {
                return Err(Failure::new("the server's list is no object"));
            };
            if let Some(Value::Array(more)) = page.remove("items") {
                items.extend(more);
            }
            match page.remove("next") {
                Some(Value::String(next)) => cursor = Some(next),
                _ => {
                    page.insert("items".to_owned(), Value::Array(items));
                    return Ok(Value::Object(page));
                }
            }
        }
    }

    /// Gets a page of a list: the first, or the one where `next` of the page before says that it begins.
    pub(crate) async fn page(&self, path: &str, limit: u32, cursor: Option<&str>) -> Result<Value, Failure> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let cursor = cursor.map(|cursor| format!("&cursor={}", segment(cursor))).unwrap_or_default();
        self.get(&format!("{path}{mark}limit={limit}{cursor}")).await
    }

    /// Posts a body.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Puts a body.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// Deletes a resource.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let mut request = self.request(method, path)?;
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        let body = self.parse(status, &bytes)?;
        if (200..300).contains(&status) { Ok(body) } else { Err(Failure::Problem { status, body }) }
    }

    fn request(&self, method: Method, path: &str) -> Result<reqwest::RequestBuilder, Failure> {
        let url = format!("{}/api/v1{path}", self.server);
        let mut request = self.http.request(method, &url).header("accept", "application/json");
        if let Some(token) = &self.token {
            let mut value = reqwest::header::HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| Failure::usage("the API token holds characters that a header cannot carry"))?;
            value.set_sensitive(true);
            request = request.header("authorization", value);
        }
        Ok(request)
    }

    fn parse(&self, status: u16, bytes: &[u8]) -> Result<Value, Failure> {
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(bytes).map_err(|_| {
            Failure::new(format!("{} answered {status} with something other than JSON", self.server))
                .hint("is this the address of Tollgate's console? It is printed by `tollgate up`")
        })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            reason = inner.to_string();
            source = inner.source();
        }
        Failure::new(format!("cannot reach {}: {reason}", self.server))
            .hint("start a server with `tollgate up`, or name one with --server or TOLLGATE_SERVER")
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_a_path() {
        assert_eq!(segment("../users?x=1#y"), "..%2Fusers%3Fx%3D1%23y");
    }
}
