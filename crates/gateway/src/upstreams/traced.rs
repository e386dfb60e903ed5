//! Attempts to call upstreams, as spans below the call or the run that makes them.
//!
//! Each attempt has a span of its own, and the upstream hears its id: what a retry does is told apart from what the first
//! attempt did. Where nothing is recorded, an attempt pays for nothing.

use std::sync::Arc;

use http::{Request, Uri};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::access_line::method_name;
use crate::gateway::Gateway;
use crate::payload::Payload;
use crate::spans::{SpanPlace, Spans, UpstreamSpan};
use crate::trace::Trace;

/// Makes a span for each attempt of a call.
pub(crate) struct Traced<'a> {
    gateway: &'a Gateway,
    spans: &'a Arc<dyn Spans>,
    trace: Trace,
    pipeline: &'a str,
    attempts: u32,
}

/// The span of an attempt, told when it is dropped: with the end of the answer, or where the attempt was given up.
pub(crate) struct Attempt {
    spans: Arc<dyn Spans>,
    trace: Trace,
    began_at: Timestamp,
    started: Instant,
    method: String,
    host: String,
    pipeline: String,
    resend: u32,
    status: Option<u16>,
    error: Option<&'static str>,
}

// === impl Traced ===

impl<'a> Traced<'a> {
    /// Returns what makes the spans below a call of this trace; `None` when it is not recorded. The trace says to others
    /// what was decided.
    pub(crate) fn below(gateway: &'a Gateway, trace: &mut Trace, pipeline: &'a str) -> Option<Self> {
        let spans = gateway.spans().filter(|spans| trace.sample(&***spans))?;
        Some(Self { gateway, spans, trace: trace.clone(), pipeline, attempts: 0 })
    }

    /// Begins an attempt, and tells the upstream its span.
    pub(crate) fn begin(&mut self, target: &Uri, request: &mut Request<Payload>) -> Attempt {
        let [_, _, id @ ..] = self.gateway.random_bytes();
        let trace = self.trace.clone().below(u64::from_be_bytes(id).max(1));
        trace.write(request.headers_mut());
        let resend = self.attempts;
        self.attempts += 1;
        Attempt {
            spans: self.spans.clone(),
            trace,
            began_at: self.gateway.clock.now(),
            started: Instant::now(),
            method: method_name(request.method()).to_owned(),
            host: target.host().unwrap_or_default().to_owned(),
            pipeline: self.pipeline.to_owned(),
            resend,
            status: None,
            error: Some("cut off"),
        }
    }
}

// === impl Attempt ===

impl Attempt {
    /// Notes that the answer has begun.
    pub(crate) fn began(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// Notes that the whole answer came.
    pub(crate) fn ended(&mut self) {
        self.error = None;
    }

    /// Notes why there was no whole answer.
    pub(crate) fn failed(&mut self, why: &'static str) {
        self.error = Some(why);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let call = UpstreamSpan {
            method: &self.method,
            host: &self.host,
            status: self.status,
            pipeline: &self.pipeline,
            resend: self.resend,
            error: self.error,
        };
        let place = self.trace.place(self.began_at, self.started.elapsed());
        self.spans.upstream(SpanPlace { parent_is_remote: false, ..place }, &call);
    }
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attempt({} {})", self.resend, self.host)
    }
}
