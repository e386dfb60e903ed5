//! Calls whose answer is passed on: they end with its last piece, and not where it begins.
//!
//! What such a call leaves behind (its line in the log, its span, its place in the counts) goes along with the body, in one
//! allocation. An answer that is in memory ends when it is made: how fast its bytes are taken is the connection's affair.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use http_body::Frame;
use tollgate_model::recent_calls::CutOff;

use crate::access_line::{AccessLine, Unended};
use crate::gateway::{Gateway, ListenerId};
use crate::payload::BoxError;

/// The code under which an answer that its upstream broke off is counted: the status that was sent says nothing of it.
static CUT_OFF: HeaderValue = HeaderValue::from_static("upstream-cut-off");

/// A call whose answer is on its way.
pub(crate) struct Passing {
    gateway: Arc<Gateway>,
    listener: ListenerId,
    parts: Box<http::request::Parts>,
    line: Option<Unended>,
    /// How long it took until the answer began.
    began_after: Duration,
    sent: u64,
    /// How many bytes there are in all, where that was said.
    expected: Option<u64>,
    end: End,
}

/// How far a body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    OnItsWay,
    Whole,
    Broken,
}

/// How a call ended, as far as its head does not tell.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ended {
    /// Bytes of the body that were given to the connection.
    pub(crate) bytes: Option<u64>,
    /// How long it took until the answer began, where its body went on after that.
    pub(crate) began_after: Option<Duration>,
    /// Who broke it off.
    pub(crate) cut_off: Option<CutOff>,
}

// === impl Passing ===

impl Passing {
    /// `expected` is how long the body is, where that is known.
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        listener: ListenerId,
        parts: Box<http::request::Parts>,
        line: Unended,
        expected: Option<u64>,
    ) -> Box<Self> {
        let began_after = line.started.elapsed();
        let line = Some(line);
        Box::new(Self { gateway, listener, parts, line, began_after, sent: 0, expected, end: End::OnItsWay })
    }

    /// Notes a piece of the body. `is_last` when the body says that there is no other.
    pub(crate) fn note(&mut self, frame: Option<&Result<Frame<Bytes>, BoxError>>, is_last: bool) {
        match frame {
            None => self.end = End::Whole,
            Some(Err(_)) => self.end = End::Broken,
            Some(Ok(frame)) => {
                let len = frame.data_ref().map_or(0, Bytes::len);
                self.sent = self.sent.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
                // Whoever sends a body whose length was told need not ask whether there is more.
                if is_last || self.expected == Some(self.sent) {
                    self.end = End::Whole;
                }
            }
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        let Some(line) = self.line.take() else { return };
        let cut_off = match self.end {
            End::Whole => None,
            End::Broken => Some(CutOff::Upstream),
            End::OnItsWay => Some(CutOff::Caller),
        };
        let ended = Ended { bytes: Some(self.sent), began_after: Some(self.began_after), cut_off };
        // Writes the line when it is dropped.
        drop(AccessLine::of(&self.gateway, &self.listener, &self.parts, line, ended));
    }
}

// === impl Ended ===

impl Ended {
    /// Returns the status and the code by which a call is counted: an answer that broke off is not counted by how it began.
    pub(crate) fn counted(
        self,
        answered: Option<(StatusCode, Option<&HeaderValue>)>,
    ) -> Option<(StatusCode, Option<&HeaderValue>)> {
        match self.cut_off {
            None => answered,
            Some(CutOff::Caller) => None,
            Some(CutOff::Upstream) => Some((StatusCode::BAD_GATEWAY, Some(&CUT_OFF))),
        }
    }
}
