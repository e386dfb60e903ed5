//! TLS: certificates by host, replaced while connections go on, HTTP/2 by negotiation.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tollgate_listener::{Certificates, Entrance, ListenerSettings, Tls};

use crate::world::{HOUR, Server, echo, exchange, read_to, rest};

const CALL: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const LAST: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// A certificate of its own authority.
struct Pair {
    chain: String,
    key: String,
    der: CertificateDer<'static>,
}

// === impl Pair ===

impl Pair {
    fn new(name: &str) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        Self { chain: cert.pem(), key: signing_key.serialize_pem(), der: cert.der().clone() }
    }
}

fn certificates(pairs: &[&Pair]) -> Certificates {
    Certificates::parse(pairs.iter().map(|pair| (pair.chain.as_bytes(), pair.key.as_bytes()))).expect("good")
}

async fn start(pairs: &[&Pair], settings: ListenerSettings) -> (Server, Arc<Tls>) {
    let tls = Tls::new(certificates(pairs)).expect("set up");
    let entrance = Entrance { tls: Some(tls.clone()), ..Entrance::default() };
    (echo(entrance, settings).await, tls)
}

/// Connects as a caller that trusts these certificates and nothing else.
async fn connect(
    server: &Server,
    host: &str,
    trusted: &[&Pair],
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for pair in trusted {
        roots.add(pair.der.clone()).expect("a certificate");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(server.address).await.expect("listening");
    let host = ServerName::try_from(host.to_owned()).expect("a name");
    TlsConnector::from(Arc::new(config)).connect(host, stream).await
}

#[tokio::test]
async fn the_handshake_chooses_the_protocol() {
    let pair = Pair::new("gateway.example");
    let (server, _) = start(&[&pair], ListenerSettings::default()).await;
    for protocols in [&["http/1.1"][..], &[]] {
        let mut stream = connect(&server, "gateway.example", &[&pair], protocols).await.expect("trusted");
        stream.write_all(LAST.as_bytes()).await.expect("taken");
        assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200 "));
    }
    let stream = connect(&server, "gateway.example", &[&pair], &["h2", "http/1.1"]).await.expect("trusted");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("speaks HTTP/2");
    tokio::spawn(connection);
    let request = Request::post("https://gateway.example/").body(Full::new(Bytes::from_static(b"body")));
    let answer = sender.send_request(request.expect("a request")).await.expect("answers");
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
    assert_eq!(answer.collect().await.expect("whole").to_bytes(), "body");
    // A caller that wants to speak something else is told so, instead of being spoken to in HTTP.
    assert!(connect(&server, "gateway.example", &[&pair], &["smtp"]).await.is_err());
}

#[tokio::test]
async fn each_host_has_its_certificate() {
    let (shop, bank) = (Pair::new("shop.example"), Pair::new("bank.example"));
    let (server, _) = start(&[&shop, &bank], ListenerSettings::default()).await;
    for (host, pair) in [("shop.example", &shop), ("bank.example", &bank)] {
        assert!(connect(&server, host, &[pair], &[]).await.is_ok(), "{host}");
    }
    assert!(connect(&server, "shop.example", &[&bank], &[]).await.is_err(), "another authority");
    assert!(connect(&server, "other.example", &[&shop, &bank], &[]).await.is_err(), "no certificate");
}

#[tokio::test]
async fn replaced_certificates_count_from_the_next_handshake_on() {
    let (old, new) = (Pair::new("gateway.example"), Pair::new("gateway.example"));
    let (server, tls) = start(&[&old], ListenerSettings::default()).await;
    let mut stream = connect(&server, "gateway.example", &[&old], &[]).await.expect("trusted");
    tls.replace(certificates(&[&new]));
    assert!(connect(&server, "gateway.example", &[&old], &[]).await.is_err(), "the old one is gone");
    assert!(connect(&server, "gateway.example", &[&new], &[]).await.is_ok());
    // The connection from before goes on.
    for _ in 0..2 {
        stream.write_all(CALL.as_bytes()).await.expect("taken");
        assert!(read_to(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn who_does_not_speak_tls_is_not_served() {
    let pair = Pair::new("gateway.example");
    let settings = ListenerSettings {
        handshake_timeout: Duration::from_millis(50),
        header_timeout: HOUR,
        ..ListenerSettings::default()
    };
    let (server, _) = start(&[&pair], settings).await;
    // The last is half a ClientHello; it and silence end with the time for a handshake.
    for bytes in [CALL.as_bytes(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"", b"\x16\x03\x01\x02\x00\x01\x00"]
    {
        let answer = exchange(server.address, bytes).await;
        assert!(!answer.contains("HTTP/"), "{bytes:?} got {answer:?}");
    }
    assert_eq!(server.seen(), [""; 0]);
}

#[tokio::test]
async fn ambiguous_requests_are_refused_under_tls_too() {
    let pair = Pair::new("gateway.example");
    let (server, _) = start(&[&pair], ListenerSettings::default()).await;
    let mut stream = connect(&server, "gateway.example", &[&pair], &[]).await.expect("trusted");
    let request =
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("taken");
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 400 "));
}
