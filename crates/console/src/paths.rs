//! Names in the paths of pages.

use std::fmt::Display;
use std::str::FromStr;

use http::StatusCode;

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

/// Returns a path of ours, and the overview in place of anything else: a link must not send somebody who just signed in
/// to another site.
pub(crate) fn own_path(path: &str) -> &str {
    let ours = path.starts_with("/realms/")
        && !path.contains("//")
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if ours { path } else { "/" }
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
}
