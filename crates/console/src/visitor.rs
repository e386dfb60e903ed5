//! Who looks at a page.
//!
//! A browser's session is a cookie that holds an API token of the user. A page of another site can make a browser send a
//! request with it only where `SameSite=Strict` is not heeded; what changes something is refused unless the browser says
//! that it comes from one of our own pages ([`refuse_other_sites`]).

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use tollgate_app::access::Op;
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_app::refusals::Refused;
use tollgate_app::users::{Authenticated, Duty};
use tollgate_model::ids::RequestId;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::session_cookies::SessionCookie;

use crate::Console;
use crate::attempts::Who;
use crate::errors::Failure;
use crate::told_back::ToldBack;

/// Somebody who has signed in, and has nothing to do first.
pub(crate) struct Visitor {
    /// What they do, in the realm that the path names.
    pub(crate) op: Op,
    /// What they do to their own account, which is in realm `default`.
    pub(crate) own: SignedIn,
    /// How many change requests of the realm wait for them.
    pub(crate) waiting: usize,
    /// Whether one of our own pages led here, so that what the address says was done may be believed.
    from_here: bool,
    /// The environment that they looked at last, as their browser says.
    pub(crate) environment: Option<EnvironmentName>,
    /// The realm that they were in last, as their browser says.
    pub(crate) last_realm: Option<RealmName>,
    /// What was just refused of what they sent from this page.
    pub(crate) told_back: Option<ToldBack>,
}

/// Somebody who has signed in, whatever they have to do first.
pub(crate) struct SignedIn {
    /// What they do.
    pub(crate) op: Op,
    /// With which session.
    pub(crate) me: Authenticated,
}

/// Somebody who may not have signed in yet.
pub(crate) struct Stranger(pub(crate) Op);

impl FromRequestParts<Console> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Failure> {
        let own = SignedIn::from_request_parts(parts, console).await?;
        if let Some(duty) = own.me.duty {
            return Err(first(parts, duty));
        }
        let mut op = own.op.clone();
        if let Some(realm) = realm(parts).await? {
            op = console.app.realms().enter(&op, realm).await?;
            tell(parts, &op);
        }
        let waiting = console.app.change_requests().waiting_for(&op).await?;
        let from_here = is_same_origin(&parts.headers);
        let environment = crate::remembered::environment(&parts.headers);
        let last_realm = crate::remembered::realm(&parts.headers);
        let told_back = parts.extensions.get::<ToldBack>().cloned();
        Ok(Self { op, own, waiting, from_here, environment, last_realm, told_back })
    }
}

// === impl Visitor ===

impl Visitor {
    /// Returns what is told of something that was just done. A link from elsewhere claims nothing.
    pub(crate) fn notice(&self, told: Option<&'static str>) -> Option<String> {
        told.filter(|_| self.from_here).map(str::to_owned)
    }
}

impl FromRequestParts<Console> for SignedIn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Failure> {
        let mut op = op(parts, console)?;
        let here = here(&parts.uri);
        let htmx = parts.headers.contains_key("hx-request");
        let Some(token) = session_token(console, &parts.headers)? else {
            return Err(Failure::SignIn { back: here, htmx, refused: None });
        };
        let me = match console.app.users().authenticate(token, op.now).await {
            Ok(me) => me,
            Err(error) if error.kind == ErrorKind::Unauthenticated => {
                // Who shows no session has not tried; one that is not good may be made up.
                let refused = Some(Refused::from(&error));
                return Err(Failure::SignIn { back: here, htmx, refused });
            }
            Err(error) => return Err(error.into()),
        };
        op.actor = me.actor.clone();
        tell(parts, &op);
        Ok(Self { op, me })
    }
}

/// Sends somebody to what they have to do first. Where they were about to go is no attempt; what they were about to change is.
fn first(parts: &Parts, duty: Duty) -> Failure {
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    Failure::First {
        duty,
        back: if reads { here(&parts.uri) } else { "/".to_owned() },
        htmx: parts.headers.contains_key("hx-request"),
        refused: (!reads).then(|| Refused::from(&Error::from(duty))),
    }
}

impl FromRequestParts<Console> for Stranger {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Failure> {
        op(parts, console).map(Self)
    }
}

/// Refuses what would change something and does not come from one of our own pages.
///
/// Browsers say where a request comes from in `Sec-Fetch-Site`, older ones in `Origin`. One that says neither is no
/// browser that we know; programs use the management API.
pub(crate) async fn refuse_other_sites(
    State(console): State<Console>,
    request: Request,
    next: Next,
) -> Response {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    if safe || is_same_origin(request.headers()) {
        return next.run(request).await;
    }
    // Says who visits: nobody, as far as it matters.
    let (parts, _) = request.into_parts();
    if let Err(failure) = op(&parts, &console) {
        return failure.into_response();
    }
    let message = "this did not come from a page of this console";
    let mut response = Failure::plain(StatusCode::FORBIDDEN, message).into_response();
    let (kind, code) = (ErrorKind::Forbidden, "cross-site-request");
    response.extensions_mut().insert(Refused { kind, code, about: None, journaled: false, concealed: false });
    response
}

fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some(site), _, _) => site == "same-origin",
        (None, Some(origin), Some(host)) => {
            origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
        }
        _ => false,
    }
}

fn op(parts: &Parts, console: &Console) -> Result<Op, Failure> {
    let mut op = console.app.system_op()?;
    op.actor = tollgate_app::access::Actor::nobody();
    if let Some(id) = parts.extensions.get::<RequestId>() {
        op.request_id = *id;
    }
    op.source = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or_else(|| "unknown".to_owned(), |remote| remote.0.ip().to_string());
    tell(parts, &op);
    Ok(op)
}

/// Says who visits, for the journal of what is refused.
fn tell(parts: &Parts, op: &Op) {
    if let Some(who) = parts.extensions.get::<Who>() {
        who.is(op);
    }
}

async fn realm(parts: &mut Parts) -> Result<Option<RealmName>, Failure> {
    let parameters = RawPathParams::from_request_parts(parts, &()).await;
    let named = parameters.iter().flat_map(|parameters| parameters.iter()).find(|(name, _)| *name == "realm");
    named
        .map(|(_, name)| RealmName::parse(name))
        .transpose()
        .map_err(|error| Failure::plain(StatusCode::NOT_FOUND, error.to_string()))
}

/// Returns the token in the session's cookie.
pub(crate) fn session_token<'a>(
    console: &Console,
    headers: &'a HeaderMap,
) -> Result<Option<&'a str>, Failure> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    SessionCookie::find(values, console.settings.secure_cookies).map_err(|error| Failure::Shown {
        status: StatusCode::BAD_REQUEST,
        message: error.to_string(),
        hint: Some("delete the cookies of this site, then sign in again".to_owned()),
        next: None,
        refused: None,
    })
}

fn here(uri: &Uri) -> String {
    uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string)
}
