//! Header fields that go no further.

use http::{HeaderMap, HeaderName};

/// Takes every field out of which a test says so. Nearly always there is none, and nothing is allocated.
pub(crate) fn remove_where(headers: &mut HeaderMap, is_one: impl Fn(&HeaderName) -> bool) {
    if !headers.keys().any(&is_one) {
        return;
    }
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_one(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}
