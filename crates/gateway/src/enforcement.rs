//! The date from which calls to deployments that do not conform are refused, and what callers are told before.
//!
//! All that takes time is done when a snapshot is built; a call compares two times.

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use tollgate_snapshot::Endpoint;

use crate::problem::{Code, Problem};

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
    let enforced = endpoint.enforced.as_ref().map_err(|_| Problem::new(Code::CheckUnavailable))?;
    Ok(enforced.as_ref().filter(|enforced| enforced.from <= now).map(|enforced| enforced.reason(now)))
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
