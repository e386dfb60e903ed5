//! What forms send, and what they show when it was refused.

use std::collections::BTreeSet;
use std::fmt::Display;

use askama::Template;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use serde::de::DeserializeOwned;
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::refusals::Refused;

use crate::answers::{Answer, render};
use crate::errors::{Failure, log, status_of};
use crate::next_steps::{Link, link};

/// The fields of a form.
pub(crate) struct Fields<T>(pub(crate) T);

/// The fields of a form in which a name can stand several times.
#[derive(Default)]
pub(crate) struct FieldList(Vec<(String, String)>);

/// Why a form was refused, to stand beside it.
#[derive(Clone)]
pub(crate) struct Refusal {
    /// What happened.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// The page on which the hint is followed.
    pub(crate) next: Option<Link>,
}

/// A refusal with the field that it concerns; `""` stands for the form as a whole.
#[derive(Default)]
pub(crate) struct Problem(Option<(&'static str, Refusal)>);

/// What an answer says of a refusal besides the words: its status, and what the journal makes of it.
pub(crate) struct Told {
    /// The stable code of the problem.
    pub(crate) code: &'static str,
    status: StatusCode,
    refused: Refused,
    retry_after_seconds: Option<u16>,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Fields<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        axum::Form::<T>::from_request(request, state).await.map(|form| Self(form.0)).map_err(|_| {
            // What it says names values, which may be secrets.
            Failure::plain(StatusCode::BAD_REQUEST, "this is not what the form sends").into_response()
        })
    }
}

impl<S: Send + Sync> FromRequest<S> for FieldList {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        Fields::from_request(request, state).await.map(|Fields(fields)| Self(fields))
    }
}

// === impl FieldList ===

impl FieldList {
    /// Returns the field of a name; empty when there is none.
    pub(crate) fn one(&self, name: &str) -> &str {
        self.0.iter().find(|(of, _)| of == name).map_or("", |(_, value)| value)
    }

    /// Returns the field of a name, when there is one.
    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    /// Returns every field of a name.
    pub(crate) fn all(&self, name: &str) -> BTreeSet<String> {
        self.0.iter().filter(|(of, _)| of == name).map(|(_, value)| value.clone()).collect()
    }
}

// === impl Refusal ===

impl Refusal {
    /// Makes one of an error that says itself what to write.
    pub(crate) fn of(error: impl Display) -> Self {
        Self::saying(capitalised(&error.to_string()), None)
    }

    /// Makes one of a sentence, and one that says what to do.
    pub(crate) fn saying(message: impl Into<String>, hint: Option<String>) -> Self {
        Self { message: message.into(), hint, next: None }
    }

    /// Makes one of a use case's error, with its status.
    pub(crate) fn with_status(error: Error) -> (StatusCode, Self) {
        (status_of(error.kind), error.into())
    }

    /// Makes a page of its own of it.
    pub(crate) fn into_failure(self, status: StatusCode) -> Failure {
        Failure::Shown { status, message: self.message, hint: self.hint, next: self.next, refused: None }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        log(&error);
        Self {
            message: capitalised(&error.message),
            hint: error.hint.as_deref().map(capitalised),
            next: error.next.as_deref().and_then(link),
        }
    }
}

// === impl Problem ===

impl Problem {
    /// Puts a refusal at a field.
    pub(crate) fn new(field: &'static str, refusal: Refusal) -> Self {
        Self(Some((field, refusal)))
    }

    /// Says that what stands in a field is none of what is asked for.
    pub(crate) fn of(field: &'static str, error: impl Display) -> Self {
        Self::new(field, Refusal::of(error))
    }

    /// Returns what is wrong with a field.
    pub(crate) fn at(&self, field: &str) -> Option<&Refusal> {
        self.0.as_ref().filter(|(at, _)| *at == field).map(|(_, refusal)| refusal)
    }

    /// Tells whether something is wrong with a field.
    pub(crate) fn is_at(&self, field: &str) -> bool {
        self.at(field).is_some()
    }
}

// === impl Told ===

impl Told {
    /// Takes apart why a form was refused. What is no fault of the form, and what its sender may not do at all, becomes a
    /// page of its own.
    pub(crate) fn of(error: Error) -> Answer<(Self, Refusal)> {
        let of_the_form = match error.kind {
            ErrorKind::Unavailable | ErrorKind::Internal | ErrorKind::Unauthenticated => false,
            ErrorKind::Forbidden => error.code != "forbidden",
            _ => true,
        };
        if !of_the_form {
            return Err(error.into());
        }
        let told = Self {
            code: error.code,
            status: status_of(error.kind),
            refused: Refused::from(&error),
            retry_after_seconds: error.retry_after_seconds,
        };
        Ok((told, error.into()))
    }

    /// Shows the form again.
    pub(crate) fn answer(self, template: &impl Template) -> Answer<Response> {
        let mut response = render(self.status, template)?.into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self.refused);
        Ok(response)
    }
}

/// Begins a sentence.
pub(crate) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
