//! Globals: set where there is none, changed as they were read.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::Value;
use tollgate_app::Stored;
use tollgate_app::access::{Permission, Place};
use tollgate_app::errors::ErrorKind;
use tollgate_model::names::{EnvironmentName, ValueName};
use tollgate_model::values::Global;

use super::super::environments::{Switch, kept};
use super::{ListQuery, back, notice};
use crate::Console;
use crate::answers::{Answer, page, refused};
use crate::chrome::{Chrome, Section};
use crate::forms::{Fields, Problem, Told};
use crate::meanwhile::Meanwhile;
use crate::paths::named;
use crate::times::Moment;
use crate::visitor::Visitor;

#[derive(Template)]
#[template(path = "pages/values/globals.html")]
struct GlobalsPage {
    chrome: Chrome,
    switch: Switch,
    environment: String,
    globals: Vec<Row>,
    form: GlobalForm,
    may_update: bool,
    problem: Problem,
    meanwhile: Vec<Meanwhile>,
}

struct Row {
    name: String,
    value: String,
    at: Moment,
    revision: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct GlobalForm {
    environment: String,
    name: String,
    value: String,
    /// The revision of the one that is changed; empty for one that is made.
    revision: String,
    /// The value that the form was filled with, for whoever is overtaken.
    read: String,
}

pub(super) async fn index(
    State(console): State<Console>,
    visitor: Visitor,
    Query(query): Query<ListQuery>,
) -> Answer {
    let (environment, switch) = kept(&console, &visitor, query.environment.as_deref(), "").await?;
    let mut shown = GlobalsPage::new(&console, &visitor, environment, switch).await?;
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
    Fields(form): Fields<GlobalForm>,
) -> Answer<Response> {
    let op = &visitor.op;
    let environment: EnvironmentName = named(&form.environment)?;
    op.demand_in(Permission::GlobalUpdate, Place::environment(&environment))?;
    let revision = form.revision.parse::<u64>().ok();
    let name = match ValueName::parse(form.name.trim()) {
        Ok(name) => name,
        Err(error) => {
            let mut again = GlobalsPage::again(&console, &visitor, &environment, form).await?;
            again.problem = Problem::of("name", error);
            return Ok(refused(&again)?.into_response());
        }
    };
    // What is JSON is taken as it; anything else is a text.
    let value = serde_json::from_str(&form.value).unwrap_or_else(|_| form.value.as_str().into());
    let globals = console.app.globals();
    let done = match revision {
        Some(_) => globals.set(op, &environment, name.clone(), value, revision).await,
        None => globals.create(op, &environment, name.clone(), value).await,
    };
    let Err(error) = done else { return Ok(back(&visitor, "globals", &environment, "set")) };
    let mut again = GlobalsPage::again(&console, &visitor, &environment, form).await?;
    if error.kind == ErrorKind::PreconditionFailed {
        again.overtaken(name.as_str());
    }
    let field = match error.kind {
        ErrorKind::Conflict => "name",
        ErrorKind::Invalid => "value",
        _ => "",
    };
    let (told, refusal) = Told::of(error)?;
    again.problem = Problem::new(field, refusal);
    told.answer(&again)
}

/// Writes a value so that it reads back as what it is: a text that would be taken for other JSON stands in quotes.
pub(super) fn written(value: &Value) -> String {
    match value {
        Value::String(text) if serde_json::from_str::<Value>(text).is_err() => text.clone(),
        other => other.to_string(),
    }
}

// === impl GlobalsPage ===

impl GlobalsPage {
    async fn new(
        console: &Console,
        visitor: &Visitor,
        environment: EnvironmentName,
        switch: Switch,
    ) -> Answer<Self> {
        let op = &visitor.op;
        let globals = console.app.globals().list(op, &environment).await?;
        let row = |Stored { value, revision }: Stored<Global>| Row {
            name: value.name.to_string(),
            value: written(&value.value),
            at: Moment::new(value.updated_at, op.now),
            revision,
        };
        Ok(Self {
            chrome: Chrome::new(visitor, Section::Globals, "Globals"),
            switch,
            globals: globals.into_iter().map(row).collect(),
            form: GlobalForm::default(),
            may_update: op.may(Permission::GlobalUpdate, Place::environment(&environment)),
            problem: Problem::default(),
            meanwhile: Vec::new(),
            environment: environment.to_string(),
        })
    }

    /// Shows once more what was written.
    async fn again(
        console: &Console,
        visitor: &Visitor,
        environment: &EnvironmentName,
        form: GlobalForm,
    ) -> Answer<Self> {
        let (environment, switch) = kept(console, visitor, Some(environment.as_str()), "").await?;
        Ok(Self { form, ..Self::new(console, visitor, environment, switch).await? })
    }

    /// Fills the form with one that there is.
    fn change(&mut self, name: &str) {
        if let Some(row) = self.globals.iter().find(|row| row.name == name) {
            self.form = GlobalForm {
                environment: self.environment.clone(),
                name: row.name.clone(),
                value: row.value.clone(),
                revision: row.revision.to_string(),
                read: row.value.clone(),
            };
        }
    }

    /// Tells what somebody else made of it; the next attempt is of that.
    fn overtaken(&mut self, name: &str) {
        let row = self.globals.iter().find(|row| row.name == name);
        let now = row.map_or_else(|| "deleted".to_owned(), |row| row.value.clone());
        let then =
            std::mem::replace(&mut self.form.read, row.map(|row| row.value.clone()).unwrap_or_default());
        self.form.revision = row.map(|row| row.revision.to_string()).unwrap_or_default();
        self.meanwhile = vec![Meanwhile { what: name.to_owned(), then, now }];
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_reads_back_as_what_it_is() {
        for value in
            [json!("eu"), json!("42"), json!(42), json!("\"x\""), json!(["a"]), json!(null), json!("null")]
        {
            let text = written(&value);
            let read = serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text.as_str()));
            assert_eq!(read, value, "{text}");
        }
    }
}
