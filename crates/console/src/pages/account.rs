//! One's own account: password, second factor, sessions, API tokens.
//!
//! What somebody may have to do before all else, changing a temporary password and setting up a second factor, stands on
//! pages of their own without navigation, which whoever has to is sent to from everywhere ([`password`],
//! [`second_factor`]). The same pages serve those who want to.

mod password;
mod second_factor;
mod sessions;
mod tokens;

use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::routing::get;
use serde::Deserialize;
use tollgate_app::users::SecondFactorStatus;

use crate::Console;
use crate::answers::{Answer, page};
use crate::assets;
use crate::chrome::{Chrome, Section};
use crate::paths::own_path;
use crate::times::Moment;
use crate::visitor::{SignedIn, Visitor};
pub(super) use sessions::SessionRow;
pub(super) use tokens::TokenRow;

/// What stands around a page without navigation.
struct Alone {
    title: &'static str,
    user: String,
    /// Where somebody goes who would rather not; `None` for those who have to.
    cancel: Option<String>,
    style: &'static str,
    script: &'static str,
    icon: &'static str,
}

#[derive(Template)]
#[template(path = "pages/account/index.html")]
struct AccountPage {
    chrome: Chrome,
    factor: SecondFactorStatus,
    factor_since: Option<Moment>,
    sessions: Vec<SessionRow>,
    tokens: Vec<TokenRow>,
}

#[derive(Deserialize)]
struct AccountQuery {
    #[serde(default)]
    done: String,
}

/// Where to go afterwards.
#[derive(Deserialize)]
struct BackQuery {
    #[serde(default)]
    back: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/account", get(show))
        .merge(password::routes())
        .merge(second_factor::routes())
        .merge(sessions::routes())
        .merge(tokens::routes())
}

async fn show(State(console): State<Console>, visitor: Visitor, Query(query): Query<AccountQuery>) -> Answer {
    let SignedIn { op, me } = &visitor.own;
    let users = console.app.users();
    let factor = users.second_factor(op, me).await?;
    let sessions = users.sessions(op, me).await?;
    let tokens = users.tokens(op).await?;
    let mut chrome = Chrome::new(&visitor, Section::Account, "Your account");
    chrome.notice = visitor.notice(notice(&query.done));
    page(&AccountPage {
        chrome,
        factor,
        factor_since: factor.since.map(|at| Moment::new(at, op.now)),
        sessions: sessions.into_iter().rev().map(|it| SessionRow::new(it, me.token.id, op.now)).collect(),
        tokens: tokens.into_iter().rev().map(|it| TokenRow::new(it, op.now)).collect(),
    })
}

/// Says what was just done.
fn notice(done: &str) -> Option<&'static str> {
    Some(match done {
        "password" => "Your password was changed, and every other session of yours has ended.",
        "second-factor" => "Your second factor is on: each sign-in asks for a code from now on.",
        "recovery-codes" => "You have new recovery codes; those from before are no longer taken.",
        "second-factor-removed" => "Your second factor is off: your password alone signs you in.",
        "session" => "The session has ended.",
        "sessions" => "Every other session of yours has ended.",
        "token" => "The API token was revoked.",
        _ => return None,
    })
}

// === impl Alone ===

impl Alone {
    fn new(signed_in: &SignedIn, title: &'static str, back: &str) -> Self {
        // What was done is told only when it was done.
        let here = own_path(back).split('?').next().unwrap_or("/");
        let is_account = here.ends_with("/account");
        let cancel = if is_account { here } else { own_path(back) };
        Self {
            title,
            user: signed_in.op.actor.name.clone(),
            cancel: signed_in.me.duty.is_none().then(|| cancel.to_owned()),
            style: &assets::STYLE.path,
            script: &assets::SCRIPT.path,
            icon: &assets::ICON.path,
        }
    }
}
