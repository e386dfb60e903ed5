//! Calls that go on to an upstream: what each side learns of the other, and what neither can do to the other.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tollgate_gateway::ListenerId;
use tollgate_listener::Entrance;
use tollgate_model::environments::{Exposure, Realm};
use tollgate_model::names::EnvironmentName;
use tollgate_testkit::{Answer, Upstream};

use crate::world::{World, get, remote, request};

pub(crate) fn proxy(name: &str, trigger: &str, url: &str, more: &str) -> String {
    format!(
        "{{kind: Pipeline, name: {name}, project: store, steps: [{{proxy: {{url: '{url}' {more}}}}}], \
         trigger: {{type: http, methods: [GET, HEAD, POST, PUT], externalApi: true {trigger}}}}}"
    )
}

pub(crate) fn path(name: &str) -> String {
    format!("/pipeline/default/v1/{name}")
}

/// Reads one head, sends bytes, and closes the connection if it should; remembers all that it reads.
pub(crate) struct Raw {
    address: SocketAddr,
    seen: Arc<Mutex<String>>,
}

impl Raw {
    pub(crate) async fn start(answer: &'static str, closes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Mutex::new(String::new()));
        let all = seen.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let seen = all.clone();
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    let mut text = String::new();
                    let mut answered = false;
                    loop {
                        let read = socket.read(&mut bytes).await.unwrap_or_default();
                        if read == 0 {
                            break;
                        }
                        text.push_str(&String::from_utf8_lossy(bytes.get(..read).unwrap_or_default()));
                        seen.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&text);
                        if text.contains("\r\n\r\n") && !answered {
                            answered = true;
                            let _ = socket.write_all(answer.as_bytes()).await;
                            if closes {
                                break;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn seen(&self) -> String {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves a world's gateway on a port.
pub(crate) async fn serve(world: World) -> (SocketAddr, watch::Sender<bool>) {
    world.publish();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (stop, shutdown) = watch::channel(false);
    tokio::spawn(async move {
        let entrance = Entrance { cleartext_http2: true, ..Entrance::default() };
        world.gateway.serve(listener, entrance, EnvironmentName::test(), Exposure::External, shutdown).await;
    });
    (address, stop)
}

/// Sends bytes and returns what comes back until the connection is closed.
pub(crate) async fn exchange(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("listening");
    let _ = stream.write_all(bytes.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn an_upstream_learns_what_is_asked_and_nothing_that_is_none_of_its_business() {
    let test = EnvironmentName::test();
    let upstream = Upstream::start().await.expect("a port");
    let mut world = World::new();
    let keyed = ", apiKey: { query: true }, routes: ['/files/*rest', '/whole/*rest', '/static']";
    let more = ", headers: { x-consumer: '{{ consumer.name }}' }, dropHeaders: [x-internal]";
    world.deploy(&proxy("keyed", keyed, &upstream.url("/base/"), more));
    let alice = world.consumer(&test, "alice", &["keyed"]);
    let (_, key) = world.key(&test, alice);
    world.publish();
    let headers = [
        ("authorization", "Bearer secret"),
        ("proxy-authorization", "Basic secret"),
        ("cookie", "session=secret"),
        ("connection", "close, X-Hop, x-consumer"),
        ("x-hop", "1"),
        ("x-consumer", "mallory"),
        ("x-internal", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "gzip"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x_forwarded_for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("via", "1.1 cdn"),
        ("accept", "image/png"),
        ("content-type", "text/plain"),
    ];
    let path = format!("/pipeline/default/v1/files/a%20b/c?x=1&%61pikey={key}&y=2");
    let reply = world.call(&test, request("PUT", &path, &headers, "body")).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    let sent = upstream.requests().remove(0);
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("PUT", "/base/a%20b/c?x=1&y=2"));
    assert_eq!(&sent.body[..], b"body");
    let all = format!("{:?}", sent.headers);
    assert!(!all.contains("secret") && !all.contains(&key) && !all.contains("10.0.0.1"), "{all}");
    for gone in ["apikey", "cookie", "connection", "x-hop", "x-internal", "keep-alive", "te", "x-real-ip"] {
        assert!(!sent.headers.contains_key(gone), "{gone}: {all}");
    }
    let header = |name: &str| {
        let values: Vec<_> = sent.headers.get_all(name).iter().map(|it| it.to_str().expect("text")).collect();
        values.join("|")
    };
    assert_eq!(header("x-consumer"), "alice");
    assert_eq!(header("accept"), "image/png");
    assert_eq!(header("host"), upstream.address().to_string());
    assert_eq!(header("x-forwarded-for"), "192.0.2.1");
    assert_eq!(header("x-forwarded-host"), "gateway.example");
    assert_eq!(header("x-forwarded-proto"), "http");
    assert_eq!(header("forwarded"), "for=192.0.2.1;host=\"gateway.example\";proto=http");
    assert_eq!(header("via"), "1.1 cdn|1.1 tollgate");
    assert_eq!(header("x-request-id"), reply.header("x-request-id"));
    assert!(header("traceparent").starts_with("00-"));
    // A route without a rest goes to the URL itself.
    let plain = [("apikey", key.as_str())];
    assert_eq!(
        world.call(&test, get("/pipeline/default/v1/static?z=1", &plain)).await.status,
        StatusCode::OK
    );
    assert_eq!(upstream.requests()[1].target, "/base/?z=1");
}

#[tokio::test]
async fn what_goes_on_is_what_the_step_says() {
    let test = EnvironmentName::test();
    let upstream = Upstream::start().await.expect("a port");
    let url = upstream.url("/base");
    let mut world = World::new();
    world.deploy(&proxy("route", "", &url, ", path: route, query: false"));
    world.deploy(&proxy("whole", "", &url, ", path: whole"));
    world.deploy(&proxy("passes", "", &url, ", passOn: [authorization, cookies, apiKey]"));
    world.deploy(&proxy("fixed", "", &upstream.url("/base?tenant=7"), ", query: false"));
    world.publish();
    let headers =
        [("authorization", "Bearer x"), ("cookie", "a=1; tollgate_session=secret"), ("apikey", "k")];
    for name in ["route", "whole", "passes", "fixed"] {
        let call = get(&format!("{}?tenant=8", path(name)), &headers);
        assert_eq!(world.call(&test, call).await.status, StatusCode::OK);
    }
    let sent = upstream.requests();
    let targets: Vec<_> = sent.iter().map(|it| it.target.as_str()).collect();
    assert_eq!(
        targets,
        ["/base/route", "/base/pipeline/default/v1/whole?tenant=8", "/base?tenant=8", "/base?tenant=7"]
    );
    assert!(!sent[0].headers.contains_key("authorization") && !sent[0].headers.contains_key("cookie"));
    assert_eq!(sent[2].headers["authorization"], "Bearer x");
    assert_eq!(
        (&sent[2].headers["cookie"], &sent[2].headers["apikey"]),
        (&"a=1".parse().unwrap(), &"k".parse().unwrap())
    );
}

#[tokio::test]
async fn a_flow_decides_before_the_call_goes_on() {
    let test = EnvironmentName::test();
    let upstream = Upstream::start().await.expect("a port");
    let mut world = World::new();
    world.deploy(&format!(
        "{{kind: Pipeline, name: guarded, project: store, trigger: {{type: http, externalApi: true}}, steps: [\
         {{assert: {{condition: 'has(message.headers.tenant)', status: 403, error: 'no tenant'}}}}, \
         {{choice: {{when: [{{condition: 'message.method == \"GET\"', steps: [\
           {{proxy: {{url: '{}/{{{{ message.headers.tenant }}}}'}}}}]}}], \
           otherwise: [{{respond: {{status: 405}}}}]}}}}]}}",
        upstream.url("/t")
    ));
    world.publish();
    let call = async |method: &str, headers: &[(&str, &str)]| {
        world.call(&test, request(method, &path("guarded"), headers, "")).await.status.as_u16()
    };
    assert_eq!(call("GET", &[]).await, 403);
    assert_eq!(call("POST", &[("tenant", "a")]).await, 405);
    assert_eq!(call("GET", &[("tenant", "../b")]).await, 200);
    let targets: Vec<_> = upstream.requests().into_iter().map(|it| it.target).collect();
    assert_eq!(targets, ["/t/..%2Fb"]);
}

#[tokio::test]
async fn a_caller_gets_what_is_the_upstreams_and_not_its_connections() {
    let test = EnvironmentName::test();
    let upstream = Upstream::start().await.expect("a port");
    let field = |answer: Answer, name: &'static str, value: &'static str| {
        answer.header(HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let mut world = World::new();
    let more = ", responseHeaders: { x-frame-options: DENY }, dropResponseHeaders: [server]";
    world.deploy(&proxy(
        "files",
        ", responseHeaders: { cache-control: no-store, x-mine: '1' }",
        &upstream.url("/"),
        more,
    ));
    world.publish();
    let mut answer = Answer::new(StatusCode::CREATED, "hello");
    for (name, value) in [
        ("connection", "X-Hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("tollgate-error", "api-key-invalid"),
        ("server", "secret/1.2"),
        ("x-frame-options", "ALLOW"),
        ("cache-control", "max-age=60"),
        ("set-cookie", "a=1"),
        ("via", "1.1 app"),
    ] {
        answer = field(answer, name, value);
    }
    upstream.answer(answer);
    let reply = world.call(&test, get(&path("files"), &[])).await;
    assert_eq!((reply.status, reply.text.as_str()), (StatusCode::CREATED, "hello"));
    for gone in ["connection", "x-hop", "keep-alive", "tollgate-error", "server", "transfer-encoding"] {
        assert!(!reply.headers.contains_key(gone), "{gone}: {reply:?}");
    }
    for (name, value) in
        [("x-frame-options", "DENY"), ("cache-control", "max-age=60"), ("x-mine", "1"), ("set-cookie", "a=1")]
    {
        assert_eq!(reply.header(name), value, "{name}");
    }
    let via: Vec<_> = reply.headers.get_all("via").iter().collect();
    assert_eq!(via, ["1.1 app", "1.1 tollgate"]);
}

#[tokio::test]
async fn an_answer_with_two_readings_reaches_no_caller() {
    let test = EnvironmentName::test();
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 3, 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nabc",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-a: 1\r\n folded: 2\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-a : 1\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-a: 1\0\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx a: 1\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n",
        "HTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "\r\n\r\n",
        "",
    ] {
        let raw = Raw::start(answer, true).await;
        let mut world = World::new();
        world.deploy(&proxy("files", "", &raw.url(), ""));
        world.publish();
        let reply = world.call(&test, get(&path("files"), &[])).await;
        assert_eq!(reply.status, StatusCode::BAD_GATEWAY, "{answer:?} {reply:?}");
        assert!(["upstream-malformed", "upstream-unreachable"].contains(&reply.code()), "{reply:?}");
        assert!(!reply.text.contains("abc"), "{reply:?}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_looks_whole() {
    for (answer, length_told) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nde", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", false),
    ] {
        let raw = Raw::start(answer, true).await;
        let mut world = World::new();
        world.deploy(&proxy("files", "", &raw.url(), ""));
        let (address, _stop) = serve(world).await;
        let call = format!("GET {} HTTP/1.1\r\nhost: a\r\n\r\n", path("files"));
        let got = exchange(address, &call).await;
        assert!(got.starts_with("HTTP/1.1 200 OK"), "{answer:?} {got}");
        assert_eq!(got.contains("content-length: 10"), length_told, "{got}");
        assert!(!got.ends_with("\r\n0\r\n\r\n") && !got.contains("HTTP/1.1 5"), "{answer:?} {got}");
    }
}

#[tokio::test]
async fn what_an_upstream_sends_behind_its_answer_answers_nobody() {
    let test = EnvironmentName::test();
    let raw = Raw::start(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison",
        false,
    )
    .await;
    let mut world = World::new();
    world.deploy(&proxy("files", "", &raw.url(), ""));
    world.publish();
    for _ in 0..3 {
        let reply = world.call(&test, get(&path("files"), &[])).await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, "ok"), "{reply:?}");
    }
}

#[tokio::test]
async fn a_body_is_framed_anew_and_smuggles_no_request() {
    let raw = Raw::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false).await;
    let mut world = World::new();
    world.deploy(&proxy("files", "", &raw.url(), ""));
    let (address, _stop) = serve(world).await;
    let smuggled = "0\r\n\r\nGET /admin HTTP/1.1\r\nhost: b\r\n\r\n";
    let call = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{:x};a=b\r\n{smuggled}\r\n0\r\n\r\n",
        path("files"),
        smuggled.len()
    );
    let got = exchange(address, &call).await;
    assert!(got.ends_with("ok"), "{got}");
    let seen = raw.seen();
    let (head, body) = seen.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-length"), "{head}");
    assert_eq!(body, format!("{:X}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len()));
}

#[tokio::test]
async fn a_body_is_asked_for_when_it_is_wanted_and_goes_on_as_it_comes() {
    // Answers before the body has ended.
    let raw = Raw::start("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly", false).await;
    let mut world = World::new();
    world.deploy(&proxy("files", "", &raw.url(), ""));
    world.deploy(&proxy("keyed", ", apiKey: true", &raw.url(), ""));
    let (address, _stop) = serve(world).await;
    let mut stream = TcpStream::connect(address).await.expect("listening");
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\r\n",
        path("files")
    );
    stream.write_all(head.as_bytes()).await.expect("writes");
    let mut got = String::new();
    let mut bytes = [0; 1024];
    while !got.contains("early") {
        let read = stream.read(&mut bytes).await.expect("reads");
        assert!(read > 0, "closed: {got}");
        got.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    assert!(got.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK"), "{got}");
    assert!(!raw.seen().contains("expect"), "{}", raw.seen());
    let refused = exchange(address, &head.replace("/files", "/keyed")).await;
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
}

#[tokio::test]
async fn trailers_go_through_both_ways_without_what_belongs_into_a_head() {
    let raw = Raw::start(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, tollgate-error\r\n\r\n2\r\nok\r\n0\r\nx-sum: 9\r\ntollgate-error: flow-failed\r\n\r\n",
        false,
    )
    .await;
    let mut world = World::new();
    world.deploy(&proxy("files", "", &raw.url(), ""));
    let (address, _stop) = serve(world).await;
    let call = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te, close\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, authorization\r\n\r\n\
         2\r\nhi\r\n0\r\nx-sum: 7\r\nauthorization: Bearer x\r\n\r\n",
        path("files")
    );
    let got = exchange(address, &call).await;
    assert!(got.contains("x-sum: 9") && !got.contains("flow-failed"), "{got}");
    let seen = raw.seen();
    assert!(seen.contains("x-sum: 7") && seen.contains("te: trailers") && !seen.contains("Bearer"), "{seen}");
}

#[tokio::test]
async fn head_and_answers_without_body_keep_what_is_said_of_one() {
    let raw = Raw::start("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\netag: \"a\"\r\n\r\n", false).await;
    let empty = Raw::start("HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n", false).await;
    let mut world = World::new();
    world.deploy(&proxy("large", "", &raw.url(), ""));
    world.deploy(&proxy("same", "", &empty.url(), ""));
    let (address, _stop) = serve(world).await;
    let call = |method: &str, name: &str| {
        format!("{method} {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", path(name))
    };
    let got = exchange(address, &call("HEAD", "large")).await;
    assert!(got.contains("content-length: 1073741824\r\n") && got.ends_with("\r\n\r\n"), "{got}");
    let got = exchange(address, &call("GET", "same")).await;
    assert!(
        got.starts_with("HTTP/1.1 304 ") && got.contains("etag: \"a\"") && got.contains("date: "),
        "{got}"
    );
}

#[tokio::test]
async fn no_other_protocol_no_circle_and_no_forbidden_address() {
    let test = EnvironmentName::test();
    let upstream = Upstream::start().await.expect("a port");
    let mut world = World::new();
    world.deploy(&proxy("files", "", &upstream.url("/"), ""));
    world.publish();
    let code = async |world: &World, headers: &[(&str, &str)]| {
        let reply = world.call(&test, get(&path("files"), headers)).await;
        (reply.status.as_u16(), reply.code().to_owned())
    };
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    assert_eq!(code(&world, &upgrade).await, (501, "upgrade-refused".to_owned()));
    let visits = ["1.1 tollgate"; 8].join(", ");
    assert_eq!(code(&world, &[("via", &visits)]).await, (508, "loop-detected".to_owned()));
    assert!(upstream.requests().is_empty());
    assert_eq!(code(&world, &[("via", "1.1 tollgate"), ("upgrade", "h2c")]).await, (200, String::new()));
    world.allow_upstreams(&[]);
    world.publish();
    assert_eq!(code(&world, &[]).await, (500, "flow-failed".to_owned()));
    world.spoil::<Realm>();
    world.publish();
    assert_eq!(
        code(&world, &[]).await,
        (503, "check-unavailable".to_owned()),
        "nobody knows what is allowed"
    );
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_body_over_the_limit_breaks_off_and_is_told_so() {
    let raw = Raw::start("", false).await;
    let mut world = World::new();
    world.deploy(&proxy("files", ", maxRequestBytes: 10", &raw.url(), ""));
    let (address, _stop) = serve(world).await;
    let chunks = "transfer-encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n";
    let got = exchange(address, &format!("POST {} HTTP/1.1\r\nhost: a\r\n{chunks}", path("files"))).await;
    assert!(got.starts_with("HTTP/1.1 413 "), "{got}");
    assert!(!raw.seen().ends_with("0\r\n\r\n"), "the upstream must not take it for all: {}", raw.seen());
}

#[tokio::test]
async fn each_pause_of_an_upstream_has_an_end() {
    let test = EnvironmentName::test();
    let silent = Raw::start("", false).await;
    let pauses = Raw::start("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", false).await;
    let mut world = World::new();
    world.deploy(&proxy("silent", "", &silent.url(), ", responseTimeoutMs: 50"));
    world.deploy(&proxy("late", ", timeoutMs: 50", &silent.url(), ""));
    world.deploy(&proxy("pauses", "", &pauses.url(), ", idleTimeoutMs: 50"));
    let snapshot = world.publish();
    drop(snapshot);
    let code = async |name: &str| world.call(&test, get(&path(name), &[])).await.code().to_owned();
    assert_eq!(code("silent").await, "upstream-timeout");
    assert_eq!(code("late").await, "flow-timeout");
    let (address, _stop) = serve(world).await;
    let got = exchange(address, &format!("GET {} HTTP/1.1\r\nhost: a\r\n\r\n", path("pauses"))).await;
    assert!(got.ends_with("abc"), "{got}");
}

#[tokio::test]
async fn http2_is_spoken_on_either_side() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service =
                hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                    let told = format!("{:?} {:?}", request.version(), request.headers().get("via"));
                    let body = request.into_body().collect().await.expect("a body").to_bytes();
                    let text = format!("{told} {}", String::from_utf8_lossy(&body));
                    Ok::<_, std::convert::Infallible>(http::Response::new(Full::<bytes::Bytes>::from(text)))
                });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(socket), service));
        }
    });
    let mut world = World::new();
    world.deploy(&proxy("files", "", &url, ", upstream: { http2: true }"));
    let (address, _stop) = serve(world).await;
    let stream = TcpStream::connect(address).await.expect("listening");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    let request =
        http::Request::post(format!("http://a{}", path("files"))).body(Full::<bytes::Bytes>::from("hello"));
    let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
    let text = answer.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(String::from_utf8_lossy(&text), "HTTP/2.0 Some(\"2 tollgate\") hello");
}

#[tokio::test]
async fn an_answer_that_is_passed_on_keeps_its_place_until_it_has_ended() {
    let test = EnvironmentName::test();
    let upstream = Raw::start("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nab", false).await;
    let mut world = World::new();
    world.deploy(&proxy("slow", ", concurrency: { limit: 1, queue: 0 }", &upstream.url(), ""));
    world.publish();
    let listener = ListenerId { environment: test.clone(), exposure: Exposure::External };
    let first = world.gateway.handle(&listener, remote(), get(&path("slow"), &[])).await;
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(world.call(&test, get(&path("slow"), &[])).await.code(), "overloaded");
    drop(first);
    let next = world.gateway.handle(&listener, remote(), get(&path("slow"), &[])).await;
    assert_eq!(next.status(), StatusCode::OK, "whoever hangs up gives the place back");
}
