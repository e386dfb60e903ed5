//! What stands beside the file while it is written: what is wrong and where, the verdicts, the flow, and the form of the
//! part that was chosen.

use askama::Template;
use serde_json::Value;
use tollgate_app::access::Permission;
use tollgate_app::errors::{Error, ErrorKind, Place};
use tollgate_app::pipelines::{SaveChange, SavePipeline, SavedPipeline};
use tollgate_model::document;

use super::VerdictView;
use super::draft::Draft;
use super::forms::{self, Form, GENERAL};
use crate::Console;
use crate::answers::Answer;
use crate::errors::Failure;
use crate::flow_diagram::Diagram;
use crate::forms::{Refusal, capitalised};
use crate::visitor::Visitor;

/// Most lines that get a number.
const MAX_LINES: usize = 3_000;

/// What is said of a file; all that changes while it is typed.
#[derive(Template)]
#[template(path = "pages/pipelines/beside.html")]
pub(super) struct Beside {
    pub(super) realm: String,
    verdicts: Vec<VerdictView>,
    reminders: Vec<String>,
    /// What saving would do.
    outcome: String,
    login_flow: bool,
    /// What a button took out of the file besides what it says.
    told: Vec<String>,
    form: Form,
    kinds: Vec<(&'static str, &'static str)>,
    flow: Diagram,
    step_link: &'static str,
    is_general: bool,
    /// Whether the file can be read, so that there is something to fill in.
    readable: bool,
    pub(super) margin: Margin,
}

/// What stands at the lines of the file.
#[derive(Template)]
#[template(path = "pages/pipelines/margin.html")]
pub(super) struct Margin {
    /// For each line whether something is wrong with it.
    lines: Vec<bool>,
    faults: Vec<Fault>,
    /// Whether it takes the place of what the page has, though it was asked for another part.
    pub(super) beside: bool,
}

/// A place of the file that is at fault.
struct Fault {
    line: Option<usize>,
    /// The line itself.
    text: String,
    pointer: String,
    message: String,
    hint: Option<String>,
}

// === impl Beside ===

impl Beside {
    /// Asks what saving would do, and what the policies would say.
    pub(super) async fn of(console: &Console, visitor: &Visitor, draft: &Draft) -> Answer<Self> {
        let read = document::parse_value(&draft.text).ok().filter(Value::is_object);
        let value = read.clone().unwrap_or_default();
        let mut form = Form::of(&value, &draft.open);
        let mut beside = Self {
            realm: visitor.op.realm.to_string(),
            verdicts: Vec::new(),
            reminders: Vec::new(),
            outcome: "Cannot be saved yet.".to_owned(),
            login_flow: false,
            told: draft.told.clone(),
            kinds: forms::kinds(),
            flow: Diagram::of(&value, &form.open),
            step_link: "#step-list",
            is_general: form.open == GENERAL,
            readable: read.is_some(),
            margin: Margin { lines: Vec::new(), faults: Vec::new(), beside: false },
            form: Form::of(&Value::Null, ""),
        };
        let may_save = visitor.op.rights().allows_anywhere(Permission::PipelineUpdate);
        let input = SavePipeline {
            document: draft.text.clone(),
            dry_run: true,
            is_new: draft.is_new,
            ..SavePipeline::default()
        };
        match console.app.pipelines().save(&visitor.op, input).await {
            Ok(saved) => beside.judge(saved),
            // In another project, or under another name, it may be.
            Err(error)
                if matches!(error.kind, ErrorKind::Invalid | ErrorKind::Conflict)
                    || (error.kind == ErrorKind::Forbidden && may_save) =>
            {
                beside.margin.faults = faults(error, &draft.text)
            }
            Err(error) => return Err(Failure::from(error)),
        }
        for fault in &beside.margin.faults {
            form.tell(&fault.pointer, &fault.message);
        }
        for field in form.groups.iter_mut().flat_map(|group| &mut group.fields) {
            if let Some((typed, reason)) = draft.unread.get(&field.id) {
                typed.clone_into(&mut field.shown);
                field.faults.push(format!("This is no YAML: {reason}. It is not in the file yet."));
            }
        }
        beside.form = form;
        let count = draft.text.split('\n').count().min(MAX_LINES);
        let is_wrong = |line: usize| beside.margin.faults.iter().any(|it| it.line == Some(line));
        beside.margin.lines = (1..=count).map(is_wrong).collect();
        Ok(beside)
    }

    fn judge(&mut self, saved: SavedPipeline) {
        let SavedPipeline { name, version, .. } = &saved;
        self.outcome = match saved.change {
            SaveChange::Created | SaveChange::Updated => format!("Would be saved as {name} {version}."),
            SaveChange::Unchanged => format!("Says the same as {name} {version}, which is saved."),
        };
        self.verdicts = saved.verdicts.iter().map(VerdictView::from).collect();
        self.reminders = saved.reminders;
        self.login_flow = saved.login_flow;
    }
}

/// Puts each fault beside the line that it is about.
fn faults(error: Error, document: &str) -> Vec<Fault> {
    let fault = |place: &Place| Fault {
        line: place.line,
        text: place
            .line
            .and_then(|line| document.lines().nth(line.checked_sub(1)?))
            .unwrap_or_default()
            .to_owned(),
        pointer: place.pointer.clone(),
        message: capitalised(&place.message),
        hint: place.hint.clone(),
    };
    if error.places.is_empty() {
        let Refusal { message, hint, .. } = Refusal::from(error);
        return vec![Fault { line: None, text: String::new(), pointer: String::new(), message, hint }];
    }
    error.places.iter().map(fault).collect()
}
