//! Counters of calls and connections, for Prometheus.
//!
//! A call finds its counters through the endpoint that it goes to, or the listener that it came by: no lock, no
//! allocation, four additions. What varies with callers (paths, consumers, codes that flows make up) is no label, so
//! that nobody outside can make series: there are as many as there are deployments and listeners.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use tollgate_listener::HandshakeFailure;
use tollgate_model::names::{EnvironmentName, PipelineName, RealmName};
use tollgate_model::traffic::{AnswerClass, FLOW_CODE};
use tollgate_snapshot::{CallSeries, Endpoint};

use crate::gateway::ListenerId;
use crate::problem::Code;

mod exposition;

pub use exposition::{Exposition, Kind};

/// Upper bounds of the classes of durations, in seconds as they are shown; one more class has none.
const BUCKETS: [(&str, Duration); 14] = [
    ("0.001", Duration::from_millis(1)),
    ("0.0025", Duration::from_micros(2_500)),
    ("0.005", Duration::from_millis(5)),
    ("0.01", Duration::from_millis(10)),
    ("0.025", Duration::from_millis(25)),
    ("0.05", Duration::from_millis(50)),
    ("0.1", Duration::from_millis(100)),
    ("0.25", Duration::from_millis(250)),
    ("0.5", Duration::from_millis(500)),
    ("1", Duration::from_secs(1)),
    ("2.5", Duration::from_millis(2_500)),
    ("5", Duration::from_secs(5)),
    ("10", Duration::from_secs(10)),
    ("30", Duration::from_secs(30)),
];
/// Classes of status codes; a call without an answer is of the first.
const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// No code, each code of ours, and those that flows make up.
const CODES: usize = Code::ALL.len() + 2;
/// Most deployments whose calls are told apart; those of further ones are counted together.
const MAX_DEPLOYMENTS: usize = 5_000;
/// For how many readings the counters of a deployment that is gone are kept, should it come back.
const KEPT_READINGS: u32 = 100;

/// How a call ended, as places among the counters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    end: usize,
    took: usize,
    duration: Duration,
}

/// The counters of a gateway.
#[derive(Default)]
pub(crate) struct Metrics {
    listeners: Mutex<HashMap<ListenerName, Arc<ListenerMetrics>>>,
    deployments: Mutex<HashMap<DeploymentName, Kept>>,
    others: std::sync::OnceLock<Arc<CallSeries>>,
}

/// The counters of a listener.
pub(crate) struct ListenerMetrics {
    in_flight: AtomicU64,
    connections: AtomicU64,
    accepted: AtomicU64,
    /// TLS handshakes that failed for want of a good client certificate, and for other reasons.
    without_certificate: AtomicU64,
    failed_otherwise: AtomicU64,
    /// Calls that came to no deployment.
    unrouted: CallSeries,
}

/// A connection that is counted as open as long as this lives.
pub(crate) struct Connected(Arc<ListenerMetrics>);

/// A call that is counted as in flight as long as this lives.
pub(crate) struct InFlight(Arc<ListenerMetrics>);

/// A listener, and whether it asks for client certificates: an exposure may have one of either kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ListenerName {
    id: ListenerId,
    mtls: bool,
}

/// What stays of a deployment when it is deployed again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct DeploymentName {
    realm: RealmName,
    environment: EnvironmentName,
    pipeline: PipelineName,
    major: u32,
}

struct Kept {
    series: Arc<CallSeries>,
    /// Readings since an endpoint last had it.
    unused: u32,
}

fn series() -> CallSeries {
    CallSeries::new(STATUS_CLASSES.len() * CODES, BUCKETS.len() + 1)
}

// === impl Metrics ===

impl Metrics {
    /// Returns the counters of a listener. Takes a lock: a listener asks once.
    pub(crate) fn listener(&self, id: &ListenerId, mtls: bool) -> Arc<ListenerMetrics> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.entry(ListenerName { id: id.clone(), mtls }).or_default().clone()
    }

    /// Returns the counters of a call by its endpoint, or the listener's when it came to none.
    pub(crate) fn of<'a>(
        &self,
        listener: &'a ListenerMetrics,
        endpoint: Option<&'a Endpoint>,
    ) -> &'a CallSeries {
        match endpoint {
            Some(endpoint) => endpoint.series.get_or_init(|| self.deployment(endpoint)),
            None => &listener.unrouted,
        }
    }

    /// Returns the counters of a deployment: the ones it had before it was deployed anew. Takes a lock: an endpoint
    /// asks once.
    fn deployment(&self, endpoint: &Endpoint) -> Arc<CallSeries> {
        let name = DeploymentName {
            realm: endpoint.realm.clone(),
            environment: endpoint.environment.clone(),
            pipeline: endpoint.pipeline.clone(),
            major: endpoint.version.major,
        };
        let mut deployments = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        if !deployments.contains_key(&name) && deployments.len() >= MAX_DEPLOYMENTS {
            return self.others.get_or_init(|| Arc::new(series())).clone();
        }
        let fresh = || Kept { series: Arc::new(series()), unused: 0 };
        deployments.entry(name).or_insert_with(fresh).series.clone()
    }

    /// Writes everything that was counted.
    pub(crate) fn write(&self, out: &mut Exposition) {
        let deployments = self.known_deployments();
        let listeners = {
            let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            let mut all: Vec<_> = listeners.iter().map(|(id, it)| (id.clone(), it.clone())).collect();
            all.sort_by(|(one, _), (other, _)| one.labels().cmp(&other.labels()));
            all
        };
        let mut all: Vec<(Vec<(&str, &str)>, &CallSeries)> = Vec::new();
        let majors: Vec<String> = deployments.iter().map(|(name, _)| name.major.to_string()).collect();
        for ((name, series), major) in deployments.iter().zip(&majors) {
            let DeploymentName { realm, environment, pipeline, .. } = name;
            let labels = vec![
                ("environment", environment.as_str()),
                ("realm", realm.as_str()),
                ("pipeline", pipeline.as_str()),
                ("major", major),
            ];
            all.push((labels, series));
        }
        all.extend(self.others.get().map(|series| (vec![("pipeline", "(others)")], &**series)));
        for (name, listener) in &listeners {
            all.push((name.labels().to_vec(), &listener.unrouted));
        }
        out.family(
            "tollgate_calls_total",
            Kind::Counter,
            "Calls that ended, by deployment, class of status (none: nobody was left to answer) and code of ours; \
             without a pipeline those that came to none.",
        );
        for (labels, series) in &all {
            write_outcomes(out, labels, series);
        }
        out.family(
            "tollgate_call_duration_seconds",
            Kind::Histogram,
            "How long calls took, from the head of the request to their end.",
        );
        for (labels, series) in &all {
            write_durations(out, labels, series);
        }
        type Number = fn(&ListenerMetrics) -> &AtomicU64;
        let numbers: [(&str, Kind, &str, Number); 3] = [
            ("tollgate_calls_in_flight", Kind::Gauge, "Calls that have begun and not ended.", |it| {
                &it.in_flight
            }),
            ("tollgate_connections", Kind::Gauge, "Open connections.", |it| &it.connections),
            ("tollgate_connections_accepted_total", Kind::Counter, "Connections ever accepted.", |it| {
                &it.accepted
            }),
        ];
        for (name, kind, help, of) in numbers {
            out.family(name, kind, help);
            for (listener, counted) in &listeners {
                out.sample(name, &listener.labels(), of(counted).load(Ordering::Relaxed));
            }
        }
        let name = "tollgate_tls_handshakes_failed_total";
        out.family(name, Kind::Counter, "TLS handshakes that callers did not get through, by reason.");
        for (listener, counted) in &listeners {
            for (reason, failed) in
                [("client-certificate", &counted.without_certificate), ("other", &counted.failed_otherwise)]
            {
                let labels = [&listener.labels()[..], &[("reason", reason)]].concat();
                out.sample(name, &labels, failed.load(Ordering::Relaxed));
            }
        }
    }

    /// Returns the deployments that are counted; those that have been gone for long are given up.
    fn known_deployments(&self) -> Vec<(DeploymentName, Arc<CallSeries>)> {
        let mut deployments = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        deployments.retain(|_, kept| {
            kept.unused = if Arc::strong_count(&kept.series) > 1 { 0 } else { kept.unused + 1 };
            kept.unused <= KEPT_READINGS
        });
        let mut all: Vec<_> =
            deployments.iter().map(|(name, kept)| (name.clone(), kept.series.clone())).collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }
}

// === impl ListenerName ===

impl ListenerName {
    /// Returns what tells it apart; the last label is absent where no client certificates are asked for.
    fn labels(&self) -> [(&str, &str); 3] {
        [
            ("environment", self.id.environment.as_str()),
            ("exposure", self.id.exposure.as_str()),
            ("mtls", if self.mtls { "true" } else { "" }),
        ]
    }
}

// === impl Outcome ===

impl Outcome {
    /// Finds the places of a call's status and code, if it was answered, and of how long it took.
    pub(crate) fn new(answered: Option<(StatusCode, Option<&HeaderValue>)>, took: Duration) -> Self {
        Self { end: outcome(answered), took: bucket(took), duration: took }
    }

    /// Counts it.
    pub(crate) fn count(self, series: &CallSeries) {
        series.count(self.end, self.took, self.duration);
    }

    /// Returns the class of its duration.
    pub(crate) fn took(self) -> usize {
        self.took
    }

    /// Tells whether another call had the same class of status and the same code.
    pub(crate) fn is_same_end(self, other: Self) -> bool {
        self.end == other.end
    }

    /// Returns the class of the status, and the code of a problem.
    pub(crate) fn end(self) -> (AnswerClass, Option<&'static str>) {
        let class = AnswerClass::ALL.get(self.end / CODES).copied().unwrap_or(AnswerClass::None);
        let code = match self.end % CODES {
            0 => None,
            place => Some(Code::ALL.get(place - 1).map_or(FLOW_CODE, |code| code.as_str())),
        };
        (class, code)
    }
}

/// Returns the place of an outcome among the counters.
fn outcome(answered: Option<(StatusCode, Option<&HeaderValue>)>) -> usize {
    let Some((status, code)) = answered else { return 0 };
    let class = usize::from(status.as_u16() / 100).min(STATUS_CLASSES.len() - 1);
    let code = code.map_or(0, |code| {
        let ours = Code::ALL.iter().position(|ours| ours.as_str().as_bytes() == code.as_bytes());
        ours.map_or(CODES - 1, |ours| ours + 1)
    });
    class * CODES + code
}

fn bucket(took: Duration) -> usize {
    BUCKETS.partition_point(|(_, bound)| *bound < took)
}

fn write_outcomes(out: &mut Exposition, labels: &[(&str, &str)], series: &CallSeries) {
    for (at, calls) in series.outcomes().enumerate().filter(|(_, calls)| *calls > 0) {
        let status = STATUS_CLASSES.get(at / CODES).copied().unwrap_or_default();
        let code = match at % CODES {
            0 => "",
            place => Code::ALL.get(place - 1).map_or("other", |code| code.as_str()),
        };
        let labels = [labels, &[("status", status), ("code", code)]].concat();
        out.sample("tollgate_calls_total", &labels, calls);
    }
}

fn write_durations(out: &mut Exposition, labels: &[(&str, &str)], series: &CallSeries) {
    let mut calls = 0;
    let bounds = BUCKETS.iter().map(|(bound, _)| *bound).chain(["+Inf"]);
    for (bound, more) in bounds.zip(series.durations()) {
        calls += more;
        let labels = [labels, &[("le", bound)]].concat();
        out.sample("tollgate_call_duration_seconds_bucket", &labels, calls);
    }
    out.sample("tollgate_call_duration_seconds_sum", labels, series.total().as_secs_f64());
    out.sample("tollgate_call_duration_seconds_count", labels, calls);
}

// === impl ListenerMetrics ===

impl ListenerMetrics {
    /// Counts a connection, as open until what is returned is dropped.
    pub(crate) fn connected(self: &Arc<Self>) -> Connected {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(self.clone())
    }

    /// Counts a TLS handshake that failed.
    pub(crate) fn failed(&self, failure: HandshakeFailure) {
        let counter = match failure {
            HandshakeFailure::ClientCertificate => &self.without_certificate,
            HandshakeFailure::Other => &self.failed_otherwise,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call, as in flight until what is returned is dropped.
    pub(crate) fn began(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }
}

impl Default for ListenerMetrics {
    fn default() -> Self {
        let zero = AtomicU64::default;
        Self {
            in_flight: zero(),
            connections: zero(),
            accepted: zero(),
            without_certificate: zero(),
            failed_otherwise: zero(),
            unrouted: series(),
        }
    }
}

// === impl Connected ===

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl InFlight ===

impl InFlight {
    /// Returns the listener that it counts for.
    pub(crate) fn listener(&self) -> &ListenerMetrics {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tollgate_model::traffic::DURATION_BOUNDS_US;

    use super::*;

    #[test]
    fn every_outcome_has_a_place_of_its_own() {
        let code = HeaderValue::from_static;
        let status = |status| StatusCode::from_u16(status).expect("a status");
        let mut places: Vec<usize> = Code::ALL
            .iter()
            .map(|it| outcome(Some((it.status(), Some(&code(it.as_str()))))))
            .chain([200, 302, 404, 500].map(|it| outcome(Some((status(it), None)))))
            .chain([outcome(None), outcome(Some((status(400), Some(&code("made-up")))))])
            .collect();
        assert_eq!(outcome(Some((status(201), None))), outcome(Some((status(204), None))));
        let all = places.len();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), all);
        assert!(places.iter().all(|place| *place < STATUS_CLASSES.len() * CODES));
        assert!(outcome(Some((status(999), None))) < STATUS_CLASSES.len() * CODES);
    }

    #[test]
    fn a_duration_is_in_the_first_class_that_holds_it() {
        for (took, bound) in [(0, "0.001"), (1_000, "0.001"), (1_001, "0.0025"), (30_000_000, "30")] {
            assert_eq!(BUCKETS[bucket(Duration::from_micros(took))].0, bound);
        }
        assert_eq!(bucket(Duration::from_secs(31)), BUCKETS.len());
        assert!(BUCKETS.is_sorted_by(|one, other| one.1 < other.1));
        for (shown, bound) in BUCKETS {
            assert_eq!(shown.parse::<f64>().ok(), Some(bound.as_secs_f64()));
        }
        let counted = DURATION_BOUNDS_US.map(Duration::from_micros);
        assert_eq!(
            BUCKETS.map(|(_, bound)| bound),
            counted,
            "what is written down is counted in the same classes"
        );
    }

    #[test]
    fn an_outcome_tells_its_class_and_code() {
        let end = |status, code: Option<&'static str>| {
            let code = code.map(HeaderValue::from_static);
            let status = StatusCode::from_u16(status).expect("a status");
            Outcome::new(Some((status, code.as_ref())), Duration::ZERO).end()
        };
        for code in Code::ALL {
            let status = code.status().as_u16();
            assert_eq!(
                end(status, Some(code.as_str())),
                (AnswerClass::of(Some(status)), Some(code.as_str()))
            );
        }
        assert_eq!(end(204, None), (AnswerClass::Successful, None));
        assert_eq!(end(418, Some("made-up")), (AnswerClass::ClientError, Some(FLOW_CODE)));
        assert_eq!(Outcome::new(None, Duration::ZERO).end(), (AnswerClass::None, None));
        assert_eq!(STATUS_CLASSES, AnswerClass::ALL.map(AnswerClass::as_str));
    }
}
