//! Requests of HTTP/1.1 that two programs could read in two ways.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tollgate_listener::{Entrance, ListenerSettings};

use crate::world::{echo, echoed, exchange, read_to, rest, start};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn an_ambiguous_head_is_answered_400_and_nothing_after_it_is_read() {
    let server = echo(Entrance::default(), ListenerSettings::default()).await;
    for head in [
        // Two lengths: CL.TE, TE.CL, TE.TE.
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        // Lengths that are lists, or no numbers.
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 4\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0, 0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0,4\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length : 0\r\n\r\n",
        // Ends of lines.
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\nz: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\rz: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\r\n\r\n",
        "\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        // Folded fields, and what is no field.
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n\tz\r\n\r\n",
        "GET / HTTP/1.1\r\n host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n: x\r\n\r\n",
        // Bytes that end strings in other programs.
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\0z\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx\0: y\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET\0 / HTTP/1.1\r\nhost: a\r\n\r\n",
        // Request lines.
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / /x HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nhost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nhost: a\r\n\r\n",
        "GET / http/1.1\r\nhost: a\r\n\r\n",
        "GET /\r\n\r\n",
        "GARBAGE\r\n\r\n",
    ] {
        let answer = exchange(server.address, format!("{head}{SMUGGLED}")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?} got {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head:?} got {answer:?}");
        assert_eq!(server.seen(), [""; 0], "{head:?} got through");
    }
}

#[tokio::test]
async fn an_ambiguous_body_is_an_error_for_whoever_reads_it() {
    let server = echo(Entrance::default(), ListenerSettings::default()).await;
    for (count, body) in [
        "5\n12345\r\n0\r\n\r\n",
        "5;x\n12345\r\n0\r\n\r\n",
        "5;\0\r\n12345\r\n0\r\n\r\n",
        "5 ;x\r\n12345\r\n0\r\n\r\n",
        "5\r\n12345X\r\n0\r\n\r\n",
        "5\r\n123456\r\n0\r\n\r\n",
        "0x5\r\n12345\r\n0\r\n\r\n",
        "-1\r\n12345\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n12345\r\n0\r\n\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\nx: y\n\r\n",
        "0\r\ncontent-length: 40\r\n\r\n",
        "0\r\ntransfer-encoding: chunked\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = exchange(server.address, format!("{head}{body}{SMUGGLED}")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{body:?} got {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{body:?} got {answer:?}");
        assert_eq!(server.seen().len(), count + 1, "{body:?} hid a request");
    }
}

#[tokio::test]
async fn what_comes_before_an_ambiguous_request_is_answered() {
    let server = start(Entrance::default(), ListenerSettings::default(), async |_, request| {
        // Long enough for all that was sent to be there.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        echoed(request).await
    })
    .await;
    let good = "POST /good HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody";
    let answer = exchange(server.address, format!("{good}{good}GET /bad HTTP/1.1\n{SMUGGLED}")).await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
    assert_eq!(answer.matches("body").count(), 2, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 400 ").count(), 1, "{answer}");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn requests_in_one_reading_get_through_however_they_are_cut() {
    let server = echo(Entrance::default(), ListenerSettings::default()).await;
    let requests = "\r\nPOST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n\nline\r\n\
        POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;a=\"b c\"\r\n1\n2\r\n1\r\n3\r\n0\r\nx: y\r\n\r\n\
        GET /c HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = exchange(server.address, requests).await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 3, "{answer}");
    let mut stream = TcpStream::connect(server.address).await.expect("listening");
    for byte in requests.as_bytes() {
        stream.write_all(&[*byte]).await.expect("taken");
        stream.flush().await.expect("taken");
    }
    let answer = rest(&mut stream).await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 3, "{answer}");
    assert!(answer.contains("\n\nline\r\n") && answer.contains("1\n23"), "{answer}");
}

#[tokio::test]
async fn a_caller_that_is_asked_to_go_on_goes_on() {
    let server = echo(Entrance::default(), ListenerSettings::default()).await;
    let mut stream = TcpStream::connect(server.address).await.expect("listening");
    let head =
        "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("taken");
    read_to(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
    stream.write_all(b"body").await.expect("taken");
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("body"), "{answer}");
    assert!(answer.contains("\r\ndate: "), "{answer}");
}

#[tokio::test]
async fn a_caller_of_http_1_0_is_not_asked_to_go_on() {
    let server = echo(Entrance::default(), ListenerSettings::default()).await;
    // It would take an interim answer for the answer (RFC 9110 section 10.1.1).
    let call = "PUT / HTTP/1.0\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\nbody";
    let answer = exchange(server.address, call).await;
    assert!(answer.starts_with("HTTP/1.0 200 ") && answer.ends_with("body"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.").count(), 1, "{answer}");
}
