//! One's own sessions: where, since when, and ending them.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use jiff::Timestamp;
use serde::Deserialize;
use tollgate_app::users::SessionView;
use tollgate_model::ids::UserTokenId;
use tollgate_model::users::SessionClient;

use crate::Console;
use crate::answers::{Answer, see_other};
use crate::forms::Fields;
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::{SignedIn, Visitor};

/// A session as pages show it.
pub(in crate::pages) struct SessionRow {
    pub(in crate::pages) id: String,
    /// What signed in: `Firefox on Linux`, `command line`.
    pub(in crate::pages) client: String,
    /// All that it said of itself.
    pub(in crate::pages) about: String,
    pub(in crate::pages) source: String,
    pub(in crate::pages) since: Moment,
    pub(in crate::pages) used: Option<Moment>,
    /// Whether it is the one that looks.
    pub(in crate::pages) is_this: bool,
}

#[derive(Deserialize)]
struct EndForm {
    id: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/account/sessions/end", post(end))
        .route("/realms/{realm}/account/sessions/end-others", post(end_others))
}

async fn end(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<EndForm>,
) -> Answer<Response> {
    let SignedIn { op, me } = &visitor.own;
    console.app.users().end_session(op, me, named::<UserTokenId>(&form.id)?).await?;
    Ok(see_other(&format!("/realms/{}/account?done=session", visitor.op.realm)))
}

async fn end_others(State(console): State<Console>, visitor: Visitor) -> Answer<Response> {
    let SignedIn { op, me } = &visitor.own;
    console.app.users().end_other_sessions(op, me).await?;
    Ok(see_other(&format!("/realms/{}/account?done=sessions", visitor.op.realm)))
}

// === impl SessionRow ===

impl SessionRow {
    pub(in crate::pages) fn new(view: SessionView, this: UserTokenId, now: Timestamp) -> Self {
        let SessionView { token, last_used_at } = view;
        let session = token.session.as_ref();
        let about = session.and_then(|session| session.user_agent.clone()).unwrap_or_default();
        let client = match session.map(|session| session.client) {
            Some(SessionClient::Browser) => browser(&about),
            Some(SessionClient::Program) => "Command line".to_owned(),
            None => "Sign-in of an earlier version".to_owned(),
        };
        Self {
            id: token.id.to_string(),
            client,
            about,
            source: session.map_or_else(|| "unknown".to_owned(), |session| session.source.clone()),
            since: Moment::new(token.created_at, now),
            used: last_used_at.map(|at| Moment::new(at, now)),
            is_this: token.id == this,
        }
    }
}

/// Names a browser and its system by what it calls itself. Some call themselves by the names of others, too: those come
/// first.
fn browser(user_agent: &str) -> String {
    let first = |known: &[(&str, &'static str)]| {
        known.iter().find(|(mark, _)| user_agent.contains(mark)).map(|(_, name)| *name)
    };
    let browser = first(&[
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ]);
    let system = first(&[
        ("Android", "Android"),
        ("iPhone", "iOS"),
        ("iPad", "iOS"),
        ("Windows", "Windows"),
        ("Mac OS", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, _) => "Browser".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_named_by_what_it_is_and_not_by_whom_it_imitates() {
        let edge = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36 Edg/130.0";
        assert_eq!(browser(edge), "Edge on Windows");
        let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36";
        assert_eq!(browser(chrome), "Chrome on Linux");
        assert_eq!(browser("<script>"), "Browser");
    }
}
