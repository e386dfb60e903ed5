//! Floods of frames of HTTP/2 that carry nothing (CVE-2019-9512, -9515, -9518, and their like): they end their connection, they take
//! no memory, and others are served meanwhile.

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tollgate_listener::ListenerSettings;

use crate::http2::{
    DATA, END_HEADERS, END_STREAM, GET, HEADERS, RST_STREAM, SETTINGS, cleartext, client, frame, kinds, next,
    patient, raw, request,
};
use crate::world::{SOON, Server, ok, start};

const PRIORITY: u8 = 2;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
/// `POST /` of `http://a`, in HPACK.
const POST: &[u8] = b"\x83\x84\x86\x41\x01a";

/// More frames than any caller needs, by far.
const MANY: usize = 200_000;

/// A listener that answers GET, and reads the body of nothing else.
async fn server() -> Server {
    start(cleartext(), patient(), async |_, request| match *request.method() {
        Method::GET => ok("answer"),
        _ => std::future::pending().await,
    })
    .await
}

/// Calls on a connection of its own.
async fn is_served(server: &Server) {
    let answer = client(server).await.send_request(request(Method::GET, ""));
    let answer = timeout(SOON, answer).await.expect("in time").expect("answers");
    assert_eq!(answer.collect().await.expect("whole").to_bytes(), "answer");
}

/// Memory of this process, in KiB.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_frames_that_carry_nothing_ends_its_connection_and_nobody_elses() {
    let server = server().await;
    for (what, bytes) in [
        ("PING", frame(PING, 0, 0, b"12345678")),
        ("an answer to no PING", frame(PING, ACK, 0, b"12345678")),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("SETTINGS that change something", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0x10, 0])),
        ("empty DATA", frame(DATA, 0, 1, &[])),
        ("DATA of padding", frame(DATA, 8, 1, &[3, 0, 0, 0])),
        ("WINDOW_UPDATE of a connection", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("WINDOW_UPDATE of a stream", frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 7])),
        ("RST_STREAM of what has ended", frame(RST_STREAM, 0, 3, &[0, 0, 0, 8])),
        ("a frame that nobody knows", frame(99, 0, 0, b"x")),
    ] {
        for reads in [true, false] {
            let mut stream = raw(&server, &[]).await;
            stream.write_all(&frame(HEADERS, END_HEADERS, 1, POST)).await.expect("taken");
            stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 3, GET)).await.expect("taken");
            let before = memory_kib();
            let (mut reader, mut writer) = stream.into_split();
            let mut end = Box::pin(async move { while reader.read_u8().await.is_ok() {} });
            let flood = async {
                let piece = bytes.repeat(100);
                for sent in 0..MANY / 100 {
                    if writer.write_all(&piece).await.is_err() {
                        break;
                    }
                    if sent == 50 {
                        is_served(&server).await;
                    }
                }
            };
            if reads {
                tokio::join!(flood, timeout(SOON, &mut end)).1
            } else {
                flood.await;
                timeout(SOON, &mut end).await
            }
            .unwrap_or_else(|_| panic!("{what}, reads: {reads}: it goes on"));
            let more = memory_kib().saturating_sub(before);
            assert!(more < 64 * 1024, "{what}, reads: {reads}: {more} KiB");
        }
        is_served(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bodies_of_one_byte_a_frame_ends_its_connection() {
    let server = server().await;
    let mut stream = raw(&server, &[]).await;
    stream.write_all(&frame(HEADERS, END_HEADERS, 1, POST)).await.expect("taken");
    // h2 counts what the frames take beside their bytes.
    let piece = frame(DATA, 0, 1, b"x").repeat(100);
    for _ in 0..MANY / 100 {
        if stream.write_all(&piece).await.is_err() {
            break;
        }
    }
    kinds(stream).await;
    is_served(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_a_long_answer_in_small_pieces_may_say_so_for_each() {
    const PIECES: usize = 20_000;
    const PIECE_BYTES: u8 = 50;
    let body = Bytes::from(vec![b'x'; PIECES * usize::from(PIECE_BYTES)]);
    let server = start(cleartext(), ListenerSettings::default(), move |_, _| {
        let body = body.clone();
        async move { http::Response::new(http_body_util::Full::new(body)) }
    })
    .await;
    // A window of one piece, which is opened again for each, for the request and for the connection.
    let mut stream = raw(&server, &[0, 4, 0, 0, 0, PIECE_BYTES]).await;
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, GET)).await.expect("taken");
    let more = u32::from(PIECE_BYTES).to_be_bytes();
    let windows = [frame(WINDOW_UPDATE, 0, 0, &more), frame(WINDOW_UPDATE, 0, 1, &more)].concat();
    let mut taken = 0;
    while taken < PIECES * usize::from(PIECE_BYTES) {
        let found = timeout(SOON, next(&mut stream)).await.expect("in time");
        let (kind, payload) = found.unwrap_or_else(|| panic!("closed after {taken} bytes"));
        if kind == DATA {
            taken += payload.len();
            stream.write_all(&windows).await.expect("taken");
        }
    }
}
