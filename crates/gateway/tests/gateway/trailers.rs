//! Trailers on their way through, and bodies that are longer than their head says: what comes behind a head must not change
//! what it said.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tollgate_testkit::Upstream;

use crate::proxying::{Raw, exchange, path, proxy, serve};
use crate::world::World;

/// Fields that a head loses on its way to an upstream, by the gateway or by the step.
const LOST: [&str; 16] = [
    "authorization",
    "proxy-authorization",
    "apikey",
    "cookie",
    "x-forwarded-for",
    "x-forwarded-port",
    "x_forwarded_for",
    "x-real-ip",
    "forwarded",
    "x-request-id",
    "traceparent",
    "x-ssl-client-verify",
    "client-cert",
    "content-length",
    "x-internal",
    "x-consumer",
];
const STEP: &str = ", headers: { x-consumer: alice }, dropHeaders: [x-internal], \
    responseHeaders: { x-by: gateway }, dropResponseHeaders: [x-server]";

fn fields(names: &[&'static str]) -> HeaderMap {
    let value = HeaderValue::from_static("mallory");
    names.iter().map(|name| (HeaderName::from_static(name), value.clone())).collect()
}

fn names(trailers: Option<&HeaderMap>) -> Vec<String> {
    let mut names: Vec<_> = trailers.iter().flat_map(|it| it.keys()).map(ToString::to_string).collect();
    names.sort();
    names
}

/// An upstream on HTTP/2 that tells in its body which trailers came, and sends some itself.
async fn upstream(sends: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = hyper::service::service_fn(move |request: Request<Incoming>| async move {
                let body = request.into_body().collect().await.expect("a body");
                let told = names(body.trailers()).join(" ");
                let body = Full::<Bytes>::from(told).with_trailers(async { Some(Ok(fields(sends))) });
                Ok::<_, Infallible>(Response::new(body))
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(socket), service));
        }
    });
    url
}

async fn http2<B>(address: SocketAddr) -> SendRequest<B>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(address).await.expect("listening");
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn trailers_go_through_on_http2_and_say_nothing_that_a_head_may_not() {
    let url = upstream(&[
        "grpc-status",
        "x-by",
        "x-server",
        "tollgate-error",
        "set-cookie",
        "x-request-id",
        "access-control-allow-origin",
    ])
    .await;
    let mut world = World::new();
    world.deploy(&proxy("files", "", &url, &format!("{STEP}, upstream: {{ http2: true }}")));
    let (address, _stop) = serve(world).await;
    let mut sender = http2(address).await;
    let sent = fields(&[&LOST[..], &["x-sum"]].concat());
    let body = Box::pin(Full::<Bytes>::from("hello").with_trailers(async move { Some(Ok(sent)) }));
    let request = Request::post(format!("http://a{}", path("files"))).header("te", "trailers").body(body);
    let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
    assert_eq!(answer.version(), Version::HTTP_2);
    let answer = answer.into_body().collect().await.expect("a body");
    assert_eq!(names(answer.trailers()), ["grpc-status"]);
    assert_eq!(answer.to_bytes(), "x-sum");
}

#[tokio::test]
async fn what_the_step_sets_or_drops_comes_in_no_trailer_either() {
    let raw = Raw::start(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, x-by, x-server\r\n\r\n2\r\nok\r\n0\r\nx-sum: 9\r\nx-by: upstream\r\nx-server: secret\r\n\r\n",
        false,
    )
    .await;
    let mut world = World::new();
    world.deploy(&proxy("files", "", &raw.url(), STEP));
    let (address, _stop) = serve(world).await;
    let named: Vec<_> = LOST.iter().filter(|name| **name != "content-length").collect();
    let trailers: String = named.iter().map(|name| format!("{name}: mallory\r\n")).collect();
    let call = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te, close\r\ntransfer-encoding: chunked\r\n\
         trailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n{trailers}\r\n",
        path("files")
    );
    let got = exchange(address, &call).await;
    assert!(got.contains("x-sum: 9") && !got.contains("x-by: upstream") && !got.contains("secret"), "{got}");
    let seen = raw.seen();
    assert!(seen.contains("x-sum: 7") && seen.contains("x-consumer: alice"), "{seen}");
    assert!(!seen.contains("mallory"), "{seen}");
}

#[tokio::test]
async fn a_body_on_http2_that_is_longer_than_it_says_smuggles_no_request() {
    let upstream = Upstream::start().await.expect("a port");
    let mut world = World::new();
    world.deploy(&proxy("files", "", &upstream.url("/"), ""));
    let (address, _stop) = serve(world).await;
    let smuggled = "GET /admin HTTP/1.1\r\nhost: b\r\n\r\n";
    for length in ["0", "5", "6"] {
        let mut sender = http2(address).await;
        let request = Request::post(format!("http://a{}", path("files")))
            .header("content-length", length)
            .body(Full::<Bytes>::from(format!("hello{smuggled}")));
        if let Ok(answer) = sender.send_request(request.expect("a request")).await {
            let _ = answer.into_body().collect().await;
        }
        // On whatever connection the next call goes on, nothing stands before it.
        let call = format!("GET {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", path("files"));
        let got = exchange(address, &call).await;
        assert!(got.starts_with("HTTP/1.1 200 "), "{length}: {got}");
        let targets: Vec<_> = upstream.requests().into_iter().map(|it| it.target).collect();
        assert!(targets.iter().all(|target| target == "/"), "{length}: {targets:?}");
    }
}
