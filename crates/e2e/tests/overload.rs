//! Overload and guessing, at the built binary.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tollgate_e2e::{Home, Server};
use tollgate_testkit::wait_until;

fn pipeline(name: &str, trigger: &str) -> String {
    format!(
        "kind: Pipeline\nname: {name}\nproject: store\ntrigger: {{ type: http, externalApi: true, apiKey: true, \
         methods: [GET, POST]{trigger} }}\nsteps: [{{ json: {{ body: \"{{{{ message.body }}}}\" }} }}]\n"
    )
}

/// Deploys pipelines in test and returns a key that may call them.
fn deploy(home: &Home, server: &Server<'_>, pipelines: &[(&str, &str)]) -> String {
    let mut create = vec!["consumer", "create", "shop", "--env", "test"];
    for (name, trigger) in pipelines {
        let file = home.file(&format!("{name}.yaml"), &pipeline(name, trigger));
        server.cli(&["apply", "-f", &file]).expect_code(0);
        server.cli(&["deploy", name, "--env", "test"]).expect_code(0);
        create.extend(["--pipeline", name]);
    }
    let made = server.json(&create);
    made["items"][0]["key"]["key"].as_str().expect("shown once").to_owned()
}

/// Begins a call whose body does not come, and waits until the gateway asks for it: then it runs.
async fn begin(server: &Server<'_>, name: &str, key: &str) -> TcpStream {
    let address = server.url("test").trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("listening");
    let head = format!(
        "POST /pipeline/default/v1/{name} HTTP/1.1\r\nhost: a\r\napikey: {key}\r\ncontent-type: text/plain\r\n\
         content-length: 5\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("taken");
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_bound_hear_so_at_once_and_places_come_back_from_callers_who_leave() {
    let home = Home::new();
    let server = Server::start(&home, &["--max-calls", "2", "--call-queue", "0"]);
    let key = deploy(&home, &server, &[("one", ", concurrency: { limit: 1 }"), ("free", "")]);
    let get = async |name: &str| {
        server.call("test", &format!("/pipeline/default/v1/{name}"), &[("apikey", &key)], None).await
    };
    let first = begin(&server, "one", &key).await;
    let refused = get("one").await.expect(503, "overloaded");
    assert_eq!(refused.headers["retry-after"], "1");
    get("free").await.expect(200, "");
    let second = begin(&server, "free", &key).await;
    get("free").await.expect(503, "overloaded");
    server.call("test", "/readyz", &[], None).await.expect(200, "");
    drop(first);
    wait_until("the place of the caller who left", Duration::from_secs(10), async || {
        get("one").await.status == 200
    })
    .await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_count_for_the_caller_behind_the_proxy_and_not_for_the_proxy() {
    let home = Home::new();
    let server =
        Server::start(&home, &["--trusted-proxy", "127.0.0.0/8", "--bad-credentials-per-address", "3"]);
    let key = deploy(&home, &server, &[("one", "")]);
    let call = async |from: &str, key: &str| {
        let headers = [("apikey", key), ("x-forwarded-for", from)];
        server.call("test", "/pipeline/default/v1/one", &headers, None).await
    };
    let mut codes = Vec::new();
    for _ in 0..20 {
        codes.push(call("192.0.2.7", "tg_test_junk").await.code().to_owned());
    }
    assert_eq!(codes[..3], ["api-key-invalid"; 3]);
    assert!(codes.iter().any(|code| code == "too-many-bad-credentials"), "{codes:?}");
    call("192.0.2.7", &key).await.expect(200, "");
    call("192.0.2.8", "tg_test_junk").await.expect(401, "api-key-invalid");
}
