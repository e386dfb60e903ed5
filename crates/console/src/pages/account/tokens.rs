//! One's own API tokens: made with an end and, where that will do, with scopes; shown once; revoked.

use std::collections::BTreeSet;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tollgate_app::access::{Permission, Place, Rights};
use tollgate_app::users::{NewToken, TokenView};
use tollgate_model::ids::UserTokenId;
use tollgate_model::names::{EnvironmentName, ProjectName};
use tollgate_model::users::TokenScope;

use super::super::grid::Grid;
use crate::Console;
use crate::answers::{Answer, page, refused, see_other};
use crate::chrome::{Chrome, Section};
use crate::forms::{FieldList, Fields, Problem, Refusal, Told};
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::{SignedIn, Visitor};

/// How long a token works unless another number is written.
const USUAL_DAYS: &str = "90";

/// An API token as pages show it.
pub(in crate::pages) struct TokenRow {
    pub(in crate::pages) id: String,
    pub(in crate::pages) name: String,
    /// What it may be used for; empty for all that its owner may do.
    pub(in crate::pages) scopes: Vec<String>,
    pub(in crate::pages) made: Moment,
    pub(in crate::pages) used: Option<Moment>,
    pub(in crate::pages) expires: Option<Moment>,
    pub(in crate::pages) is_over: bool,
}

#[derive(Template)]
#[template(path = "pages/account/token_new.html")]
struct NewPage {
    chrome: Chrome,
    name: String,
    days: String,
    /// Whether it is to be limited by scopes.
    limited: bool,
    grid: Grid,
    environments: String,
    projects: String,
    problem: Problem,
}

#[derive(Template)]
#[template(path = "pages/account/token_made.html")]
struct MadePage<'a> {
    chrome: Chrome,
    token: &'a str,
    expires: Option<Moment>,
}

#[derive(Deserialize)]
struct RevokeForm {
    id: String,
}

pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/realms/{realm}/account/tokens/new", get(new))
        .route("/realms/{realm}/account/tokens", post(create))
        .route("/realms/{realm}/account/tokens/revoke", post(revoke))
}

async fn new(State(console): State<Console>, visitor: Visitor) -> Answer {
    let held = held(&console, &visitor).await?;
    page(&NewPage::new(&visitor, &held, &FieldList::default()))
}

async fn create(State(console): State<Console>, visitor: Visitor, fields: FieldList) -> Answer<Response> {
    let SignedIn { op, me } = &visitor.own;
    let mut again = NewPage::new(&visitor, &held(&console, &visitor).await?, &fields);
    let input = match new_token(&fields, op.now) {
        Ok(input) => input,
        Err(problem) => {
            again.problem = problem;
            return Ok(refused(&again)?.into_response());
        }
    };
    match console.app.users().create_token(op, me, input).await {
        Ok(shown) => {
            let made = MadePage {
                chrome: Chrome::new(&visitor, Section::Account, "The API token was made"),
                token: shown.plain.expose_secret(),
                expires: shown.token.expires_at.map(|at| Moment::new(at, op.now)),
            };
            Ok(page(&made)?.into_response())
        }
        Err(error) => {
            let (told, refusal) = Told::of(error)?;
            let field = match (told.code, refusal.message.as_str()) {
                ("scope-unknown", _) => "permissions",
                ("invalid", message) if message.contains("scope") => "permissions",
                ("invalid", message) if message.contains("name") => "name",
                ("invalid", message) if message.contains("expiry") => "days",
                _ => "",
            };
            again.problem = Problem::new(field, refusal);
            told.answer(&again)
        }
    }
}

async fn revoke(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<RevokeForm>,
) -> Answer<Response> {
    let SignedIn { op, me } = &visitor.own;
    console.app.users().delete_token(op, me, named::<UserTokenId>(&form.id)?).await?;
    Ok(see_other(&format!("/realms/{}/account?done=token", visitor.op.realm)))
}

/// Returns what the visitor may do in any realm: a token acts in all of them.
async fn held(console: &Console, visitor: &Visitor) -> Answer<Rights> {
    let realms = console.app.users().own_rights(&visitor.own.op).await?;
    Ok(realms.into_iter().fold(Rights::none(), |all, realm| all.union(&realm.rights)))
}

/// Reads the form; what it says wrong is put at its field.
fn new_token(fields: &FieldList, now: Timestamp) -> Result<NewToken, Problem> {
    let name = fields.one("name").trim();
    if name.is_empty() {
        return Err(Problem::of("name", "a token needs a name, or nobody knows later what it is for"));
    }
    let days: i64 =
        fields.one("days").trim().parse().map_err(|_| Problem::of("days", "this is no number of days"))?;
    let expires_at = now.checked_add(SignedDuration::from_hours(days.clamp(0, 100_000) * 24));
    let scopes = if fields.one("limited") == "yes" { Some(scopes(fields)?) } else { None };
    Ok(NewToken { name: name.to_owned(), expires_at: expires_at.ok(), scopes })
}

fn scopes(fields: &FieldList) -> Result<Vec<TokenScope>, Problem> {
    let words = |field| {
        let text: &str = fields.one(field);
        text.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let environments: BTreeSet<EnvironmentName> = words("environments")
        .iter()
        .map(|word| EnvironmentName::parse(word))
        .collect::<Result<_, _>>()
        .map_err(|error| Problem::of("environments", error))?;
    let projects: BTreeSet<ProjectName> = words("projects")
        .iter()
        .map(|word| ProjectName::parse(word))
        .collect::<Result<_, _>>()
        .map_err(|error| Problem::of("projects", error))?;
    let permissions = fields.all("permission");
    if permissions.is_empty() {
        let message = "A limited token may do nothing until something is ticked".to_owned();
        let hint = Some("Tick what it is for, or let it do whatever you may do".to_owned());
        return Err(Problem::new("permissions", Refusal::saying(message, hint)));
    }
    let scope = |permission: String| TokenScope {
        permission,
        environments: Some(environments.clone()).filter(|names| !names.is_empty()),
        projects: Some(projects.clone()).filter(|names| !names.is_empty()),
    };
    Ok(permissions.into_iter().map(scope).collect())
}

// === impl TokenRow ===

impl TokenRow {
    pub(in crate::pages) fn new(view: TokenView, now: Timestamp) -> Self {
        let TokenView { token, last_used_at } = view;
        let names =
            |names: Option<String>, word: &str| names.map(|it| format!(" {word} {it}")).unwrap_or_default();
        let scope = |scope: &TokenScope| {
            let environments = scope.environments.as_ref().map(list);
            let projects = scope.projects.as_ref().map(list);
            format!("{}{}{}", scope.permission, names(environments, "in"), names(projects, "for"))
        };
        Self {
            id: token.id.to_string(),
            name: token.name,
            scopes: token.scopes.iter().flatten().map(scope).collect(),
            made: Moment::new(token.created_at, now),
            used: last_used_at.map(|at| Moment::new(at, now)),
            expires: token.expires_at.map(|at| Moment::new(at, now)),
            is_over: token.expires_at.is_some_and(|at| at <= now),
        }
    }
}

fn list<N: ToString>(names: &BTreeSet<N>) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

// === impl NewPage ===

impl NewPage {
    fn new(visitor: &Visitor, held: &Rights, fields: &FieldList) -> Self {
        let text = |field: &str, usual: &str| {
            let text = fields.one(field);
            if text.is_empty() { usual.to_owned() } else { text.to_owned() }
        };
        let ticked = fields.all("permission");
        let may_tick = |permission: Permission| {
            // What everybody may do with what is their own is granted by no group.
            permission == Permission::UserTokenManage
                || held.allows_anywhere(permission)
                || visitor.own.op.may(permission, Place::REALM)
        };
        Self {
            chrome: Chrome::new(visitor, Section::Account, "New API token"),
            name: text("name", ""),
            days: text("days", USUAL_DAYS),
            limited: fields.one("limited") == "yes",
            grid: Grid::new(|permission| ticked.contains(permission.as_str()), may_tick),
            environments: text("environments", ""),
            projects: text("projects", ""),
            problem: Problem::default(),
        }
    }
}
