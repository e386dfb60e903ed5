//! Overload and guessing, at the built binary.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tollgate_e2e::{Home, Server};
use tollgate_testkit::{Upstream, wait_until};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_for_a_place_of_its_pipeline_until_its_deadline_and_no_longer() {
    let home = Home::new();
    let server = Server::start(&home, &["--listen", "metrics=127.0.0.1:0"]);
    let one = |name| (name, ", concurrency: { limit: 1, queue: 1, queueTimeoutMs: 60000 }");
    let short = ("short", ", concurrency: { limit: 1, queue: 1, queueTimeoutMs: 100 }");
    let key = deploy(&home, &server, &[one("patient"), short]);
    let get = async |name: &str| {
        server.call("test", &format!("/pipeline/default/v1/{name}"), &[("apikey", &key)], None).await
    };
    let waiting = async || {
        let text = server.call("metrics", "/metrics", &[], None).await.expect(200, "").text;
        let line = text.lines().find_map(|line| line.strip_prefix("tollgate_calls_waiting "));
        line.expect("a number").to_owned()
    };
    // One runs, one waits, the next hears at once that there is no room.
    let mut first = begin(&server, "patient", &key).await;
    let (queued, ()) = tokio::join!(get("patient"), async {
        wait_until("a call that waits", Duration::from_secs(20), async || waiting().await == "1").await;
        get("patient").await.expect(503, "overloaded");
        // The one that runs ends, and the one that waited gets its place.
        first.write_all(b"hello").await.expect("open");
    });
    queued.expect(200, "");
    // And nobody is kept waiting beyond the deadline, though the place is never given back.
    let stuck = begin(&server, "short", &key).await;
    let late = get("short").await.expect(503, "overloaded");
    assert_eq!(late.headers["retry-after"], "1");
    drop(stuck);
    wait_until("the place of the caller who left", Duration::from_secs(10), async || {
        get("short").await.status == 200
    })
    .await;
    assert_eq!(waiting().await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_a_head_or_a_body_too_slowly_loses_the_connection_and_others_are_served() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let key = deploy(&home, &server, &[("one", "")]);
    let address = server.url("test").trim_start_matches("http://");
    wait_until("the deployment", Duration::from_secs(10), async || {
        server.call("test", "/pipeline/default/v1/one", &[("apikey", &key)], None).await.status == 200
    })
    .await;
    let target = "POST /pipeline/default/v1/one HTTP/1.1\r\nhost: a\r\n";
    let body = format!("{target}apikey: {key}\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nab");
    // Returns at all only because the server ends it: after 15 seconds, as it is set by itself.
    let ended = async |bytes: String| {
        let mut stream = TcpStream::connect(address).await.expect("listening");
        stream.write_all(bytes.as_bytes()).await.expect("taken");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    // A head to which a byte is added now and then is not a head that comes.
    let dripping = async {
        let mut stream = TcpStream::connect(address).await.expect("listening");
        stream.write_all(format!("{target}x: ").as_bytes()).await.expect("taken");
        let (mut reading, mut writing) = stream.split();
        let drip = async {
            while writing.write_all(b"y").await.is_ok() {
                // Another caller is served meanwhile.
                server
                    .call("test", "/pipeline/default/v1/one", &[("apikey", &key)], None)
                    .await
                    .expect(200, "");
            }
        };
        let mut answer = Vec::new();
        tokio::select! {
            _ = reading.read_to_end(&mut answer) => {}
            () = drip => {}
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let all = async { tokio::join!(ended(target.to_owned()), ended(body), dripping) };
    let (head, body, dripping) = tokio::time::timeout(Duration::from_secs(60), all).await.expect("ended");
    assert_eq!(head, "", "half a head is no request, and gets no answer");
    assert!(body.starts_with("HTTP/1.1 408 ") && body.contains("request-timeout"), "{body}");
    assert_eq!(dripping, "", "nor is one that does not come to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_by_address_and_what_is_passed_on_go_by_the_caller_whom_a_trusted_proxy_names() {
    let upstream = Upstream::start().await.expect("a port");
    for (trusted, counts_each) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let home = Home::new();
        let server = Server::start(&home, &["--trusted-proxy", trusted]);
        server.cli(&["policy", "set", "external-api-access", "--env", "test=any", "--yes"]).expect_code(0);
        server.cli(&["realm", "set", "--allow-upstreams", "127.0.0.1,::1"]).expect_code(0);
        let file = home.file(
            "open.yaml",
            &format!(
                "kind: Pipeline\nname: open\nproject: store\ntrigger: {{ type: http, externalApi: true, methods: [GET], \
                 rateLimit: {{ limits: [{{ interval: day, limit: 2 }}] }} }}\nsteps: [{{ proxy: {{ url: \"{}\" }} }}]\n",
                upstream.url("/")
            ),
        );
        server.cli(&["apply", "-f", &file]).expect_code(0);
        server.cli(&["deploy", "open", "--env", "test"]).expect_code(0);
        let call = async |told: &str| {
            let headers = [("x-forwarded-for", told)];
            server.call("test", "/pipeline/default/v1/open", &headers, None).await.status
        };
        // What each of these callers uses up is of another address, until the deployment is there.
        let mut n = 0;
        wait_until("the deployment", Duration::from_secs(10), async || {
            n += 1;
            let status = call(&format!("198.51.100.{n}")).await;
            assert!([200, 404].contains(&status), "{status}");
            status == 200
        })
        .await;
        // Behind an untrusted peer this is the second call of one address, and everything after it is too much, whatever it
        // says of itself; behind a trusted one two callers have two calls each, and what they write further left counts for nothing.
        let told = [
            "192.0.2.1",
            "203.0.113.7, 192.0.2.1",
            "203.0.113.8, 192.0.2.1",
            "192.0.2.2",
            "192.0.2.1, 192.0.2.2",
            "192.0.2.2",
        ];
        let mut statuses = Vec::new();
        for told in told {
            statuses.push(call(told).await);
        }
        let seen = upstream.requests().pop().expect("a request").headers["x-forwarded-for"].clone();
        if counts_each {
            assert_eq!(statuses, [200, 200, 429, 200, 200, 429]);
            assert_eq!(seen, "192.0.2.2", "one address, which the proxy told");
        } else {
            assert_eq!(statuses, [200, 429, 429, 429, 429, 429]);
            assert_eq!(seen, "127.0.0.1", "what a caller says of itself reaches nobody");
        }
        assert_eq!(server.stop(), Some(0));
    }
}
