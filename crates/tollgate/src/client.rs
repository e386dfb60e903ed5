//! The management API as the command line sees it.

use std::time::Duration;

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
}

// === impl Client ===

impl Client {
    /// Makes a client for a target and a realm.
    pub(crate) fn new(target: Target, realm: String) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .timeout(Duration::from_secs(60))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| Failure::new(format!("cannot make an HTTP client: {error}")))?;
        Ok(Self { http, server: target.server, token: target.token, realm })
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
        self.send(Method::GET, path, None).await
    }

    /// Gets every page of a list, as one document `{ items: [...] }`.
    pub(crate) async fn list(&self, path: &str) -> Result<Value, Failure> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mark = if path.contains('?') { '&' } else { '?' };
            let page = match &cursor {
                Some(cursor) => {
                    self.get(&format!("{path}{mark}limit=200&cursor={}", segment(cursor))).await?
                }
                None => self.get(&format!("{path}{mark}limit=200")).await?,
            };
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
        let url = format!("{}/api/v1{path}", self.server);
        let mut request = self.http.request(method, &url).header("accept", "application/json");
        if let Some(token) = &self.token {
            let mut value = reqwest::header::HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| Failure::usage("the API token holds characters that a header cannot carry"))?;
            value.set_sensitive(true);
            request = request.header("authorization", value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).map_err(|_| {
                Failure::new(format!("{} answered {status} with something other than JSON", self.server))
                    .hint("is this the address of Tollgate's console? It is printed by `tollgate up`")
            })?
        };
        if (200..300).contains(&status) { Ok(body) } else { Err(Failure::Problem { status, body }) }
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
