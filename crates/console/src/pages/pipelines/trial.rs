//! The panel that runs the file on a sample message and shows the message after every step.

use askama::Template;
use serde_json::{Map, Value};
use tollgate_app::errors::ErrorKind;
use tollgate_app::trials::Tried;
use tollgate_model::document::{self, parse_value};
use tollgate_model::names::EnvironmentName;
use tollgate_model::trials::{SampleMessage, Shown, TriedStep};

use super::draft::Draft;
use crate::Console;
use crate::answers::Answer;
use crate::flow_diagram::{Diagram, Entry};
use crate::forms::{FieldList, Refusal};
use crate::pages::environments::environments;
use crate::visitor::Visitor;

/// What a sample begins as.
const SAMPLE: &str = "method: GET
path: /
queryAndPath: {}
body: null
";

/// The panel, with the trial that was made.
#[derive(Template)]
#[template(path = "pages/pipelines/trial.html")]
pub(super) struct TrialPanel {
    realm: String,
    environments: Vec<(String, bool)>,
    sample: String,
    rows: usize,
    problem: Option<Refusal>,
    /// What is to be changed before the policies admit it.
    violations: Vec<String>,
    outcome: Option<Outcome>,
}

/// What a trial did.
struct Outcome {
    environment: String,
    status: u16,
    code: String,
    headers: Vec<(String, String)>,
    body: String,
    upstream_calls: u32,
    time: String,
    steps: Vec<Row>,
}

struct Row {
    /// `2`, or `2.1.3` for a step in a branch.
    number: String,
    title: String,
    input: String,
    output: String,
    cut: bool,
    branch: String,
    error: Option<String>,
    logged: Vec<String>,
    time: String,
}

// === impl TrialPanel ===

impl TrialPanel {
    /// Returns the panel before a trial.
    pub(super) async fn new(console: &Console, visitor: &Visitor) -> Answer<Self> {
        let names = environments(console, &visitor.op).await?;
        // What is tried first is tried where it harms least.
        let first = names.iter().find(|it| **it != EnvironmentName::prod()).or(names.first()).cloned();
        Ok(Self {
            realm: visitor.op.realm.to_string(),
            environments: names.iter().map(|name| (name.to_string(), Some(name) == first.as_ref())).collect(),
            sample: SAMPLE.to_owned(),
            rows: 6,
            problem: None,
            violations: Vec::new(),
            outcome: None,
        })
    }

    /// Tries what the form holds.
    pub(super) async fn tried(
        console: &Console,
        visitor: &Visitor,
        form: &FieldList,
        draft: &Draft,
    ) -> Answer<Self> {
        let mut panel = Self::new(console, visitor).await?;
        let chosen = form.one("try-environment");
        panel.environments.iter_mut().for_each(|(name, here)| *here = *name == chosen);
        form.one("sample").replace("\r\n", "\n").clone_into(&mut panel.sample);
        panel.rows = panel.sample.lines().count().clamp(6, 20);
        let read =
            document::parse_value(&panel.sample).map_err(|error| error.to_string()).and_then(|value| {
                let value = if value.is_null() { Value::Object(Map::new()) } else { value };
                serde_json::from_value::<SampleMessage>(value).map_err(|error| error.to_string())
            });
        let message = match read {
            Ok(message) => message,
            Err(reason) => {
                panel.problem = Some(Refusal::of(format!("this is no sample message: {reason}")));
                return Ok(panel);
            }
        };
        let Ok(environment) = chosen.parse::<EnvironmentName>() else {
            panel.problem = Some(Refusal::of("choose an environment"));
            return Ok(panel);
        };
        let tried = Tried::Draft(draft.text.clone());
        match console.app.trials().run(&visitor.op, &environment, tried, message).await {
            Ok(trial) => {
                let report = trial.report;
                let outline = Diagram::of(&parse_value(&draft.text).unwrap_or_default(), "").outline;
                panel.outcome = Some(Outcome {
                    environment: environment.to_string(),
                    status: report.answer.status,
                    code: report.answer.code.unwrap_or_default(),
                    headers: report.answer.headers,
                    body: report.answer.body.as_ref().map(written).unwrap_or_default(),
                    upstream_calls: report.upstream_calls,
                    time: time(report.micros),
                    steps: report.steps.iter().map(|step| Row::new(step, &outline)).collect(),
                });
                Ok(panel)
            }
            Err(error)
                if matches!(error.kind, ErrorKind::Refused | ErrorKind::Invalid | ErrorKind::Unavailable) =>
            {
                panel.violations =
                    error.violations.iter().map(|it| format!("{}: {}", it.message, it.advice())).collect();
                panel.problem = Some(error.into());
                Ok(panel)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn written(shown: &Shown) -> String {
    serde_json::to_string_pretty(&shown.value).unwrap_or_default()
}

fn time(micros: u64) -> String {
    if micros < 1_000 {
        format!("{micros} µs")
    } else {
        format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100)
    }
}

// === impl Row ===

impl Row {
    /// Says what a step did, in the words and by the number that the drawing has for it.
    fn new(step: &TriedStep, outline: &[Entry]) -> Self {
        let entry = outline.iter().find(|it| !it.number.is_empty() && it.pointer == step.pointer);
        let branch = step.branch.as_deref().map(|taken| {
            let below = taken.rsplit('/').next().unwrap_or_default();
            match (taken.contains("/when/"), below) {
                (true, index) => format!("branch {}", index.parse::<usize>().unwrap_or_default() + 1),
                (false, "onError") => "what runs on an error".to_owned(),
                (false, other) => other.to_owned(),
            }
        });
        Self {
            number: entry.map(|it| it.number.clone()).unwrap_or_default(),
            title: entry.map_or_else(|| step.label.clone(), |it| it.words.clone()),
            input: written(&step.input),
            output: step.output.as_ref().map(written).unwrap_or_default(),
            cut: step.input.cut || step.output.as_ref().is_some_and(|it| it.cut),
            branch: branch.unwrap_or_default(),
            error: step.error.as_ref().map(|it| {
                let then = if it.went_on { "; the flow went on" } else { "" };
                format!("{} {}: {} ({}){then}", it.status, it.code, it.message, it.detail)
            }),
            logged: step.logged.clone(),
            time: time(step.micros),
        }
    }
}
