//! The PROXY protocol, version 2: a proxy that passes on TCP tells where each connection comes from.
//!
//! Whether a connection begins so must be known beforehand: a listener that only guessed would let any caller say where
//! it comes from. So a listener demands the header from trusted proxies and takes no connection from others.

use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Signature, version, family and length.
const FIXED_BYTES: usize = 16;

/// Longest header that is taken, in bytes: addresses and what load balancers add.
const MAX_BYTES: usize = 4 * 1024;

/// Reads the header, and no byte after it. `None` when the proxy speaks for itself, as in its health checks.
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
    let mut header = vec![0; FIXED_BYTES];
    stream.read_exact(&mut header).await?;
    // Version 1 is text and begins otherwise. What is not a header is refused before its length is believed.
    let length = match header.as_slice() {
        [signature @ .., _, _, high, low] if signature == b"\r\n\r\n\0\r\nQUIT\n" => {
            usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    if FIXED_BYTES + length > MAX_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    header.resize(FIXED_BYTES + length, 0);
    stream.read_exact(header.get_mut(FIXED_BYTES..).unwrap_or_default()).await?;
    let config = ParseConfig { include_tlvs: false, allow_v1: false, allow_v2: true };
    let (header, _) = ProxyHeader::parse(&header, config).map_err(invalid)?;
    match header.proxied_address() {
        None => Ok(None),
        Some(address) if address.protocol == Protocol::Stream => {
            let source = address.source;
            Ok(Some(SocketAddr::new(source.ip().to_canonical(), source.port())))
        }
        Some(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use proxy_header::ProxiedAddress;

    use super::*;

    fn header(source: &str) -> Vec<u8> {
        let source: SocketAddr = source.parse().expect("an address");
        let mut bytes = Vec::new();
        ProxyHeader::with_address(ProxiedAddress::stream(source, source))
            .encode_v2(&mut bytes)
            .expect("fits");
        bytes
    }

    async fn outcome(bytes: &[u8]) -> Result<Option<String>, io::ErrorKind> {
        let mut stream = bytes;
        let source = read(&mut stream).await.map_err(|error| error.kind())?;
        assert_eq!(stream, b"GET ", "nothing else was read");
        Ok(source.map(|source| source.to_string()))
    }

    #[tokio::test]
    async fn the_callers_address_is_read_and_nothing_after_it() {
        for (source, expected) in [
            ("203.0.113.9:4711", "203.0.113.9:4711"),
            ("[2001:db8::9]:4711", "[2001:db8::9]:4711"),
            ("[::ffff:203.0.113.9]:1", "203.0.113.9:1"),
        ] {
            let bytes = [header(source), b"GET ".to_vec()].concat();
            assert_eq!(outcome(&bytes).await, Ok(Some(expected.to_owned())));
        }
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET ";
        assert_eq!(outcome(local).await, Ok(None));
        let with_more =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xcb\0\x71\x09\xcb\0\x71\x01\0\x01\0\x02\x04\0\x01\0GET ";
        assert_eq!(outcome(with_more).await, Ok(Some("203.0.113.9:1".to_owned())));
    }

    #[tokio::test]
    async fn what_is_no_such_header_is_refused() {
        for bytes in [
            &b"PROXY TCP4 203.0.113.9 203.0.113.1 1 2\r\nGET "[..],
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            // Another version, command, family; a datagram.
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\xcb\0\x71\x09\xcb\0\x71\x01\0\x01\0\x02GET ",
            b"\r\n\r\n\0\r\nQUIT\n\x22\x11\0\x0c\xcb\0\x71\x09\xcb\0\x71\x01\0\x01\0\x02GET ",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x41\0\x0c\xcb\0\x71\x09\xcb\0\x71\x01\0\x01\0\x02GET ",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\xcb\0\x71\x09\xcb\0\x71\x01\0\x01\0\x02GET ",
            // Shorter than an address.
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b\xcb\0\x71\x09\xcb\0\x71\x01\0\x01\0\x02GET ",
            // Longer than anybody needs.
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff\xcb\0\x71\x09\xcb\0\x71\x01\0\x01\0\x02GET ",
        ] {
            assert_eq!(outcome(bytes).await, Err(io::ErrorKind::InvalidData), "{bytes:?}");
        }
        let cut = header("203.0.113.9:1");
        assert_eq!(outcome(&cut[..20]).await, Err(io::ErrorKind::UnexpectedEof));
    }
}
