//! Failures stay where somebody is: a form that was refused, and does not say so itself, answers with the page that it was
//! sent from, and the refusal on it.
//!
//! Handlers return the error of a use case; here the page is asked for again, for the same visitor, and says at its top what
//! happened and what to do next. Status and journal are those of the refusal. Where there is no such page any more, or the
//! browser does not say which it was, the refusal has a page of its own ([`crate::errors::show`]).

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use tollgate_model::ids::RequestId;
use tower::ServiceExt as _;

use crate::errors::Said;
use crate::paths::{own_path, without_claims};

/// A refusal, for the page that it is told on.
#[derive(Clone)]
pub(crate) struct ToldBack {
    pub(crate) said: Said,
    /// The page's path, with its query.
    pub(crate) page: String,
}

/// Headers of a form that the page behind it is asked for with.
const KEPT: [HeaderName; 2] = [header::COOKIE, header::HOST];

/// Tells refusals on the pages that they came from.
pub(crate) async fn tell(State(pages): State<Router>, request: Request, next: Next) -> Response {
    let asked = asked_for_again(&request);
    let mut response = next.run(request).await;
    let Some((mut asked, page)) = asked else { return response };
    let Some(said) = response.extensions().get::<Said>().cloned() else { return response };
    asked.extensions_mut().insert(ToldBack { said, page });
    let Ok(again) = pages.oneshot(asked).await;
    if again.status() != StatusCode::OK {
        return response;
    }
    response.extensions_mut().remove::<Said>();
    let (mut parts, _) = response.into_parts();
    let (of_page, body) = again.into_parts();
    parts.headers.extend(of_page.headers);
    Response::from_parts(parts, body)
}

/// Returns the request for the page that a form was sent from, and its path; `None` for what is no form of a whole page.
fn asked_for_again(request: &Request) -> Option<(Request, String)> {
    if request.method() != Method::POST || request.headers().contains_key("hx-request") {
        return None;
    }
    let page = page_of(request.headers())?;
    let mut asked = Request::get(&page).body(Body::empty()).ok()?;
    for name in KEPT {
        asked
            .headers_mut()
            .extend(request.headers().get_all(&name).iter().map(|it| (name.clone(), it.clone())));
    }
    let (from, to) = (request.extensions(), asked.extensions_mut());
    if let Some(id) = from.get::<RequestId>() {
        to.insert(*id);
    }
    if let Some(remote) = from.get::<ConnectInfo<SocketAddr>>() {
        to.insert(*remote);
    }
    Some((asked, page))
}

/// Returns the page that a browser says it comes from, when it is one of this console.
fn page_of(headers: &HeaderMap) -> Option<String> {
    let referer: Uri = headers.get(header::REFERER)?.to_str().ok()?.parse().ok()?;
    let host = headers.get(header::HOST)?.to_str().ok()?;
    if !referer.authority()?.as_str().eq_ignore_ascii_case(host) {
        return None;
    }
    let path = without_claims(referer.path_and_query()?.as_str());
    (own_path(path) == path).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_page_of_this_console_is_come_back_to() {
        let of = |referer: &'static str| {
            let headers = [(header::HOST, "console.example:7000"), (header::REFERER, referer)];
            page_of(
                &headers.map(|(name, value)| (name, HeaderValue::from_static(value))).into_iter().collect(),
            )
        };
        let page = "/realms/default/consumers/test/shop";
        assert_eq!(
            of("https://console.example:7000/realms/default/consumers/test/shop").as_deref(),
            Some(page)
        );
        assert_eq!(
            of("http://CONSOLE.example:7000/realms/default/deployments?q=a#x").as_deref(),
            Some("/realms/default/deployments?q=a")
        );
        assert_eq!(
            of("https://console.example:7000/realms/default/users/a?done=reset").as_deref(),
            Some("/realms/default/users/a"),
            "what was done before is not told again"
        );
        for other in [
            "https://evil.example/realms/default/overview",
            "https://console.example/realms/default/overview",
            "https://console.example:7000@evil.example/realms/default/overview",
            "https://console.example:7000//evil.example",
            "https://console.example:7000/realms//evil.example",
            "https://console.example:7000/sign-in",
            "/realms/default/overview",
            "about:client",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
