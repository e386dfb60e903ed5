//! The trace that a call belongs to (W3C Trace Context), for the log and for what the call asks of upstreams.
//!
//! A caller's `traceparent` is taken over when it is well-formed; else the call begins a trace of its own, whose id is the
//! id of the request without its prefix. Nothing is decided by it.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use tollgate_model::ids::RequestId;

use crate::spans::{SpanPlace, Spans};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longest `tracestate` that is passed on, in bytes.
const MAX_STATE_BYTES: usize = 512;

/// Where a call stands in its trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    id: u128,
    /// Names this call in it.
    span: u64,
    /// The span above it, when the trace was taken over.
    parent: Option<u64>,
    /// Whether it is recorded, as far as it is told to others.
    sampled: bool,
    /// What tracing systems have added, when the trace was taken over.
    state: Option<HeaderValue>,
}

// === impl Trace ===

impl Trace {
    /// Returns the trace of a call.
    pub(crate) fn of(headers: &HeaderMap, request_id: RequestId) -> Self {
        let own = request_id.as_u128();
        // The last 64 bits of the id are random, but for two.
        let span = u64::try_from(own & u128::from(u64::MAX)).unwrap_or_default();
        match taken_over(headers) {
            Some((id, parent, sampled)) => {
                Self { id, span, parent: Some(parent), sampled, state: state(headers) }
            }
            None => Self { id: own, span, parent: None, sampled: false, state: None },
        }
    }

    /// Asks whoever takes spans whether this trace is recorded, and tells others the same.
    pub(crate) fn sample(&mut self, spans: &dyn Spans) -> bool {
        self.sampled = spans.samples(self.id, self.parent.map(|_| self.sampled));
        self.sampled
    }

    /// Returns the place of the call's own span.
    pub(crate) fn place(&self, began_at: Timestamp, took: Duration) -> SpanPlace {
        let (trace_id, span_id, parent) = (self.id, self.span, self.parent);
        SpanPlace { trace_id, span_id, parent, parent_is_remote: true, began_at, took }
    }

    /// Goes on to a span below the call's.
    pub(crate) fn below(self, span: u64) -> Self {
        Self { parent: Some(self.span), span, ..self }
    }

    /// Tells an upstream which call its own is part of, unless the flow tells something else.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if headers.contains_key(TRACEPARENT) {
            return;
        }
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let [_, _, _, id @ .., _, _, _] = &mut text;
        let (id, span) = id.split_at_mut(32);
        write_hex(id, self.id);
        write_hex(span.get_mut(1..).unwrap_or_default(), self.span.into());
        let [.., flags] = &mut text;
        *flags += u8::from(self.sampled);
        if let Ok(value) = HeaderValue::from_bytes(&text) {
            headers.insert(TRACEPARENT, value);
            match &self.state {
                Some(state) => headers.insert(TRACESTATE, state.clone()),
                None => headers.remove(TRACESTATE),
            };
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.id)
    }
}

/// Returns the id of the trace that a caller names, as the log shows it.
pub(crate) fn named(headers: &HeaderMap) -> Option<String> {
    taken_over(headers).map(|(id, ..)| format!("{id:032x}"))
}

/// Reads the trace that a caller names, when it names one as it should: its id, the caller's span, and whether it is recorded.
fn taken_over(headers: &HeaderMap) -> Option<(u128, u64, bool)> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let text = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2)?;
    let (id, parent) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?);
    let flags = hex(parts.next()?, 2)?;
    // Later versions may add parts; of this one there are four.
    let is_known = version != 0xff && (version != 0 || parts.next().is_none());
    let parent = u64::try_from(parent).ok()?;
    (is_known && id != 0 && parent != 0).then_some((id, parent, flags & 1 == 1))
}

fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(TRACESTATE).iter();
    let first = values.next().filter(|_| values.next().is_none())?;
    (first.len() <= MAX_STATE_BYTES && first.to_str().is_ok()).then(|| first.clone())
}

/// Writes a number in as many lower-case hexadecimal digits as there is room for.
fn write_hex(digits: &mut [u8], mut number: u128) {
    for digit in digits.iter_mut().rev() {
        let value = u8::try_from(number & 0xf).unwrap_or_default();
        *digit = value + if value < 10 { b'0' } else { b'a' - 10 };
        number >>= 4;
    }
}

/// Reads lower-case hexadecimal digits, of which there must be so many.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(parents: &[&str], states: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in [(TRACEPARENT, parents), (TRACESTATE, states)] {
            for value in values {
                headers.append(&name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
            }
        }
        headers
    }

    fn request_id() -> RequestId {
        RequestId::new(jiff::Timestamp::UNIX_EPOCH, [7; 10])
    }

    fn told(trace: &Trace) -> (String, String) {
        let mut headers = HeaderMap::new();
        trace.write(&mut headers);
        let text = |name| headers.get(name).map_or("", |value: &HeaderValue| value.to_str().expect("text"));
        (text(TRACEPARENT).to_owned(), text(TRACESTATE).to_owned())
    }

    #[test]
    fn a_callers_trace_goes_on_with_a_span_of_our_own() {
        let trace = Trace::of(&headers(&[GOOD], &["a=1,b=2"]), request_id());
        assert_eq!(trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        let (parent, state) = told(&trace);
        let span = &request_id().to_string()["req_".len() + 16..];
        assert_eq!(parent, format!("00-0af7651916cd43dd8448eb211c80319c-{span}-01"));
        assert_eq!(state, "a=1,b=2");
        let later = format!("cc{}-more", &GOOD[2..]);
        assert_eq!(Trace::of(&headers(&[&later], &[]), request_id()).to_string(), trace.to_string());
    }

    #[test]
    fn what_is_no_trace_begins_one() {
        let own = request_id().to_string()["req_".len()..].to_owned();
        for parents in [
            &[][..],
            &[""],
            &[GOOD, GOOD],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"],
            &["00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"],
            &["00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01"],
            &["00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            &["00-00000000000000000000000000000000-b7ad6b7169203331-01"],
            &["00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"],
            &["ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            &["\u{e9}"],
        ] {
            let trace = Trace::of(&headers(parents, &["a=1"]), request_id());
            assert_eq!(trace.to_string(), own, "{parents:?}");
            assert_eq!(told(&trace), (format!("00-{own}-{}-00", &own[16..]), String::new()));
        }
    }

    #[test]
    fn what_the_flow_tells_is_left_as_it_is() {
        let mut told = headers(&["00-1-2-3"], &["x=1"]);
        Trace::of(&headers(&[GOOD], &["a=1"]), request_id()).write(&mut told);
        assert_eq!(
            (&told[TRACEPARENT], &told[TRACESTATE]),
            (&"00-1-2-3".parse().unwrap(), &"x=1".parse().unwrap())
        );
        let long = "x".repeat(513);
        assert_eq!(Trace::of(&headers(&[GOOD], &[&long]), request_id()).state, None);
    }
}
