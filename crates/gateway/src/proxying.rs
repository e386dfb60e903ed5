//! The end of a flow with a `proxy` step: the call goes to an upstream, and its answer to the caller (RFC 9110 section 7.6).
//!
//! The upstream is inside and the caller outside, and neither is trusted to speak HTTP for the other: heads are made anew
//! ([`heads`]), bodies are framed anew ([`bodies`]). An answer that can be read in two ways is refused as a request is.

mod bodies;
mod heads;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, Uri};
use tollgate_flow::{Forward, UpstreamError};
use tollgate_model::environments::RealmSettings;
use tollgate_model::explanations::Check;
use tollgate_model::steps::PathPart;

use crate::checks::Target;
use crate::gateway::{Gateway, Received};
use crate::payload::{Payload, Stream};
use crate::problem::{Answer, Code, Problem};
pub(crate) use crate::proxying::bodies::UploadState;
use crate::proxying::bodies::{Beginning, Download, Lender, Upload, UploadEnd};
use crate::proxying::heads::TrailerRules;
use crate::request::API_KEY_PARAMETER;
use crate::trace::Trace;
use crate::upstreams::{Begun, Deadline, Outgoing, Traced};

/// A call on its way to an upstream.
struct Proxied {
    method: Method,
    headers: HeaderMap,
    /// What is put behind the target's path: begins with `/`, or is empty.
    path: String,
    /// With the `?`, or empty.
    query: String,
    body: Sending,
    upload: Option<Arc<UploadState>>,
}

/// The body of a call on its way.
enum Sending {
    Nothing,
    Once(Option<Upload>),
    Again(Lender),
}

/// Hands a call over to an upstream.
pub(crate) async fn forward(
    gateway: &Gateway,
    target: &Target<'_>,
    received: &Received<'_>,
    parameters: &[(&str, &str)],
    body: Option<Stream>,
    forward: &Forward,
    settings: &Arc<RealmSettings>,
) -> Result<Answer, Problem> {
    let from = &received.parts.headers;
    if heads::wants_upgrade(from) {
        return Err(Problem::new(Code::UpgradeRefused).at(Check::Flow).close());
    }
    if heads::is_circle(from) {
        return Err(Problem::new(Code::LoopDetected).at(Check::Flow));
    }
    let trigger = &target.endpoint.trigger;
    let upload = body.map(|body| {
        let trailers = TrailerRules::to_upstream(forward);
        Upload::new(body, trigger.longest_body(), gateway.settings.body_idle_timeout, trailers)
    });
    let state = upload.as_ref().map(Upload::state);
    let mut trace = Trace::of(from, received.request_id);
    let traced = Traced::below(gateway, &mut trace, target.endpoint.pipeline.as_str());
    let mut proxied = Proxied {
        method: received.parts.method.clone(),
        headers: heads::to_upstream(received, forward, Some(&trace).filter(|_| traced.is_none())),
        path: path(forward.settings.path, target, parameters),
        query: if forward.settings.query { query(target.head.query) } else { String::new() },
        body: match upload {
            None => Sending::Nothing,
            Some(upload) if forward.call.upstream.retries() == 0 => Sending::Once(Some(upload)),
            Some(upload) => Sending::Again(Lender::new(upload)),
        },
        upload: state.clone(),
    };
    // A file may take as long as it goes on; any other call has its time until the answer begins.
    let is_file = trigger.max_file_bytes.is_some();
    let limit = (!is_file).then(|| Duration::from_millis(trigger.timeout_ms.get().into()));
    let can_renew = state.is_some() || forward.call.upstream.retries() > 0;
    let (limit, patience) = bounds(limit, forward.settings.response_timeout, can_renew);
    let deadline = limit.map(Deadline::after);
    let begun = {
        // In its place from the beginning: moved, it would be copied for each call.
        let upstreams = &gateway.upstreams;
        let sent = upstreams.send(&forward.call, settings, &mut proxied, patience, deadline, traced);
        let mut begun = pin!(sent);
        match limit {
            None => begun.await,
            Some(limit) => {
                let begun = tokio::time::timeout(limit, begun.as_mut()).await;
                begun.map_err(|_| Problem::new(Code::FlowTimeout))?
            }
        }
    };
    let Begun { response, mut watch, .. } =
        begun.map_err(|error| problem(&error, state.as_deref(), received, forward))?;
    let (mut parts, mut body) = response.into_parts();
    heads::to_caller(&mut parts, forward, &target.endpoint.response_headers);
    let body = match Beginning::of(&mut body) {
        Beginning::Whole(bytes) => {
            watch.ended();
            Payload::from(bytes)
        }
        Beginning::Part(first) => {
            let trailers = TrailerRules::to_caller(forward);
            Payload::stream(Download::new(body, first, trailers, watch, received.request_id))
        }
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    Ok(answer)
}

/// Returns which bounds are kept: of the whole call, and of each attempt. One that another always comes before is not: each is
/// a timer, which a call pays for. `can_renew` when there may be several attempts, or patience with one begins anew.
fn bounds(
    limit: Option<Duration>,
    patience: Duration,
    can_renew: bool,
) -> (Option<Duration>, Option<Duration>) {
    match limit {
        Some(limit) if limit <= patience => (Some(limit), None),
        Some(limit) if can_renew => (Some(limit), Some(patience)),
        _ => (None, Some(patience)),
    }
}

/// Makes the answer to a call that did not get through. What the caller did itself goes first.
fn problem(
    error: &UpstreamError,
    upload: Option<&UploadState>,
    received: &Received<'_>,
    forward: &Forward,
) -> Problem {
    match upload.and_then(UploadState::ended) {
        Some(UploadEnd::TooLarge) => return Problem::new(Code::RequestTooLarge).at(Check::Body).close(),
        Some(UploadEnd::TooSlow) => return Problem::new(Code::RequestTimeout).close(),
        Some(UploadEnd::CutOff) => {
            return Problem::malformed("the body is cut off or malformed").at(Check::Body);
        }
        None => {}
    }
    failed(received, forward, &error.to_string());
    if let UpstreamError::Malformed(_) = error {
        return Problem::new(Code::UpstreamMalformed);
    }
    let (status, code) = error.outcome();
    let status = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
    let problem = Problem::flow(status, code.to_owned(), error.public().to_owned());
    match error {
        UpstreamError::Unhealthy | UpstreamError::Overloaded => problem.retry_after(1),
        _ => problem,
    }
}

fn failed(received: &Received<'_>, forward: &Forward, why: &str) {
    tracing::warn!(
        target: "tollgate::flow", request_id = %received.request_id, step = forward.settings.label, detail = why,
        "an upstream did not answer"
    );
}

/// Returns what of a call's path goes to the upstream, as the caller sent it: [`crate::request::Head`] has refused whatever
/// could climb.
fn path(part: PathPart, target: &Target<'_>, parameters: &[(&str, &str)]) -> String {
    let path = target.head.path;
    match part {
        PathPart::Whole => path.to_owned(),
        PathPart::Route => {
            let of_prefix = |segments: &str| {
                // Behind `pipeline`, the realm and the major version.
                segments
                    .match_indices('/')
                    .nth(2)
                    .map(|(at, _)| segments.get(at..).unwrap_or_default().to_owned())
            };
            path.strip_prefix("/pipeline/")
                .and_then(|_| of_prefix(path.get(1..)?))
                .unwrap_or_else(|| path.to_owned())
        }
        PathPart::Rest => {
            let has_rest = target.route.path.rsplit('/').next().is_some_and(|last| last.starts_with('*'));
            match parameters.last().filter(|_| has_rest) {
                Some((_, rest)) => format!("/{rest}"),
                None => String::new(),
            }
        }
    }
}

/// Returns a query with its `?`, and without API keys.
fn query(query: &str) -> String {
    if query.is_empty() {
        return String::new();
    }
    let is_key = |pair: &&str| {
        form_urlencoded::parse(pair.as_bytes()).next().is_some_and(|(name, _)| name == API_KEY_PARAMETER)
    };
    let mut kept = String::with_capacity(query.len() + 1);
    for pair in query.split('&').filter(|pair| !is_key(pair)) {
        kept.push(if kept.is_empty() { '?' } else { '&' });
        kept.push_str(pair);
    }
    kept
}

// === impl Proxied ===

impl Proxied {
    /// Returns the path and the query that a target gets.
    fn path_and_query(&self, target: &Uri) -> Uri {
        let own = || target.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        if self.path.is_empty() && self.query.is_empty() {
            return own();
        }
        let base = if self.path.is_empty() { target.path() } else { target.path().trim_end_matches('/') };
        let own_query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
        // Both were URLs, and what was put together has no other parts.
        let text = format!("{base}{}{own_query}{}", self.path, self.query);
        PathAndQuery::try_from(text).map(Uri::from).unwrap_or_else(|_| own())
    }
}

impl Outgoing for Proxied {
    fn method(&self) -> &Method {
        &self.method
    }

    fn request(&mut self, target: &Uri, is_last: bool) -> Request<Payload> {
        let body = match &mut self.body {
            Sending::Nothing => Payload::default(),
            Sending::Once(upload) => upload.take().map(Payload::stream).unwrap_or_default(),
            Sending::Again(lender) => Payload::stream(lender.lend()),
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path_and_query(target);
        *request.headers_mut() =
            if is_last { std::mem::take(&mut self.headers) } else { self.headers.clone() };
        request
    }

    fn is_untouched(&self) -> bool {
        match &self.body {
            Sending::Nothing => true,
            Sending::Once(upload) => upload.is_some(),
            Sending::Again(lender) => lender.is_untouched(),
        }
    }

    fn upload(&self) -> Option<Arc<UploadState>> {
        self.upload.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_ends_a_call_first_is_kept() {
        let [short, long] = [1, 2].map(Duration::from_secs);
        assert_eq!(bounds(None, short, true), (None, Some(short)), "a file");
        assert_eq!(bounds(Some(short), long, false), (Some(short), None));
        assert_eq!(bounds(Some(short), long, true), (Some(short), None));
        assert_eq!(bounds(Some(short), short, true), (Some(short), None));
        assert_eq!(bounds(Some(long), short, false), (None, Some(short)));
        assert_eq!(bounds(Some(long), short, true), (Some(long), Some(short)));
    }
}
