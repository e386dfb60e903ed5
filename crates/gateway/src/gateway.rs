//! One call, from the head of the request to the answer and the log line.

use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ORIGIN, VIA};
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body::Body;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tollgate_credential::verified_tokens::VerifiedTokens;
use tollgate_flow::{CallMetadata, Message};
use tollgate_listener::{ClientCertificate, Entrance, FailedHandshakes, ListenerSettings, Opened};
use tollgate_model::environments::{Exposure, RealmSettings};
use tollgate_model::explanations::Check;
use tollgate_model::ids::{ExecutionId, RequestId};
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::recent_calls::RecentCalls;
use tollgate_model::sources::{Clock, Random};
use tollgate_model::triggers::Cors;
use tollgate_snapshot::{Endpoint, EndpointRoute, KeyRing, Schedule, SharedSnapshot, Snapshot};

use crate::access_line::{AccessLine, Unended};
use crate::bad_credentials::BadCredentials;
use crate::body::BodyMemory;
use crate::checks::{Checks, Known, Permit, Target};
use crate::compression;
use crate::cors;
use crate::enforcement;
use crate::flows::{self, Run};
use crate::front::{Front, Origin};
use crate::id_bytes::{ID_BYTES, IdSource};
use crate::look_alikes;
use crate::metrics::{Exposition, Kind, ListenerMetrics, Metrics};
use crate::overload::Overload;
use crate::pages;
use crate::passing::{Ended, Passing};
use crate::passwords::PasswordChecks;
use crate::payload::{BoxError, Payload};
use crate::problem::{Answer, Code, Problem, TOLLGATE_ERROR};
use crate::rate_limits::{Decision, RateLimits};
use crate::recent::Recent;
use crate::refusals::{Refusals, Refused, realm_of};
use crate::request::{Head, HeadLimits};
use crate::spans::{Sample, ScheduledSpan, Spans};
use crate::trace::Trace;
use crate::upstreams::{Deadline, Upstreams};
use crate::usage::{PassedCall, Usage};
use crate::watch::{Unwatched, Watch};
use crate::why::Why;

/// The header that every answer carries: the id under which logs know the call.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How many explanations run at once; further ones wait. Each may verify a password, for which calls wait, too.
const EXPLANATIONS_AT_ONCE: usize = 2;

/// The data plane: answers calls from the snapshot and nothing else.
pub struct Gateway {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    ids: IdSource,
    pub(crate) passwords: PasswordChecks,
    pub(crate) verified_tokens: VerifiedTokens,
    pub(crate) issuer_keys: Arc<KeyRing>,
    pub(crate) upstreams: Upstreams,
    pub(crate) bodies: BodyMemory,
    snapshot: Arc<SharedSnapshot>,
    pub(crate) settings: GatewaySettings,
    pub(crate) usage: Arc<Usage>,
    refusals: Arc<Refusals>,
    rate_limits: RateLimits,
    bad_credentials: BadCredentials,
    overload: Overload,
    pub(crate) metrics: Metrics,
    pub(crate) recent: Recent,
    spans: OnceLock<Arc<dyn Spans>>,
    /// Explanations that run.
    pub(crate) explanations: Semaphore,
}

/// Bounds on what calls may cost.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// What each listener takes.
    pub listener: ListenerSettings,
    /// Longest path and query together, in bytes.
    pub max_uri_bytes: usize,
    /// Names and values of all header fields together, in bytes.
    pub max_header_bytes: usize,
    /// Longest pause between two pieces of a request body.
    pub body_idle_timeout: Duration,
    /// Longest time for a whole request body.
    pub body_timeout: Duration,
    /// Most that all request bodies in memory take together, in bytes, apart from the first 64 KiB of each; further
    /// ones are answered 503. Parsed JSON takes several times the bytes it came in.
    pub max_bodies_bytes: usize,
    /// Password checks that run at once; each takes a core and 19 MiB for about 20 ms.
    pub password_workers: usize,
    /// Password checks that wait; further ones are answered 503.
    pub password_queue: usize,
    /// Of how many calls that went well there is a line in the log; others have one always. Chosen by the request's id,
    /// which is that of the trace unless the caller began it: a caller who names a trace cannot choose to leave no line.
    pub log_sample: Sample,
    /// Calls that run at once, of all pipelines together, beyond their checks.
    pub max_calls: usize,
    /// Further calls that wait for a place; those beyond it are answered 503 at once.
    pub call_queue: usize,
    /// Longest wait for a place.
    pub call_queue_timeout: Duration,
    /// Bad credentials that an address may send at once; it gets one back every second.
    pub bad_credentials_per_address: u32,
    /// Callers with credentials whose rate limits are remembered, and as many addresses of others.
    pub rate_limit_callers: usize,
    /// Tokens whose signature is not verified again when they repeat, each of 32 bytes; 0 remembers none.
    pub remembered_tokens: usize,
}

/// One of an environment's listeners.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListenerId {
    /// The environment whose pipelines it offers.
    pub environment: EnvironmentName,
    /// Which of them.
    pub exposure: Exposure,
}

/// What the calls of a listener share.
struct Door {
    gateway: Arc<Gateway>,
    id: ListenerId,
    front: Front,
    metrics: Arc<ListenerMetrics>,
}

/// How a scheduled run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledRun {
    /// Names the run in the log.
    pub execution_id: ExecutionId,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// The status that a caller would have got.
    pub status: StatusCode,
    /// The code of its error, when it failed.
    pub error: Option<String>,
}

/// A call as it came in, without its body.
pub(crate) struct Received<'a> {
    pub(crate) parts: &'a http::request::Parts,
    pub(crate) request_id: RequestId,
    pub(crate) now: Timestamp,
    pub(crate) remote: IpAddr,
    /// What upstreams are told of where it comes from.
    pub(crate) origin: Origin<'a>,
}

/// What becomes known of a call on its way, for its answer and its log line.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) endpoint: Option<Arc<Endpoint>>,
    pub(crate) route: Option<Arc<EndpointRoute>>,
    pub(crate) known: Known,
    quota: Option<Decision>,
    /// What pages of other origins may do, where the trigger does not say.
    realm_cors: Option<Arc<RealmSettings>>,
    /// Why the policies refuse the call, for the log alone.
    pub(crate) refused: Option<String>,
}

/// What becomes of a call that no check refuses.
pub(crate) enum Decided<'a> {
    /// The gateway answers it itself.
    Answer(Answer),
    /// Its flow answers it.
    Flow(Passed<'a>),
}

/// A call that may have its flow run.
pub(crate) struct Passed<'a> {
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) target: Target<'a>,
    pub(crate) parameters: Vec<(&'a str, &'a str)>,
    pub(crate) permit: Permit,
}

// === impl Gateway ===

impl Gateway {
    /// Returns a gateway that answers from whatever `snapshot` holds at the time of each call.
    pub fn new(
        snapshot: Arc<SharedSnapshot>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        settings: GatewaySettings,
        usage: Arc<Usage>,
    ) -> Arc<Self> {
        Self::keeping(snapshot, clock, random, settings, usage, Arc::new(Refusals::new()))
    }

    /// Like [`Gateway::new`], with a place for what is kept of refused calls.
    pub fn keeping(
        snapshot: Arc<SharedSnapshot>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        settings: GatewaySettings,
        usage: Arc<Usage>,
        refusals: Arc<Refusals>,
    ) -> Arc<Self> {
        Arc::new(Self {
            passwords: PasswordChecks::new(settings.password_workers, settings.password_queue, &*random),
            verified_tokens: VerifiedTokens::new(settings.remembered_tokens, &*random),
            issuer_keys: Arc::default(),
            upstreams: Upstreams::default(),
            bodies: BodyMemory::new(settings.max_bodies_bytes),
            rate_limits: RateLimits::new(settings.rate_limit_callers),
            bad_credentials: BadCredentials::new(settings.bad_credentials_per_address),
            overload: Overload::new(settings.max_calls, settings.call_queue, settings.call_queue_timeout),
            snapshot,
            clock,
            random,
            ids: IdSource::new(),
            settings,
            usage,
            metrics: Metrics::default(),
            recent: Recent::default(),
            spans: OnceLock::new(),
            refusals,
            explanations: Semaphore::new(EXPLANATIONS_AT_ONCE),
        })
    }

    /// Returns the keys of issuers outside; whoever fetches them puts them there.
    pub fn issuer_keys(&self) -> &Arc<KeyRing> {
        &self.issuer_keys
    }

    /// Serves a listener until `shutdown` turns true or its sender is gone, then lets the calls in flight end.
    ///
    /// Dropping the future aborts the listener's connections.
    pub async fn serve(
        self: &Arc<Self>,
        listener: TcpListener,
        entrance: Entrance,
        environment: EnvironmentName,
        exposure: Exposure,
        shutdown: watch::Receiver<bool>,
    ) {
        let id = ListenerId { environment, exposure };
        let mtls = entrance.tls.as_ref().is_some_and(|tls| tls.demands_clients());
        let metrics = self.metrics.listener(&id, mtls);
        let failed = FailedHandshakes::new({
            let metrics = metrics.clone();
            move |failure| metrics.failed(failure)
        });
        let opened = Opened::new({
            let metrics = metrics.clone();
            move || metrics.connected()
        });
        let door = Arc::new(Door { gateway: self.clone(), id, front: Front::new(&entrance), metrics });
        let handler = move |remote, request: Request<_>| {
            let (door, (head, body)) = (door.clone(), boxed(request));
            async move {
                let Door { gateway, id, front, metrics } = &*door;
                gateway.handle_counted(id, front, remote, head, body, metrics).await
            }
        };
        let entrance = Entrance { opened, failed, ..entrance };
        tollgate_listener::serve(listener, entrance, self.settings.listener, shutdown, handler).await;
    }

    /// Answers one call.
    ///
    /// Dropping the future ends the call: the caller has hung up.
    pub async fn handle<B>(
        self: &Arc<Self>,
        listener: &ListenerId,
        remote: SocketAddr,
        request: Request<B>,
    ) -> Answer
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let metrics = self.metrics.listener(listener, false);
        let (head, body) = boxed(request);
        self.handle_counted(listener, &Front::default(), remote, head, body, &metrics).await
    }

    /// Answers one call of a listener whose counters are at hand.
    async fn handle_counted<B>(
        self: &Arc<Self>,
        listener: &ListenerId,
        front: &Front,
        remote: SocketAddr,
        mut parts: Box<http::request::Parts>,
        body: B,
        metrics: &Arc<ListenerMetrics>,
    ) -> Answer
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let started = Instant::now();
        let now = self.clock.now();
        let request_id = RequestId::new(now, self.random_bytes());
        look_alikes::strip(&mut parts.headers);
        let call = Unended {
            started,
            remote,
            request_id,
            began: now,
            record: Record::default(),
            in_flight: Some(metrics.began()),
            realm: None,
            answered: None,
        };
        let mut line = AccessLine::of(self, listener, &parts, call, Ended::default());
        let received =
            Received { parts: &parts, request_id, now, remote: remote.ip(), origin: front.origin(remote) };
        let snapshot = self.snapshot.load();
        let snapshot = snapshot.as_deref();
        let outcome = {
            // In its place from the beginning: moved, it would be copied for each call.
            let answering = pin!(self.answer(listener, &received, snapshot, body, &mut line.call.record));
            caught(answering).await
        };
        let outcome = outcome.unwrap_or_else(|| {
            tracing::error!(%request_id, "a call panicked");
            Err(Problem::new(Code::InternalError).close())
        });
        let mut answer = match outcome {
            Ok(answer) => answer,
            Err(problem) => {
                let refused = Refused {
                    listener,
                    received: &received,
                    snapshot,
                    record: &line.call.record,
                    problem: &problem,
                };
                self.refusals.note(&refused);
                line.call.realm = line.call.record.endpoint.is_none().then(|| realm_of(&refused)).flatten();
                problem.into_answer(request_id)
            }
        };
        finish(&received, &line.call.record, &mut answer);
        line.call.answered = Some((answer.status(), answer.headers().get(TOLLGATE_ERROR).cloned()));
        let length = answer.body().size_hint().exact();
        if answer.body().is_whole() {
            line.ended.bytes = length;
        } else if let Some(call) = line.detach() {
            drop(line);
            let passing = Passing::new(self.clone(), listener.clone(), parts, call, length);
            answer.body_mut().end_with(passing);
        }
        answer
    }

    /// Runs a pipeline whose time has come. The outcome is logged like that of a call.
    pub async fn run_scheduled(&self, snapshot: &Snapshot, schedule: &Schedule) -> ScheduledRun {
        let (started_at, started) = (self.clock.now(), Instant::now());
        let request_id = RequestId::new(started_at, self.random_bytes());
        let execution_id = ExecutionId::new(started_at, self.random_bytes());
        let outcome = caught(async {
            let flow = schedule.flow.as_ref().map_err(|_| Problem::new(Code::CheckUnavailable))?;
            let scope = snapshot
                .scope(&schedule.realm, &schedule.environment)
                .ok_or_else(|| Problem::new(Code::CheckUnavailable))?;
            let metadata = CallMetadata {
                realm: schedule.realm.to_string(),
                environment: schedule.environment.to_string(),
                pipeline: schedule.pipeline.to_string(),
                version: schedule.version.to_string(),
                execution_id: execution_id.to_string(),
                request_id: request_id.to_string(),
            };
            let timeout = Duration::from_millis(schedule.trigger.timeout_ms.get().into());
            let run = Run {
                gateway: self,
                scope,
                consumer: None,
                issuers: None,
                metadata,
                request_id,
                client: None,
                headers: None,
                timeout,
                deadline: Deadline::after(timeout),
            };
            flows::run(flow, Permit::of_schedule(), Message::default(), None, &run).await
        })
        .await;
        let (status, error) = match outcome {
            Some(Ok(response)) => (response.status, None),
            Some(Err(problem)) => (problem.status(), Some(problem.code().to_owned())),
            None => (StatusCode::INTERNAL_SERVER_ERROR, Some(Code::InternalError.as_str().to_owned())),
        };
        if let Some(spans) = self.spans() {
            let mut trace = Trace::of(&http::HeaderMap::new(), request_id);
            if trace.sample(&**spans) {
                let run = ScheduledSpan {
                    request_id: &request_id.to_string(),
                    environment: schedule.environment.as_str(),
                    pipeline: schedule.pipeline.as_str(),
                    version: &schedule.version.to_string(),
                    status: status.as_u16(),
                    code: error.as_deref(),
                };
                spans.scheduled(trace.place(started_at, started.elapsed()), &run);
            }
        }
        tracing::info!(
            target: "tollgate::schedule",
            %request_id, %execution_id,
            pipeline = schedule.pipeline.as_str(),
            version = %schedule.version,
            environment = schedule.environment.as_str(),
            status = status.as_u16(),
            code = error,
            "a schedule ran"
        );
        ScheduledRun { execution_id, started_at, ended_at: self.clock.now(), status, error }
    }

    async fn answer<B>(
        &self,
        listener: &ListenerId,
        received: &Received<'_>,
        snapshot: Option<&Snapshot>,
        body: B,
        record: &mut Record,
    ) -> Result<Answer, Problem>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        // Taken apart where it is, so that it is not kept beside its parts while the call waits.
        let Passed { endpoint, target, parameters, mut permit } =
            match self.decide(listener, received, snapshot, record, &mut Unwatched).await? {
                Decided::Answer(answer) => return Ok(answer),
                Decided::Flow(passed) => passed,
            };
        record.quota = permit.take_quota();
        let running = self.overload.begin(endpoint).await?;
        self.usage.count(&PassedCall {
            endpoint,
            consumer: permit.consumer(),
            credential: permit.credential(),
            credentials: target.shown(),
            now: received.now,
        });
        let mut answer = flows::answer(self, permit, &target, received, &parameters, body).await?;
        answer.body_mut().hold(running);
        Ok(compression::compress(endpoint, received.parts, answer).await)
    }

    /// Makes every check of a call that comes before its body. The one place where they are made, for calls and for
    /// whoever asks about one.
    pub(crate) async fn decide<'a, W: Watch>(
        &self,
        listener: &ListenerId,
        received: &Received<'a>,
        snapshot: Option<&'a Snapshot>,
        record: &mut Record,
        watch: &mut W,
    ) -> Result<Decided<'a>, Problem> {
        let Received { parts, now, remote, .. } = *received;
        let limits = HeadLimits {
            uri_bytes: self.settings.max_uri_bytes,
            header_bytes: self.settings.max_header_bytes,
        };
        let head = Head::read(parts, limits)?;
        watch.passed(Check::RequestForm, || None);
        let (confirmed_at, environment) = (self.snapshot.confirmed_at(), &listener.environment);
        if let Some(answer) =
            pages::answer(&head, environment, snapshot, confirmed_at, &self.issuer_keys, now)
        {
            return answer.map(|answer| {
                watch.passed(Check::Route, || Some("a page of the gateway itself answers".to_owned()));
                Decided::Answer(answer)
            });
        }
        let snapshot = snapshot.ok_or_else(|| {
            Problem::new(Code::CheckUnavailable).because(Why::Said("the gateway has no configuration yet"))
        })?;
        watch.passed(Check::Configuration, || None);
        let found = snapshot
            .listener(&listener.environment, listener.exposure)
            .and_then(|routes| routes.find(head.path))
            .ok_or_else(|| Problem::new(Code::RouteNotFound))?;
        let (endpoint, route) = (found.endpoint, found.route);
        record.endpoint = Some(endpoint.clone());
        record.route = Some(route.clone());
        watch.passed(Check::Route, || Some(format!("{} {}", endpoint.pipeline, endpoint.version_text)));
        let trigger = &endpoint.trigger;
        let scope = snapshot.scope(&endpoint.realm, &endpoint.environment).map(Arc::as_ref);
        if trigger.cors.is_none() {
            let settings = scope.and_then(|scope| scope.settings.as_ref().ok());
            record.realm_cors = settings.filter(|settings| settings.cors.is_some()).cloned();
        }
        // With CORS on, preflights are offered by the gateway itself, whatever methods the trigger names.
        if let Some(cors) = record.cors().filter(|_| cors::is_preflight(&parts.method, &parts.headers)) {
            let words = "a preflight is answered here, without credentials";
            watch.passed(Check::CorsPreflight, || Some(words.to_owned()));
            return Ok(Decided::Answer(cors::preflight(cors, head.origin, route.methods.as_slice())));
        }
        if !head.method.is_some_and(|method| route.methods.contains(method)) {
            return Err(Problem::new(Code::MethodNotAllowed).allow(route.allow.clone()));
        }
        watch.passed(Check::Method, || None);
        record.refused = enforcement::refuses(endpoint, now)?;
        if record.refused.is_some() {
            return Err(Problem::new(Code::PolicyNotConformant));
        }
        watch.passed(Check::Enforcement, || Some(enforcement::words(endpoint)));
        let longest = trigger.longest_body();
        if head.content_length.is_some_and(|length| length > longest) {
            return Err(Problem::new(Code::RequestTooLarge).close());
        }
        watch.passed(Check::DeclaredLength, || Some(format!("at most {longest} bytes")));
        let certificate = parts.extensions.get::<ClientCertificate>();
        let target = Target { head, certificate, endpoint, route, scope, remote, now };
        let checks = Checks {
            passwords: &self.passwords,
            rate_limits: &self.rate_limits,
            bad_credentials: &self.bad_credentials,
            usage: &self.usage,
            verified_tokens: &self.verified_tokens,
            issuer_keys: &self.issuer_keys,
        };
        let permit = checks.pass(&target, &mut record.known, watch).await?;
        Ok(Decided::Flow(Passed { endpoint, target, parameters: found.parameters, permit }))
    }

    /// Tells of calls as spans from now on. Only the first who asks for them gets them.
    pub fn tell_spans(&self, spans: Arc<dyn Spans>) {
        let _ = self.spans.set(spans);
    }

    /// Returns who takes spans.
    pub(crate) fn spans(&self) -> Option<&Arc<dyn Spans>> {
        self.spans.get()
    }

    /// Returns the snapshot that a call which comes now would see.
    pub(crate) fn current(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Returns the last calls of a realm, newest first: as many as were kept, of this process alone.
    pub fn recent_calls(&self, realm: &RealmName) -> RecentCalls {
        self.recent.of(realm)
    }

    /// Writes what was counted and what is held, for Prometheus.
    pub fn write_metrics(&self, out: &mut Exposition) {
        self.metrics.write(out);
        let passwords = self.passwords.load();
        let (taken, limit) = self.bodies.load();
        let (running, waiting) = self.overload.load();
        for (name, help, value) in [
            ("tollgate_calls_running", "Calls that passed their checks and run.", running),
            ("tollgate_calls_waiting", "Calls that wait because as many run as may.", waiting),
            ("tollgate_password_checks_running", "Password checks that run.", passwords.running),
            ("tollgate_password_checks_waiting", "Password checks that wait.", passwords.waiting),
            (
                "tollgate_body_memory_bytes",
                "What request bodies take beyond the first 64 KiB of each.",
                taken,
            ),
            ("tollgate_body_memory_limit_bytes", "What they may take together.", limit),
        ] {
            out.single(name, Kind::Gauge, help, value);
        }
    }

    /// Returns random bytes for an id. Without randomness ids may come twice, which harms nobody but a reader of logs.
    pub(crate) fn random_bytes(&self) -> [u8; ID_BYTES] {
        self.ids.next(&*self.random).unwrap_or_else(|_| {
            tracing::warn!("there is no randomness for ids");
            [0; ID_BYTES]
        })
    }
}

// === impl Record ===

impl Record {
    /// Returns what pages of other origins may do: as the trigger says, else as the realm does.
    fn cors(&self) -> Option<&Cors> {
        let own = self.endpoint.as_ref().and_then(|endpoint| endpoint.trigger.cors.as_ref());
        own.or_else(|| self.realm_cors.as_ref()?.cors.as_ref())
    }
}

/// Takes a request apart. Its head is looked at from everywhere and moved through each future of the call: in a place of its
/// own it is copied once.
fn boxed<B>(request: Request<B>) -> (Box<http::request::Parts>, B) {
    let (head, body) = request.into_parts();
    (Box::new(head), body)
}

/// Adds what every answer carries, and takes away the body where HTTP allows none (RFC 9110 sections 9.3.2, 15).
fn finish(received: &Received<'_>, record: &Record, answer: &mut Answer) {
    let Received { parts, request_id, now, .. } = *received;
    let (status, is_head) = (answer.status(), parts.method == http::Method::HEAD);
    let is_bodiless = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED);
    if is_bodiless {
        *answer.body_mut() = Payload::default();
        answer.headers_mut().remove(CONTENT_TYPE);
    } else if is_head {
        // An upstream has said itself how long its answer would be, or has not.
        let is_own = record.endpoint.is_none() || !answer.headers().contains_key(VIA);
        let length = std::mem::take(answer.body_mut()).size_hint().exact().unwrap_or_default();
        if is_own {
            answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
    }
    let headers = answer.headers_mut();
    if let Some(endpoint) = &record.endpoint {
        if let Some(quota) = &record.quota {
            quota.write(&endpoint.rate_limit_policy, headers);
        }
        enforcement::announce(endpoint, now, headers);
    }
    if let Some(cors) = record.cors().filter(|_| !cors::is_preflight(&parts.method, &parts.headers)) {
        cors::permit_reading(cors, parts.headers.get(ORIGIN), headers);
    }
    if let Ok(id) = HeaderValue::from_bytes(&request_id.to_text()) {
        headers.insert(REQUEST_ID, id);
    }
}

/// Runs a future; `None` when it panics.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        // A panicked call is dropped and never polled again; what it shares with others are locks that are taken for
        // one statement and stay usable.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

// === impl GatewaySettings ===

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            listener: ListenerSettings::default(),
            max_uri_bytes: 8 * 1024,
            max_header_bytes: 48 * 1024,
            body_idle_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(120),
            max_bodies_bytes: 256 * 1024 * 1024,
            password_workers: 2,
            password_queue: 32,
            log_sample: Sample::ALL,
            max_calls: 10_000,
            call_queue: 1_000,
            call_queue_timeout: Duration::from_secs(1),
            bad_credentials_per_address: 60,
            rate_limit_callers: 200_000,
            remembered_tokens: 65_536,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_one_call_and_nothing_else() {
        let panics = async {
            tokio::task::yield_now().await;
            assert!(std::hint::black_box(false), "on purpose");
        };
        assert_eq!(caught(panics).await, None);
        assert_eq!(caught(std::future::ready(1)).await, Some(1));
    }
}
