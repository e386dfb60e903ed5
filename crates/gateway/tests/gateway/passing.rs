//! Calls whose answer is passed on: they are told once, at their end, and by what became of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt as _;
use tollgate_gateway::{CallSpan, ListenerId, ScheduledSpan, SpanPlace, Spans, UpstreamSpan};
use tollgate_model::environments::Exposure;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::recent_calls::{CutOff, RecentCall};
use tollgate_testkit::{Answer, Upstream, free_port, wait_until};

use crate::proxying::{Raw, exchange, path, proxy, serve};
use crate::world::{World, get, remote};

const PATIENCE: Duration = Duration::from_secs(20);

/// One span, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    what: String,
    id: u64,
    parent: Option<u64>,
    trace: u128,
}

/// Keeps the spans that it is told.
#[derive(Default)]
struct Recorder(Mutex<Vec<Told>>);

// === impl Recorder ===

impl Recorder {
    fn keep(&self, place: SpanPlace, what: String) {
        let told = Told { what, id: place.span_id, parent: place.parent, trace: place.trace_id };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(told);
    }

    fn told(&self) -> Vec<Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Spans for Recorder {
    fn samples(&self, _: u128, callers: Option<bool>) -> bool {
        callers.unwrap_or(true)
    }

    fn call(&self, place: SpanPlace, call: &CallSpan<'_>) {
        let cut_off = call.cut_off.map_or("whole", CutOff::as_str);
        self.keep(place, format!("call {:?} {:?} {cut_off}", call.status, call.bytes));
    }

    fn upstream(&self, place: SpanPlace, call: &UpstreamSpan<'_>) {
        let error = call.error.unwrap_or("whole");
        self.keep(place, format!("attempt {} {:?} {error}", call.resend, call.status));
    }

    fn scheduled(&self, place: SpanPlace, run: &ScheduledSpan<'_>) {
        self.keep(place, format!("run {} {}", run.pipeline, run.status));
    }
}

fn external() -> ListenerId {
    ListenerId { environment: EnvironmentName::test(), exposure: Exposure::External }
}

/// The calls in the live log.
fn recent(world: &World) -> Vec<RecentCall> {
    let known = world.gateway.recent_calls(&RealmName::default());
    known.calls.iter().map(|call| (**call).clone()).collect()
}

/// What was counted of `files`, durations apart.
fn counted(world: &World) -> BTreeMap<String, u64> {
    let counts = world.usage.drain_traffic().into_iter().map(|(of, calls)| (of.measure.to_string(), calls));
    counts.filter(|(measure, _)| !measure.starts_with("took")).collect()
}

fn one(measure: &str) -> BTreeMap<String, u64> {
    BTreeMap::from([(measure.to_owned(), 1)])
}

#[tokio::test]
async fn a_call_that_is_passed_on_is_told_once_when_its_last_piece_is_gone() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let upstream = Raw::start(answer, false).await;
    let mut world = World::new();
    world.deploy(&proxy("files", "", &upstream.url(), ""));
    world.publish();
    let recorder = Arc::new(Recorder::default());
    world.gateway.tell_spans(recorder.clone());
    let answer = world.gateway.handle(&external(), remote(), get(&path("files"), &[])).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(recent(&world).is_empty() && counted(&world).is_empty() && recorder.told().is_empty());
    let body = answer.into_body().collect().await.expect("whole").to_bytes();
    assert_eq!(&body[..], b"hello");
    let calls = recent(&world);
    let told: Vec<_> = calls.iter().map(|call| (call.status, call.bytes, call.cut_off)).collect();
    assert_eq!(told, [(Some(200), Some(5), None)]);
    assert_eq!(counted(&world), one("answer/2xx"));
    let spans: Vec<_> = recorder.told().into_iter().map(|it| it.what).collect();
    assert_eq!(spans, ["attempt 0 Some(200) whole", "call Some(200) Some(5) whole"]);
}

#[tokio::test]
async fn a_short_answer_that_is_there_whole_is_told_as_one_from_memory() {
    let upstream = Raw::start("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", false).await;
    let mut world = World::new();
    world.deploy(&proxy("files", "", &upstream.url(), ""));
    world.publish();
    let recorder = Arc::new(Recorder::default());
    world.gateway.tell_spans(recorder.clone());
    let answer = world.gateway.handle(&external(), remote(), get(&path("files"), &[])).await;
    let calls = recent(&world);
    let told: Vec<_> = calls.iter().map(|call| (call.status, call.bytes, call.cut_off)).collect();
    assert_eq!(told, [(Some(200), Some(5), None)]);
    assert_eq!(counted(&world), one("answer/2xx"));
    let spans: Vec<_> = recorder.told().into_iter().map(|it| it.what).collect();
    assert_eq!(spans, ["attempt 0 Some(200) whole", "call Some(200) Some(5) whole"]);
    assert_eq!(&answer.into_body().collect().await.expect("whole").to_bytes()[..], b"hello");
}

#[tokio::test]
async fn an_answer_that_its_upstream_breaks_off_is_a_failure_whatever_its_status_was() {
    let upstream = Raw::start("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", true).await;
    let mut world = World::new();
    world.deploy(&proxy("files", "", &upstream.url(), ""));
    world.publish();
    let recorder = Arc::new(Recorder::default());
    world.gateway.tell_spans(recorder.clone());
    let answer = world.gateway.handle(&external(), remote(), get(&path("files"), &[])).await;
    answer.into_body().collect().await.expect_err("it breaks off");
    let calls = recent(&world);
    let told: Vec<_> = calls.iter().map(|call| (call.status, call.bytes, call.cut_off)).collect();
    assert_eq!(told, [(Some(200), Some(3), Some(CutOff::Upstream))]);
    let expected = BTreeMap::from([("answer/5xx".to_owned(), 1), ("code/5xx/flow-error".to_owned(), 1)]);
    assert_eq!(counted(&world), expected);
    let spans: Vec<_> = recorder.told().into_iter().map(|it| it.what).collect();
    assert_eq!(spans, ["attempt 0 Some(200) the answer broke off", "call Some(200) Some(3) upstream"]);
}

#[tokio::test]
async fn a_caller_that_leaves_in_the_middle_of_an_answer_has_hung_up() {
    let upstream = Raw::start("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", false).await;
    let mut world = World::new();
    world.deploy(&proxy("files", "", &upstream.url(), ""));
    world.publish();
    let answer = world.gateway.handle(&external(), remote(), get(&path("files"), &[])).await;
    let mut body = answer.into_body();
    let piece = body.frame().await.expect("a piece").expect("good");
    assert_eq!(piece.into_data().expect("data").len(), 3);
    drop(body);
    let told: Vec<_> = recent(&world).iter().map(|call| (call.status, call.bytes, call.cut_off)).collect();
    assert_eq!(told, [(Some(200), Some(3), Some(CutOff::Caller))]);
    assert_eq!(counted(&world), one("answer/none"));
}

#[tokio::test]
async fn an_answer_that_was_sent_whole_on_a_connection_is_not_cut_off() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let upstream = Raw::start(answer, false).await;
        let mut world = World::new();
        world.deploy(&proxy("files", "", &upstream.url(), ""));
        let gateway = world.gateway.clone();
        let (address, _stop) = serve(world).await;
        let call = format!("GET {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", path("files"));
        let got = exchange(address, &call).await;
        assert!(got.contains("hello"), "{got}");
        let known = || gateway.recent_calls(&RealmName::default()).calls;
        wait_until("the call", PATIENCE, async || !known().is_empty()).await;
        let told: Vec<_> = known().iter().map(|call| (call.status, call.bytes, call.cut_off)).collect();
        assert_eq!(told, [(Some(200), Some(5), None)], "{answer}");
    }
}

#[tokio::test]
async fn each_attempt_has_a_span_of_its_own_below_the_call_and_the_upstream_hears_it() {
    let upstream = Upstream::start().await.expect("a port");
    upstream.answer(Answer::new(StatusCode::BAD_GATEWAY, ""));
    upstream.answer(Answer::new(StatusCode::OK, "hello"));
    let mut world = World::new();
    world.deploy(&proxy("files", "", &upstream.url("/"), ", upstream: { retries: 1 }"));
    let gone = format!("http://127.0.0.1:{}/", free_port());
    world.deploy(&format!(
        "{{kind: Pipeline, name: asks, project: store, trigger: {{type: rest, externalApi: true}}, \
         steps: [{{http: {{method: GET, url: '{gone}'}}}}]}}"
    ));
    world.deploy(&format!(
        "{{kind: Pipeline, name: nightly, project: store, trigger: {{type: scheduler, cron: '0 3 * * *'}}, \
         steps: [{{http: {{method: GET, url: '{}'}}}}]}}",
        upstream.url("/nightly")
    ));
    let snapshot = world.publish();
    let recorder = Arc::new(Recorder::default());
    world.gateway.tell_spans(recorder.clone());
    let parent = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
    assert_eq!(world.call(&EnvironmentName::test(), get(&path("files"), &parent)).await.text, "hello");
    let told = recorder.told();
    let [first, second, call] = &told[..] else { panic!("{told:#?}") };
    assert_eq!(
        [&first.what, &second.what, &call.what],
        ["attempt 0 Some(502) whole", "attempt 1 Some(200) whole", "call Some(200) Some(5) whole"]
    );
    assert_eq!((first.parent, second.parent), (Some(call.id), Some(call.id)));
    assert!(
        first.id != second.id && told.iter().all(|it| it.trace == 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c)
    );
    let heard: Vec<_> = upstream.requests().iter().map(|it| it.headers["traceparent"].clone()).collect();
    let said = |span: &Told| format!("00-{:032x}-{:016x}-01", span.trace, span.id);
    assert_eq!(heard, [said(first), said(second)]);

    // What nobody records costs nothing, and what was decided is handed on.
    let unrecorded = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")];
    world.call(&EnvironmentName::test(), get(&path("files"), &unrecorded)).await;
    assert_eq!(recorder.told().len(), 3);
    let heard = upstream.requests()[2].headers["traceparent"].to_str().expect("text").to_owned();
    assert!(heard.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && heard.ends_with("-00"), "{heard}");

    assert_eq!(world.call(&EnvironmentName::test(), get(&path("asks"), &[])).await.status.as_u16(), 502);
    let told = recorder.told();
    assert_eq!(told[3].what, "attempt 0 None no connection");
    assert_eq!(told[3].parent, Some(told[4].id));

    // A run by schedule is the first span of a trace of its own.
    let schedule = snapshot.schedules().iter().find(|it| it.environment == EnvironmentName::test());
    world.gateway.run_scheduled(&snapshot, schedule.expect("a schedule")).await;
    let told = recorder.told();
    let [attempt, run] = &told[5..] else { panic!("{told:#?}") };
    assert_eq!([&attempt.what, &run.what], ["attempt 0 Some(200) whole", "run nightly 200"]);
    assert_eq!((attempt.parent, run.parent, attempt.trace), (Some(run.id), None, run.trace));
    assert_eq!(upstream.requests()[3].headers["traceparent"], said(attempt));
}
