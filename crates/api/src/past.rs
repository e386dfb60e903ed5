//! Questions as of a time: `asOf` in the query of those operations that have an answer.

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use http::{StatusCode, Uri};
use jiff::Timestamp;
use serde::Deserialize;
use tollgate_app::App;
use tollgate_app::access::Op;

use crate::Api;
use crate::access::Guard;
use crate::problem::Problem;

/// The name of the parameter.
pub(crate) const AS_OF: &str = "asOf";

/// The use cases as of the time that was asked for, or as of now.
pub(crate) struct Then(pub(crate) Api);

#[derive(Deserialize)]
struct TimeQuery {
    #[serde(rename = "asOf")]
    as_of: String,
}

#[derive(Clone)]
struct PastApp(App);

impl FromRequestParts<Api> for Then {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let mut api = api.clone();
        if let Some(PastApp(app)) = parts.extensions.get() {
            api.app = app.clone();
        }
        Ok(Self(api))
    }
}

/// Takes `asOf` out of the query, and returns the operation of then; `None` when it is not there.
pub(crate) async fn travel(guard: &Guard, parts: &mut Parts, op: &Op) -> Result<Option<Op>, Problem> {
    let Some(query) = parts.uri.query() else { return Ok(None) };
    let is_time = |pair: &&str| pair.split('=').next() == Some(AS_OF);
    if !query.split('&').any(|pair| is_time(&pair)) {
        return Ok(None);
    }
    if !guard.of_the_past {
        // Left alone it would be answered as of now, and believed to be of then.
        return Err(invalid("this cannot be asked as of a time").hint("leave `asOf` away"));
    }
    let time = Query::<TimeQuery>::try_from_uri(&parts.uri).ok().and_then(|query| query.0.as_of.parse().ok());
    let at: Timestamp = time.ok_or_else(|| {
        invalid("`asOf` is no time").hint("write a time with its offset, for example 2026-11-24T12:00:00Z")
    })?;
    let (app, then) = guard.api.app.as_of(op, at).await?;
    let rest: Vec<&str> = query.split('&').filter(|pair| !is_time(pair)).collect();
    let path = format!("{}?{}", parts.uri.path(), rest.join("&"));
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = Some(path.parse().map_err(|_| invalid("the query is malformed"))?);
    parts.uri = Uri::from_parts(uri).map_err(|_| invalid("the query is malformed"))?;
    parts.extensions.insert(PastApp(app));
    Ok(Some(then))
}

fn invalid(detail: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "query-invalid", detail)
}
