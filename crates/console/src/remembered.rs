//! The environment that somebody looked at last: a cookie, so that it stays chosen from page to page.
//!
//! It decides nothing but which of several environments a page shows first. Whoever plants one makes a page show another
//! environment that its visitor may see anyway.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, header};
use tollgate_model::names::EnvironmentName;

/// Its name.
const COOKIE: &str = "tollgate_environment";

/// How long it is kept, in seconds: 30 days.
const MAX_AGE: u32 = 2_592_000;

/// Returns the environment of a request's cookie; what is none counts as no cookie.
pub(crate) fn environment(headers: &HeaderMap) -> Option<EnvironmentName> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut named = pairs.filter(|(name, _)| *name == COOKIE);
    EnvironmentName::parse(named.next()?.1).ok()
}

/// Remembers the environment that a page was asked for, once it was shown.
pub(crate) async fn remember(request: Request, next: Next) -> Response {
    let asked = (request.method() == Method::GET).then(|| asked(request.uri().query()?)).flatten();
    let known = environment(request.headers());
    let mut response = next.run(request).await;
    if let Some(name) = asked
        && known.as_ref() != Some(&name)
        && response.status().is_success()
        && let Ok(cookie) = HeaderValue::try_from(format!(
            "{COOKIE}={name}; Path=/; HttpOnly; SameSite=Strict; Max-Age={MAX_AGE}"
        ))
    {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

fn asked(query: &str) -> Option<EnvironmentName> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, name) = pairs.find(|(name, _)| *name == "environment")?;
    EnvironmentName::parse(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_read_from_among_other_cookies_and_anything_else_is_none() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_static(value));
            environment(&headers).map(|name| name.to_string())
        };
        assert_eq!(of("a=b; tollgate_environment=prod").as_deref(), Some("prod"));
        assert_eq!(of("tollgate_environment=\"><script>"), None);
        assert_eq!(of("tollgate_environment="), None);
        assert_eq!(asked("range=1h&environment=test").map(|name| name.to_string()).as_deref(), Some("test"));
        assert_eq!(asked("environment=a%0d%0ab"), None);
    }
}
