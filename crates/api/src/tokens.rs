//! API tokens: one's own, and everybody's for whoever answers for a realm.

use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tollgate_app::access::Permission;
use tollgate_app::lists::ListRequest;
use tollgate_app::users::{NewToken, ShownToken};
use tollgate_model::ids::UserTokenId;
use tollgate_model::names::UserName;
use tollgate_model::users::{TokenScope, UserToken};

use crate::Api;
use crate::access::Me;
use crate::answers::{Answer, Created, ListView};
use crate::extract::{Ask, Body, Caller, In};
use crate::operations::{Access, Operation};

/// A token, without its plain form.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenView {
    id: String,
    name: String,
    /// `api-token` or `session`.
    kind: &'static str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// To about a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
    /// What it may be used for at most; absent for whatever its user may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<TokenScope>>,
    /// The API token that made it, and whose end is its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    made_by: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewTokenBody {
    name: String,
    /// RFC 3339, at most 365 days from now; without, 90 days from now.
    #[schemars(with = "Option<String>")]
    expires_at: Option<Timestamp>,
    /// What it may be used for at most; without, whatever the token of this request may be used for.
    scopes: Option<Vec<TokenScope>>,
}

/// A new API token; its plain form is in this answer and nowhere else.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NewTokenView {
    token: String,
    #[serde(flatten)]
    kept: TokenView,
}

/// An API token of somebody, without its plain form.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct OwnedTokenView {
    /// Whose it is.
    user: String,
    /// Whether nothing of theirs is taken now, this token included.
    user_disabled: bool,
    /// Whether it works no longer because its time is over.
    expired: bool,
    #[serde(flatten)]
    kept: TokenView,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OwnedQuery {
    /// Only those of this user.
    user: Option<UserName>,
    /// How many at most: 1 to 500.
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct TokenPath {
    id: UserTokenId,
}

pub(crate) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/tokens", Access::SignedIn, "Lists your API tokens", list)
            .answers::<ListView<TokenView>>(),
        Operation::post("/tokens", Access::SignedIn, "Makes an API token", create)
            .takes::<NewTokenBody>()
            .answers::<NewTokenView>()
            .creates(),
        Operation::delete(
            "/tokens/{id}",
            Access::SignedIn,
            "Revokes an API token, with those that it made",
            delete,
        ),
        Operation::get(
            "/realms/{realm}/tokens",
            Access::Needs(Permission::UserTokenRead),
            "Lists the API tokens of everybody in a realm; of all users in realm `default`",
            list_of_everybody,
        )
        .asks::<OwnedQuery>()
        .answers::<ListView<OwnedTokenView>>(),
        Operation::delete(
            "/realms/{realm}/tokens/{id}",
            Access::Needs(Permission::UserTokenRevoke),
            "Revokes the API token of somebody in a realm, with those that it made",
            revoke,
        ),
    ]
}

async fn list(State(api): State<Api>, Caller(op): Caller) -> Answer<Json<ListView<TokenView>>> {
    let tokens = api.app.users().tokens(&op).await?;
    Ok(ListView::whole(tokens, |view| TokenView::of(&view.token, view.last_used_at)))
}

async fn create(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
    Body(body): Body<NewTokenBody>,
) -> Answer<Created<NewTokenView>> {
    let new = NewToken { name: body.name, expires_at: body.expires_at, scopes: body.scopes };
    let ShownToken { token, plain } = api.app.users().create_token(&op, &me, new).await?;
    Ok(Created(NewTokenView { token: plain.expose_secret().to_owned(), kept: TokenView::of(&token, None) }))
}

async fn delete(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
    In(path): In<TokenPath>,
) -> Answer<StatusCode> {
    api.app.users().delete_token(&op, &me, path.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list_of_everybody(
    State(api): State<Api>,
    Caller(op): Caller,
    Ask(query): Ask<OwnedQuery>,
) -> Answer<Json<ListView<OwnedTokenView>>> {
    let request = ListRequest { limit: query.limit, cursor: query.cursor };
    let page = api.app.users().tokens_of_everybody(&op, query.user.as_ref(), request).await?;
    Ok(ListView::page(page, |it| OwnedTokenView {
        user: it.owner.to_string(),
        user_disabled: it.owner_disabled_at.is_some(),
        expired: it.view.token.expires_at.is_some_and(|at| at <= op.now),
        kept: TokenView::of(&it.view.token, it.view.last_used_at),
    }))
}

async fn revoke(
    State(api): State<Api>,
    Caller(op): Caller,
    Extension(Me(me)): Extension<Me>,
    In(path): In<TokenPath>,
) -> Answer<StatusCode> {
    api.app.users().revoke_token_of(&op, &me, path.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

// === impl TokenView ===

impl TokenView {
    pub(crate) fn of(token: &UserToken, last_used_at: Option<Timestamp>) -> Self {
        Self {
            id: token.id.to_string(),
            name: token.name.clone(),
            kind: if token.is_session() { "session" } else { "api-token" },
            created_at: token.created_at.to_string(),
            expires_at: token.expires_at.map(|at| at.to_string()),
            last_used_at: last_used_at.map(|at| at.to_string()),
            scopes: token.scopes.clone(),
            made_by: token.made_by.map(|id| id.to_string()),
        }
    }
}
