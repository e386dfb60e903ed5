//! What forms send, and what they show when it was refused.

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::de::DeserializeOwned;
use tollgate_app::errors::Error;

use crate::errors::{Failure, log};

/// The fields of a form.
pub(crate) struct Fields<T>(pub(crate) T);

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
