//! A gateway that knows as many recent calls as one keeps of a realm, and answers nothing.

use std::sync::Arc;

use jiff::Timestamp;
use tollgate_app::access::Op;
use tollgate_app::explanations::{BoxFuture, Listener, NotExplained, ThisGateway};
use tollgate_app::keys::Expiry;
use tollgate_app::trials::{NotTried, PreparedTrial};
use tollgate_model::environments::Exposure;
use tollgate_model::explanations::{CallToExplain, Explanation, Refusal};
use tollgate_model::ids::RequestId;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::recent_calls::{RecentCall, RecentCalls};
use tollgate_model::trials::TrialReport;
use tollgate_model::versions::Version;

/// Calls that it knows.
const CALLS: u16 = 1_000;

/// The gateway.
pub(crate) struct KnowsCalls(Vec<Arc<RecentCall>>);

impl KnowsCalls {
    pub(crate) fn new(op: &Op) -> Self {
        let call = |n: u16| {
            let [high, low] = n.to_be_bytes();
            Arc::new(RecentCall {
                request_id: RequestId::new(op.now, [high, low, 0, 0, 0, 0, 0, 0, 0, 0]),
                at: op.now,
                environment: EnvironmentName::test(),
                exposure: Exposure::External,
                method: "GET".to_owned(),
                path: format!("/pipeline/default/v1/p{n}"),
                status: Some(if n.is_multiple_of(5) { 401 } else { 200 }),
                code: n.is_multiple_of(5).then(|| "api-key-missing".to_owned()),
                pipeline: Some((format!("p{n}").parse().expect("a name"), Version::FIRST)),
                consumer: None,
                took_us: 1_500,
                bytes: Some(120),
                cut_off: None,
            })
        };
        Self((0..CALLS).map(call).collect())
    }
}

impl ThisGateway for KnowsCalls {
    fn explain<'a>(
        &'a self,
        _: &'a RealmName,
        _: &'a CallToExplain,
    ) -> BoxFuture<'a, Result<Explanation, NotExplained>> {
        Box::pin(std::future::ready(Err(NotExplained::OtherRealm)))
    }

    fn refusal(&self, _: &RealmName, _: RequestId) -> Option<Arc<Refusal>> {
        None
    }

    fn refusals(&self, _: &RealmName) -> Vec<Arc<Refusal>> {
        Vec::new()
    }

    fn recent_calls(&self, _: &RealmName) -> RecentCalls {
        RecentCalls { calls: self.0.clone(), left_out: 0 }
    }

    fn expiring_keys(&self, _: &RealmName, _: Timestamp, _: Timestamp) -> Vec<Expiry> {
        Vec::new()
    }

    fn try_flow<'a>(&'a self, _: PreparedTrial<'a>) -> BoxFuture<'a, Result<TrialReport, NotTried>> {
        Box::pin(std::future::ready(Err(NotTried::Unavailable)))
    }

    fn listeners(&self) -> Vec<Listener> {
        Vec::new()
    }
}
