//! Deleting a global or an account, with what it breaks: what runs and reads it.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use tollgate_app::errors::{Error, ErrorKind};
use tollgate_model::names::{EnvironmentName, ValueName};

use super::super::dependents::DependentsView;
use super::{back, place};
use crate::Console;
use crate::answers::{Answer, page};
use crate::chrome::{Chrome, Section};
use crate::errors::Failure;
use crate::forms::{Fields, Problem, Told};
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/values/remove.html")]
struct RemovePage {
    chrome: Chrome,
    what: What,
    environment: String,
    name: String,
    revision: u64,
    dependents: DependentsView,
    problem: Problem,
}

/// Which of the two.
#[derive(Clone, Copy)]
enum What {
    Global,
    Account,
}

#[derive(Deserialize)]
pub(super) struct Named {
    environment: String,
    name: String,
    /// The revision that was shown.
    #[serde(default)]
    revision: Option<u64>,
}

pub(super) async fn global(
    State(console): State<Console>,
    visitor: Visitor,
    Query(query): Query<Named>,
) -> Answer {
    page(&RemovePage::of(&console, &visitor, What::Global, &query).await?)
}

pub(super) async fn account(
    State(console): State<Console>,
    visitor: Visitor,
    Query(query): Query<Named>,
) -> Answer {
    page(&RemovePage::of(&console, &visitor, What::Account, &query).await?)
}

pub(super) async fn delete_global(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<Named>,
) -> Answer<Response> {
    let (environment, name) = place(&form.environment, &form.name)?;
    let done = console.app.globals().delete(&visitor.op, &environment, &name, form.revision).await;
    after(&console, &visitor, What::Global, &form, &environment, done).await
}

pub(super) async fn delete_account(
    State(console): State<Console>,
    visitor: Visitor,
    Fields(form): Fields<Named>,
) -> Answer<Response> {
    let (environment, name) = place(&form.environment, &form.name)?;
    let done = console.app.accounts().delete(&visitor.op, &environment, &name, form.revision).await;
    after(&console, &visitor, What::Account, &form, &environment, done).await
}

/// Goes back to the list, or shows by now what would be deleted, when that is not what was shown.
async fn after(
    console: &Console,
    visitor: &Visitor,
    what: What,
    form: &Named,
    environment: &EnvironmentName,
    done: Result<(), Error>,
) -> Answer<Response> {
    match done {
        Ok(()) => Ok(back(visitor, what.list(), environment, "delete")),
        Err(error) if error.kind == ErrorKind::PreconditionFailed => {
            let (told, refusal) = Told::of(error)?;
            let mut again = RemovePage::of(console, visitor, what, form).await?;
            again.problem = Problem::new("", refusal);
            told.answer(&again)
        }
        Err(error) => Err(error.into()),
    }
}

// === impl What ===

impl What {
    fn noun(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Account => "account",
        }
    }

    fn list(self) -> &'static str {
        match self {
            Self::Global => "globals",
            Self::Account => "accounts",
        }
    }

    fn section(self) -> Section {
        match self {
            Self::Global => Section::Globals,
            Self::Account => Section::Accounts,
        }
    }
}

// === impl RemovePage ===

impl RemovePage {
    async fn of(console: &Console, visitor: &Visitor, what: What, named: &Named) -> Answer<Self> {
        let (app, op) = (&console.app, &visitor.op);
        let (environment, name): (EnvironmentName, ValueName) = place(&named.environment, &named.name)?;
        let (dependents, revision) = match what {
            What::Global => {
                let globals = app.globals().list(op, &environment).await?;
                let revision = globals.iter().find(|it| it.value.name == name).map(|it| it.revision);
                (app.globals().dependents(op, &environment, &name).await?, revision)
            }
            What::Account => {
                let accounts = app.accounts().list(op, &environment).await?;
                let revision = accounts.iter().find(|it| it.name == name).map(|it| it.revision);
                (app.accounts().dependents(op, &environment, &name).await?, revision)
            }
        };
        // It was made between the two questions: nobody has seen it yet.
        let Some(revision) = revision else {
            return Err(Failure::plain(http::StatusCode::NOT_FOUND, "There is no such value."));
        };
        Ok(Self {
            chrome: Chrome::new(visitor, what.section(), format!("Delete {name}")),
            what,
            environment: environment.to_string(),
            name: name.to_string(),
            revision,
            dependents: DependentsView::new(&dependents),
            problem: Problem::default(),
        })
    }
}
