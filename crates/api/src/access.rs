//! Who may call: authenticates, then demands that the operation's permission is held somewhere in the realm; where it
//! must be held is for the use case to say. Deny by default: an operation without a guard cannot be put into the table.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts as _, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Method, StatusCode, header};
use tollgate_app::access::{Actor, Op, Permission};
use tollgate_app::errors::Error;
use tollgate_app::refusals::Refused;
use tollgate_app::users::Authenticated;
use tollgate_model::ids::RequestId;
use tollgate_model::names::RealmName;
use tollgate_model::session_cookies::SessionCookie;

use crate::operations::Access;
use crate::problem::Problem;
use crate::{Api, attempts, past};

/// The guard of one operation.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) api: Api,
    pub(crate) access: Access,
    pub(crate) also: Option<Permission>,
    /// The operation's path, with placeholders.
    pub(crate) path: &'static str,
    /// Whether it can be asked as of a time.
    pub(crate) of_the_past: bool,
}

/// Who signed in with the request, and with which token.
#[derive(Debug, Clone)]
pub(crate) struct Me(pub(crate) Authenticated);

/// Lets a request through to its operation, with the [`Op`] that it is; whatever is refused is recorded before it is
/// answered.
pub(crate) async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let parameters = RawPathParams::from_request_parts(&mut parts, &()).await;
    let parameters = parameters.iter().flat_map(|parameters| parameters.iter());
    let attempt = attempts::attempt(&parts.method, guard.path, guard.access, parameters);
    let app = &guard.api.app;
    let mut op = match app.system_op() {
        Ok(op) => op,
        Err(error) => return Problem::from(error).into_response(),
    };
    let response = match identify(&guard, &mut parts, &mut op).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(problem) => problem.into_response(),
    };
    if let Some(refused) = response.extensions().get::<Refused>().cloned() {
        app.refusals().record(&op, attempt, refused).await;
    }
    response
}

/// Finds out who asks for what, and puts it into the operation as soon as it is known.
async fn identify(guard: &Guard, parts: &mut http::request::Parts, op: &mut Op) -> Result<(), Problem> {
    op.source = source(parts);
    if let Some(id) = parts.extensions.get::<RequestId>() {
        op.request_id = *id;
    }
    op.actor = Actor::nobody();
    let realm = realm(parts).await?;
    if guard.access != Access::Public {
        sign_in(guard, parts, op).await?;
    }
    if let Some(realm) = realm {
        *op = guard.api.app.realms().enter(op, realm).await?;
    }
    if let Access::Needs(permission) = guard.access {
        op.demand_anywhere(permission)?;
    }
    if let Some(permission) = guard.also {
        op.demand_anywhere(permission)?;
    }
    let seen = past::travel(guard, parts, op).await?;
    parts.extensions.insert(seen.unwrap_or_else(|| op.clone()));
    Ok(())
}

async fn sign_in(guard: &Guard, parts: &mut http::request::Parts, op: &mut Op) -> Result<(), Problem> {
    let token = match (bearer(&parts.headers)?, session_cookie(&guard.api, &parts.headers)?) {
        (Some(token), _) => token,
        (None, Some(token)) => {
            // A page of another site can send the cookie, but no header of its own choosing.
            let safe = matches!(parts.method, Method::GET | Method::HEAD);
            if !safe && !parts.headers.contains_key("x-requested-with") {
                return Err(Problem::new(
                    StatusCode::FORBIDDEN,
                    "cross-site-request",
                    "a change by session cookie needs the header x-requested-with",
                ));
            }
            token
        }
        (None, None) => return Err(Problem::unauthenticated()),
    };
    let signed_in = guard.api.app.users().authenticate(token, op.now).await?;
    if let Some(duty) = signed_in.duty {
        // They may do nothing, so that this decides about words alone.
        let allowed = matches!(guard.access, Access::SignedInDespite(duties) if duties.contains(&duty));
        if !allowed {
            return Err(Error::from(duty).into());
        }
    }
    op.actor = signed_in.actor.clone();
    parts.extensions.insert(Me(signed_in));
    Ok(())
}

/// Returns the realm that the path names.
async fn realm(parts: &mut http::request::Parts) -> Result<Option<RealmName>, Problem> {
    let parameters = RawPathParams::from_request_parts(parts, &()).await;
    let named = parameters.iter().flat_map(|parameters| parameters.iter()).find(|(name, _)| *name == "realm");
    match named {
        None => Ok(None),
        Some((_, name)) => RealmName::parse(name)
            .map(Some)
            .map_err(|error| Problem::new(StatusCode::NOT_FOUND, "not-found", error.to_string())),
    }
}

fn source(parts: &http::request::Parts) -> String {
    parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or_else(|| "unknown".to_owned(), |remote| remote.0.ip().to_string())
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "request-malformed",
            "there are two Authorization headers",
        ));
    }
    let text = value.to_str().unwrap_or_default();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(Problem::unauthenticated()),
    }
}

/// Returns the token in the session cookie.
pub(crate) fn session_cookie<'a>(api: &Api, headers: &'a HeaderMap) -> Result<Option<&'a str>, Problem> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    SessionCookie::find(values, api.settings.secure_cookies).map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "request-malformed", error.to_string())
            .hint("delete the cookies of this site, then sign in again")
    })
}
