use std::collections::VecDeque;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tollgate_model::networks::Network;

use super::*;

/// Answers one connection with these bytes each, then keeps it open.
async fn upstream(answers: &[&'static [u8]]) -> Uri {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let mut answers: VecDeque<_> = answers.iter().copied().collect();
    tokio::spawn(async move {
        while let Some(answer) = answers.pop_front() {
            let (mut socket, _) = listener.accept().await.expect("a caller");
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = socket.read(&mut head).await;
                let _ = socket.write_all(answer).await;
                if !answer.is_empty() && answer != b"\n" {
                    let _ = socket.read(&mut head).await;
                } else if answer.is_empty() {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    url.parse().expect("a URL")
}

async fn gone() -> Uri {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    format!("http://{}/", listener.local_addr().expect("bound")).parse().expect("a URL")
}

/// Returns an address that does not answer: its queue is full, nobody takes from it, and the system drops what would begin
/// another connection.
pub(super) async fn silent() -> (SocketAddr, impl Send) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    let listener = socket.listen(0).expect("listens");
    let address = listener.local_addr().expect("bound");
    let mut queued = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queued.push(stream.expect("in the queue"));
    }
    (address, (listener, queued))
}

fn settings(networks: &[&str]) -> Arc<RealmSettings> {
    let networks = networks.iter().map(|it| Network::parse(it).expect("a network"));
    Arc::new(RealmSettings { allow_upstreams: networks.collect(), ..RealmSettings::default() })
}

fn request(urls: Vec<Uri>, upstream: serde_json::Value) -> UpstreamRequest {
    let settings = serde_json::from_value(upstream).expect("settings");
    UpstreamRequest {
        method: http::Method::GET,
        call: UpstreamCall {
            upstream: Upstream::new(&vec![1; urls.len()], &settings),
            urls: urls.into(),
            connect_timeout: Duration::from_secs(5),
            http2: settings.http2,
            ca_certificates: settings.ca_certificates.as_deref().map(Arc::from),
        },
        headers: http::HeaderMap::new(),
        body: bytes::Bytes::new(),
        read_timeout: Duration::from_secs(20),
        max_response_bytes: 5,
    }
}

fn plain(url: Uri) -> UpstreamRequest {
    request(vec![url], serde_json::json!({}))
}

async fn outcome(request: UpstreamRequest) -> Result<(u16, String), UpstreamError> {
    let response = Upstreams::default().call(request, &settings(&["127.0.0.1"]), None, None).await?;
    Ok((response.status, String::from_utf8_lossy(&response.body).into_owned()))
}

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12345";
const ILL: &[u8] = b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// Closes the connection.
const BREAKS: &[u8] = b"\n";

#[tokio::test]
async fn an_answer_is_read_up_to_the_limit() {
    assert_eq!(outcome(plain(upstream(&[GOOD]).await)).await, Ok((200, "12345".to_owned())));
    let declared = upstream(&[b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n123456"]).await;
    assert_eq!(outcome(plain(declared)).await, Err(UpstreamError::TooLarge));
    let chunked =
        upstream(&[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\n123456\r\n0\r\n\r\n"]).await;
    assert_eq!(outcome(plain(chunked)).await, Err(UpstreamError::TooLarge));
}

#[tokio::test]
async fn an_answer_with_two_readings_is_none_and_the_next_call_gets_one_of_its_own() {
    let (one, other) = ("content-length: 5", "transfer-encoding: chunked");
    let both = format!("HTTP/1.1 200 OK\r\n{one}\r\n{other}\r\n\r\n5\r\n12345\r\n0\r\n\r\n");
    let url = upstream(&[both.leak().as_bytes(), GOOD]).await;
    let (upstreams, settings) = (Upstreams::default(), settings(&["127.0.0.1"]));
    let call = async || upstreams.call(plain(url.clone()), &settings, None, None).await.map(|it| it.status);
    let refused = call().await.expect_err("two readings");
    assert!(matches!(refused, UpstreamError::Malformed(_)), "{refused:?}");
    assert_eq!(refused.outcome(), (502, "upstream-malformed"));
    assert_eq!(call().await, Ok(200));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let url =
        upstream(&[b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"])
            .await;
    assert_eq!(outcome(plain(url)).await, Ok((302, String::new())));
}

#[tokio::test]
async fn a_silent_a_closed_and_a_short_answer_are_told_apart() {
    let silent = UpstreamRequest { read_timeout: Duration::from_millis(50), ..plain(upstream(&[b""]).await) };
    assert_eq!(outcome(silent).await, Err(UpstreamError::Timeout));
    assert_eq!(outcome(plain(gone().await)).await, Err(UpstreamError::Unreachable));
    assert_eq!(outcome(plain(upstream(&[BREAKS]).await)).await, Err(UpstreamError::Unreachable));
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_is_given_up_in_time() {
    let (address, _queued) = silent().await;
    let url = format!("http://{address}/").parse().expect("a URL");
    let mut request = plain(url);
    request.call.connect_timeout = Duration::from_millis(50);
    request.read_timeout = Duration::from_secs(600);
    let given_up = timeout(Duration::from_secs(20), outcome(request)).await;
    assert_eq!(given_up, Ok(Err(UpstreamError::Timeout)));
}

#[tokio::test]
async fn the_address_that_a_name_stands_for_is_checked() {
    let url = upstream(&[GOOD, GOOD]).await;
    let port = url.port_u16().expect("a port");
    let named = |host: &str| format!("http://{host}:{port}/").parse::<Uri>().expect("a URL");
    let call = async |url: Uri, networks: &[&str]| {
        Upstreams::default().call(plain(url), &settings(networks), None, None).await.map(|it| it.status)
    };
    for host in [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::1]",
        "[::]",
        "0.0.0.0",
        "169.254.169.254",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::169.254.169.254]",
        "[2002:7f00:1::]",
    ] {
        assert_eq!(call(named(host), &[]).await, Err(UpstreamError::Forbidden), "{host}");
    }
    // Numbers are names, which a resolver may know for an address, or not.
    for host in ["2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.1", "0"] {
        let refused = call(named(host), &[]).await;
        assert!(matches!(refused, Err(UpstreamError::Forbidden | UpstreamError::Unreachable)), "{host}");
    }
    assert_eq!(call(named("localhost"), &["10.0.0.0/8"]).await, Err(UpstreamError::Forbidden));
    assert_eq!(call(named("localhost"), &["127.0.0.0/8"]).await, Ok(200));
    assert_eq!(call(named("[::ffff:127.0.0.1]"), &["127.0.0.1"]).await, Ok(200));
}

#[tokio::test]
async fn a_realm_does_not_ride_on_the_connections_of_another() {
    let url = upstream(&[GOOD]).await;
    let upstreams = Upstreams::default();
    let first = upstreams.call(plain(url.clone()), &settings(&["127.0.0.1"]), None, None).await;
    assert_eq!(first.map(|it| it.status), Ok(200));
    let other = upstreams.call(plain(url), &settings(&[]), None, None).await;
    assert_eq!(other.map(|it| it.status), Err(UpstreamError::Forbidden));
}

#[tokio::test]
async fn what_failed_is_tried_again_where_that_is_safe() {
    let again = serde_json::json!({ "retries": 1 });
    let post = |request| UpstreamRequest { method: Method::POST, ..request };
    for first in [ILL, BREAKS] {
        let url = || async { upstream(&[first, GOOD]).await };
        assert_eq!(outcome(request(vec![url().await], again.clone())).await.map(|it| it.0), Ok(200));
        let once = outcome(plain(url().await)).await.map(|it| it.0);
        assert_ne!(once, Ok(200), "nobody asked for it");
        let twice = outcome(post(request(vec![url().await], again.clone()))).await.map(|it| it.0);
        assert_ne!(twice, Ok(200), "what was asked may have been done");
    }
    let elsewhere = vec![gone().await, upstream(&[GOOD]).await];
    let sent = outcome(post(request(elsewhere, again))).await.map(|it| it.0);
    assert_eq!(sent, Ok(200), "nothing was sent to the first");
}

#[tokio::test]
async fn a_target_that_fails_is_left_alone() {
    let breaker = serde_json::json!({ "breaker": { "failures": 2, "openMs": 900_000 } });
    let first = request(vec![gone().await], breaker);
    let upstreams = Upstreams::default();
    let call = async || {
        upstreams.call(first.clone(), &settings(&["127.0.0.1"]), None, None).await.map(|it| it.status)
    };
    for expected in [UpstreamError::Unreachable, UpstreamError::Unreachable, UpstreamError::Unhealthy] {
        assert_eq!(call().await, Err(expected));
    }
    let forbidden = request(vec![gone().await], serde_json::json!({ "breaker": { "failures": 1 } }));
    for _ in 0..3 {
        let refused = upstreams.call(forbidden.clone(), &settings(&[]), None, None).await.map(|it| it.status);
        assert_eq!(refused, Err(UpstreamError::Forbidden), "our own refusal says nothing of it");
    }
}

#[tokio::test]
async fn certificates_are_verified_and_those_of_a_step_alone_are_trusted() {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|it| it.with_no_client_auth().with_single_cert(vec![issued.cert.der().clone()], key))
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.expect("a caller");
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut socket) = acceptor.accept(socket).await else { return };
                let mut head = [0; 4096];
                let _ = socket.read(&mut head).await;
                let _ = socket.write_all(GOOD).await;
                let _ = socket.read(&mut head).await;
            });
        }
    });
    let call = async |host: &str, certificates: Option<String>| {
        let url = format!("https://{host}:{port}/").parse().expect("a URL");
        let upstream = serde_json::json!({ "caCertificates": certificates });
        outcome(request(vec![url], upstream)).await.map(|it| it.0)
    };
    assert_eq!(call("localhost", Some(issued.cert.pem())).await, Ok(200));
    assert_eq!(call("127.0.0.1", Some(issued.cert.pem())).await, Err(UpstreamError::Unreachable), "its name");
    assert_eq!(call("localhost", None).await, Err(UpstreamError::Unreachable), "the system does not know it");
    for junk in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert_eq!(call("localhost", Some(junk.to_owned())).await, Err(UpstreamError::Certificates));
    }
}
