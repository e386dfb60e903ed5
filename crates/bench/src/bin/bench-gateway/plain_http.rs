//! One request at a time, for what is not measured.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;

/// Sends a request and returns status and body.
pub(crate) fn exchange(address: SocketAddr, request: &str) -> anyhow::Result<(u16, String)> {
    let (head, body) = exchange_whole(address, request)?;
    Ok((status(&head).context("the answer is no HTTP")?, body))
}

/// Sends a request and returns head and body.
pub(crate) fn exchange_whole(address: SocketAddr, request: &str) -> anyhow::Result<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(request.replacen("\r\n", "\r\nconnection: close\r\n", 1).as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("no answer")?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no answer: {text:?}"))?;
    Ok((head.to_owned(), body.to_owned()))
}

/// Returns a header of an answer.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let named = |line: &'a str| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim())
    };
    head.lines().find_map(named)
}

pub(crate) fn status(head: &str) -> Option<u16> {
    head.split(' ').nth(1)?.parse().ok()
}
