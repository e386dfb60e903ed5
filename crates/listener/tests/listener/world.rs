//! A listener, and callers who write what they like.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tollgate_listener::{Entrance, ListenerSettings};

/// Longest wait for what must come.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// So long that it never comes.
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) type Answer = Response<Full<Bytes>>;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) task: JoinHandle<()>,
    /// The requests that got through.
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
}

pub(crate) async fn start<F>(
    entrance: Entrance,
    settings: ListenerSettings,
    handler: impl Fn(SocketAddr, Request<Incoming>) -> F + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    start_on(listener, entrance, settings, handler)
}

/// Like [`start`], on a socket that is there.
pub(crate) fn start_on<F>(
    listener: TcpListener,
    entrance: Entrance,
    settings: ListenerSettings,
    handler: impl Fn(SocketAddr, Request<Incoming>) -> F + Send + Sync + 'static,
) -> Server
where
    F: Future<Output = Answer> + Send + 'static,
{
    let address = listener.local_addr().expect("bound");
    let (stop, shutdown) = watch::channel(false);
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let handler = {
        let seen = seen.clone();
        move |remote, request: Request<Incoming>| {
            let line = format!("{} {} {remote}", request.method(), request.uri());
            seen.lock().expect("no panic").push(line);
            handler(remote, request)
        }
    };
    let serving = tollgate_listener::serve(listener, entrance, settings, shutdown, handler);
    Server { address, stop, task: tokio::spawn(serving), seen }
}

/// A listener that answers with the body that it gets, or 400 when the body breaks off.
pub(crate) async fn echo(entrance: Entrance, settings: ListenerSettings) -> Server {
    start(entrance, settings, async |_, request| echoed(request).await).await
}

pub(crate) async fn echoed(request: Request<Incoming>) -> Answer {
    match request.into_body().collect().await {
        Ok(body) => Response::new(Full::new(body.to_bytes())),
        Err(_) => {
            let mut answer = ok("broken off");
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            answer
        }
    }
}

pub(crate) fn ok(text: &'static str) -> Answer {
    Response::new(Full::new(Bytes::from_static(text.as_bytes())))
}

/// Sends bytes and returns everything that comes back until the connection is closed.
pub(crate) async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.expect("listening");
    let _ = stream.write_all(bytes.as_ref()).await;
    rest(&mut stream).await
}

/// Returns what comes until the connection is closed.
pub(crate) async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("closed in time");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads up to these words.
pub(crate) async fn read_to(stream: &mut (impl tokio::io::AsyncRead + Unpin), words: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(words) {
        let byte = timeout(SOON, stream.read_u8()).await.expect("in time").expect("more");
        text.push(byte);
    }
    String::from_utf8_lossy(&text).into_owned()
}

// === impl Server ===

impl Server {
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }
}
