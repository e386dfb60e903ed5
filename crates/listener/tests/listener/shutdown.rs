//! A shutdown loses no call.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tollgate_listener::{Entrance, ListenerSettings};

use crate::world::{HOUR, SOON, echo, exchange, ok, read_to, rest, start, start_on};

const CALL: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn calls_in_flight_end_before_the_shutdown_does() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    // Long enough that only the shutdown itself can end a connection.
    let settings =
        ListenerSettings { header_timeout: HOUR, drain_timeout: HOUR, ..ListenerSettings::default() };
    let server = start(Entrance::default(), settings, {
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
    let _idle = TcpStream::connect(server.address).await.expect("listening");
    let call = tokio::spawn(exchange(server.address, CALL));
    entered.notified().await;
    server.stop.send(true).expect("serving");
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.task.is_finished());
    release.notify_one();
    let answer = call.await.expect("no panic");
    assert!(answer.ends_with("done") && answer.contains("\r\nconnection: close\r\n"), "{answer}");
    server.task.await.expect("ends");
}

#[tokio::test]
async fn an_idle_connection_may_still_bring_a_call_and_learns_that_it_is_the_last() {
    let settings = ListenerSettings {
        header_timeout: HOUR,
        drain_grace: HOUR,
        drain_timeout: HOUR,
        ..ListenerSettings::default()
    };
    let server = echo(Entrance::default(), settings).await;
    let mut used = TcpStream::connect(server.address).await.expect("listening");
    used.write_all(CALL.as_bytes()).await.expect("taken");
    read_to(&mut used, "\r\n\r\n").await;
    // One that the system has taken and nobody has accepted may be among these.
    let mut fresh = TcpStream::connect(server.address).await.expect("listening");
    server.stop.send(true).expect("serving");
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    for stream in [&mut used, &mut fresh] {
        stream.write_all(CALL.as_bytes()).await.expect("taken");
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
    server.task.await.expect("ends");
}

#[tokio::test]
async fn an_answer_that_is_being_taken_is_taken_to_its_end() {
    // More than all buffers on the way hold.
    let body = Bytes::from(vec![b'x'; 32 << 20]);
    let settings = ListenerSettings {
        header_timeout: HOUR,
        drain_grace: Duration::ZERO,
        drain_timeout: HOUR,
        ..ListenerSettings::default()
    };
    for http2 in [false, true] {
        let answer = body.clone();
        let entrance = Entrance { cleartext_http2: true, ..Entrance::default() };
        let server = start(entrance, settings, move |_, _| {
            let answer = answer.clone();
            async move { Response::new(Full::new(answer)) }
        })
        .await;
        let request = Request::get("http://gateway.example/").header("host", "gateway.example");
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let io = TokioIo::new(TcpStream::connect(server.address).await.expect("listening"));
        let answer = if http2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
            tokio::spawn(connection);
            sender.send_request(request).await
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("HTTP/1.1");
            tokio::spawn(connection);
            sender.send_request(request).await
        };
        let mut answer = answer.expect("answers").into_body();
        let mut taken = answer.frame().await.expect("more").expect("good").into_data().expect("data").len();
        server.stop.send(true).expect("serving");
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!server.task.is_finished());
        while let Some(frame) = answer.frame().await {
            taken += frame.expect("not cut off").data_ref().map_or(0, Bytes::len);
        }
        assert_eq!(taken, body.len(), "HTTP/2: {http2}");
        timeout(SOON, server.task).await.expect("in time").expect("ends");
    }
}

#[tokio::test]
async fn a_call_that_does_not_end_is_cut_off() {
    let entered = Arc::new(Notify::new());
    let settings =
        ListenerSettings { drain_timeout: Duration::from_millis(50), ..ListenerSettings::default() };
    let server = start(Entrance::default(), settings, {
        let entered = entered.clone();
        move |_, _| {
            entered.notify_one();
            std::future::pending()
        }
    })
    .await;
    let call = tokio::spawn(exchange(server.address, CALL));
    entered.notified().await;
    server.stop.send(true).expect("serving");
    server.task.await.expect("ends");
    assert_eq!(call.await.expect("no panic"), "");
}

/// Listens beside whoever listens there already.
fn share(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseport(true).expect("Linux");
    socket.bind(address).expect("shared");
    socket.listen(1_024).expect("a queue")
}

/// Makes one call on a connection of its own; says how it failed.
async fn call_once(address: SocketAddr) -> std::io::Result<()> {
    use tokio::io::AsyncReadExt as _;
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_lost_when_one_of_those_who_share_an_address_leaves() {
    let entrance = Entrance { shares_address: true, ..Entrance::default() };
    let serve =
        |listener| start_on(listener, entrance.clone(), ListenerSettings::default(), async |_, _| ok("here"));
    let mut serving = serve(share(SocketAddr::from(([127, 0, 0, 1], 0))));
    let address = serving.address;
    let (go_on, answered) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let (go_on, answered) = (go_on.clone(), answered.clone());
        callers.spawn(async move {
            while go_on.load(Ordering::Relaxed) {
                call_once(address).await?;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, std::io::Error>(())
        });
    }
    for _ in 0..8 {
        let next = serve(share(address));
        let before = answered.load(Ordering::Relaxed);
        while answered.load(Ordering::Relaxed) < before + 200 {
            tokio::task::yield_now().await;
        }
        serving.stop.send(true).expect("serving");
        serving.task.await.expect("ends");
        serving = next;
    }
    go_on.store(false, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.expect("no panic").expect("a call was lost");
    }
}

#[tokio::test]
async fn what_had_begun_is_served_and_what_begins_is_left_to_others() {
    let entrance = Entrance { shares_address: true, ..Entrance::default() };
    let settings = ListenerSettings { drain_grace: HOUR, drain_timeout: HOUR, ..ListenerSettings::default() };
    let listener = share(SocketAddr::from(([127, 0, 0, 1], 0)));
    let server = start_on(listener, entrance, settings, async |_, _| ok("here"));
    // In the queue, since nothing has run that could have taken it.
    let std_stream = std::net::TcpStream::connect(server.address).expect("listening");
    std_stream.set_nonblocking(true).expect("a socket");
    server.stop.send(true).expect("serving");
    let mut queued = TcpStream::from_std(std_stream).expect("a socket");
    queued.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("taken");
    let answer = rest(&mut queued).await;
    assert!(answer.contains("connection: close") && answer.ends_with("here"), "{answer}");
    server.task.await.expect("ends");
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody is left");
}
