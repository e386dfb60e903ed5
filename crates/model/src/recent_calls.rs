//! Recent calls: the live log of a gateway.
//!
//! What stands here is shown to people who look after pipelines. Of a call it is what they need to recognise it: never a
//! header, a query, a body, or anything of a secret.

use jiff::Timestamp;

use crate::environments::Exposure;
use crate::ids::RequestId;
use crate::names::{ConsumerName, EnvironmentName, PipelineName};
use crate::versions::Version;

/// A call that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct RecentCall {
    /// Names it, in its answer and in the log.
    pub request_id: RequestId,
    /// When it began.
    pub at: Timestamp,
    /// On whose listener.
    pub environment: EnvironmentName,
    /// On which of them.
    pub exposure: Exposure,
    /// The method; `other` for one that nobody knows.
    pub method: String,
    /// The path, cut, without the query.
    pub path: String,
    /// The status of the answer; `None` when the caller hung up before.
    pub status: Option<u16>,
    /// The code of a problem that was answered.
    pub code: Option<String>,
    /// What was called, and in which version; `None` when it came to no pipeline.
    pub pipeline: Option<(PipelineName, Version)>,
    /// Who called, once that was known.
    pub consumer: Option<ConsumerName>,
    /// How long it took until its end, in microseconds.
    pub took_us: u64,
    /// How many bytes of an answer's body there were; of one that was cut off, how many went through.
    pub bytes: Option<u64>,
    /// Who broke off an answer that had begun; `None` when nobody did.
    pub cut_off: Option<CutOff>,
}

/// Who broke off an answer that had begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutOff {
    /// The caller, or whatever ended the connection to it.
    Caller,
    /// The upstream whose answer it was.
    Upstream,
}

// === impl CutOff ===

impl CutOff {
    /// Returns how it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Upstream => "upstream",
        }
    }
}

/// The calls that a gateway still knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecentCalls {
    /// The calls, newest first.
    pub calls: Vec<std::sync::Arc<RecentCall>>,
    /// How many calls, of all realms, were left out since the process began, because there were too many at once.
    pub left_out: u64,
}
