//! Calls of upstreams: pooled connections, TLS by rustls, no redirects, no proxy from the environment.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bytes::BytesMut;
use tollgate_flow::{UpstreamError, UpstreamRequest, UpstreamResponse};

/// Most clients kept; one is needed for each connect timeout that pipelines set.
const MAX_CLIENTS: usize = 64;

/// The clients that call upstreams; clients keep their connections.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    clients: RwLock<HashMap<Duration, reqwest::Client>>,
}

// === impl Upstreams ===

impl Upstreams {
    /// Calls an upstream. Dropping the future ends the call.
    pub(crate) async fn call(&self, request: UpstreamRequest) -> Result<UpstreamResponse, UpstreamError> {
        let url = reqwest::Url::parse(&request.url).map_err(|_| UpstreamError::InvalidUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UpstreamError::InvalidUrl);
        }
        let client = self.client(request.connect_timeout)?;
        let call = client
            .request(request.method, url)
            .headers(request.headers)
            .timeout(request.read_timeout)
            .body(request.body);
        let mut response = call.send().await.map_err(|error| reason(&error))?;
        let too_large = |len: u64| len > request.max_response_bytes;
        if response.content_length().is_some_and(too_large) {
            return Err(UpstreamError::TooLarge);
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| reason(&error))? {
            if u64::try_from(body.len() + chunk.len()).is_ok_and(too_large) {
                return Err(UpstreamError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(UpstreamResponse {
            status: response.status().as_u16(),
            headers: std::mem::take(response.headers_mut()),
            body: body.freeze(),
        })
    }

    /// Returns the client for a connect timeout, which only a client as a whole can have.
    fn client(&self, connect_timeout: Duration) -> Result<reqwest::Client, UpstreamError> {
        let known =
            self.clients.read().unwrap_or_else(PoisonError::into_inner).get(&connect_timeout).cloned();
        if let Some(client) = known {
            return Ok(client);
        }
        let client = reqwest::Client::builder()
            .connect_timeout(connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| {
                tracing::error!(%error, "no client for upstreams could be made");
                UpstreamError::Unreachable
            })?;
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        if clients.len() < MAX_CLIENTS {
            return Ok(clients.entry(connect_timeout).or_insert(client).clone());
        }
        Ok(client)
    }
}

fn reason(error: &reqwest::Error) -> UpstreamError {
    if error.is_timeout() {
        UpstreamError::Timeout
    } else if error.is_builder() {
        UpstreamError::InvalidUrl
    } else {
        UpstreamError::Unreachable
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one connection with these bytes, then keeps it open.
    async fn upstream(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a caller");
            let mut head = [0; 4096];
            let _ = socket.read(&mut head).await;
            let _ = socket.write_all(answer).await;
            let _ = socket.read(&mut head).await;
        });
        url
    }

    fn request(url: String) -> UpstreamRequest {
        UpstreamRequest {
            method: http::Method::GET,
            url,
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(20),
            max_response_bytes: 5,
        }
    }

    async fn outcome(request: UpstreamRequest) -> Result<(u16, String), UpstreamError> {
        let response = Upstreams::default().call(request).await?;
        Ok((response.status, String::from_utf8_lossy(&response.body).into_owned()))
    }

    #[tokio::test]
    async fn an_answer_is_read_up_to_the_limit() {
        let url = upstream(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12345").await;
        assert_eq!(outcome(request(url)).await, Ok((200, "12345".to_owned())));
        let declared = upstream(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n123456").await;
        assert_eq!(outcome(request(declared)).await, Err(UpstreamError::TooLarge));
        let chunked =
            upstream(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\n123456\r\n0\r\n\r\n").await;
        assert_eq!(outcome(request(chunked)).await, Err(UpstreamError::TooLarge));
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_not_followed() {
        let url =
            upstream(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
                .await;
        assert_eq!(outcome(request(url)).await, Ok((302, String::new())));
    }

    #[tokio::test]
    async fn a_silent_a_closed_and_a_wrong_upstream_are_told_apart() {
        let silent =
            UpstreamRequest { read_timeout: Duration::from_millis(50), ..request(upstream(b"").await) };
        assert_eq!(outcome(silent).await, Err(UpstreamError::Timeout));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let closed = format!("http://{}/", listener.local_addr().expect("bound"));
        drop(listener);
        assert_eq!(outcome(request(closed)).await, Err(UpstreamError::Unreachable));
        for url in ["", "file:///etc/passwd", "ftp://127.0.0.1/", "http://"] {
            assert_eq!(outcome(request(url.to_owned())).await, Err(UpstreamError::InvalidUrl), "{url}");
        }
    }
}
