//! Bodies on their way through a gateway whose other side does not take them: they wait where they come from.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::proxying::{path, proxy, serve};
use crate::world::World;

/// Longer than all buffers on the way together, by far.
const PIECES: usize = 2_048;
const PIECE_BYTES: usize = 64 * 1024;

/// What may be on the way: sockets, windows and a few pieces.
const MOST_BYTES: usize = 48 << 20;

/// As long as nothing moves. Somebody slow makes it look as if nothing moved: then less was taken, and the test says less.
const STILL: Duration = Duration::from_millis(300);

/// A body of zeros that counts what is taken of it.
#[derive(Clone)]
struct Zeros {
    taken: Arc<AtomicUsize>,
    piece: Bytes,
}

// === impl Zeros ===

impl Zeros {
    fn new() -> Self {
        Self { taken: Arc::default(), piece: Bytes::from(vec![0; PIECE_BYTES]) }
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Waits until nothing of it is taken any more; returns how many bytes were.
    async fn stands_still(&self) -> usize {
        loop {
            let before = self.taken();
            tokio::time::sleep(STILL).await;
            if self.taken() == before && before > 0 {
                return before * PIECE_BYTES;
            }
        }
    }
}

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.taken() == PIECES {
            return Poll::Ready(None);
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(self.piece.clone()))))
    }
}

/// An upstream that answers GET with zeros, and takes bodies once it is told to; it answers how long they were.
async fn upstream(http2: bool, zeros: Zeros, go_on: watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (zeros, go_on) = (zeros.clone(), go_on.clone());
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let (zeros, mut go_on) = (zeros.clone(), go_on.clone());
                async move {
                    if request.method() == http::Method::GET {
                        return Ok::<_, Infallible>(Response::new(zeros.boxed()));
                    }
                    let mut body = request.into_body();
                    let _ = go_on.wait_for(|it| *it).await;
                    let mut count = 0;
                    while let Some(Ok(frame)) = body.frame().await {
                        count += frame.data_ref().map_or(0, Bytes::len);
                    }
                    let text = http_body_util::Full::from(count.to_string());
                    Ok(Response::new(text.boxed()))
                }
            });
            let io = TokioIo::new(socket);
            if http2 {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(io, service));
            } else {
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        }
    });
    address
}

/// Makes a call; on HTTP/1.1 its connection is read only while its answer is.
async fn call<B>(address: SocketAddr, http2: bool, request: Request<B>) -> Response<Incoming>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(address).await.expect("listening");
    stream.set_nodelay(true).expect("a socket");
    let io = TokioIo::new(stream);
    if http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
        tokio::spawn(connection);
        return sender.send_request(request).await.expect("an answer");
    }
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.expect("an answer");
    // Its connection ends with it, and not with who may ask for more.
    std::mem::forget(sender);
    answer
}

fn request<B>(method: &str, body: B) -> Request<B> {
    let url = format!("http://gateway.example{}", path("files"));
    let builder = Request::builder().method(method).uri(url).header("host", "gateway.example");
    builder.body(body).expect("a request")
}

async fn gateway(upstream: SocketAddr, http2: bool) -> (SocketAddr, watch::Sender<bool>) {
    let more = format!(", upstream: {{ http2: {http2} }}");
    let mut world = World::new();
    let file =
        proxy("files", "", &format!("http://{upstream}/"), &more).replace("type: http,", "type: httpFile,");
    world.deploy(&file);
    serve(world).await
}

const VERSIONS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_its_caller_does_not_take_waits_at_its_upstream() {
    for (front, back) in VERSIONS {
        let zeros = Zeros::new();
        let (_go_on, told) = watch::channel(true);
        let (address, _stop) = gateway(upstream(back, zeros.clone(), told).await, back).await;
        let mut answer = call(address, front, request("GET", Empty::new())).await.into_body();
        let first = answer.frame().await.expect("a piece").expect("good").into_data().expect("data");
        let still = timeout(Duration::from_secs(60), zeros.stands_still()).await.expect("it waits");
        assert!(still < MOST_BYTES, "HTTP/2 {front} {back}: {still} bytes were taken");
        let mut count = first.len();
        while let Some(frame) = answer.frame().await {
            count += frame.expect("good").data_ref().map_or(0, Bytes::len);
        }
        assert_eq!(count, PIECES * PIECE_BYTES, "HTTP/2 {front} {back}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_its_upstream_does_not_take_waits_at_its_caller() {
    for (front, back) in VERSIONS {
        let zeros = Zeros::new();
        let (go_on, told) = watch::channel(false);
        let (address, _stop) = gateway(upstream(back, Zeros::new(), told).await, back).await;
        let body = zeros.clone();
        let calling = tokio::spawn(async move { call(address, front, request("PUT", body)).await });
        let still = timeout(Duration::from_secs(60), zeros.stands_still()).await.expect("it waits");
        assert!(still < MOST_BYTES, "HTTP/2 {front} {back}: {still} bytes were taken");
        go_on.send(true).expect("it listens");
        let answer = calling.await.expect("no panic").into_body().collect().await.expect("whole");
        let text = String::from_utf8(answer.to_bytes().to_vec()).expect("text");
        assert_eq!(text, (PIECES * PIECE_BYTES).to_string(), "HTTP/2 {front} {back}");
    }
}
