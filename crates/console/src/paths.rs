//! Names in the paths of pages.

use std::fmt::Display;
use std::str::FromStr;

use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tollgate_model::names::RealmName;

use crate::answers::Answer;
use crate::errors::Failure;
use crate::forms::capitalised;

/// Reads a name; one that is none names nothing, so the page is not found.
pub(crate) fn named<T: FromStr>(text: &str) -> Answer<T>
where
    T::Err: Display,
{
    text.parse()
        .map_err(|error: T::Err| Failure::plain(StatusCode::NOT_FOUND, capitalised(&error.to_string())))
}

/// Returns the realm that the path of a page is in.
pub(crate) fn realm_in(path: &str) -> Option<RealmName> {
    RealmName::parse(path.strip_prefix("/realms/")?.split('/').next()?).ok()
}

/// Writes a text as a part of a query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Returns a path of ours, and the overview in place of anything else: a link must not send somebody who just signed in
/// to another site.
pub(crate) fn own_path(path: &str) -> &str {
    let ours = path.starts_with("/realms/")
        && !path.contains("//")
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if ours { path } else { "/" }
}

/// Takes from a path what it says was done: whoever comes back from signing in has done nothing yet.
pub(crate) fn without_claims(path: &str) -> &str {
    path.split(['?', '&'])
        .find(|part| part.starts_with("done="))
        .map_or(path, |_| path.split('?').next().unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_site() {
        assert_eq!(own_path("/realms/default/policies?a=b"), "/realms/default/policies?a=b");
        for path in
            ["//evil.example", "https://evil.example", "/\\evil.example", "/realms//evil.example", "", "/x"]
        {
            assert_eq!(own_path(path), "/");
        }
    }

    #[test]
    fn a_path_that_claims_something_loses_its_query() {
        assert_eq!(without_claims("/realms/a/users?q=x&page=2"), "/realms/a/users?q=x&page=2");
        for path in ["/realms/a/account?done=password", "/realms/a/account?x=y&done=z"] {
            assert_eq!(without_claims(path), "/realms/a/account");
        }
    }
}
