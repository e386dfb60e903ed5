//! Bounds on size, number and patience.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Response};
use http_body_util::Full;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tollgate_listener::{Entrance, ListenerSettings};

use crate::world::{HOUR, SOON, echo, exchange, ok, read_to, rest, start};

const CALL: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const LAST: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_and_the_connection_closed() {
    let server = echo(Entrance::default(), ListenerSettings::default()).await;
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(70_000));
    for bytes in [large, many, long] {
        let answer = exchange(server.address, bytes).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1);
    }
    assert_eq!(server.seen(), [""; 0]);
}

#[tokio::test]
async fn a_slow_head_and_an_idle_connection_are_cut_off() {
    let settings =
        ListenerSettings { header_timeout: Duration::from_millis(50), ..ListenerSettings::default() };
    let server = echo(Entrance::default(), settings).await;
    for bytes in ["GET / HTTP/1.1\r\nhost: a\r\nx: ", "", CALL] {
        // Returns at all only because the connection is closed.
        let answer = exchange(server.address, bytes).await;
        assert_eq!(answer.matches("HTTP/1.1 200").count(), usize::from(bytes == CALL), "{answer}");
    }
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let settings = ListenerSettings { max_connections: 1, ..ListenerSettings::default() };
    let server = echo(Entrance::default(), settings).await;
    let first = TcpStream::connect(server.address).await.expect("listening");
    let second = tokio::spawn(exchange(server.address, LAST));
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    drop(first);
    assert!(second.await.expect("no panic").starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn one_address_does_not_get_all_places() {
    let settings = ListenerSettings {
        max_connections_per_address: 2,
        header_timeout: HOUR,
        ..ListenerSettings::default()
    };
    let server = echo(Entrance::default(), settings).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.expect("listening");
        stream.write_all(CALL.as_bytes()).await.expect("taken");
        read_to(&mut stream, "\r\n\r\n").await;
        held.push(stream);
    }
    assert_eq!(exchange(server.address, LAST).await, "", "closed at once");
    held.clear();
    while exchange(server.address, LAST).await.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_caller_who_sends_too_much_learns_why_it_is_refused() {
    let server = start(Entrance::default(), ListenerSettings::default(), async |_, _| {
        let mut answer = ok("too much");
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        answer
    })
    .await;
    let mut stream = TcpStream::connect(server.address).await.expect("listening");
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 500000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("taken");
    read_to(&mut stream, "too much").await;
    // All of it can still be sent: the connection is not reset.
    stream.write_all(&[0; 500_000]).await.expect("taken");
    drop(rest(&mut stream).await);
}

/// A body that tells when nobody has it any more.
struct Held(Vec<u8>, #[expect(dead_code, reason = "its end is what is told")] oneshot::Sender<()>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[tokio::test]
async fn an_answer_that_is_not_taken_ends_the_connection() {
    let settings = ListenerSettings {
        write_timeout: Duration::from_millis(50),
        header_timeout: HOUR,
        ..ListenerSettings::default()
    };
    let (sender, gone) = oneshot::channel();
    // More than all buffers on the way hold.
    let body = Arc::new(Mutex::new(Some(Bytes::from_owner(Held(vec![0; 64 << 20], sender)))));
    let server = start(Entrance::default(), settings, move |_, _| {
        let body = body.lock().expect("no panic").take().expect("asked once");
        async move { Response::new(Full::new(body)) }
    })
    .await;
    let mut stream = TcpStream::connect(server.address).await.expect("listening");
    stream.write_all(CALL.as_bytes()).await.expect("taken");
    // The connection is open on this side all the time.
    timeout(SOON, gone).await.expect("given up in time").expect_err("it is dropped");
    drop(stream);
}
