//! What every listener answers besides pipelines: its health, and the public keys of tokens.
//!
//! These paths go before any route of a pipeline.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use jiff::Timestamp;
use serde_json::json;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::triggers::Method;
use tollgate_snapshot::{KeyRing, Snapshot};

use crate::payload::Payload;
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
    confirmed_at: Option<Timestamp>,
    issuer_keys: &KeyRing,
    now: Timestamp,
) -> Option<Result<Answer, Problem>> {
    let page = match head.path {
        "/healthz" => Ok(text("ok\n", "text/plain; charset=utf-8")),
        "/readyz" => readiness(environment, snapshot, confirmed_at, issuer_keys, now),
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
    let mut answer = Response::new(Payload::from(key_set.jwks(now).to_string()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(JWKS_CACHE));
    Ok(answer)
}

/// Tells whether the environment can be called, by which revision, and how old that may be.
///
/// A gateway that is cut off from the store goes on serving and stays ready, by design: its age tells. What is broken in
/// one realm keeps no other from being called, so it is counted here and costs the readiness only when no realm is whole.
/// The keys of issuers are waited for at the start and never again: one that is out of reach later is its tokens' trouble.
fn readiness(
    environment: &EnvironmentName,
    snapshot: Option<&Snapshot>,
    confirmed_at: Option<Timestamp>,
    issuer_keys: &KeyRing,
    now: Timestamp,
) -> Result<Answer, Problem> {
    let not_ready = |detail| Err(Problem::new(Code::CheckUnavailable).detail(detail));
    let Some(snapshot) = snapshot else { return not_ready("there is no configuration yet") };
    if !snapshot.is_ready(environment) {
        return not_ready("there are no policies and key set of this environment yet");
    }
    if !issuer_keys.is_ready(snapshot, environment, now) {
        return not_ready("the keys of an issuer are not fetched yet");
    }
    let age = confirmed_at.map(|at| now.duration_since(at).as_secs_f64().max(0.0));
    let state = json!({
        "ready": true, "revision": snapshot.seq, "ageSeconds": age, "problems": snapshot.problems().len(),
    });
    Ok(text(format!("{state}\n"), "application/json"))
}

fn text(text: impl Into<Bytes>, media_type: &'static str) -> Answer {
    let mut answer = Response::new(Payload::from(text.into()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
