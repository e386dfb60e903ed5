//! The data plane: parses, routes, checks, limits, runs, answers.
//!
//! A call sees one [`tollgate_snapshot::Snapshot`] from its beginning to its end and never the store. It goes through
//! these modules, in this order:
//!
//! 1. [`tollgate_listener`]: the connection, with its limits and timeouts;
//! 2. [`request`]: the head of the request, which must have one reading only;
//! 3. [`gateway`]: route, CORS preflight, method, [`enforcement`] of the policies, declared length;
//!    what looks like a client certificate in a header is taken away before ([`look_alikes`]);
//! 4. [`checks`]: credentials and rate limits; their outcome is a `Permit`;
//! 5. [`overload`]: a place among the calls that run;
//! 6. [`flows`]: the body, then the flow, which demands the permit; [`proxying`] where an upstream answers.
//!
//! What a call leaves behind is written at its end ([`access_line`]); [`passing`] has it end with its last piece.
//!
//! [`explain`] goes the same way for a call that somebody only asks about, [`refusals`] keeps what became of calls that
//! were refused, and [`recent`] the last calls of all.
//!
//! Whatever refuses the call on its way answers with a [`problem`].

mod access_line;
mod bad_credentials;
mod body;
mod bounded;
mod checks;
mod compression;
mod cors;
mod enforcement;
mod explain;
mod fields;
mod flows;
mod forms;
mod front;
mod gateway;
mod id_bytes;
mod look_alikes;
mod metrics;
mod overload;
mod pages;
mod passing;
mod passwords;
mod payload;
mod problem;
mod proxying;
mod rate_limits;
mod recent;
mod refusals;
mod request;
mod spans;
mod tokens;
mod trace;
mod trials;
mod upstreams;
mod usage;
mod watch;
mod why;

pub use explain::ExplainError;
pub use gateway::{Gateway, GatewaySettings, ListenerId, REQUEST_ID, ScheduledRun};
pub use metrics::{Exposition, Kind};
pub use payload::Payload;
pub use problem::{Answer, Code, TOLLGATE_ERROR};
pub use refusals::{DroppedRefusals, Refusals, TakenRefusals};
pub use spans::{CallSpan, Sample, ScheduledSpan, SpanPlace, Spans, UpstreamSpan};
pub use trials::{FlowTrial, TrialError};
pub use usage::{CallCounts, TrafficCounts, Usage};
