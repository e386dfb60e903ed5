//! The date from which calls to deployments that do not conform are refused, and what callers are told before.
//!
//! All that takes time is done when a snapshot is built; a call compares two times.

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use tollgate_model::explanations::Check;
use tollgate_snapshot::Endpoint;

use crate::problem::{Code, Problem};
use crate::why::Why;

/// Since when a resource is deprecated (RFC 9745).
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
/// From when on a resource will not answer (RFC 8594).
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// Returns why the policies refuse a call, for the log; `None` when they do not.
///
/// # Errors
///
/// [`Code::CheckUnavailable`] when it is not known whether they do.
pub(crate) fn refuses(endpoint: &Endpoint, now: Timestamp) -> Result<Option<String>, Problem> {
    let enforced = endpoint
        .enforced
        .as_ref()
        .map_err(|broken| Why::broken(broken, Code::CheckUnavailable, Check::Enforcement))?;
    Ok(enforced.as_ref().filter(|enforced| enforced.from <= now).map(|enforced| enforced.reason(now)))
}

/// Says from when on calls are refused, for an explanation of one that is not.
pub(crate) fn words(endpoint: &Endpoint) -> String {
    match &endpoint.enforced {
        Ok(Some(enforced)) => {
            format!("calls are refused from {} on: {}", enforced.from, enforced.reason(enforced.from))
        }
        Ok(None) | Err(_) => "the policies refuse no call to this deployment".to_owned(),
    }
}

/// Tells callers of a day to come on which their calls will be refused, whatever the flow says of itself.
pub(crate) fn announce(endpoint: &Endpoint, now: Timestamp, headers: &mut HeaderMap) {
    if let Ok(Some(enforced)) = &endpoint.enforced
        && now < enforced.from
    {
        headers.insert(DEPRECATION, enforced.deprecation.clone());
        headers.insert(SUNSET, enforced.sunset.clone());
    }
}
