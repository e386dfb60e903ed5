//! What a call leaves behind when it has ended: its line in the log, its span, and its place in all that is counted.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use tokio::time::Instant;
use tollgate_model::ids::RequestId;
use tollgate_model::names::RealmName;
use tollgate_model::recent_calls::{CutOff, RecentCall};

use crate::explain::cut;
use crate::gateway::{Gateway, ListenerId, Record};
use crate::metrics::{InFlight, Outcome};
use crate::passing::Ended;
use crate::refusals::{MAX_CODE_CHARS, shown_path};
use crate::spans::{CallSpan, Spans};
use crate::trace::{self, Trace};
use crate::usage::{Destination, EndedCall};

/// The log line of a call, written when it is dropped: at the end of the call, or where the caller hung up or a shutdown
/// cut the call off.
///
/// A caller who could leave no line by hanging up before the answer could have flows run that nobody sees.
pub(crate) struct AccessLine<'a> {
    listener: &'a ListenerId,
    parts: &'a http::request::Parts,
    gateway: &'a Gateway,
    pub(crate) call: Unended,
    pub(crate) ended: Ended,
}

/// What is known of a call that has not ended.
pub(crate) struct Unended {
    pub(crate) started: Instant,
    pub(crate) remote: SocketAddr,
    pub(crate) request_id: RequestId,
    pub(crate) began: Timestamp,
    pub(crate) record: Record,
    /// `None` once the call goes on elsewhere, with its body.
    pub(crate) in_flight: Option<InFlight>,
    /// Whose a refusal is that came to no deployment.
    pub(crate) realm: Option<RealmName>,
    /// Status and code; `None` until there is an answer.
    pub(crate) answered: Option<(StatusCode, Option<HeaderValue>)>,
}

// === impl AccessLine ===

impl<'a> AccessLine<'a> {
    /// Returns the line of a call, which is written when it is dropped.
    pub(crate) fn of(
        gateway: &'a Gateway,
        listener: &'a ListenerId,
        parts: &'a http::request::Parts,
        call: Unended,
        ended: Ended,
    ) -> Self {
        Self { listener, parts, gateway, call, ended }
    }

    /// Takes the call away: whoever has it writes its line.
    pub(crate) fn detach(&mut self) -> Option<Unended> {
        let Unended { started, remote, request_id, began, .. } = self.call;
        Some(Unended {
            started,
            remote,
            request_id,
            began,
            in_flight: Some(self.call.in_flight.take()?),
            record: std::mem::take(&mut self.call.record),
            realm: self.call.realm.take(),
            answered: self.call.answered.take(),
        })
    }

    /// Counts the call for whoever looks after its deployment. What the gateway answers itself and does not refuse, as
    /// `/healthz`, is no call of a pipeline.
    fn count_traffic(&self, outcome: Outcome) {
        let to = match (&self.call.record.endpoint, &self.call.realm) {
            (Some(endpoint), _) => Destination::Endpoint(endpoint),
            (None, Some(realm)) => Destination::Nothing(realm, &self.listener.environment),
            (None, None) => return,
        };
        let consumer = self.call.record.known.consumer.as_ref();
        self.gateway.usage.end(&EndedCall { to, consumer, outcome, began: self.call.began });
    }

    /// Puts together what the live log shows of the call: no header, no query, no body.
    fn recent_call(&self, took: Duration) -> Option<(RealmName, RecentCall)> {
        let endpoint = self.call.record.endpoint.as_ref();
        let realm = endpoint.map(|endpoint| &endpoint.realm).or(self.call.realm.as_ref())?.clone();
        let code = self.call.answered.as_ref().and_then(|(_, code)| code.as_ref()?.to_str().ok());
        let call = RecentCall {
            request_id: self.call.request_id,
            at: self.call.began,
            environment: self.listener.environment.clone(),
            exposure: self.listener.exposure,
            method: method_name(&self.parts.method).to_owned(),
            path: shown_path(self.parts.uri.path()),
            status: self.call.answered.as_ref().map(|(status, _)| status.as_u16()),
            code: code.map(|code| cut(code, MAX_CODE_CHARS)),
            pipeline: endpoint.map(|endpoint| (endpoint.pipeline.clone(), endpoint.version)),
            consumer: self.call.record.known.consumer.as_ref().map(|consumer| consumer.name.clone()),
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            bytes: self.ended.bytes,
            cut_off: self.ended.cut_off,
        };
        Some((realm, call))
    }

    /// Tells whoever takes spans of the call, when its trace is recorded.
    fn tell(&self, spans: &dyn Spans, took: Duration) {
        let mut trace = Trace::of(&self.parts.headers, self.call.request_id);
        if !trace.sample(spans) {
            return;
        }
        let (record, endpoint) = (&self.call.record, self.call.record.endpoint.as_deref());
        let code = self.call.answered.as_ref().and_then(|(_, code)| code.as_ref());
        let call = CallSpan {
            request_id: &self.call.request_id.to_string(),
            method: method_name(&self.parts.method),
            route: record.route.as_ref().map(|route| route.path.as_str()),
            status: self.call.answered.as_ref().map(|(status, _)| status.as_u16()),
            code: code.and_then(|code| code.to_str().ok()),
            remote: self.call.remote.ip(),
            protocol: if self.parts.version == http::Version::HTTP_2 { "2" } else { "1.1" },
            environment: self.listener.environment.as_str(),
            exposure: self.listener.exposure.as_str(),
            pipeline: endpoint.map(|endpoint| (endpoint.pipeline.as_str(), endpoint.version_text.as_str())),
            consumer: record.known.consumer.as_ref().map(|consumer| consumer.name.as_str()),
            bytes: self.ended.bytes,
            cut_off: self.ended.cut_off,
        };
        spans.call(trace.place(self.call.began, took), &call);
    }
}

impl Drop for AccessLine<'_> {
    fn drop(&mut self) {
        let Some(in_flight) = self.call.in_flight.take() else { return };
        let Self { listener, ended, call: Unended { record, request_id, .. }, .. } = &*self;
        let endpoint = record.endpoint.as_deref();
        let took = self.call.started.elapsed();
        let answered = self.call.answered.as_ref().map(|(status, code)| (*status, code.as_ref()));
        let outcome = Outcome::new(ended.counted(answered), took);
        let series = self.gateway.metrics.of(in_flight.listener(), endpoint);
        outcome.count(series);
        self.count_traffic(outcome);
        if endpoint.is_some() || self.call.realm.is_some() {
            let now_us = self.call.began.as_microsecond();
            self.gateway.recent.note(series.log_allowance(), now_us, || self.recent_call(took));
        }
        if let Some(spans) = self.gateway.spans() {
            self.tell(&**spans, took);
        }
        let went_well = answered.is_some_and(|(status, code)| code.is_none() && status.as_u16() < 400);
        if went_well && ended.cut_off.is_none() && !self.gateway.settings.log_sample.has(request_id.as_u128())
        {
            return;
        }
        let code = self.call.answered.as_ref().and_then(|(_, code)| code.as_ref());
        tracing::info!(
            target: "tollgate::access",
            %request_id,
            trace_id = trace::named(&self.parts.headers),
            remote = %self.call.remote.ip(),
            protocol = ?self.parts.version,
            method = method_name(&self.parts.method),
            route = record.route.as_ref().map(|route| route.path.as_str()),
            status = self.call.answered.as_ref().map(|(status, _)| status.as_u16()),
            code = code.and_then(|code| code.to_str().ok()),
            hung_up = self.call.answered.is_none().then_some(true),
            duration_ms = took.as_secs_f64() * 1_000.0,
            began_after_ms = ended.began_after.map(|after| after.as_secs_f64() * 1_000.0),
            bytes = ended.bytes,
            cut_off = ended.cut_off.map(CutOff::as_str),
            environment = listener.environment.as_str(),
            exposure = listener.exposure.as_str(),
            pipeline = endpoint.map(|endpoint| endpoint.pipeline.as_str()),
            version = endpoint.map(|endpoint| endpoint.version_text.as_str()),
            consumer = record.known.consumer.as_ref().map(|consumer| consumer.name.as_str()),
            certificate = record.known.certificate.map(tracing::field::display),
            reason = record.refused.as_deref(),
        );
    }
}

/// Returns a method as the log knows it. Any other is a text of the caller's, up to a whole head long.
pub(crate) fn method_name(method: &http::Method) -> &str {
    use http::Method as M;
    match *method {
        M::GET | M::HEAD | M::POST | M::PUT | M::PATCH | M::DELETE | M::OPTIONS | M::TRACE | M::CONNECT => {
            method.as_str()
        }
        _ => "other",
    }
}
