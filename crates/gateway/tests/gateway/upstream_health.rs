//! What an upstream does to its health, and what callers cannot do to it; and how calls share targets, tries and connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tollgate_gateway::{Answer as GatewayAnswer, GatewaySettings, ListenerId};
use tollgate_model::environments::Exposure;
use tollgate_model::names::EnvironmentName;
use tollgate_testkit::{Answer, Upstream, free_port, wait_until};

use crate::attacks::Silence;
use crate::proxying::{Raw, exchange, path, proxy, serve};
use crate::world::{World, get, remote, request};

const SOON: Duration = Duration::from_secs(20);

/// A pipeline with an `http` step.
fn asks(name: &str, trigger: &str, url: &str, more: &str) -> String {
    format!(
        "{{kind: Pipeline, name: {name}, project: store, steps: [{{http: {{url: '{url}' {more}}}}}], \
         trigger: {{type: http, methods: [GET, POST, PUT], externalApi: true {trigger}}}}}"
    )
}

fn listener() -> ListenerId {
    ListenerId { environment: EnvironmentName::test(), exposure: Exposure::External }
}

fn code_of(answer: &GatewayAnswer) -> String {
    answer.headers().get("tollgate-error").map_or("", |code| code.to_str().expect("text")).to_owned()
}

/// Calls so often, and returns the codes; an answer that breaks off is `cut off`.
async fn codes(world: &World, name: &str, calls: usize) -> Vec<String> {
    let mut codes = Vec::new();
    for _ in 0..calls {
        let answer = world.gateway.handle(&listener(), remote(), get(&path(name), &[])).await;
        let code = code_of(&answer);
        let whole = answer.into_body().collect().await.is_ok();
        codes.push(if whole { code } else { "cut off".to_owned() });
    }
    codes
}

/// An upstream that answers what it got of each body, over connections that are counted.
struct Counting {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    /// Bodies that did not come to their end.
    cut_off: Arc<AtomicUsize>,
}

// === impl Counting ===

impl Counting {
    async fn start(http2: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let [connections, requests, cut_off] = [(); 3].map(|()| Arc::<AtomicUsize>::default());
        let counts = (connections.clone(), requests.clone(), cut_off.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                counts.0.fetch_add(1, Ordering::Relaxed);
                let (requests, cut_off) = (counts.1.clone(), counts.2.clone());
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    requests.fetch_add(1, Ordering::Relaxed);
                    let cut_off = cut_off.clone();
                    async move {
                        let body = request.into_body().collect().await.map(|it| it.to_bytes());
                        if body.is_err() {
                            cut_off.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok::<_, Infallible>(Response::new(Full::new(body.unwrap_or_default())))
                    }
                });
                let io = TokioIo::new(socket);
                if http2 {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    tokio::spawn(builder.serve_connection(io, service));
                } else {
                    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
                }
            }
        });
        Self { address, connections, requests, cut_off }
    }

    fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

#[tokio::test]
async fn an_upstream_whose_answers_break_off_is_left_alone() {
    let raw = Raw::start("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", true).await;
    let breaker = ", upstream: { breaker: { failures: 3, openMs: 900000 } }";
    let mut world = World::new();
    world.deploy(&proxy("passes", "", &raw.url(), breaker));
    world.deploy(&asks("asks", "", &raw.url(), breaker));
    world.publish();
    let broken = ["cut off", "cut off", "cut off", "upstream-unavailable", "upstream-unavailable"];
    assert_eq!(codes(&world, "passes", 5).await, broken);
    assert_eq!(codes(&world, "asks", 4).await[2..], ["upstream-unreachable", "upstream-unavailable"]);
}

#[tokio::test]
async fn an_upstream_that_takes_all_the_time_of_a_call_is_left_alone() {
    let silent = Raw::start("", false).await;
    let pauses = Raw::start("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", false).await;
    let breaker = ", upstream: { breaker: { failures: 2, openMs: 900000 } }";
    let mut world = World::new();
    world.deploy(&proxy("warm", "", &format!("http://127.0.0.1:{}/", free_port()), ""));
    world.deploy(&proxy("passes", ", timeoutMs: 200", &silent.url(), breaker));
    world.deploy(&asks("asks", ", timeoutMs: 200", &silent.url(), breaker));
    world.deploy(&asks("pauses", ", timeoutMs: 200", &pauses.url(), breaker));
    world.publish();
    // The first of all calls reads the system's certificates, which is nobody's fault.
    codes(&world, "warm", 1).await;
    for name in ["passes", "asks", "pauses"] {
        let expected = ["flow-timeout", "flow-timeout", "upstream-unavailable"];
        assert_eq!(codes(&world, name, 3).await, expected, "{name}");
    }
}

#[tokio::test]
async fn what_callers_do_wrong_says_nothing_of_an_upstream() {
    let settings =
        GatewaySettings { body_idle_timeout: Duration::from_millis(100), ..GatewaySettings::default() };
    for http2 in [false, true] {
        let upstream = Counting::start(http2).await;
        let mut world = World::with_settings(settings.clone());
        let touchy = format!(", upstream: {{ http2: {http2}, breaker: {{ failures: 1, openMs: 900000 }} }}");
        world.deploy(&proxy("files", ", maxRequestBytes: 10", &upstream.url(), &touchy));
        world.deploy(&proxy("brief", ", timeoutMs: 50", &upstream.url(), &touchy));
        world.publish();
        let begin = async |name: &str| {
            let request = request("POST", &path(name), &[], "").map(|_| Silence);
            code_of(&world.gateway.handle(&listener(), remote(), request).await)
        };
        // Whoever sends nothing uses up the patience with their body, or the time of the call.
        assert_eq!(begin("files").await, "request-timeout");
        assert_eq!(begin("brief").await, "flow-timeout");
        assert_eq!(codes(&world, "brief", 2).await, ["", ""], "HTTP/2: {http2}");
        let (address, _stop) = serve(world).await;
        let post = |framing: &str| format!("POST {} HTTP/1.1\r\nhost: a\r\n{framing}", path("files"));
        let chunked = "transfer-encoding: chunked\r\n\r\n8\r\n12345678\r\n";
        let large = exchange(address, &post(&format!("{chunked}8\r\n12345678\r\n"))).await;
        assert!(large.starts_with("HTTP/1.1 413 "), "{large}");
        let torn = exchange(address, &post(&format!("{chunked}zz\r\n"))).await;
        assert!(torn.starts_with("HTTP/1.1 400 "), "{torn}");
        // And whoever hangs up, when the upstream has begun to listen.
        let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
        let (requests, cut_off) = (count(&upstream.requests), count(&upstream.cut_off));
        let mut stream = TcpStream::connect(address).await.expect("listening");
        stream.write_all(post(chunked).as_bytes()).await.expect("taken");
        wait_until("the request", SOON, async || count(&upstream.requests) > requests).await;
        drop(stream);
        wait_until("its end", SOON, async || count(&upstream.cut_off) > cut_off).await;
        let call = format!("GET {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", path("files"));
        let got = exchange(address, &call).await;
        assert!(got.starts_with("HTTP/1.1 200 "), "HTTP/2: {http2}: {got}");
    }
}

#[tokio::test]
async fn of_many_calls_one_tries_an_upstream_that_was_ill_and_when_it_is_well_all_do() {
    let upstream = Upstream::start().await.expect("a port");
    let mut world = World::new();
    let breaker = ", upstream: { breaker: { failures: 2, openMs: 60000 } }";
    world.deploy(&proxy("files", "", &upstream.url("/"), breaker));
    world.publish();
    let ill = || upstream.answer(Answer::new(StatusCode::SERVICE_UNAVAILABLE, ""));
    let at_once = async |calls: usize| {
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..calls {
            let gateway = world.gateway.clone();
            waiting.spawn(async move {
                let answer = gateway.handle(&listener(), remote(), get(&path("files"), &[])).await;
                code_of(&answer)
            });
        }
        waiting.join_all().await
    };
    let turned_away = |codes: &[String]| codes.iter().filter(|code| *code == "upstream-unavailable").count();
    let later = async || {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(60)).await;
        tokio::time::resume();
    };
    ill();
    ill();
    assert_eq!(codes(&world, "files", 3).await, ["", "", "upstream-unavailable"], "its 503 is passed on");
    later().await;
    ill();
    assert_eq!(turned_away(&at_once(20).await), 19, "one tries, in vain");
    assert_eq!(upstream.requests().len(), 3);
    assert_eq!(turned_away(&at_once(20).await), 20);
    later().await;
    assert_eq!(turned_away(&at_once(20).await), 19, "one tries, and all is well");
    assert_eq!(upstream.requests().len(), 4);
    assert_eq!(turned_away(&at_once(20).await), 0);
    assert_eq!(upstream.requests().len(), 24);
}

#[tokio::test]
async fn targets_get_calls_by_their_weights() {
    let (first, second) = (Counting::start(false).await, Counting::start(false).await);
    let mut world = World::new();
    for step in ["proxy", "http"] {
        world.deploy(&format!(
            "{{kind: Pipeline, name: {step}, project: store, trigger: {{type: http, methods: [GET], externalApi: true}}, \
             steps: [{{{step}: {{targets: [{{url: '{}', weight: 3}}, {{url: '{}'}}]}}}}]}}",
            first.url(),
            second.url()
        ));
    }
    world.publish();
    for (step, all) in [("proxy", 1), ("http", 2)] {
        assert_eq!(codes(&world, step, 40).await, [""; 40]);
        let counts = [&first, &second].map(|it| it.requests.load(Ordering::Relaxed));
        assert_eq!(counts, [30 * all, 10 * all], "{step}");
    }
}

#[tokio::test]
async fn of_an_upstream_that_is_down_few_calls_are_tried_again() {
    let upstream = Upstream::start().await.expect("a port");
    (0..1_000).for_each(|_| upstream.answer(Answer::new(StatusCode::SERVICE_UNAVAILABLE, "")));
    let mut world = World::new();
    let settings = ", upstream: { retries: 3, breaker: { failures: 1000 } }";
    world.deploy(&proxy("passes", "", &upstream.url("/"), settings));
    world.deploy(&asks("asks", "", &upstream.url("/"), settings));
    world.publish();
    for name in ["passes", "asks"] {
        let before = upstream.requests().len();
        codes(&world, name, 100).await;
        let again = upstream.requests().len() - before - 100;
        assert!((25..=30).contains(&again), "{name}: ten, and a fifth of the calls, were {again}");
    }
}

#[tokio::test]
async fn a_body_that_somebody_has_begun_to_read_is_not_sent_again() {
    let test = EnvironmentName::test();
    // It takes the head and the body, and hangs up.
    let breaks = Raw::start("", true).await;
    let good = Upstream::start().await.expect("a port");
    let gone = format!("http://127.0.0.1:{}/", free_port());
    let targets = |first: &str| {
        format!(
            "{{kind: Pipeline, name: NAME, project: store, \
             trigger: {{type: http, methods: [GET, POST, PUT], externalApi: true}}, steps: [{{proxy: {{\
             targets: [{{url: '{first}'}}, {{url: '{}'}}], upstream: {{retries: 1}}}}}}]}}",
            good.url("/")
        )
    };
    let mut world = World::new();
    world.deploy(&targets(&gone).replace("NAME", "gone"));
    for method in ["get", "put", "post"] {
        world.deploy(&targets(&breaks.url()).replace("NAME", method));
    }
    world.publish();
    // The first target of a pipeline's first call is the first.
    let call = async |name: &str, method: &str, body: &str| {
        world.call(&test, request(method, &path(name), &[], body)).await.status.as_u16()
    };
    assert_eq!(call("gone", "POST", "once").await, 200, "nobody had begun to read it");
    assert_eq!(good.requests().remove(0).body, "once");
    assert_eq!(call("get", "GET", "").await, 200, "there is none");
    assert_eq!(call("put", "PUT", "once").await, 502);
    assert_eq!(call("post", "POST", "").await, 502, "what was asked may have been done");
    assert_eq!(good.requests().len(), 2);
}

#[tokio::test]
async fn calls_share_connections_and_one_that_has_ended_costs_no_call() {
    let test = EnvironmentName::test();
    for http2 in [false, true] {
        let upstream = Counting::start(http2).await;
        let mut world = World::new();
        let version = format!(", upstream: {{ http2: {http2} }}");
        world.deploy(&proxy("passes", "", &upstream.url(), &version));
        world.deploy(&asks("asks", "", &upstream.url(), &version));
        world.publish();
        for name in ["passes", "asks", "passes"] {
            for _ in 0..10 {
                let reply = world.call(&test, request("POST", &path(name), &[], "body")).await;
                assert_eq!(reply.status, StatusCode::OK);
            }
        }
        let connections = upstream.connections.load(Ordering::Relaxed);
        assert_eq!(connections, 1, "HTTP/2: {http2}");
        assert_eq!(upstream.requests.load(Ordering::Relaxed), 30);
    }
    // An upstream that closes each connection after a while, without a word.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = [0; 4_096];
            let _ = socket.read(&mut head).await;
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    });
    let mut world = World::new();
    world.deploy(&proxy("files", "", &url, ""));
    world.publish();
    for _ in 0..20 {
        let reply = world.call(&test, request("POST", &path("files"), &[], "")).await;
        assert_eq!(reply.text, "ok", "{reply:?}");
        // The end of the connection is there before the next call.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
