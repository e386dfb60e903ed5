//! A connection that is kept, for what is asked again and again.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;

use crate::plain_http;

/// A connection.
pub(crate) struct Kept(TcpStream);

// === impl Kept ===

impl Kept {
    pub(crate) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self(stream))
    }

    /// Sends a request and returns status and body.
    pub(crate) fn exchange(&mut self, request: &str) -> anyhow::Result<(u16, String)> {
        self.0.write_all(request.as_bytes())?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 8_192]);
        loop {
            let read = self.0.read(&mut buffer)?;
            anyhow::ensure!(read > 0, "the connection was closed");
            answer.extend_from_slice(buffer.get(..read).unwrap_or_default());
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length: usize = plain_http::header(head, "content-length").unwrap_or("0").parse()?;
            if body.len() >= length {
                return Ok((plain_http::status(head).context("the answer is no HTTP")?, body.to_owned()));
            }
        }
    }
}
