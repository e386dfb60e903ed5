//! Over real connections.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tollgate_gateway::GatewaySettings;
use tollgate_model::environments::Exposure;
use tollgate_model::names::EnvironmentName;

use crate::world::World;

const ECHO: &str = "{kind: Pipeline, name: echo, project: store, steps: [{json: {body: '{{ message.body }}'}}], \
    trigger: {type: http, methods: [POST], externalApi: true, maxRequestBytes: 10}}";
const KEYED: &str = "{kind: Pipeline, name: keyed, project: store, steps: [{json: {ok: true}}], \
    trigger: {type: http, methods: [POST], externalApi: true, apiKey: true}}";

struct Served {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

async fn serve(settings: GatewaySettings) -> Served {
    let mut world = World::with_settings(settings);
    world.deploy(ECHO);
    world.deploy(KEYED);
    world.publish();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (stop, shutdown) = watch::channel(false);
    let gateway = world.gateway;
    let serving =
        async move { gateway.serve(listener, EnvironmentName::test(), Exposure::External, shutdown).await };
    Served { address, stop, task: tokio::spawn(serving) }
}

/// Sends bytes and returns what comes back until the connection is closed.
async fn exchange(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("listening");
    let _ = stream.write_all(bytes.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(name: &str, rest: &str) -> String {
    format!("POST /pipeline/default/v1/{name} HTTP/1.1\r\nhost: a\r\ncontent-type: text/plain\r\n{rest}")
}

#[tokio::test]
async fn calls_share_a_connection_until_the_shutdown() {
    let served = serve(GatewaySettings::default()).await;
    let calls = format!(
        "{}{}",
        post("echo", "content-length: 2\r\n\r\nhi"),
        post("echo", "transfer-encoding: chunked\r\nconnection: close\r\n\r\n3\r\nyou\r\n0\r\n\r\n")
    );
    let answer = exchange(served.address, &calls).await;
    assert!(answer.contains(r#"{"body":"hi"}"#) && answer.contains(r#"{"body":"you"}"#), "{answer}");
    served.stop.send(true).expect("serving");
    served.task.await.expect("ends");
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn a_body_that_pauses_is_cut_off() {
    let served =
        serve(GatewaySettings { body_idle_timeout: Duration::from_millis(50), ..GatewaySettings::default() })
            .await;
    let answer = exchange(served.address, &post("echo", "content-length: 5\r\n\r\nab")).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request-timeout"), "{answer}");
}

#[tokio::test]
async fn a_body_without_a_declared_length_is_counted() {
    let served = serve(GatewaySettings::default()).await;
    let chunks = "transfer-encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n";
    let answer = exchange(served.address, &post("echo", chunks)).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("request-too-large"), "{answer}");
}

#[tokio::test]
async fn no_body_is_asked_for_before_the_credentials_are_good() {
    let served = serve(GatewaySettings::default()).await;
    let expecting = "content-length: 5\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";
    let answer = exchange(served.address, &post("keyed", expecting)).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let answer = exchange(served.address, &post("echo", &format!("{expecting}hello"))).await;
    assert!(answer.starts_with("HTTP/1.1 100 Continue") && answer.contains("hello"), "{answer}");
}

#[tokio::test]
async fn what_follows_a_refused_request_is_not_read_as_another() {
    let served = serve(GatewaySettings::default()).await;
    let smuggled = post("echo", "content-length: 2\r\nconnection: close\r\n\r\nhi");
    for first in [
        format!("POST //x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n{smuggled}"),
        format!("POST /x HTTP/1.1\r\ncontent-length: 0\r\n\r\n{smuggled}"),
        format!("POST /x HTTP/1.1\r\nhost: a\r\nhost: b\r\ncontent-length: 0\r\n\r\n{smuggled}"),
        post("echo", &format!("transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n{smuggled}")),
        post(
            "echo",
            &format!("transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        post("echo", &format!("content-length: 99\r\n\r\n{smuggled}")),
        post("echo", &format!("content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}")),
    ] {
        let answer = exchange(served.address, &first).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{first:?} got {answer:?}");
    }
}
