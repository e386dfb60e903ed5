//! What forms send, and what they show when it was refused.

use std::collections::BTreeSet;
use std::fmt::Display;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::de::DeserializeOwned;
use tollgate_app::errors::Error;

use crate::errors::{Failure, log, status_of};

/// The fields of a form.
pub(crate) struct Fields<T>(pub(crate) T);

/// The fields of a form in which a name can stand several times.
pub(crate) struct FieldList(Vec<(String, String)>);

/// Why a form was refused, to stand beside it.
pub(crate) struct Refusal {
    /// What happened.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
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

    /// Returns every field of a name.
    pub(crate) fn all(&self, name: &str) -> BTreeSet<String> {
        self.0.iter().filter(|(of, _)| of == name).map(|(_, value)| value.clone()).collect()
    }
}

// === impl Refusal ===

impl Refusal {
    /// Makes one of an error that says itself what to write.
    pub(crate) fn of(error: impl Display) -> Self {
        Self { message: capitalised(&error.to_string()), hint: None }
    }

    /// Makes one of a use case's error, with its status.
    pub(crate) fn with_status(error: Error) -> (StatusCode, Self) {
        (status_of(error.kind), error.into())
    }

    /// Makes a page of its own of it.
    pub(crate) fn into_failure(self, status: StatusCode) -> Failure {
        Failure::Shown { status, message: self.message, hint: self.hint, refused: None }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        log(&error);
        Self { message: capitalised(&error.message), hint: error.hint.as_deref().map(capitalised) }
    }
}

/// Begins a sentence.
pub(crate) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
