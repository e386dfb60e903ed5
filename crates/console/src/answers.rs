//! What pages answer with.

use askama::Template;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use http::{HeaderValue, StatusCode, header};

use crate::errors::Failure;

/// A page, or why there is none.
pub(crate) type Answer<T = Page> = Result<T, Failure>;

/// A rendered page.
pub(crate) struct Page {
    status: StatusCode,
    html: String,
}

/// Everything from this server and nothing from anywhere else; no script or style in the page itself.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Renders a template.
pub(crate) fn page(template: &impl Template) -> Answer {
    render(StatusCode::OK, template)
}

/// Renders a template that says what is wrong with what was sent.
pub(crate) fn refused(template: &impl Template) -> Answer {
    render(StatusCode::UNPROCESSABLE_ENTITY, template)
}

pub(crate) fn render(status: StatusCode, template: &impl Template) -> Answer {
    match template.render() {
        Ok(html) => Ok(Page { status, html }),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            Err(Failure::plain(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be rendered"))
        }
    }
}

/// Sends the browser on after a change, so that loading the page again does not repeat it.
pub(crate) fn see_other(path: &str) -> Response {
    Redirect::to(path).into_response()
}

/// Adds what every page carries.
pub(crate) async fn add_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The page of a fragment and the fragment have one URL.
    headers.insert(header::VARY, HeaderValue::from_static("hx-request"));
    response
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        (self.status, Html(self.html)).into_response()
    }
}
