//! Informational answers of upstreams: none reaches a caller, and a flood of them ends (decision 0056).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tollgate_model::names::EnvironmentName;

use crate::proxying::{Raw, exchange, path, proxy, serve};
use crate::world::{World, get};

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </secret.css>; rel=preload\r\n\r\n";

/// Longest wait for the end of a flood.
const SOON: Duration = Duration::from_secs(60);

/// An upstream that answers its first request with interim answers and nothing else, for as long as somebody takes them.
async fn flood(http2: bool) -> (SocketAddr, Arc<AtomicUsize>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let flooding = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let wave = if http2 { hints_on_http2(&mut stream).await } else { hints_on_http1(&mut stream).await };
        let (mut reading, mut writing) = stream.into_split();
        // What the gateway has to say is taken, so that it never waits for us.
        let reading =
            tokio::spawn(async move { while reading.read(&mut [0; 4096]).await.is_ok_and(|it| it > 0) {} });
        while writing.write_all(&wave).await.is_ok() {
            count.fetch_add(wave.len(), Ordering::Relaxed);
        }
        reading.abort();
    });
    (address, sent, flooding)
}

async fn hints_on_http1(stream: &mut TcpStream) -> Vec<u8> {
    let mut text = String::new();
    while !text.contains("\r\n\r\n") {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).await.expect("a request");
        text.push_str(&String::from_utf8_lossy(bytes.get(..read).unwrap_or_default()));
    }
    HINTS.repeat(200).into_bytes()
}

async fn hints_on_http2(stream: &mut TcpStream) -> Vec<u8> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const HEADERS: u8 = 1;
    stream.read_exact(&mut [0; 24]).await.expect("the preface");
    stream.write_all(&SETTINGS).await.expect("taken");
    let stream_id = loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("a frame");
        let [a, b, c, kind, _, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await.expect("a frame");
        if kind == HEADERS {
            break id;
        }
    };
    // HEADERS with END_HEADERS: `:status: 103`, and a field, both literal and not indexed (RFC 7541 section 6.2.2).
    let block = b"\x08\x03103\x00\x04link\x0b</s>; rel=p";
    let mut frame = vec![0, 0, u8::try_from(block.len()).expect("short"), HEADERS, 4];
    frame.extend_from_slice(&stream_id);
    frame.extend_from_slice(block);
    frame.repeat(200)
}

#[tokio::test]
async fn a_caller_gets_the_answer_and_not_what_came_before_it() {
    let hints = HINTS.repeat(300);
    let text =
        format!("{hints}HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let text: &'static str = text.leak();
    for version in ["1.1", "1.0"] {
        let upstream = Raw::start(text, false).await;
        let mut world = World::new();
        world.deploy(&proxy("page", "", &upstream.url(), ""));
        let (address, _stop) = serve(world).await;
        let call = format!("GET {} HTTP/{version}\r\nhost: a\r\nconnection: close\r\n\r\n", path("page"));
        let answer = exchange(address, &call).await;
        assert!(answer.starts_with(&format!("HTTP/{version} 200 ")) && answer.ends_with("ok"), "{answer}");
        assert!(answer.matches("HTTP/1.").count() == 1 && !answer.contains("secret.css"), "{answer}");
    }
}

#[tokio::test]
async fn a_flood_of_interim_answers_ends_with_the_patience_of_the_call_and_costs_others_nothing() {
    let test = EnvironmentName::test();
    for http2 in [false, true] {
        let (address, sent, flooding) = flood(http2).await;
        let calm = Raw::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false).await;
        let mut world = World::new();
        let more = format!(", responseTimeoutMs: 500, upstream: {{ http2: {http2}, retries: 0 }}");
        world.deploy(&proxy("flood", "", &format!("http://{address}/"), &more));
        world.deploy(&proxy("calm", "", &calm.url(), ""));
        world.publish();
        let (page, calm) = (get(&path("flood"), &[]), get(&path("calm"), &[]));
        let (flooded, calm) = tokio::join!(world.call(&test, page), world.call(&test, calm));
        assert_eq!(calm.text, "ok");
        assert_eq!((flooded.status.as_u16(), flooded.code()), (504, "upstream-timeout"), "http2: {http2}");
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent > 100 * HINTS.len(), "http2: {http2}: {sent} bytes are no flood");
        if http2 {
            // Others may have calls on the connection: it ends when nobody has used it for a while.
            flooding.abort();
        } else {
            // The connection is not kept for others, nor drained for ever.
            tokio::time::timeout(SOON, flooding).await.expect("the gateway hangs up").expect("no panic");
        }
    }
}
