//! What handlers answer with.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::lists::{ListPage, ListRequest};

use crate::problem::Problem;

/// What a handler gives.
pub(crate) type Answer<T> = Result<T, Problem>;

/// One resource with its ETag.
pub(crate) struct Tagged<T>(pub(crate) T, pub(crate) u64);

/// Something that was made: 201.
pub(crate) struct Created<T>(pub(crate) T);

/// A list, or a page of one.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ListView<T> {
    /// What is on this page.
    pub(crate) items: Vec<T>,
    /// `cursor` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// Which page of a list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    /// How many at most: 1 to 500.
    pub(crate) limit: Option<u32>,
    /// `next` of the page before.
    pub(crate) cursor: Option<String>,
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.0).into_response();
        if let Ok(etag) = HeaderValue::try_from(format!("\"{}\"", self.1)) {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Json(self.0)).into_response()
    }
}

// === impl ListView ===

impl<T> ListView<T> {
    /// Puts a list that is always whole.
    pub(crate) fn whole<U>(items: impl IntoIterator<Item = U>, convert: impl FnMut(U) -> T) -> Json<Self> {
        Json(Self { items: items.into_iter().map(convert).collect(), next: None })
    }

    /// Puts a page.
    pub(crate) fn page<U>(page: ListPage<U>, convert: impl FnMut(U) -> T) -> Json<Self> {
        Json(Self { next: page.next, items: page.items.into_iter().map(convert).collect() })
    }
}

impl From<PageQuery> for ListRequest {
    fn from(query: PageQuery) -> Self {
        Self { limit: query.limit, cursor: query.cursor }
    }
}
