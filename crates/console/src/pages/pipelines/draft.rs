//! A pipeline that somebody is writing: the text of its file, the part whose form stands open, and what a button does to
//! both.
//!
//! A form sends for each field what was shown in it and what stands in it now. Only what somebody changed is written, so
//! that a form that was made of an older text takes nothing back that was meanwhile written into the file.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tollgate_model::document::{Edit, edited, parse_value};

use super::forms::{Form, TRIGGER, new_step};
use super::switches;
use crate::forms::FieldList;

/// What somebody is writing.
pub(super) struct Draft {
    /// The file.
    pub(super) text: String,
    /// JSON pointer of the part whose form stands open.
    pub(super) open: String,
    /// Whether it is to be a pipeline that there is not yet.
    pub(super) is_new: bool,
    /// Texts that cannot stand in the file, by field, and why.
    pub(super) unread: BTreeMap<String, (String, String)>,
    /// What a button took out of the file besides what it says.
    pub(super) told: Vec<String>,
}

// === impl Draft ===

impl Draft {
    pub(super) fn new(text: impl Into<String>, open: &str) -> Self {
        let (text, open) = (text.into(), open.to_owned());
        Self { text, open, is_new: false, unread: BTreeMap::new(), told: Vec::new() }
    }

    /// Reads the file alone.
    pub(super) fn file(form: &FieldList) -> Self {
        let open = form.one("open");
        let draft = Self::new(form.one("document"), if open.is_empty() { TRIGGER } else { open });
        // What changes one that there is carries along which it read.
        Self { is_new: form.find("revision").is_none(), ..draft }
    }

    /// Reads the file, and writes into it what was changed in the form.
    pub(super) fn filled(form: &FieldList) -> Self {
        let mut draft = Self::file(form);
        let Ok(document) = parse_value(&draft.text) else { return draft };
        let fields = Form::of(&document, &draft.open).groups.into_iter().flat_map(|group| group.fields);
        for field in fields {
            let Some(was) = form.find(&format!("was:{}", field.id)) else { continue };
            let typed = form.find(&format!("set:{}", field.id)).unwrap_or_default();
            if was.replace("\r\n", "\n") == typed.replace("\r\n", "\n") {
                continue;
            }
            if field.pointer == "/trigger/type" {
                draft.start_by(typed);
                continue;
            }
            // Each field is written into what the one before made.
            let document = parse_value(&draft.text).unwrap_or_default();
            match field.edits(&document, typed) {
                Ok(edits) => edits.iter().for_each(|edit| draft.edit(edit)),
                Err(reason) => drop(draft.unread.insert(field.id, (typed.to_owned(), reason))),
            }
        }
        draft
    }

    /// Does what a button says: `what=where`. What makes no sense changes nothing.
    pub(super) fn turn(&mut self, turn: &str, kind: &str) {
        let Some((what, place)) = turn.split_once('=') else { return };
        let Ok(document) = parse_value(&self.text) else { return };
        let step =
            |index: usize| Some(Edit::Insert(place.split_once('@')?.0.to_owned(), index, new_step(kind)?));
        match what {
            "select" => place.clone_into(&mut self.open),
            "method" => self.turn_method(&document, place),
            "add" => {
                let Some((list, index)) = place.split_once('@') else { return };
                let length = document.pointer(list).and_then(Value::as_array).map_or(0, Vec::len);
                let index = index.parse::<usize>().unwrap_or(length).min(length);
                if let Some(edit) = step(index).filter(|_| list.starts_with("/steps")) {
                    self.edit(&edit);
                    self.open = format!("{list}/{index}");
                }
            }
            "remove" if place.starts_with("/steps/") => {
                self.edit(&Edit::Remove(place.to_owned()));
                TRIGGER.clone_into(&mut self.open);
            }
            "up" | "down" => {
                let Some((list, index)) = place.rsplit_once('/') else { return };
                let Ok(index) = index.parse::<usize>() else { return };
                let (first, now) = if what == "up" {
                    (index.checked_sub(1), index.wrapping_sub(1))
                } else {
                    (Some(index), index + 1)
                };
                let Some(first) = first else { return };
                if let Some(text) = edited(&self.text, &Edit::Swap(list.to_owned(), first)) {
                    self.text = text;
                    self.open = format!("{list}/{now}");
                }
            }
            "when" | "otherwise" | "onError" => self.add_branch(&document, what, place),
            field if switches::is_switch(field) && switches::trigger(&document).is_some() => {
                let on = place == "on";
                self.turn_switch(&document, field, on);
                // Both need the `Authorization` header.
                let other =
                    [("jwt", "basicAuth"), ("basicAuth", "jwt")].into_iter().find(|(it, _)| *it == field);
                if let Some((_, other)) = other.filter(|_| on) {
                    self.turn_switch(&document, other, false);
                }
            }
            _ => {}
        }
    }

    /// Turns a switch that stands otherwise: what is on already keeps what it demands besides.
    fn turn_switch(&mut self, document: &Value, field: &str, on: bool) {
        if switches::of(document).iter().any(|it| it.field == field && it.on != on) {
            self.told.extend(switches::lost(document, field));
            self.edit(&Edit::Set(format!("/trigger/{field}"), on.into()));
        }
    }

    fn turn_method(&mut self, document: &Value, method: &str) {
        let Some(trigger) = switches::trigger(document) else { return };
        let mut methods = match trigger.get("methods").and_then(Value::as_array) {
            Some(methods) => methods.clone(),
            None => vec!["GET".into(), "POST".into()],
        };
        match methods.iter().position(|it| it.as_str() == Some(method)) {
            Some(index) => drop(methods.remove(index)),
            None => methods.push(method.into()),
        }
        self.edit(&Edit::Set("/trigger/methods".to_owned(), methods.into()));
    }

    /// Gives a step a further list of steps.
    fn add_branch(&mut self, document: &Value, what: &str, place: &str) {
        let Some(step) = document.pointer(place).filter(|_| place.starts_with("/steps/")) else { return };
        let steps = json!([{ "json": { "ok": true } }]);
        let edit = match what {
            "when" if step.get("choice").is_some() => {
                let branch = json!({ "condition": "true", "steps": steps });
                Edit::Insert(format!("{place}/choice/when"), usize::MAX, branch)
            }
            "otherwise" if step.get("choice").is_some() => {
                Edit::Set(format!("{place}/choice/otherwise"), steps)
            }
            "onError" if step.get("block").is_some() => Edit::Set(format!("{place}/block/onError"), steps),
            _ => return,
        };
        self.edit(&edit);
    }

    /// Changes the type of the trigger, and what only the other type has.
    fn start_by(&mut self, kind: &str) {
        let document = parse_value(&self.text).unwrap_or_default();
        let was = document.pointer("/trigger/type").and_then(Value::as_str).unwrap_or_default();
        let edits = match (was, kind) {
            (_, "scheduler") => vec![Edit::Set(
                "/trigger".to_owned(),
                json!({ "type": "scheduler", "cron": "0 6 * * *", "timeZone": "UTC" }),
            )],
            ("scheduler", _) => vec![Edit::Set(
                "/trigger".to_owned(),
                json!({ "type": kind, "methods": ["GET"], "externalApi": true, "apiKey": true }),
            )],
            (_, "rest") => vec![
                Edit::Set("/trigger/type".to_owned(), kind.into()),
                Edit::Remove("/trigger/requestContentTypes".to_owned()),
                Edit::Remove("/trigger/responseContentType".to_owned()),
            ],
            _ => vec![Edit::Set("/trigger/type".to_owned(), kind.into())],
        };
        edits.iter().for_each(|edit| self.edit(edit));
    }

    fn edit(&mut self, edit: &Edit) {
        if let Some(text) = edited(&self.text, edit) {
            self.text = text;
        }
    }
}
