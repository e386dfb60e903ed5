//! The environment that somebody looked at last, and the realm that they were in: cookies, so that both stay chosen from page
//! to page and from one sign-in to the next.
//!
//! They decide nothing but what is shown first. Whoever plants one makes a browser open another realm, or a page show another
//! environment, that its visitor may see anyway.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, header};
use tollgate_model::names::{EnvironmentName, RealmName};

use crate::paths::realm_in;

/// Names of the cookies.
const ENVIRONMENT: &str = "tollgate_environment";
const REALM: &str = "tollgate_realm";

/// How long they are kept, in seconds: 30 days.
const MAX_AGE: u32 = 2_592_000;

/// Returns the environment of a request's cookie; what is none counts as no cookie.
pub(crate) fn environment(headers: &HeaderMap) -> Option<EnvironmentName> {
    EnvironmentName::parse(cookie(headers, ENVIRONMENT)?).ok()
}

/// Returns the realm of a request's cookie; what is none counts as no cookie.
pub(crate) fn realm(headers: &HeaderMap) -> Option<RealmName> {
    RealmName::parse(cookie(headers, REALM)?).ok()
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    Some(pairs.find(|(of, _)| *of == name)?.1)
}

/// Remembers the realm and the environment that a page was asked for, once it was shown.
pub(crate) async fn remember(request: Request, next: Next) -> Response {
    let reads = request.method() == Method::GET;
    let asked_environment = reads.then(|| environment_in(request.uri().query()?)).flatten();
    let asked_realm = reads.then(|| realm_in(request.uri().path())).flatten();
    let known = (environment(request.headers()), realm(request.headers()));
    let mut response = next.run(request).await;
    if response.status().is_success() {
        if let Some(name) = asked_environment.filter(|name| known.0.as_ref() != Some(name)) {
            keep(&mut response, ENVIRONMENT, name.as_str());
        }
        if let Some(name) = asked_realm.filter(|name| known.1.as_ref() != Some(name)) {
            keep(&mut response, REALM, name.as_str());
        }
    }
    response
}

fn keep(response: &mut Response, name: &str, value: &str) {
    let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={MAX_AGE}");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

fn environment_in(query: &str) -> Option<EnvironmentName> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, name) = pairs.find(|(name, _)| *name == "environment")?;
    EnvironmentName::parse(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_from_among_other_cookies_and_anything_else_is_none() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_static(value));
            (environment(&headers).map(|name| name.to_string()), realm(&headers).map(|name| name.to_string()))
        };
        let both = "a=b; tollgate_environment=prod; tollgate_realm=acme";
        assert_eq!(of(both), (Some("prod".to_owned()), Some("acme".to_owned())));
        assert_eq!(of("tollgate_environment=\"><script>; tollgate_realm=../x"), (None, None));
        assert_eq!(of("tollgate_environment=; tollgate_realm="), (None, None));
        assert_eq!(
            environment_in("range=1h&environment=test").map(|name| name.to_string()).as_deref(),
            Some("test")
        );
        assert_eq!(environment_in("environment=a%0d%0ab"), None);
        assert_eq!(realm_in("/realms/acme/overview").map(|name| name.to_string()).as_deref(), Some("acme"));
        assert_eq!(realm_in("/realms/%0d%0a/overview"), None);
    }
}
