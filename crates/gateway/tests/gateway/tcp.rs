//! Over real connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tollgate_gateway::GatewaySettings;
use tollgate_listener::Entrance;
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
    serve_at(settings, Entrance::default()).await
}

async fn serve_at(settings: GatewaySettings, entrance: Entrance) -> Served {
    let mut world = World::with_settings(settings);
    world.deploy(ECHO);
    world.deploy(KEYED);
    world.publish();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (stop, shutdown) = watch::channel(false);
    let gateway = world.gateway;
    let serving = async move {
        gateway.serve(listener, entrance, EnvironmentName::test(), Exposure::External, shutdown).await
    };
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

/// A caller on HTTP/2.
async fn http2<B>(served: &Served) -> SendRequest<B>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(served.address).await.expect("listening");
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn http2_gets_the_same_checks_and_the_same_answers() {
    let entrance = Entrance { cleartext_http2: true, ..Entrance::default() };
    let served = serve_at(GatewaySettings::default(), entrance).await;
    let mut caller = http2(&served).await;
    let mut call = async |method: &str, path: &str, fields: &[(&str, &str)], body: &str| {
        let mut request = Request::builder().method(method).uri(format!("http://gateway.example{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).expect("a request");
        let answer = caller.send_request(request).await.expect("answers");
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.expect("whole").to_bytes();
        assert!(parts.headers.contains_key("x-request-id") && parts.headers.contains_key("date"));
        let code = parts.headers.get("tollgate-error").map_or("", |code| code.to_str().expect("text"));
        (parts.status.as_u16(), code.to_owned(), String::from_utf8_lossy(&body).into_owned())
    };
    let (echo, keyed) = ("/pipeline/default/v1/echo", "/pipeline/default/v1/keyed");
    let text = ("content-type", "text/plain");
    assert_eq!(call("POST", echo, &[text], "hi").await, (200, String::new(), r#"{"body":"hi"}"#.to_owned()));
    for (method, path, fields, body, status, code) in [
        ("POST", keyed, &[text][..], "hi", 401, "api-key-missing"),
        ("POST", keyed, &[text, ("apikey", "x"), ("apikey", "x")], "", 400, "request-malformed"),
        ("POST", echo, &[text], "more than ten bytes", 413, "request-too-large"),
        ("POST", echo, &[text, ("host", "other.example")], "", 400, "request-malformed"),
        (
            "POST",
            echo,
            &[text, ("host", "gateway.example"), ("host", "gateway.example")],
            "",
            400,
            "request-malformed",
        ),
        ("POST", "//x", &[text], "", 400, "request-malformed"),
        ("POST", "/x/%2e%2e/y", &[text], "", 400, "request-malformed"),
        ("GET", echo, &[], "", 405, "method-not-allowed"),
        ("OPTIONS", echo, &[], "", 405, "method-not-allowed"),
        ("POST", "/nothing", &[], "", 404, "route-not-found"),
    ] {
        let (found, found_code, text) = call(method, path, fields, body).await;
        assert_eq!((found, found_code.as_str()), (status, code), "{method} {path} {fields:?}: {text}");
    }
    let (status, _, body) = call("HEAD", "/nothing", &[], "").await;
    assert_eq!((status, body.as_str()), (404, ""));
}

/// A piece of a body, and then nothing for ever.
struct Begun(Option<Bytes>);

impl Body for Begun {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |piece| Poll::Ready(Some(Ok(Frame::data(piece)))))
    }
}

#[tokio::test]
async fn a_body_on_http2_is_counted_and_waited_for_as_on_http1() {
    let entrance = Entrance { cleartext_http2: true, ..Entrance::default() };
    let settings =
        GatewaySettings { body_idle_timeout: Duration::from_millis(50), ..GatewaySettings::default() };
    let served = serve_at(settings, entrance).await;
    let mut caller = http2(&served).await;
    for (piece, status) in [("ab", 408), ("more than ten bytes", 413)] {
        let request = Request::post("http://gateway.example/pipeline/default/v1/echo")
            .header("content-type", "text/plain")
            .body(Begun(Some(Bytes::from_static(piece.as_bytes()))))
            .expect("a request");
        assert_eq!(caller.send_request(request).await.expect("answers").status().as_u16(), status);
    }
}

#[tokio::test]
async fn targets_that_name_another_place_are_refused() {
    let served = serve(GatewaySettings::default()).await;
    let path = "/pipeline/default/v1/echo";
    let call = |method: &str, target: &str| {
        format!(
            "{method} {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
             content-type: text/plain\r\ncontent-length: 2\r\n\r\nhi"
        )
    };
    let same = exchange(served.address, &call("POST", &format!("http://a{path}"))).await;
    assert!(same.starts_with("HTTP/1.1 200 "), "the absolute form must be taken (RFC 9112): {same}");
    for (method, target) in [
        ("POST", format!("http://b{path}")),
        ("POST", format!("http://a@b{path}")),
        ("POST", format!("ftp://a{path}")),
        ("POST", format!("//a{path}")),
        ("POST", "a:80".to_owned()),
        ("CONNECT", "a:80".to_owned()),
        ("CONNECT", "b:80".to_owned()),
        ("OPTIONS", "*".to_owned()),
        ("POST", "*".to_owned()),
        ("POST", path.trim_start_matches('/').to_owned()),
    ] {
        let answer = exchange(served.address, &call(method, &target)).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{method} {target}: {answer}");
        assert!(!answer.contains("\"body\""), "{method} {target}: {answer}");
    }
}
