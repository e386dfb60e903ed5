//! A shutdown loses no call.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tollgate_listener::{Entrance, ListenerSettings};

use crate::world::{HOUR, echo, exchange, ok, read_to, rest, start};

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
