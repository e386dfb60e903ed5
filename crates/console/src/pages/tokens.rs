//! Everybody's API tokens: which programs act in whose name in this realm.

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use jiff::Timestamp;
use serde::Deserialize;
use tollgate_app::access::Permission;
use tollgate_app::lists::ListRequest;
use tollgate_app::users::OwnedToken;
use tollgate_model::ids::UserTokenId;
use tollgate_model::names::{RealmName, UserName};

use super::account::TokenRow;
use crate::Console;
use crate::answers::{Answer, page, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::Fields;
use crate::paths::{encoded, named};
use crate::permitted::may;
use crate::visitor::Visitor;

/// Tokens on a page.
const PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "pages/tokens.html")]
struct TokensPage {
    chrome: Chrome,
    /// Whose are shown; empty for everybody's.
    user: String,
    /// Why `user` can't be the name of anybody.
    fault: Option<String>,
    tokens: Vec<Row>,
    next: Option<String>,
    /// Whether this is the realm in which users live, so that everybody's are shown.
    is_home: bool,
    may_revoke: bool,
    may_see_users: bool,
}

struct Row {
    owner: String,
    owner_disabled: bool,
    token: TokenRow,
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    user: String,
    cursor: Option<String>,
    #[serde(default)]
    done: String,
}

#[derive(Deserialize)]
struct RevokeForm {
    id: String,
    #[serde(default)]
    user: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/tokens", get(index))
        .route("/realms/{realm}/tokens/revoke", post(revoke))
}

async fn index(State(console): State<Console>, visitor: Visitor, Query(query): Query<ListQuery>) -> Answer {
    let op = &visitor.op;
    op.demand(Permission::UserTokenRead)?;
    let user = query.user.trim();
    let owner = (!user.is_empty()).then(|| UserName::parse(user));
    let mut chrome = Chrome::new(&visitor, Section::Tokens, "API tokens");
    let revoked = (query.done == "revoked").then_some("The API token was revoked, with those that it made.");
    chrome.notice = visitor.notice(revoked);
    let mut shown = TokensPage {
        chrome,
        user: user.to_owned(),
        fault: owner.as_ref().and_then(|owner| owner.as_ref().err()).map(ToString::to_string),
        tokens: Vec::new(),
        next: None,
        is_home: op.realm == RealmName::default(),
        may_revoke: may(op, Permission::UserTokenRevoke),
        may_see_users: may(op, Permission::UserRead),
    };
    if shown.fault.is_none() {
        let owner = owner.and_then(Result::ok);
        let request = ListRequest { limit: Some(PAGE), cursor: query.cursor };
        let found = console.app.users().tokens_of_everybody(op, owner.as_ref(), request).await?;
        shown.tokens = found.items.into_iter().map(|it| Row::new(it, op.now)).collect();
        shown.next = found.next.map(|cursor| format!("?user={}&cursor={}", encoded(user), encoded(&cursor)));
    }
    page(&shown)
}

async fn revoke(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<RevokeForm>,
) -> Answer<Response> {
    let id = named::<UserTokenId>(&form.id)?;
    console.app.users().revoke_token_of(&visitor.op, &visitor.own.me, id).await?;
    let user = encoded(form.user.trim());
    Ok(see_other(&format!("/realms/{}/tokens?user={user}&done=revoked", visitor.op.realm)))
}

// === impl Row ===

impl Row {
    fn new(owned: OwnedToken, now: Timestamp) -> Self {
        Self {
            owner: owned.owner.to_string(),
            owner_disabled: owned.owner_disabled_at.is_some(),
            token: TokenRow::new(owned.view, now),
        }
    }
}
