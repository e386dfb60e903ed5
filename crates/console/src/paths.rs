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
