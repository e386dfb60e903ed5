//! hyper with nothing around it: the floor, the upstream of proxied calls, and a proxy that checks nothing.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use crate::credentials::Job;
use crate::ground::Ground;
use crate::process::{Process, free_port};
use crate::{BODY, Contender};

/// Returns the floor of a job: it answers, or asks the upstream, and looks at nothing.
pub(crate) fn floor(ground: &Ground, job: Job) -> anyhow::Result<Contender> {
    let upstream = ground.upstream.to_string();
    let kind: &[&str] = if job == Job::Proxied { &["proxy", &upstream] } else { &["floor"] };
    let (process, address) = start_in(ground.directory(), "floor", kind)?;
    let pairs = ground.pairs(job)?;
    Ok(Contender { name: "bare hyper", process, address, path: "/orders", pairs, bad: Vec::new() })
}

/// Starts a bare server in a process of its own.
pub(crate) fn start(directory: &TempDir, name: &str, kind: &[&str]) -> anyhow::Result<(Process, SocketAddr)> {
    start_in(directory.path(), name, kind)
}

fn start_in(directory: &std::path::Path, name: &str, kind: &[&str]) -> anyhow::Result<(Process, SocketAddr)> {
    let port = free_port()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let port = port.to_string();
    let (what, rest) = kind.split_first().context("a kind of server")?;
    let arguments = [&["serve", what, &port], rest].concat();
    let program = std::env::current_exe()?.display().to_string();
    let mut process = Process::start(directory, name, &program, &arguments)?;
    process.wait_for(address, &directory.join(format!("{name}.log")))?;
    Ok((process, address))
}

/// Serves for ever, on one thread.
pub(crate) fn serve(port: &str, upstream: Option<&str>) -> anyhow::Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], port.parse()?));
    let upstream = upstream.map(str::parse::<SocketAddr>).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let _ = stream.set_nodelay(true);
            match upstream {
                None => drop(tokio::spawn(
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)),
                )),
                Some(upstream) => drop(tokio::spawn(forward(stream, upstream))),
            }
        }
    })
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::from(BODY));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}

/// Forwards the requests of a connection over one of its own.
async fn forward(stream: TcpStream, upstream: SocketAddr) -> anyhow::Result<()> {
    let onward = TcpStream::connect(upstream).await?;
    onward.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(onward)).await?;
    tokio::spawn(connection);
    let sender: Arc<Mutex<SendRequest<Incoming>>> = Arc::new(Mutex::new(sender));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            request.headers_mut().remove("apikey");
            request.headers_mut().remove("authorization");
            let mut sender = sender.lock().await;
            sender.ready().await?;
            sender.send_request(request).await
        }
    });
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
}
