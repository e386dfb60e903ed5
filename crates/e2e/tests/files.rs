//! Files of 1 GiB through a running server, up and down, in memory that does not grow with them.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tollgate_e2e::{Home, Server};
use tollgate_testkit::wait_until;

const FILE_BYTES: usize = 1 << 30;
const PIECE_BYTES: usize = 1 << 16;

/// What the server may take more than before: buffers of its connections, and no file.
const MOST_MORE_KIB: u64 = 64 * 1024;

const FILES: &str = r#"
kind: Pipeline
name: files
project: store
description: Files of the shop
trigger:
  type: httpFile
  methods: [GET, PUT]
  externalApi: true
  apiKey: true
  routes: ["/files/*name"]
steps:
  - assert: { condition: "message.queryAndPath.name.endsWith('.iso')", status: 404, error: no such file }
  - proxy: { url: "{{ globals[\"file-url\"] }}" }
"#;

/// Takes files and counts their bytes, and gives files of zeros.
async fn store_of_files() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    url
}

async fn serve(mut socket: TcpStream) {
    let mut piece = vec![0; PIECE_BYTES];
    let mut head = Vec::new();
    let end = loop {
        let read = socket.read(&mut piece).await.unwrap_or_default();
        if read == 0 {
            return;
        }
        head.extend_from_slice(&piece[..read]);
        if let Some(end) = head.windows(4).position(|it| it == b"\r\n\r\n") {
            break end + 4;
        }
    };
    if head.starts_with(b"GET /a.iso") {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {FILE_BYTES}\r\nconnection: close\r\n\r\n");
        socket.write_all(answer.as_bytes()).await.expect("a head");
        piece.fill(0);
        for _ in 0..FILE_BYTES / PIECE_BYTES {
            socket.write_all(&piece).await.expect("a piece");
        }
        return;
    }
    let mut count = head.len() - end;
    while count < FILE_BYTES {
        match socket.read(&mut piece).await.unwrap_or_default() {
            0 => break,
            read => count += read,
        }
    }
    let text = count.to_string();
    let answer =
        format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len());
    let _ = socket.write_all(answer.as_bytes()).await;
}

/// Returns the most memory that a process has had at once.
fn peak_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_1_gib_goes_up_and_down_in_constant_memory() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let store = store_of_files().await;
    server.cli(&["realm", "set", "--allow-upstreams", "127.0.0.1"]).expect_code(0);
    server.cli(&["global", "set", "file-url", &store, "--env", "test"]).expect_code(0);
    server.cli(&["apply", "-f", &home.file("files.yaml", FILES)]).expect_code(0);
    server.cli(&["deploy", "files", "--env", "test"]).expect_code(0);
    let made = server.json(&["consumer", "create", "shop", "--env", "test", "--pipeline", "files"]);
    let key = made["items"][0]["key"]["key"].as_str().expect("shown once").to_owned();
    let path = "/pipeline/default/v1/files";
    wait_until("the key works", Duration::from_secs(20), async || {
        server.call("test", &format!("{path}/a.txt"), &[("apikey", &key)], None).await.status == 404
    })
    .await;
    let address = server.url("test").trim_start_matches("http://").to_owned();
    let before = peak_kib(server.id());

    let head = |method: &str, length: usize| {
        format!(
            "{method} {path}/a.iso HTTP/1.1\r\nhost: a\r\napikey: {key}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        )
    };
    let stream = TcpStream::connect(&address).await.expect("listening");
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(head("PUT", FILE_BYTES).as_bytes()).await.expect("a head");
    let piece = vec![7; PIECE_BYTES];
    for _ in 0..FILE_BYTES / PIECE_BYTES {
        writer.write_all(&piece).await.expect("a piece is taken");
    }
    let mut answer = String::new();
    reader.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 201 ") && answer.ends_with(&FILE_BYTES.to_string()), "{answer}");

    let mut stream = TcpStream::connect(&address).await.expect("listening");
    stream.write_all(head("GET", 0).as_bytes()).await.expect("a head");
    let (mut count, mut piece) = (0, vec![0; PIECE_BYTES]);
    loop {
        match stream.read(&mut piece).await.expect("a piece") {
            0 => break,
            read => count += read,
        }
    }
    assert!((FILE_BYTES..FILE_BYTES + 1024).contains(&count), "{count} bytes with the head");

    let more = peak_kib(server.id()) - before;
    assert!(more < MOST_MORE_KIB, "the server took {more} KiB more");
    home.keep_secret(&key);
    assert_eq!(server.stop(), Some(0));
    home.assert_secrets_stayed_secret();
}
