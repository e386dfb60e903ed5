//! Accounts: all fields of one are set at once, since nobody can show those that it has.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use tollgate_app::Password;
use tollgate_app::access::{Permission, Place};
use tollgate_app::accounts::{AccountFields, AccountView};
use tollgate_app::errors::ErrorKind;
use tollgate_model::names::{EnvironmentName, ValueName};

use super::super::environments::{Switch, kept};
use super::{ListQuery, back, notice};
use crate::Console;
use crate::answers::{Answer, page, refused};
use crate::chrome::{Chrome, Section};
use crate::forms::{FieldList, Problem, Told};
use crate::meanwhile::Meanwhile;
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

/// Lines for further fields that a form offers.
const FURTHER: usize = 3;
/// Most lines of a form: the fields that an account can have, and further ones.
const MOST: usize = 50 + FURTHER;

#[derive(Template)]
#[template(path = "pages/values/accounts.html")]
struct AccountsPage {
    chrome: Chrome,
    switch: Switch,
    environment: String,
    accounts: Vec<Row>,
    form: AccountForm,
    may_update: bool,
    problem: Problem,
    /// The line of the form that is wrong.
    wrong_line: usize,
    meanwhile: Vec<Meanwhile>,
}

struct Row {
    name: String,
    fields: Vec<String>,
    at: Moment,
    revision: u64,
}

#[derive(Default)]
struct AccountForm {
    name: String,
    /// The revision of the one that is changed; empty for one that is made.
    revision: String,
    /// The fields of the one that is changed, with commas, for whoever is overtaken.
    read: String,
    lines: Vec<Line>,
    /// How many of them stand there at once; the rest is folded.
    open: usize,
}

/// One field in the form. Its secret is never shown again.
struct Line {
    field: String,
    /// Whether flows read its hash, once somebody said so: of a field that there is nobody can tell.
    hashed: Option<bool>,
}

pub(super) async fn index(
    State(console): State<Console>,
    visitor: Visitor,
    Query(query): Query<ListQuery>,
) -> Answer {
    let (environment, switch) = kept(&console, &visitor, query.environment.as_deref(), "").await?;
    let mut shown = AccountsPage::new(&console, &visitor, environment, switch).await?;
    if let Some(name) = query.change {
        let name: ValueName = named(&name)?;
        shown.change(name.as_str());
    }
    shown.chrome.notice = notice(&visitor, &query.done);
    page(&shown)
}

pub(super) async fn set(
    State(console): State<Console>,
    visitor: Visitor,
    fields: FieldList,
) -> Answer<Response> {
    let op = &visitor.op;
    let environment: EnvironmentName = named(fields.one("environment"))?;
    op.demand_in(Permission::AccountUpdate, Place::environment(&environment))?;
    let form = AccountForm::sent(&fields);
    let name = ValueName::parse(form.name.trim()).map_err(|error| (0, Problem::of("name", error)));
    let read = name.and_then(|name| Ok((name, secrets(&fields)?)));
    let (name, secrets) = match read {
        Ok(read) => read,
        Err((line, problem)) => {
            let mut again = AccountsPage::again(&console, &visitor, &environment, form).await?;
            again.problem = problem;
            again.wrong_line = line;
            return Ok(refused(&again)?.into_response());
        }
    };
    let accounts = console.app.accounts();
    let done = match form.revision.parse::<u64>() {
        Ok(revision) => accounts.set(op, &environment, name.clone(), secrets, Some(revision)).await,
        Err(_) => accounts.create(op, &environment, name.clone(), secrets).await,
    };
    let Err(error) = done else { return Ok(back(&visitor, "accounts", &environment, "set")) };
    let mut again = AccountsPage::again(&console, &visitor, &environment, form).await?;
    if error.kind == ErrorKind::PreconditionFailed {
        again.overtaken(name.as_str());
    }
    let field = match error.kind {
        ErrorKind::Conflict => "name",
        ErrorKind::Invalid => "fields",
        _ => "",
    };
    let (told, refusal) = Told::of(error)?;
    again.problem = Problem::new(field, refusal);
    told.answer(&again)
}

/// Reads the lines of the form; a line without anything in it is none. What is wrong is put at its line.
fn secrets(fields: &FieldList) -> Result<AccountFields, (usize, Problem)> {
    let mut read = AccountFields { plain: BTreeMap::new(), hashed: BTreeMap::new() };
    let mut is_empty = true;
    for line in 0..MOST {
        let field = fields.one(&format!("field.{line}")).trim();
        let secret = fields.one(&format!("secret.{line}"));
        if field.is_empty() && secret.is_empty() {
            continue;
        }
        is_empty = false;
        let wrong = |at, message: &str| (line, Problem::of(at, message));
        if field.is_empty() {
            return Err(wrong("field", "this secret needs the name of a field"));
        }
        if secret.is_empty() {
            return Err(wrong("secret", "write the secret, or take the field away by emptying its name"));
        }
        let secret = Password::parse(secret).map_err(|error| (line, Problem::of("secret", error)))?;
        let Some(hashed) = hashed(fields, line) else {
            return Err(wrong("kept_as", "say whether flows read its hash or the secret"));
        };
        let kind = if hashed { &mut read.hashed } else { &mut read.plain };
        if kind.insert(field.to_owned(), secret).is_some() {
            return Err(wrong("field", "this field stands twice"));
        }
    }
    if is_empty {
        return Err((0, Problem::of("field", "an account needs a field")));
    }
    Ok(read)
}

// === impl AccountForm ===

impl AccountForm {
    fn sent(fields: &FieldList) -> Self {
        let mut lines: Vec<Line> = (0..MOST)
            .map_while(|line| {
                let field = fields.find(&format!("field.{line}"))?.to_owned();
                Some(Line { field, hashed: hashed(fields, line) })
            })
            .collect();
        if lines.is_empty() {
            lines = blank(1 + FURTHER);
        }
        let open = lines.iter().rposition(|line| !line.field.is_empty()).map_or(1, |last| last + 1);
        let text = |name| fields.one(name).to_owned();
        Self { name: text("name"), revision: text("revision"), read: text("read"), lines, open }
    }
}

fn blank(count: usize) -> Vec<Line> {
    (0..count).map(|_| Line { field: String::new(), hashed: Some(true) }).collect()
}

fn hashed(fields: &FieldList, line: usize) -> Option<bool> {
    match fields.one(&format!("kept_as.{line}")) {
        "hash" => Some(true),
        "secret" => Some(false),
        _ => None,
    }
}

// === impl AccountsPage ===

impl AccountsPage {
    async fn new(
        console: &Console,
        visitor: &Visitor,
        environment: EnvironmentName,
        switch: Switch,
    ) -> Answer<Self> {
        let op = &visitor.op;
        let accounts = console.app.accounts().list(op, &environment).await?;
        let row = |AccountView { name, fields, updated_at, revision }| Row {
            name: ValueName::to_string(&name),
            fields,
            at: Moment::new(updated_at, op.now),
            revision,
        };
        let mut lines = blank(1 + FURTHER);
        if let Some(first) = lines.first_mut() {
            first.field = "password".to_owned();
        }
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Accounts, "Accounts"),
            switch,
            accounts: accounts.into_iter().map(row).collect(),
            form: AccountForm { lines, open: 1, ..AccountForm::default() },
            may_update: op.may(Permission::AccountUpdate, Place::environment(&environment)),
            problem: Problem::default(),
            wrong_line: 0,
            meanwhile: Vec::new(),
            environment: environment.to_string(),
        })
    }

    /// Shows once more what was written, but for the secrets.
    async fn again(
        console: &Console,
        visitor: &Visitor,
        environment: &EnvironmentName,
        form: AccountForm,
    ) -> Answer<Self> {
        let (environment, switch) = kept(console, visitor, Some(environment.as_str()), "").await?;
        Ok(Self { form, ..Self::new(console, visitor, environment, switch).await? })
    }

    /// Fills the form with the fields of one that there is. Whether flows read their hashes is not known, and a wrong guess
    /// would break them.
    fn change(&mut self, name: &str) {
        if let Some(row) = self.accounts.iter().find(|row| row.name == name) {
            let mut lines = blank(row.fields.len() + FURTHER);
            for (line, field) in lines.iter_mut().zip(&row.fields) {
                line.field.clone_from(field);
                line.hashed = None;
            }
            self.form = AccountForm {
                name: row.name.clone(),
                revision: row.revision.to_string(),
                read: row.fields.join(", "),
                open: row.fields.len(),
                lines,
            };
        }
    }

    /// Tells what somebody else made of it; the next attempt is of that.
    fn overtaken(&mut self, name: &str) {
        let row = self.accounts.iter().find(|row| row.name == name);
        let (now, fields) = match row {
            Some(row) => {
                (format!("{} (set {})", row.fields.join(", "), row.at.relative), row.fields.join(", "))
            }
            None => ("deleted".to_owned(), String::new()),
        };
        let then = std::mem::replace(&mut self.form.read, fields);
        self.form.revision = row.map(|row| row.revision.to_string()).unwrap_or_default();
        self.meanwhile = vec![Meanwhile { what: format!("Fields of {name}"), then, now }];
    }
}
