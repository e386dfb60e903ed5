//! Sign-in, sign-out, and the sessions that sign-ins begin.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::access::{Permission, Reach};
use tollgate_app::users::{Duty, RealmRights, SessionView as Session, SignIn, SignedIn};
use tollgate_model::ids::UserTokenId;
use tollgate_model::names::UserName;
use tollgate_model::session_cookies::SessionCookie;
use tollgate_model::users::SessionClient;

use crate::Api;
use crate::access::{Me, session_cookie};
use crate::answers::{Answer, Created, ListView};
use crate::extract::{Body, Caller, In};
use crate::operations::{Access, Operation};
use crate::problem::Problem;
use crate::tokens::TokenView;
use crate::users::RightView;

/// What everybody may do who signed in, whatever they have to do first.
pub(crate) const WHATEVER_IS_DUE: Access =
    Access::SignedInDespite(&[Duty::ChangePassword, Duty::EnrolSecondFactor]);

/// A name, a password and, where there is a second factor, a code.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LoginBody {
    user: String,
    password: String,
    /// Six digits of the authenticator app, or a recovery code.
    #[serde(default)]
    code: Option<String>,
    /// What to call the session.
    #[serde(default = "sign_in")]
    token_name: String,
}

fn sign_in() -> String {
    "sign-in".to_owned()
}

/// A new session; the plain form of its token is in this answer and nowhere else.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct LoginView {
    token: String,
    id: String,
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// What has to be done before anything else can be: `change-password` or `enrol-second-factor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    duty: Option<&'static str>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct WhoamiView {
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    token: TokenView,
    /// What you may do in realm `default`, somewhere or everywhere.
    permissions: Vec<Permission>,
    /// What you may do in each realm, by your groups and this token.
    realms: Vec<RealmRightsView>,
    /// What has to be done before anything else can be: `change-password` or `enrol-second-factor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    duty: Option<&'static str>,
}

/// What somebody may do in a realm.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RealmRightsView {
    realm: String,
    groups: Vec<String>,
    rights: Vec<RightView>,
}

/// A session, without its token.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SessionView {
    id: String,
    name: String,
    /// `browser` or `program`; absent for one of before this was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'static str>,
    /// From where it was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    created_at: String,
    /// To about a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// After how many seconds without a use it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_seconds: Option<u32>,
    /// Whether this request came with it.
    current: bool,
}

/// How many sessions ended.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct EndedView {
    ended_sessions: usize,
}

#[derive(Deserialize)]
struct SessionPath {
    id: UserTokenId,
}

#[derive(Deserialize)]
struct UserPath {
    name: UserName,
}

#[derive(Deserialize)]
struct UserSessionPath {
    name: UserName,
    id: UserTokenId,
}

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/login", Access::Public, "Signs in: a session for a name and a password", login)
            .takes::<LoginBody>()
            .answers::<LoginView>()
            .created(),
        Operation::post("/logout", WHATEVER_IS_DUE, "Revokes the token that this request shows", logout)
            .empty(),
        Operation::post(
            "/session",
            Access::Public,
            "Signs a browser in: the token comes as a cookie",
            open_session,
        )
        .takes::<LoginBody>()
        .empty(),
        Operation::delete("/session", WHATEVER_IS_DUE, "Signs a browser out", close_session),
        Operation::get("/whoami", WHATEVER_IS_DUE, "Tells who the token belongs to", whoami)
            .answers::<WhoamiView>(),
        Operation::get("/sessions", Access::SignedIn, "Lists your sessions", list)
            .answers::<ListView<SessionView>>(),
        Operation::delete("/sessions/{id}", Access::SignedIn, "Ends one of your sessions", end),
        Operation::post(
            "/sessions/end-others",
            Access::SignedIn,
            "Ends all of your sessions but the one of this request",
            end_others,
        )
        .answers::<EndedView>(),
        Operation::get(
            "/users/{name}/sessions",
            Access::Needs(Permission::UserRead),
            "Lists the sessions of a user",
            list_of,
        )
        .answers::<ListView<SessionView>>(),
        Operation::delete(
            "/users/{name}/sessions/{id}",
            Access::Needs(Permission::UserUpdate),
            "Ends a session of a user",
            end_of,
        ),
        Operation::post(
            "/users/{name}/sessions/end-all",
            Access::Needs(Permission::UserUpdate),
            "Ends all sessions of a user",
            end_all_of,
        )
        .answers::<EndedView>(),
    ]
}

async fn login(
    State(api): State<Api>,
    Caller(op): Caller,
    headers: HeaderMap,
    Body(body): Body<LoginBody>,
) -> Answer<Created<LoginView>> {
    let shown = SignIn { name: &body.token_name, ..shown(&body, &headers, SessionClient::Program) };
    let SignedIn { user, token, duty } = api.app.users().sign_in(&op, &shown).await?;
    Ok(Created(LoginView {
        token: token.plain.expose_secret().to_owned(),
        id: token.token.id.to_string(),
        user: user.name.to_string(),
        expires_at: token.token.expires_at.map(|at| at.to_string()),
        duty: duty.map(word_of),
    }))
}

async fn logout(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
) -> Answer<StatusCode> {
    api.app.users().sign_out(&op, &me).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn open_session(
    State(api): State<Api>,
    Caller(op): Caller,
    headers: HeaderMap,
    Body(body): Body<LoginBody>,
) -> Answer<Response> {
    let replaces = session_cookie(&api, &headers)?;
    let shown = SignIn { replaces, ..shown(&body, &headers, SessionClient::Browser) };
    let signed_in = api.app.users().sign_in(&op, &shown).await?;
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let cookie = SessionCookie::for_browser(origin, api.settings.secure_cookies);
    let mut response = StatusCode::NO_CONTENT.into_response();
    set_cookie(&mut response, cookie.set(signed_in.token.plain.expose_secret()))?;
    Ok(response)
}

async fn close_session(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
) -> Answer<Response> {
    api.app.users().sign_out(&op, &me).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    for cookie in SessionCookie::ALL {
        set_cookie(&mut response, cookie.clear())?;
    }
    Ok(response)
}

fn set_cookie(response: &mut Response, cookie: String) -> Answer<()> {
    let mut header = HeaderValue::try_from(cookie).map_err(|_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", "the cookie could not be made")
    })?;
    header.set_sensitive(true);
    response.headers_mut().append(header::SET_COOKIE, header);
    Ok(())
}

async fn whoami(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
) -> Answer<Json<WhoamiView>> {
    let realms = api.app.users().own_rights(&op).await?;
    Ok(Json(WhoamiView {
        user: op.actor.name.clone(),
        id: op.actor.user.map(|id| id.to_string()),
        token: TokenView::of(&me.token, None),
        permissions: op.actor.rights().iter().map(|(permission, _)| permission).collect(),
        realms: realms.iter().map(RealmRightsView::from).collect(),
        duty: me.duty.map(word_of),
    }))
}

async fn list(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
) -> Answer<Json<ListView<SessionView>>> {
    let sessions = api.app.users().sessions(&op, &me).await?;
    Ok(ListView::whole(sessions, |session| SessionView::of(session, me.token.id)))
}

async fn end(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
    In(path): In<SessionPath>,
) -> Answer<StatusCode> {
    api.app.users().end_session(&op, &me, path.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn end_others(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
) -> Answer<Json<EndedView>> {
    Ok(Json(EndedView { ended_sessions: api.app.users().end_other_sessions(&op, &me).await? }))
}

async fn list_of(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
    In(path): In<UserPath>,
) -> Answer<Json<ListView<SessionView>>> {
    let sessions = api.app.users().sessions_of(&op, &path.name).await?;
    Ok(ListView::whole(sessions, |session| SessionView::of(session, me.token.id)))
}

async fn end_of(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<UserSessionPath>,
) -> Answer<StatusCode> {
    api.app.users().end_session_of(&op, &path.name, path.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn end_all_of(
    State(api): State<Api>,
    Caller(op): Caller,
    In(path): In<UserPath>,
) -> Answer<Json<EndedView>> {
    Ok(Json(EndedView { ended_sessions: api.app.users().end_sessions_of(&op, &path.name).await? }))
}

fn shown<'a>(body: &'a LoginBody, headers: &'a HeaderMap, client: SessionClient) -> SignIn<'a> {
    SignIn {
        user: &body.user,
        password: &body.password,
        code: body.code.as_deref(),
        name: "browser",
        client,
        user_agent: headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()),
        replaces: None,
    }
}

fn word_of(duty: Duty) -> &'static str {
    match duty {
        Duty::ChangePassword => "change-password",
        Duty::EnrolSecondFactor => "enrol-second-factor",
    }
}

impl From<&RealmRights> for RealmRightsView {
    fn from(rights: &RealmRights) -> Self {
        let views = |(permission, reaches): (Permission, &[Reach])| {
            reaches.iter().map(|reach| RightView::new(permission, reach)).collect::<Vec<_>>()
        };
        Self {
            realm: rights.realm.to_string(),
            groups: rights.groups.iter().map(ToString::to_string).collect(),
            rights: rights.rights.iter().flat_map(views).collect(),
        }
    }
}

// === impl SessionView ===

impl SessionView {
    fn of(Session { token, last_used_at }: Session, current: UserTokenId) -> Self {
        let session = token.session;
        Self {
            id: token.id.to_string(),
            name: token.name,
            client: session.as_ref().map(|session| match session.client {
                SessionClient::Browser => "browser",
                SessionClient::Program => "program",
            }),
            source: session.as_ref().map(|session| session.source.clone()),
            idle_seconds: session.as_ref().and_then(|session| session.idle_seconds),
            user_agent: session.and_then(|session| session.user_agent),
            created_at: token.created_at.to_string(),
            last_used_at: last_used_at.map(|at| at.to_string()),
            expires_at: token.expires_at.map(|at| at.to_string()),
            current: token.id == current,
        }
    }
}
