//! Connections that are kept: who gets which, and which go to nobody.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tollgate_model::environments::RealmSettings;
use tollgate_model::networks::Network;
use tollgate_testkit::wait_until;

use super::*;
use crate::payload::BoxError;

const PATIENCE: Duration = Duration::from_secs(20);
const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood";

fn client(http2: bool) -> Client {
    let networks = vec![Network::parse("127.0.0.1").expect("a network")];
    let settings = RealmSettings { allow_upstreams: networks, ..RealmSettings::default() };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Client::new(Connector::new(Arc::new(settings), Arc::new(tls), PATIENCE), http2)
}

/// An upstream whose connections a test holds in its hands.
struct Peer {
    listener: TcpListener,
    url: Uri,
}

impl Peer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("bound")).parse().expect("a URL");
        Self { listener, url }
    }

    async fn accept(&self) -> TcpStream {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        accepted.expect("a connection in time").expect("a connection").0
    }
}

/// A body of pieces as they come.
struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// Reads a request up to the end of its head.
async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("more of the head"));
    }
    String::from_utf8(head).expect("text")
}

fn request(method: Method) -> Request<Payload> {
    let mut request = Request::new(Payload::default());
    *request.method_mut() = method;
    *request.uri_mut() = "/x?y=1".parse().expect("a path");
    request
}

/// Makes a call whose answer is good, and lets its connection go on.
async fn call(client: &Client, url: &Uri) -> Result<Bytes, RequestError> {
    let Answered { response, held } = client.request(url, request(Method::POST)).await?;
    held.go_on();
    Ok(response.into_body().collect().await.map_err(RequestError::Broken)?.to_bytes())
}

/// Answers one call on a connection.
async fn answer(socket: &mut TcpStream, answer: &str) -> String {
    let head = read_head(socket).await;
    socket.write_all(answer.as_bytes()).await.expect("writes");
    head
}

#[tokio::test]
async fn calls_in_turn_go_over_one_connection() {
    let (client, peer) = (client(false), Peer::start().await);
    let served = async {
        let mut socket = peer.accept().await;
        for _ in 0..3 {
            let head = answer(&mut socket, GOOD).await;
            let host = peer.url.authority().expect("a host");
            assert_eq!(head, format!("POST /x?y=1 HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        }
    };
    let calls = async {
        for _ in 0..3 {
            assert_eq!(call(&client, &peer.url).await.expect("good"), "good");
        }
    };
    tokio::join!(served, calls);
}

#[tokio::test]
async fn a_connection_is_kept_once_an_answer_that_came_in_pieces_has_ended() {
    let (client, peer) = (client(false), Peer::start().await);
    let served = async {
        let mut socket = peer.accept().await;
        read_head(&mut socket).await;
        let head = ["HTTP/1.1 200 OK\r\ntransfer-", "encoding: chunked\r\n\r\n"];
        for piece in head.into_iter().chain(["2\r\ngo\r\n", "2\r\nod\r\n0\r\n\r\n"]) {
            socket.write_all(piece.as_bytes()).await.expect("writes");
            tokio::task::yield_now().await;
        }
        answer(&mut socket, GOOD).await;
    };
    let calls = async {
        assert_eq!(call(&client, &peer.url).await.expect("good"), "good");
        // Its task has yet to see the end.
        let host = Host::of(&peer.url).expect("a host");
        wait_until("the connection", PATIENCE, async || client.idle.waiting(&host) == 1).await;
        assert_eq!(call(&client, &peer.url).await.expect("good"), "good");
    };
    tokio::join!(served, calls);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_waited_fails_no_call() {
    let (client, peer) = (client(false), Peer::start().await);
    let served = async {
        for _ in 0..3 {
            answer(&mut peer.accept().await, GOOD).await;
        }
    };
    let calls = async {
        for _ in 0..3 {
            // Not even one that must not be made twice: nothing of it was sent.
            assert_eq!(call(&client, &peer.url).await.expect("good"), "good");
            let host = Host::of(&peer.url).expect("a host");
            wait_until("the end", PATIENCE, async || {
                client.idle.look();
                client.idle.waiting(&host) == 0
            })
            .await;
        }
    };
    tokio::join!(served, calls);
}

#[tokio::test]
async fn what_comes_behind_an_answer_answers_nobody() {
    let (client, peer) = (client(false), Peer::start().await);
    let smuggled = format!("{GOOD}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
    let served = async {
        let mut first = peer.accept().await;
        answer(&mut first, &smuggled).await;
        answer(&mut peer.accept().await, GOOD).await;
        drop(first);
    };
    let calls = async {
        for _ in 0..2 {
            assert_eq!(call(&client, &peer.url).await.expect("good"), "good");
        }
    };
    tokio::join!(served, calls);
}

#[tokio::test]
async fn the_connection_of_an_answer_that_nobody_takes_is_closed() {
    let (client, peer) = (client(false), Peer::start().await);
    let served = async {
        let mut socket = peer.accept().await;
        answer(&mut socket, GOOD).await;
        assert_eq!(socket.read(&mut [0; 16]).await.expect("the end"), 0);
    };
    let calls = async {
        drop(client.request(&peer.url, request(Method::GET)).await.map(drop));
    };
    tokio::join!(served, calls);
}

#[tokio::test]
async fn a_call_that_is_given_up_closes_its_connection() {
    let (client, peer) = (client(false), Peer::start().await);
    let mut call = Box::pin(client.request(&peer.url, request(Method::GET)));
    let mut socket = tokio::select! {
        _ = &mut call => unreachable!("nobody answers"),
        socket = async { let mut socket = peer.accept().await; read_head(&mut socket).await; socket } => socket,
    };
    drop(call);
    assert_eq!(socket.read(&mut [0; 16]).await.expect("the end"), 0);
}

#[tokio::test]
async fn a_request_goes_on_while_its_answer_has_begun() {
    let (client, peer) = (client(false), Peer::start().await);
    let (pieces, receiver) = mpsc::channel(1);
    let mut upload = request(Method::POST);
    *upload.body_mut() = Payload::stream(Pieces(receiver));
    let served = async {
        let mut socket = peer.accept().await;
        answer(&mut socket, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let mut got = [0; 11];
        socket.read_exact(&mut got).await.expect("the piece");
        assert_eq!(&got, b"5\r\nfirst\r\n0");
        socket.write_all(b"0\r\n\r\n").await.expect("writes");
    };
    let calls = async {
        let Answered { response, held } = client.request(&peer.url, upload).await.expect("an answer");
        held.go_on();
        // Nobody reads the answer now; the request goes on all the same.
        pieces.send(Bytes::from_static(b"first")).await.expect("taken");
        drop(pieces);
        assert_eq!(response.into_body().collect().await.expect("ends").to_bytes(), "");
    };
    tokio::join!(served, calls);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_uses_for_a_minute_is_closed() {
    let (client, peer) = (client(false), Peer::start().await);
    let served = async {
        let mut socket = peer.accept().await;
        answer(&mut socket, GOOD).await;
        socket
    };
    let (mut socket, called) = tokio::join!(served, call(&client, &peer.url));
    assert_eq!(called.expect("good"), "good");
    let host = Host::of(&peer.url).expect("a host");
    // The clock goes on by itself where everybody waits for it.
    tokio::time::sleep(Duration::from_secs(55)).await;
    assert_eq!(client.idle.waiting(&host), 1);
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(client.idle.waiting(&host), 0);
    assert_eq!(socket.read(&mut [0; 16]).await.expect("the end"), 0);
}

#[tokio::test]
async fn calls_on_http2_share_a_connection_and_get_another_when_it_is_gone() {
    let (client, peer) = (client(true), Peer::start().await);
    let serve = async |calls: usize| {
        let socket = TokioIo::new(peer.accept().await);
        let (done, mut finished) = mpsc::channel(calls);
        let service = service_fn(move |request: Request<Incoming>| {
            assert_eq!(request.uri().path_and_query().map(PathAndQuery::as_str), Some("/x?y=1"));
            assert!(!request.headers().contains_key(HOST), "{request:?}");
            let done = done.clone();
            async move {
                done.send(()).await.expect("counted");
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("good"))))
            }
        });
        let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let connection = tokio::spawn(http2.serve_connection(socket, service));
        for _ in 0..calls {
            finished.recv().await.expect("a call");
        }
        connection.abort_handle()
    };
    let both = async { tokio::join!(call(&client, &peer.url), call(&client, &peer.url)) };
    let (connection, (one, other)) = tokio::join!(serve(2), both);
    assert_eq!((one.expect("good"), other.expect("good")), (Bytes::from("good"), Bytes::from("good")));
    connection.abort();
    let host = Host::of(&peer.url).expect("a host");
    wait_until("the end", PATIENCE, async || {
        client.idle.look();
        client.idle.waiting(&host) == 0
    })
    .await;
    let (_connection, again) = tokio::join!(serve(1), call(&client, &peer.url));
    assert_eq!(again.expect("good"), "good");
}
