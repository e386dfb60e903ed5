//! Recent calls: the live log of the gateway of this process.
//!
//! It is asked of the gateway that runs in this process and of no other, and is written down nowhere: a log of what good
//! calls asked for is of use while somebody looks, and a burden afterwards. Whoever may ask why a call is answered as it is
//! may read it.

use std::sync::Arc;

use tollgate_model::ids::RequestId;
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName};
use tollgate_model::recent_calls::{CutOff, RecentCall};
use tollgate_model::traffic::AnswerClass;

use crate::App;
use crate::access::{Op, Permission, Place};
use crate::errors::Error;
use crate::explanations::no_gateway;

/// Use cases of recent calls.
pub struct RecentCalls(pub(crate) App);

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With an answer below 400.
    Well,
    /// With a problem of class 4xx.
    Refused,
    /// With a status of class 5xx, or with an answer that its upstream broke off.
    Failed,
    /// Without an answer, or without the whole of it: the caller was gone.
    HungUp,
}

/// Which recent calls to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecentFilter {
    /// Only on listeners of this environment.
    pub environment: Option<EnvironmentName>,
    /// Only to this pipeline.
    pub pipeline: Option<PipelineName>,
    /// Only of this consumer.
    pub consumer: Option<ConsumerName>,
    /// Only those that ended so.
    pub ended: Option<Ended>,
    /// Only with this status.
    pub status: Option<u16>,
    /// Only those that began after this one.
    pub after: Option<RequestId>,
}

/// Recent calls.
#[derive(Debug, Clone, PartialEq)]
pub struct RecentList {
    /// The calls, newest first.
    pub calls: Vec<Arc<RecentCall>>,
    /// How many calls to this process were left out since it began, because there were too many at once.
    pub left_out: u64,
}

// === impl Ended ===

impl Ended {
    /// Every end.
    pub const ALL: [Self; 4] = [Self::Well, Self::Refused, Self::Failed, Self::HungUp];

    /// Returns how it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::HungUp => "hung-up",
        }
    }

    /// Takes the word for one.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Invalid`] naming those that there are.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|ended| ended.as_str() == text).ok_or_else(|| {
            let shown: String = text.chars().take(20).collect();
            Error::invalid(format!("no call ends `{shown}`"))
                .hint(format!("write one of {}", Self::ALL.map(Self::as_str).join(", ")))
        })
    }

    /// Tells how a call ended.
    pub fn of(call: &RecentCall) -> Self {
        match call.cut_off {
            Some(CutOff::Caller) => return Self::HungUp,
            Some(CutOff::Upstream) => return Self::Failed,
            None => {}
        }
        match AnswerClass::of(call.status) {
            AnswerClass::None => Self::HungUp,
            AnswerClass::ServerError => Self::Failed,
            AnswerClass::ClientError if call.code.is_some() => Self::Refused,
            // A flow that answers 404 by itself has answered.
            AnswerClass::Informational
            | AnswerClass::Successful
            | AnswerClass::Redirect
            | AnswerClass::ClientError => Self::Well,
        }
    }
}

// === impl RecentCalls ===

impl RecentCalls {
    /// Returns the last calls to the gateway of this process, newest first, as far as the actor may see them.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::NotFound`] when there is no such environment;
    /// [`crate::errors::ErrorKind::Unavailable`] without a gateway.
    pub async fn list(
        &self,
        op: &Op,
        filter: &RecentFilter,
        limit: Option<u32>,
    ) -> Result<RecentList, Error> {
        let permission = Permission::CallExplain;
        match &filter.environment {
            Some(environment) => {
                op.demand_in(permission, Place::environment(environment))?;
                self.0.environment(&op.realm, environment).await?;
            }
            None => op.demand_anywhere(permission)?,
        }
        let known = self.0.gateway().ok_or_else(no_gateway)?.recent_calls(&op.realm);
        let limit = limit.unwrap_or(100).clamp(1, 500);
        let calls = known
            .calls
            .into_iter()
            .filter(|call| filter.fits(call) && op.may(permission, Place::environment(&call.environment)))
            .take(limit as usize);
        Ok(RecentList { calls: calls.collect(), left_out: known.left_out })
    }
}

// === impl RecentFilter ===

impl RecentFilter {
    fn fits(&self, call: &RecentCall) -> bool {
        let Self { environment, pipeline, consumer, ended, status, after } = self;
        let called = call.pipeline.as_ref().map(|(name, _)| name);
        environment.as_ref().is_none_or(|wanted| *wanted == call.environment)
            && pipeline.as_ref().is_none_or(|wanted| called == Some(wanted))
            && consumer.as_ref().is_none_or(|wanted| call.consumer.as_ref() == Some(wanted))
            && ended.is_none_or(|wanted| Ended::of(call) == wanted)
            && status.is_none_or(|wanted| call.status == Some(wanted))
            && after.is_none_or(|after| call.request_id > after)
    }
}
