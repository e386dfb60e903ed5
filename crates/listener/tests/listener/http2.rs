//! HTTP/2: what callers get, and what attackers do with frames.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tollgate_listener::{Entrance, ListenerSettings};

use crate::world::{HOUR, SOON, Server, echo, exchange, ok, start};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// `GET /` of `http://a`, in HPACK.
pub(crate) const GET: &[u8] = b"\x82\x84\x86\x41\x01a";

pub(crate) fn cleartext() -> Entrance {
    Entrance { cleartext_http2: true, ..Entrance::default() }
}

/// Settings under which only an attack ends a connection.
pub(crate) fn patient() -> ListenerSettings {
    ListenerSettings {
        header_timeout: HOUR,
        write_timeout: HOUR,
        drain_timeout: HOUR,
        ..ListenerSettings::default()
    }
}

pub(crate) async fn client(server: &Server) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(server.address).await.expect("listening");
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

pub(crate) fn request(method: Method, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri("http://gateway.example/path?q");
    builder.version(Version::HTTP_2).body(Full::new(body.into())).expect("a request")
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection on which frames are written by hand.
pub(crate) async fn raw(server: &Server, settings: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.expect("listening");
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await.expect("taken");
    stream
}

/// Reads the next frame: its kind and its payload.
pub(crate) async fn next(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).expect("fits")];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], payload))
}

/// Reads up to a frame of this kind; returns its payload.
async fn frame_of(stream: &mut TcpStream, kind: u8) -> Vec<u8> {
    loop {
        let (found, payload) = timeout(SOON, next(stream)).await.expect("in time").expect("a frame");
        if found == kind {
            return payload;
        }
    }
}

/// Reads frames until the connection is closed; returns their kinds.
pub(crate) async fn kinds(mut stream: TcpStream) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let Some((kind, _)) = timeout(SOON, next(&mut stream)).await.expect("closed in time") {
        kinds.push(kind);
    }
    kinds
}

#[tokio::test]
async fn calls_share_a_connection_and_carry_bodies_both_ways() {
    let server = echo(cleartext(), ListenerSettings::default()).await;
    let mut client = client(&server).await;
    // Larger than any window, so that both sides have to make room.
    let large = "x".repeat(1 << 20);
    let answers = [
        client.send_request(request(Method::POST, large.clone())),
        client.send_request(request(Method::POST, "small")),
    ];
    let mut bodies = Vec::new();
    for answer in answers {
        let answer = timeout(SOON, answer).await.expect("in time").expect("answers");
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
        assert!(answer.headers().contains_key("date"));
        bodies.push(timeout(SOON, answer.collect()).await.expect("in time").expect("whole").to_bytes());
    }
    assert_eq!(bodies, [Bytes::from(large), Bytes::from_static(b"small")]);
    // The authority serves as host, as on HTTP/1.1.
    assert!(server.seen()[0].starts_with("POST http://gateway.example/path?q "), "{:?}", server.seen());
}

#[tokio::test]
async fn the_authority_is_the_host_unless_there_is_one() {
    let server = start(cleartext(), ListenerSettings::default(), async |_, request| {
        let hosts: Vec<_> = request.headers().get_all("host").iter().collect();
        ok(if hosts == ["gateway.example"] { "named" } else { "other" })
    })
    .await;
    let mut client = client(&server).await;
    let mut body = async |request| {
        let answer = timeout(SOON, client.send_request(request)).await.expect("in time").expect("answers");
        answer.collect().await.expect("whole").to_bytes()
    };
    assert_eq!(body(request(Method::GET, "")).await, "named");
    let mut contradicted = request(Method::GET, "");
    contradicted.headers_mut().insert("host", "other.example".parse().expect("a value"));
    assert_eq!(body(contradicted).await, "other", "left for the handler to refuse");
}

#[tokio::test]
async fn without_the_option_there_is_no_http2_in_cleartext() {
    let server = echo(Entrance::default(), ListenerSettings::default()).await;
    // hyper knows the preface and closes the connection; the reader before it has refused the second line.
    let answer = exchange(server.address, [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
    assert!(!answer.contains("200") && server.seen().is_empty(), "{answer}");
    let with_option = echo(cleartext(), ListenerSettings::default()).await;
    for text in [
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 3\r\n\r\nPRI",
        // No upgrade either (RFC 9113 has removed it): the answer is one of HTTP/1.1.
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close, upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: \r\n\r\n",
    ] {
        let answer = exchange(with_option.address, text).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let answer =
        exchange(with_option.address, "PRI * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
}

#[tokio::test]
async fn a_shutdown_says_so_and_loses_no_call() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let server = start(cleartext(), patient(), {
        let (entered, release) = (entered.clone(), release.clone());
        move |_, _| {
            let (entered, release) = (entered.clone(), release.clone());
            async move {
                entered.notify_one();
                release.notified().await;
                ok("done")
            }
        }
    })
    .await;
    let mut stream = raw(&server, &[]).await;
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, GET)).await.expect("taken");
    entered.notified().await;
    server.stop.send(true).expect("serving");
    // The first GOAWAY takes nothing back: what is on its way is still served (RFC 9113 section 6.8).
    let goaway = frame_of(&mut stream, GOAWAY).await;
    assert_eq!(goaway[..4], [0x7f, 0xff, 0xff, 0xff]);
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 3, GET)).await.expect("taken");
    entered.notified().await;
    assert!(!server.task.is_finished());
    for _ in 0..2 {
        release.notify_one();
        assert_eq!(frame_of(&mut stream, DATA).await, b"done");
    }
    drop(stream);
    timeout(SOON, server.task).await.expect("in time").expect("ends");
}

#[tokio::test]
async fn taking_back_requests_as_fast_as_they_are_made_ends_the_connection() {
    let server = start(cleartext(), patient(), async |_, _| std::future::pending().await).await;
    let mut stream = raw(&server, &[]).await;
    for stream_id in (1..200_001).step_by(2) {
        let request = frame(HEADERS, END_STREAM | END_HEADERS, stream_id, GET);
        let both = [request, frame(RST_STREAM, 0, stream_id, &[0, 0, 0, 8])].concat();
        if stream.write_all(&both).await.is_err() {
            break;
        }
    }
    kinds(stream).await;
    assert!(server.seen().len() < 1_000, "{}", server.seen().len());
}

#[tokio::test]
async fn taking_back_requests_that_have_begun_ends_the_connection_too() {
    let server = start(cleartext(), patient(), async |_, _| std::future::pending().await).await;
    let mut stream = raw(&server, &[]).await;
    for (count, stream_id) in (1..2_001).step_by(2).enumerate() {
        let _ = stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, stream_id, GET)).await;
        // Until it has begun; on a connection that has ended it never does.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while server.seen().len() <= count && std::time::Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        if stream.write_all(&frame(RST_STREAM, 0, stream_id, &[0, 0, 0, 8])).await.is_err() {
            break;
        }
    }
    kinds(stream).await;
    let seen = server.seen().len();
    assert!((100..300).contains(&seen), "{seen}");
}

#[tokio::test]
async fn a_head_without_end_ends_the_connection() {
    let server = echo(cleartext(), patient()).await;
    let mut stream = raw(&server, &[]).await;
    let field = [&b"\x00\x01x\x7f\x81\x07"[..], &[b'y'; 256]].concat();
    let _ = stream.write_all(&frame(HEADERS, END_STREAM, 1, GET)).await;
    for _ in 0..100_000 {
        if stream.write_all(&frame(CONTINUATION, 0, 1, &field)).await.is_err() {
            break;
        }
    }
    kinds(stream).await;
    assert_eq!(server.seen(), [""; 0]);
}

#[tokio::test]
async fn a_head_that_grows_when_it_is_unpacked_does_not_get_through() {
    let server = echo(cleartext(), patient()).await;
    let mut stream = raw(&server, &[]).await;
    // One field of 3 KiB goes into the table; then it is named 10,000 times with one byte each.
    let field = [&b"\x40\x01x\x7f\x81\x17"[..], &[b'y'; 3_072]].concat();
    let bomb = [GET, &field, &[0xbe; 10_000]].concat();
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb)).await.expect("taken");
    // Whether the stream or the connection ends: the next request shows that nothing of it was served.
    let _ = stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 3, GET)).await;
    let _ = stream.write_all(&frame(GOAWAY, 0, 0, &[0; 8])).await;
    let _ = stream.shutdown().await;
    kinds(stream).await;
    assert!(server.seen().len() <= 1, "{:?}", server.seen());
}

#[tokio::test]
async fn an_answer_that_is_not_taken_ends_the_connection() {
    let settings = ListenerSettings { write_timeout: Duration::from_millis(50), ..patient() };
    let server = start(cleartext(), settings, async |_, _| ok("answer")).await;
    // A window of nothing: the head of the answer comes, its body cannot.
    let mut stream = raw(&server, &[0, 4, 0, 0, 0, 0]).await;
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, GET)).await.expect("taken");
    let kinds = kinds(stream).await;
    assert!(kinds.contains(&HEADERS) && !kinds.contains(&DATA), "{kinds:?}");
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let settings = ListenerSettings {
        header_timeout: Duration::from_millis(50),
        handshake_timeout: Duration::from_millis(50),
        ..patient()
    };
    let server = echo(cleartext(), settings).await;
    // Silent; with half a preface; with half a head; after a call.
    let silent = TcpStream::connect(server.address).await.expect("listening");
    kinds(silent).await;
    let mut half = TcpStream::connect(server.address).await.expect("listening");
    half.write_all(&PREFACE[..10]).await.expect("taken");
    kinds(half).await;
    let mut head = raw(&server, &[]).await;
    head.write_all(&frame(HEADERS, END_STREAM, 1, GET)).await.expect("taken");
    kinds(head).await;
    let mut called = raw(&server, &[]).await;
    called.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, GET)).await.expect("taken");
    assert!(kinds(called).await.contains(&GOAWAY));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn no_more_requests_run_at_once_than_may() {
    let server = start(cleartext(), ListenerSettings { max_streams: 3, ..patient() }, async |_, _| {
        std::future::pending().await
    })
    .await;
    let mut stream = raw(&server, &[]).await;
    for stream_id in (1..21).step_by(2) {
        stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, stream_id, GET)).await.expect("taken");
    }
    let _ = stream.shutdown().await;
    kinds(stream).await;
    assert!(server.seen().len() <= 3, "{:?}", server.seen());
}

#[tokio::test]
async fn what_http2_forbids_in_a_head_does_not_get_through() {
    // A literal field that no table keeps; name and value shorter than 127 bytes.
    let field = |name: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).expect("short");
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    };
    let server = echo(cleartext(), patient()).await;
    for (name, value) in [
        // What would cut the request anew where it is written down as HTTP/1.1.
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("keep-alive", "1"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("x", "y\r\nz: a"),
        ("x", "y\nz: a"),
        ("x", "y\0"),
        ("x\r\ny", "z"),
        ("x y", "z"),
        ("x:y", "z"),
        ("Host", "b"),
        ("content-length", "1, 1"),
        ("content-length", "-1"),
        // Pseudo-headers that come late, twice, or that there are not.
        (":path", "/other"),
        (":authority", "b"),
        (":x", "y"),
        (":status", "200"),
    ] {
        let mut stream = raw(&server, &[]).await;
        let head = [GET, &field(name, value)].concat();
        let _ = stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head)).await;
        let _ = stream.write_all(&frame(GOAWAY, 0, 0, &[0; 8])).await;
        let _ = stream.shutdown().await;
        kinds(stream).await;
        assert_eq!(server.seen(), [""; 0], "{name:?}: {value:?} got through");
    }
}

#[tokio::test]
async fn a_window_that_is_opened_too_far_ends_the_connection() {
    const WINDOW_UPDATE: u8 = 8;
    let server = echo(cleartext(), patient()).await;
    for increment in [0_u32, 0x7fff_ffff] {
        let mut stream = raw(&server, &[]).await;
        for _ in 0..3 {
            let _ = stream.write_all(&frame(WINDOW_UPDATE, 0, 0, &increment.to_be_bytes())).await;
        }
        let found = kinds(stream).await;
        assert!(found.contains(&GOAWAY), "{increment}: {found:?}");
    }
}

#[tokio::test]
async fn bodies_that_nobody_reads_fill_the_window_of_their_connection_and_no_more() {
    let server = start(cleartext(), patient(), async |_, _| std::future::pending().await).await;
    let mut stream = raw(&server, &[]).await;
    let piece = vec![0; 16 * 1024];
    let post = b"\x83\x84\x86\x41\x01a";
    let mut written = 0;
    // The server's windows say how much may be sent; whoever sends more is cut off.
    for stream_id in (1..200).step_by(2) {
        let _ = stream.write_all(&frame(HEADERS, END_HEADERS, stream_id, post)).await;
        for _ in 0..4 {
            if stream.write_all(&frame(DATA, 0, stream_id, &piece)).await.is_ok() {
                written += piece.len();
            }
        }
    }
    assert!(written > 0);
    let found = kinds(stream).await;
    assert!(found.contains(&GOAWAY), "{found:?}");
    // Others are served all the same.
    let mut other = client(&server).await;
    drop(other.send_request(request(Method::GET, "")));
    assert!(server.seen().len() <= 101);
}
