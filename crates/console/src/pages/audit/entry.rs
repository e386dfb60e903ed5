//! One entry of the journal: what each field was before and after.

use askama::Template;
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tollgate_app::JournalEntry;
use tollgate_app::journal::{ChangedObject, FieldChange, MASK};
use tollgate_model::hex::hex;

use crate::Console;
use crate::answers::{Answer, page};
use crate::chrome::{Chrome, Section};
use crate::times::Moment;
use crate::visitor::Visitor;

/// Fields of one object that are shown; the export has all.
const MOST_FIELDS: usize = 300;

#[derive(Template)]
#[template(path = "pages/audit/entry.html")]
struct EntryPage {
    chrome: Chrome,
    seq: u64,
    at: Moment,
    actor: String,
    source: String,
    action: String,
    request_id: String,
    reason: String,
    refusal: Option<RefusalView>,
    objects: Vec<ObjectView>,
    hash: String,
    previous_hash: String,
    previous: Option<u64>,
}

struct RefusalView {
    code: String,
    operation: String,
    about: Option<String>,
    count: u64,
    first: Option<Moment>,
}

/// An object and what became of it.
struct ObjectView {
    kind: &'static str,
    key: String,
    /// What became of it, as a mark and a word.
    mark: (&'static str, &'static str),
    /// The entry that wrote it before.
    previous: Option<u64>,
    fields: Vec<FieldView>,
    /// How many fields are not shown.
    more: usize,
}

struct FieldView {
    pointer: String,
    before: Option<Shown>,
    after: Option<Shown>,
}

/// A value as it is shown.
struct Shown {
    text: String,
    masked: bool,
}

#[derive(Deserialize)]
struct EntryPath {
    seq: u64,
}

pub(super) fn routes() -> Router<Console> {
    Router::new().route("/realms/{realm}/audit/{seq}", get(show))
}

async fn show(State(console): State<Console>, visitor: Visitor, Path(path): Path<EntryPath>) -> Answer {
    let shown = console.app.journal().entry(&visitor.op, path.seq).await?;
    let (entry, now) = (shown.entry, visitor.op.now);
    page(&EntryPage {
        chrome: Chrome::new(&visitor, Section::Audit, format!("Entry {}", entry.seq)),
        seq: entry.seq,
        at: Moment::new(entry.at, now),
        refusal: RefusalView::of(&entry, now),
        objects: shown.objects.into_iter().map(ObjectView::from).collect(),
        hash: hex(&entry.hash),
        previous_hash: hex(&entry.previous_hash),
        previous: entry.seq.checked_sub(1).filter(|seq| *seq > 0),
        actor: entry.actor,
        source: entry.source,
        action: entry.action,
        request_id: entry.request_id,
        reason: entry.reason,
    })
}

// === impl RefusalView ===

impl RefusalView {
    fn of(entry: &JournalEntry, now: Timestamp) -> Option<Self> {
        let refusal = entry.refusal()?;
        Some(Self {
            code: refusal.code,
            operation: refusal.operation,
            about: entry.about.as_ref().map(|about| format!("{} {}", about.kind, about.key)),
            count: refusal.count,
            first: refusal.first_at.map(|at| Moment::new(at, now)),
        })
    }
}

// === impl ObjectView ===

impl From<ChangedObject> for ObjectView {
    fn from(object: ChangedObject) -> Self {
        let mark = match (object.deleted, object.previous) {
            (true, _) => ("bad", "deleted"),
            (false, None) => ("good", "made"),
            (false, Some(_)) => ("", "changed"),
        };
        let more = object.fields.len().saturating_sub(MOST_FIELDS);
        Self {
            kind: object.kind.as_str(),
            key: object.key,
            mark,
            previous: object.previous,
            fields: object.fields.into_iter().take(MOST_FIELDS).map(FieldView::from).collect(),
            more,
        }
    }
}

impl From<FieldChange> for FieldView {
    fn from(field: FieldChange) -> Self {
        let pointer = if field.pointer.is_empty() { "(all)".to_owned() } else { field.pointer };
        Self { pointer, before: field.before.map(Shown::from), after: field.after.map(Shown::from) }
    }
}

impl From<Value> for Shown {
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => Self { masked: text == MASK, text },
            other => Self { text: other.to_string(), masked: false },
        }
    }
}
