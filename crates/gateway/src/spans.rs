//! Calls as tracing systems see them: a span for each call, and one below it for each call of an upstream.
//!
//! The gateway knows no tracing system. Whoever exports spans implements [`Spans`]; without one, a call pays for one look.
//! Spans name what the log names: never a header, a query, a path as it was sent, or a body.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use tollgate_model::recent_calls::CutOff;

/// Takes the spans of calls.
pub trait Spans: Send + Sync {
    /// Tells whether a trace is recorded: by its id and, where the caller began it, whether the caller records it. Gives
    /// the same answer each time.
    fn samples(&self, trace_id: u128, callers: Option<bool>) -> bool;

    /// Takes the span of a call that has ended. Must not wait.
    fn call(&self, place: SpanPlace, call: &CallSpan<'_>);

    /// Takes the span of an attempt to call an upstream that has ended. Must not wait.
    fn upstream(&self, place: SpanPlace, call: &UpstreamSpan<'_>);

    /// Takes the span of a scheduled run that has ended. Must not wait.
    fn scheduled(&self, place: SpanPlace, run: &ScheduledSpan<'_>);
}

/// Where a span stands in its trace, and when it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanPlace {
    /// The trace.
    pub trace_id: u128,
    /// The span.
    pub span_id: u64,
    /// The span above it; `None` when it is the first.
    pub parent: Option<u64>,
    /// Whether the span above it is another process's.
    pub parent_is_remote: bool,
    /// When it began.
    pub began_at: Timestamp,
    /// How long it took.
    pub took: Duration,
}

/// What a span says of a call.
#[derive(Debug, Clone, Copy)]
pub struct CallSpan<'a> {
    /// The id under which the log knows the call.
    pub request_id: &'a str,
    /// The method, `other` when it is none of HTTP's.
    pub method: &'a str,
    /// The route as its author wrote it.
    pub route: Option<&'a str>,
    /// The status; `None` when the caller hung up.
    pub status: Option<u16>,
    /// Why the gateway answered the call itself.
    pub code: Option<&'a str>,
    /// Where it comes from.
    pub remote: IpAddr,
    /// The version of HTTP, such as `1.1`.
    pub protocol: &'static str,
    /// The environment whose listener it came by.
    pub environment: &'a str,
    /// Which of its listeners.
    pub exposure: &'a str,
    /// What answered it, and which version.
    pub pipeline: Option<(&'a str, &'a str)>,
    /// Whose credentials it carried.
    pub consumer: Option<&'a str>,
    /// Bytes of the answer's body; of one that was cut off, those that went through.
    pub bytes: Option<u64>,
    /// Who broke off the answer after it had begun.
    pub cut_off: Option<CutOff>,
}

/// What a span says of an attempt to call an upstream. It ends with the upstream's answer.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamSpan<'a> {
    /// The method.
    pub method: &'a str,
    /// The host that was called.
    pub host: &'a str,
    /// The status; `None` when there was no answer.
    pub status: Option<u16>,
    /// The pipeline whose flow made the call.
    pub pipeline: &'a str,
    /// Which attempt it is; the first is 0.
    pub resend: u32,
    /// Why there was no whole answer.
    pub error: Option<&'static str>,
}

/// What a span says of a scheduled run.
#[derive(Debug, Clone, Copy)]
pub struct ScheduledSpan<'a> {
    /// The id under which the log knows the run.
    pub request_id: &'a str,
    /// The environment that it ran in.
    pub environment: &'a str,
    /// What ran.
    pub pipeline: &'a str,
    /// Which version of it.
    pub version: &'a str,
    /// The status that a caller would have got.
    pub status: u16,
    /// The code of its error.
    pub code: Option<&'a str>,
}

/// A part of all calls, chosen by the random bits of an id.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Of the 56 last bits, which are random in ids of every kind that we see (W3C Trace Context level 2), those below.
    below: u64,
}

const RANDOM_BITS: u32 = 56;

// === impl Sample ===

impl Sample {
    /// Everything.
    pub const ALL: Self = Self { below: 1 << RANDOM_BITS };

    /// Returns a part of all, 0 to 1.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the number is between 0 and 2^56, where rounding moves a sample by less than anybody can tell"
    )]
    pub fn of(part: f64) -> Self {
        Self { below: (part.clamp(0.0, 1.0) * (1_u64 << RANDOM_BITS) as f64) as u64 }
    }

    /// Tells whether an id is among those chosen.
    pub fn has(self, id: u128) -> bool {
        let random = u64::try_from(id & u128::from((1_u64 << RANDOM_BITS) - 1)).unwrap_or_default();
        random < self.below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_part_of_all_ids() {
        let random = |n: u128| {
            let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) ^ (n << 64);
            mixed ^ (mixed >> 29)
        };
        for (part, least, most) in [(0.0, 0, 0), (0.01, 60, 140), (0.5, 4_800, 5_200), (1.0, 10_000, 10_000)]
        {
            let chosen = (0..10_000).filter(|n| Sample::of(part).has(random(*n))).count();
            assert!((least..=most).contains(&chosen), "{part}: {chosen}");
        }
        assert!(Sample::ALL.has(u128::MAX) && !Sample::of(f64::NAN).has(0));
    }
}
