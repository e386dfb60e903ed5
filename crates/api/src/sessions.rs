//! Sign-in, sign-out, sessions of browsers, API tokens.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::access::{Permission, Reach};
use tollgate_app::users::{RealmRights, ShownToken};
use tollgate_model::ids::UserTokenId;
use tollgate_model::users::UserToken;

use crate::Api;
use crate::access::{SESSION_COOKIE, SignedInWith};
use crate::answers::{Answer, Created, ListView};
use crate::extract::{Body, Caller, In};
use crate::operations::{Access, Operation};
use crate::problem::Problem;
use crate::users::RightView;

/// A name and a password.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LoginBody {
    user: String,
    password: String,
    /// What to call the API token.
    #[serde(default = "sign_in")]
    token_name: String,
}

fn sign_in() -> String {
    "sign-in".to_owned()
}

/// A new API token; its plain form is in this answer and nowhere else.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct LoginView {
    token: String,
    id: String,
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
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
}

/// What somebody may do in a realm.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RealmRightsView {
    realm: String,
    groups: Vec<String>,
    rights: Vec<RightView>,
}

/// An API token, without its plain form.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct TokenView {
    id: String,
    name: String,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewTokenBody {
    name: String,
    /// RFC 3339; without, until it is revoked.
    #[schemars(with = "Option<String>")]
    expires_at: Option<Timestamp>,
}

/// A new API token; its plain form is in this answer and nowhere else.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NewTokenView {
    token: String,
    #[serde(flatten)]
    kept: TokenView,
}

#[derive(Deserialize)]
struct TokenPath {
    id: UserTokenId,
}

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/login", Access::Public, "Signs in: an API token for a name and a password", login)
            .takes::<LoginBody>()
            .answers::<LoginView>()
            .created(),
        Operation::post("/logout", Access::SignedIn, "Revokes the token that this request shows", logout)
            .empty(),
        Operation::post(
            "/session",
            Access::Public,
            "Signs a browser in: the token comes as a cookie",
            open_session,
        )
        .takes::<LoginBody>()
        .empty(),
        Operation::delete("/session", Access::SignedIn, "Signs a browser out", close_session),
        Operation::get("/whoami", Access::SignedIn, "Tells who the token belongs to", whoami)
            .answers::<WhoamiView>(),
        Operation::get("/tokens", Access::SignedIn, "Lists your API tokens", list)
            .answers::<ListView<TokenView>>(),
        Operation::post("/tokens", Access::SignedIn, "Makes an API token", create)
            .takes::<NewTokenBody>()
            .answers::<NewTokenView>()
            .creates(),
        Operation::delete("/tokens/{id}", Access::SignedIn, "Revokes an API token", delete),
    ]
}

async fn login(
    State(api): State<Api>,
    Caller(op): Caller,
    Body(body): Body<LoginBody>,
) -> Answer<Created<LoginView>> {
    let (user, shown) = api.app.users().sign_in(&op, &body.user, &body.password, &body.token_name).await?;
    Ok(Created(LoginView {
        token: shown.plain.expose_secret().to_owned(),
        id: shown.token.id.to_string(),
        user: user.name.to_string(),
        expires_at: shown.token.expires_at.map(|at| at.to_string()),
    }))
}

async fn logout(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(SignedInWith(token)): Extension<SignedInWith>,
) -> Answer<StatusCode> {
    api.app.users().delete_token(&op, token.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn open_session(
    State(api): State<Api>,
    Caller(op): Caller,
    headers: HeaderMap,
    Body(body): Body<LoginBody>,
) -> Answer<Response> {
    let (_, shown) = api.app.users().sign_in(&op, &body.user, &body.password, "browser").await?;
    cookie(&api, &headers, shown.plain.expose_secret(), "")
}

async fn close_session(
    State(api): State<Api>,
    Caller(op): Caller,
    headers: HeaderMap,
    Extension(SignedInWith(token)): Extension<SignedInWith>,
) -> Answer<Response> {
    api.app.users().delete_token(&op, token.id).await?;
    cookie(&api, &headers, "", "; Max-Age=0")
}

fn cookie(api: &Api, headers: &HeaderMap, value: &str, more: &str) -> Answer<Response> {
    // A proxy that adds TLS stands between: the browser says itself how it came.
    let over_tls =
        headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let secure = if api.settings.secure_cookies || over_tls { "; Secure" } else { "" };
    let text = format!("{SESSION_COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{more}");
    let mut header = HeaderValue::try_from(text).map_err(|_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", "the cookie could not be made")
    })?;
    header.set_sensitive(true);
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(header::SET_COOKIE, header);
    Ok(response)
}

async fn whoami(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(SignedInWith(token)): Extension<SignedInWith>,
) -> Answer<Json<WhoamiView>> {
    let realms = api.app.users().own_rights(&op).await?;
    Ok(Json(WhoamiView {
        user: op.actor.name.clone(),
        id: op.actor.user.map(|id| id.to_string()),
        token: TokenView::from(&token),
        permissions: op.actor.rights().iter().map(|(permission, _)| permission).collect(),
        realms: realms.iter().map(RealmRightsView::from).collect(),
    }))
}

async fn list(State(api): State<Api>, Caller(op): Caller) -> Answer<Json<ListView<TokenView>>> {
    Ok(ListView::whole(api.app.users().tokens(&op).await?, |token| TokenView::from(&token)))
}

async fn create(
    State(api): State<Api>,
    Caller(op): Caller,
    Body(body): Body<NewTokenBody>,
) -> Answer<Created<NewTokenView>> {
    let ShownToken { token, plain } = api.app.users().create_token(&op, &body.name, body.expires_at).await?;
    Ok(Created(NewTokenView { token: plain.expose_secret().to_owned(), kept: TokenView::from(&token) }))
}

async fn delete(State(api): State<Api>, Caller(op): Caller, In(path): In<TokenPath>) -> Answer<StatusCode> {
    api.app.users().delete_token(&op, path.id).await?;
    Ok(StatusCode::NO_CONTENT)
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

impl From<&UserToken> for TokenView {
    fn from(token: &UserToken) -> Self {
        Self {
            id: token.id.to_string(),
            name: token.name.clone(),
            created_at: token.created_at.to_string(),
            expires_at: token.expires_at.map(|at| at.to_string()),
        }
    }
}
