//! The console's listener: the gateway's, with bounds of its own. A caller that sends half a request must not keep a
//! connection for ever, nor keep the process from stopping.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::uri::Authority;
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tollgate_listener::{Entrance, ListenerSettings};
use tower::ServiceExt as _;

/// Most connections at once.
const MAX_CONNECTIONS: usize = 1_000;

/// Returns the bounds on what the console takes.
pub(crate) fn settings() -> ListenerSettings {
    ListenerSettings {
        max_connections: MAX_CONNECTIONS,
        max_connections_per_address: MAX_CONNECTIONS / 2,
        ..ListenerSettings::default()
    }
}

/// Serves until `shutdown` turns true or its sender is gone; then lets requests in flight end.
pub(crate) async fn serve(
    listener: TcpListener,
    entrance: Entrance,
    router: Router,
    settings: ListenerSettings,
    shutdown: watch::Receiver<bool>,
) {
    let handler = move |remote, request| answer(router.clone(), remote, request);
    tollgate_listener::serve(listener, entrance, settings, shutdown, handler).await;
}

async fn answer(router: Router, remote: SocketAddr, mut request: Request<Incoming>) -> Response<Body> {
    if contradicts_itself(&request) {
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::BAD_REQUEST;
        return answer;
    }
    request.extensions_mut().insert(ConnectInfo(remote));
    let answered: Result<_, Infallible> = router.oneshot(request.map(Body::new)).await;
    answered.unwrap_or_else(|never| match never {})
}

/// Tells whether the URL names another host than the `Host` header: the router looks at one of them only.
fn contradicts_itself(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(header::HOST).map(|host| Authority::try_from(host.as_bytes()).ok());
    request.uri().authority().zip(host).is_some_and(|(authority, host)| host.as_ref() != Some(authority))
}

#[cfg(test)]
mod tests {
    use axum::extract::Extension;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use std::time::Duration;

    use tokio::net::TcpStream;
    use tokio::task::JoinSet;

    use super::*;

    /// Longest wait for what must come.
    const SOON: Duration = Duration::from_secs(10);

    async fn start(settings: ListenerSettings) -> (std::net::SocketAddr, watch::Sender<bool>, JoinSet<()>) {
        let router = Router::new()
            .route(
                "/",
                get(async |remote: Extension<ConnectInfo<std::net::SocketAddr>>| remote.0.0.ip().to_string()),
            )
            .route("/", post(async |body: String| body));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (stop, shutdown) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Entrance::default(), router, settings, shutdown));
        (address, stop, tasks)
    }

    async fn send(address: std::net::SocketAddr, bytes: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("listening");
        stream.write_all(bytes.as_bytes()).await.expect("sends");
        stream
    }

    async fn read(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        let _ = tokio::time::timeout(SOON, read).await.expect("closed in time");
        answer
    }

    #[tokio::test]
    async fn half_a_request_neither_keeps_its_connection_nor_the_process() {
        let brief = Duration::from_millis(20);
        let settings = ListenerSettings {
            max_connections: 2,
            max_connections_per_address: 2,
            header_timeout: brief,
            drain_timeout: brief,
            ..settings()
        };
        let (address, stop, mut tasks) = start(settings).await;
        // Each takes one of the two places until its time is over.
        let halves = [send(address, "GET / HTTP/1.1\r\nhost: lo").await, send(address, "").await];
        let whole = send(address, "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
        assert!(read(whole).await.ends_with("127.0.0.1"));
        for half in halves {
            read(half).await;
        }
        let _body =
            send(address, "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nhalf").await;
        stop.send_replace(true);
        tokio::time::timeout(SOON, tasks.join_next()).await.expect("stops in time");
    }
}
