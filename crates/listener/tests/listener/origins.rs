//! Where calls come from, and what callers say about it themselves.

use std::sync::Arc;
use std::time::Duration;

use tollgate_listener::{Entrance, ForwardedHeader, ListenerSettings, TrustedProxies};

use crate::world::{Server, echo, exchange};

const HEADER: &str = "\r\n\r\n\0\r\nQUIT\n";

fn behind(network: &str, proxy_protocol: bool) -> Entrance {
    let networks = vec![network.parse().expect("a network")];
    let proxies = Arc::new(TrustedProxies::new(networks, ForwardedHeader::XForwardedFor));
    Entrance { proxies, proxy_protocol, ..Entrance::default() }
}

fn call(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n")
}

/// The PROXY header of a connection from 203.0.113.9:4711.
fn told() -> Vec<u8> {
    [HEADER.as_bytes(), b"\x21\x11\0\x0c\xcb\0\x71\x09\x7f\0\0\x01\x12\x67\x01\xbb"].concat()
}

/// Returns where the one call came from, without the port.
fn origin(server: &Server) -> String {
    let mut seen = server.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    let line = seen.remove(0);
    line.rsplit_once(' ').and_then(|(_, remote)| remote.rsplit_once(':')).expect("an address").0.to_owned()
}

#[tokio::test]
async fn a_forwarding_header_counts_from_a_trusted_proxy_only() {
    for (network, fields, expected) in [
        ("127.0.0.0/8", "x-forwarded-for: 203.0.113.9\r\n", "203.0.113.9"),
        ("127.0.0.0/8", "x-forwarded-for: 192.0.2.1\r\nx-forwarded-for: 203.0.113.9\r\n", "203.0.113.9"),
        ("127.0.0.0/8", "forwarded: for=203.0.113.9\r\n", "127.0.0.1"),
        ("127.0.0.0/8", "x-real-ip: 203.0.113.9\r\n", "127.0.0.1"),
        ("127.0.0.0/8", "", "127.0.0.1"),
        ("10.0.0.0/8", "x-forwarded-for: 203.0.113.9\r\n", "127.0.0.1"),
    ] {
        let server = echo(behind(network, false), ListenerSettings::default()).await;
        exchange(server.address, call(fields)).await;
        assert_eq!(origin(&server), expected, "{network} {fields}");
    }
    let alone = echo(Entrance::default(), ListenerSettings::default()).await;
    exchange(alone.address, call("x-forwarded-for: 203.0.113.9\r\n")).await;
    assert_eq!(origin(&alone), "127.0.0.1");
}

#[tokio::test]
async fn a_trusted_proxy_tells_where_a_connection_comes_from() {
    let server = echo(behind("127.0.0.0/8", true), ListenerSettings::default()).await;
    let answer = exchange(server.address, [told(), call("").into_bytes()].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(origin(&server), "203.0.113.9");
    // What the caller writes into its request counts no more than without a proxy.
    let server = echo(behind("127.0.0.0/8", true), ListenerSettings::default()).await;
    let spoofed = call("x-forwarded-for: 192.0.2.1\r\n").into_bytes();
    exchange(server.address, [told(), spoofed].concat()).await;
    assert_eq!(origin(&server), "203.0.113.9");
    // The proxy's own health check.
    let server = echo(behind("127.0.0.0/8", true), ListenerSettings::default()).await;
    exchange(server.address, [HEADER.as_bytes(), b"\x20\0\0\0", call("").as_bytes()].concat()).await;
    assert_eq!(origin(&server), "127.0.0.1");
}

#[tokio::test]
async fn a_connection_that_does_not_say_so_as_it_should_is_closed() {
    let brief =
        ListenerSettings { handshake_timeout: Duration::from_millis(50), ..ListenerSettings::default() };
    let server = echo(behind("127.0.0.0/8", true), brief).await;
    for bytes in [
        call("").into_bytes(),
        [b"PROXY TCP4 203.0.113.9 127.0.0.1 1 2\r\n", call("").as_bytes()].concat(),
        told()[..20].to_vec(),
        Vec::new(),
    ] {
        assert_eq!(exchange(server.address, bytes).await, "");
    }
    assert_eq!(server.seen(), [""; 0]);
    // Not from a trusted proxy, whatever it says.
    let server = echo(behind("10.0.0.0/8", true), ListenerSettings::default()).await;
    assert_eq!(exchange(server.address, [told(), call("").into_bytes()].concat()).await, "");
    assert_eq!(server.seen(), [""; 0]);
    // Where the protocol is not expected, its header is no request.
    let server = echo(behind("127.0.0.0/8", false), ListenerSettings::default()).await;
    let answer = exchange(server.address, [told(), call("").into_bytes()].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn connections_are_counted_where_they_come_from() {
    let one = ListenerSettings { max_connections_per_address: 1, ..ListenerSettings::default() };
    // A proxy has the connections of all its callers.
    let server = echo(behind("127.0.0.0/8", false), one).await;
    let _held = tokio::net::TcpStream::connect(server.address).await.expect("listening");
    assert!(exchange(server.address, call("")).await.starts_with("HTTP/1.1 200 "));
    // Each of them is counted where the proxy tells who it is.
    let server = echo(behind("127.0.0.0/8", true), one).await;
    let keep = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut held = tokio::net::TcpStream::connect(server.address).await.expect("listening");
    tokio::io::AsyncWriteExt::write_all(&mut held, &[told(), keep.into()].concat()).await.expect("taken");
    crate::world::read_to(&mut held, "\r\n\r\n").await;
    assert_eq!(exchange(server.address, [told(), call("").into_bytes()].concat()).await, "");
    let other = [HEADER.as_bytes(), b"\x21\x11\0\x0c\xcb\0\x71\x0a\x7f\0\0\x01\x12\x67\x01\xbb"].concat();
    let answer = exchange(server.address, [other, call("").into_bytes()].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
