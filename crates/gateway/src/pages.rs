//! What every listener answers besides pipelines: its health, and the public keys of tokens.
//!
//! These paths go before any route of a pipeline.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body_util::Full;
use jiff::Timestamp;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::triggers::Method;
use tollgate_snapshot::Snapshot;

use crate::problem::{Answer, Code, Problem};
use crate::request::Head;

/// The public keys of the realm `default`.
const JWKS: &str = "/.well-known/jwks.json";

/// How long verifiers may keep the public keys: short against the overlap of a rotation.
const JWKS_CACHE: &str = "public, max-age=60";

/// Answers a page of the gateway's own; `None` when the path is none.
pub(crate) fn answer(
    head: &Head<'_>,
    environment: &EnvironmentName,
    snapshot: Option<&Snapshot>,
    now: Timestamp,
) -> Option<Result<Answer, Problem>> {
    let page = match head.path {
        "/healthz" => Ok(text("ok\n")),
        "/readyz" if snapshot.is_some() => Ok(text("ready\n")),
        "/readyz" => Err(Problem::new(Code::CheckUnavailable).detail("there is no configuration yet")),
        path => jwks(realm_of(path)?, environment, snapshot, now),
    };
    if matches!(head.method, Some(Method::Get | Method::Head)) {
        Some(page)
    } else {
        Some(Err(Problem::new(Code::MethodNotAllowed).allow(HeaderValue::from_static("GET, HEAD"))))
    }
}

/// Returns the realm whose keys a path asks for.
fn realm_of(path: &str) -> Option<RealmName> {
    match path.strip_suffix(JWKS)? {
        "" => Some(RealmName::default()),
        prefix => RealmName::parse(prefix.strip_prefix("/pipeline/")?).ok(),
    }
}

fn jwks(
    realm: RealmName,
    environment: &EnvironmentName,
    snapshot: Option<&Snapshot>,
    now: Timestamp,
) -> Result<Answer, Problem> {
    let snapshot = snapshot.ok_or_else(|| Problem::new(Code::CheckUnavailable))?;
    let scope = snapshot.scope(&realm, environment).ok_or_else(|| Problem::new(Code::RouteNotFound))?;
    let key_set = scope.key_set.as_ref().map_err(|_| Problem::new(Code::CheckUnavailable))?;
    let mut answer = Response::new(Full::from(key_set.jwks(now).to_string()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(JWKS_CACHE));
    Ok(answer)
}

fn text(text: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
