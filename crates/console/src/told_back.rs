//! Failures stay where somebody is: a form that was refused, and does not say so itself, answers with the page that it was
//! sent from, and the refusal on it.
//!
//! Handlers return the error of a use case; here the page is asked for again, for the same visitor, and says at its top what
//! happened and what to do next. Status and journal are those of the refusal. Where that page is gone, as of what was deleted
//! meanwhile, the one above it comes back; where the browser does not say which it was, the refusal has a page of its own
//! ([`crate::errors::show`]).

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

/// What a page is asked for with, once its form was refused.
struct Asker {
    page: String,
    headers: HeaderMap,
    id: Option<RequestId>,
    remote: Option<ConnectInfo<SocketAddr>>,
}

/// Tells refusals on the pages that they came from.
pub(crate) async fn tell(State(pages): State<Router>, request: Request, next: Next) -> Response {
    let asker = Asker::of(&request);
    let mut response = next.run(request).await;
    let Some(asker) = asker else { return response };
    let Some(said) = response.extensions().get::<Said>().cloned() else { return response };
    for page in with_those_above(&asker.page) {
        let Some(asked) = asker.asks(&page, said.clone()) else { continue };
        let Ok(again) = pages.clone().oneshot(asked).await;
        if again.status() == StatusCode::OK {
            response.extensions_mut().remove::<Said>();
            let (mut parts, _) = response.into_parts();
            let (of_page, body) = again.into_parts();
            parts.headers.extend(of_page.headers);
            return Response::from_parts(parts, body);
        }
    }
    response
}

/// Returns a page, and those above it: where there is nothing left to undeploy, the list of what runs comes back.
fn with_those_above(page: &str) -> Vec<String> {
    let (path, query) = page.split_once('?').unwrap_or((page, ""));
    let environment = query.split('&').find(|pair| pair.starts_with("environment="));
    let mut pages = vec![page.to_owned()];
    let mut path = path;
    while let Some((above, _)) = path.rsplit_once('/')
        && above.matches('/').count() > 2
    {
        pages.push(
            environment.map_or_else(|| above.to_owned(), |environment| format!("{above}?{environment}")),
        );
        path = above;
    }
    pages
}

// === impl Asker ===

impl Asker {
    /// Returns with what to ask for the page that a form was sent from; `None` for what is no form of a whole page.
    fn of(request: &Request) -> Option<Self> {
        if request.method() != Method::POST || request.headers().contains_key("hx-request") {
            return None;
        }
        let all = request.headers();
        let kept = KEPT.iter().flat_map(|name| all.get_all(name).iter().map(|it| (name.clone(), it.clone())));
        let mut headers = HeaderMap::new();
        headers.extend(kept.map(|(name, value)| (Some(name), value)));
        Some(Self {
            page: page_of(all)?,
            headers,
            id: request.extensions().get().copied(),
            remote: request.extensions().get().copied(),
        })
    }

    fn asks(&self, page: &str, said: Said) -> Option<Request> {
        let mut asked = Request::get(page).body(Body::empty()).ok()?;
        *asked.headers_mut() = self.headers.clone();
        let extensions = asked.extensions_mut();
        if let Some(id) = self.id {
            extensions.insert(id);
        }
        if let Some(remote) = self.remote {
            extensions.insert(remote);
        }
        extensions.insert(ToldBack { said, page: page.to_owned() });
        Some(asked)
    }
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
    fn where_a_page_is_gone_the_one_above_it_is_tried() {
        assert_eq!(
            with_those_above("/realms/default/deployments/undeploy?environment=test&pipeline=a&major=1"),
            [
                "/realms/default/deployments/undeploy?environment=test&pipeline=a&major=1",
                "/realms/default/deployments?environment=test"
            ]
        );
        assert_eq!(
            with_those_above("/realms/default/consumers/test/shop"),
            [
                "/realms/default/consumers/test/shop",
                "/realms/default/consumers/test",
                "/realms/default/consumers"
            ]
        );
        assert_eq!(with_those_above("/realms/default/users"), ["/realms/default/users"]);
    }

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
