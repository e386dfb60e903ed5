//! A whole call over loopback, beside a bare hyper server that answers the same bytes in the same run.
//!
//! Prints medians and ratios. Both servers and the client share the machine, so the ratio tells more than the times.

use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tollgate_bench::{Size, World};
use tollgate_listener::Entrance;
use tollgate_model::keysets::Algorithm;

const CALLS: usize = 20_000;
const CONNECTIONS: usize = 16;
const CALLS_PER_CONNECTION: usize = 2_000;
const BODY: &str = r#"{"products":[{"id":1,"name":"Lamp","price":32.5}]}"#;

struct Measured {
    name: &'static str,
    latency: Duration,
    throughput: f64,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let measured = runtime.block_on(async {
        let mut all = vec![
            measure("bare hyper (floor)", bare().await, "GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned()).await,
        ];
        for (name, tokens) in [("API key", None), ("API key + ES256 token", Some(Algorithm::Es256))] {
            let world = World::new(Size { keys: 1_000, pipelines: 1_000, tokens, remembers: false });
            let mut request =
                format!("GET /pipeline/default/v1/r7/42 HTTP/1.1\r\nhost: a\r\napikey: {}\r\n", world.key);
            if tokens.is_some() {
                request.push_str(&format!("authorization: Bearer {}\r\n", world.token));
            }
            request.push_str("\r\n");
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            let (stop, shutdown) = watch::channel(false);
            let (gateway, id) = (world.gateway.clone(), world.listener.clone());
            let server = tokio::spawn(async move {
                let entrance = Entrance::default();
                gateway.serve(listener, entrance, id.environment, id.exposure, shutdown).await;
            });
            all.push(measure(name, address, request).await);
            stop.send_replace(true);
            server.abort();
        }
        all
    });
    let floor = measured.first().expect("the floor");
    println!(
        "{:<24} {:>14} {:>8} {:>16} {:>8}",
        "whole call, loopback", "median", "ratio", "calls/s", "ratio"
    );
    for it in &measured {
        println!(
            "{:<24} {:>11.1} µs {:>7.2}x {:>16.0} {:>7.2}x",
            it.name,
            it.latency.as_secs_f64() * 1e6,
            it.latency.as_secs_f64() / floor.latency.as_secs_f64(),
            it.throughput,
            it.throughput / floor.throughput,
        );
    }
}

/// Starts a server that does nothing but answer.
async fn bare() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|_: Request<hyper::body::Incoming>| async {
                let response = Response::builder().header("content-type", "application/json");
                response.body(Full::new(bytes::Bytes::from_static(BODY.as_bytes())))
            });
            let _ = stream.set_nodelay(true);
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

async fn measure(name: &'static str, address: std::net::SocketAddr, request: String) -> Measured {
    let mut stream = connect(address).await;
    for _ in 0..1_000 {
        call(&mut stream, &request).await;
    }
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let start = Instant::now();
        call(&mut stream, &request).await;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let latency = times.get(CALLS / 2).copied().unwrap_or_default();
    let start = Instant::now();
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let request = request.clone();
            tokio::spawn(async move {
                let mut stream = connect(address).await;
                for _ in 0..CALLS_PER_CONNECTION {
                    call(&mut stream, &request).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("calls succeed");
    }
    let throughput = (CONNECTIONS * CALLS_PER_CONNECTION) as f64 / start.elapsed().as_secs_f64();
    Measured { name, latency, throughput }
}

async fn connect(address: std::net::SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("connects");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// Sends a request and reads its answer, which ends with the body.
async fn call(stream: &mut TcpStream, request: &str) {
    stream.write_all(request.as_bytes()).await.expect("sends");
    let mut buffer = [0_u8; 4096];
    let mut filled = 0;
    loop {
        let free = buffer.get_mut(filled..).expect("a short answer");
        let read = stream.read(free).await.expect("reads");
        assert!(read > 0, "the server hung up");
        filled += read;
        if buffer.get(..filled).is_some_and(|answer| answer.ends_with(BODY.as_bytes())) {
            assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer));
            return;
        }
    }
}
