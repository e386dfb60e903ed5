//! The flow of a pipeline as a drawing: the trigger, its steps from top to bottom, branches and error paths moved in.
//!
//! Moved in, and not side by side, so that a flow is as readable on a phone as on a desk: the drawing grows downwards
//! only. It is computed here, without a browser, and rendered as SVG by `parts/flow.html`. What it shows it shows in
//! words, too: [`Diagram::outline`] numbers the same steps in the same order.
//!
//! It is drawn of the document rather than of a pipeline, so that one that is still wrong somewhere is drawn as well.

use serde_json::Value;
use tollgate_model::steps::STEP_TYPES;

/// Width of the drawing, and of what stands in it at most.
const WIDTH: u32 = 360;
/// Narrowest box.
const NARROWEST: u32 = 190;
const BOX_HEIGHT: u32 = 46;
const GAP: u32 = 20;
/// How far a branch is moved in.
const INDENT: u32 = 24;
/// Where the line runs on which steps hang, from the left of their boxes.
const RAIL: u32 = 14;
/// Height of the words above a branch.
const LABEL: u32 = 24;
/// Width of a character, about.
const CHARACTER: u32 = 7;
/// Most steps that are drawn; a pipeline has no more.
const MAX_STEPS: usize = 500;

/// A drawing.
#[derive(Debug, Default)]
pub(crate) struct Diagram {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) boxes: Vec<FlowBox>,
    pub(crate) lines: Vec<Line>,
    pub(crate) labels: Vec<Label>,
    /// The same in words.
    pub(crate) outline: Vec<Entry>,
}

/// A trigger, a step, or the end.
#[derive(Debug)]
pub(crate) struct FlowBox {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Style: `trigger`, `step`, `branching`, `end` or `unknown`.
    pub(crate) class: &'static str,
    /// JSON pointer of what it stands for; empty for the end.
    pub(crate) pointer: String,
    pub(crate) title: String,
    pub(crate) detail: String,
    /// What becomes of an error, at the right.
    pub(crate) badge: String,
    /// All of it, for whoever does not see it.
    pub(crate) words: String,
    pub(crate) here: bool,
}

/// A line with corners, as the data of an SVG path.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) path: String,
    /// Whether an error goes along it.
    pub(crate) error: bool,
}

/// Words beside a line.
#[derive(Debug)]
pub(crate) struct Label {
    pub(crate) x: u32,
    pub(crate) y: u32,
    pub(crate) text: String,
    pub(crate) error: bool,
}

/// One line of the outline.
#[derive(Debug)]
pub(crate) struct Entry {
    /// `2`, or `2.1.3` for a step in a branch.
    pub(crate) number: String,
    pub(crate) words: String,
    /// JSON pointer of the step; empty for the name of a branch.
    pub(crate) pointer: String,
    pub(crate) depth: usize,
    pub(crate) here: bool,
}

/// A list of steps in a step.
pub(crate) struct Branch {
    /// JSON pointer of the list.
    pub(crate) pointer: String,
    pub(crate) label: String,
    pub(crate) error: bool,
    pub(crate) steps: usize,
}

struct Painter<'a> {
    document: &'a Value,
    here: &'a str,
    left: usize,
    diagram: Diagram,
}

// === impl Diagram ===

impl Diagram {
    /// Draws a document; the part at the pointer `here` is marked.
    pub(crate) fn of(document: &Value, here: &str) -> Self {
        let width = WIDTH.max(depth(document.get("steps")) * INDENT + NARROWEST);
        let diagram = Self { width, ..Self::default() };
        let mut painter = Painter { document, here, left: MAX_STEPS, diagram };
        painter.trigger();
        let (y, ends) = painter.steps("/steps", 0, BOX_HEIGHT + 1, "", 0);
        let mut diagram = painter.diagram;
        diagram.height = y + 1;
        if !ends {
            diagram.end(y);
        }
        diagram
    }

    fn end(&mut self, y: u32) {
        self.lines.push(Line { path: format!("M{RAIL} {y}v{GAP}"), error: false });
        let words = "Response: the last message".to_owned();
        self.boxes.push(FlowBox {
            x: 1,
            y: y + GAP,
            width: self.width - 2,
            height: 30,
            class: "end",
            pointer: String::new(),
            title: words.clone(),
            detail: String::new(),
            badge: String::new(),
            words,
            here: false,
        });
        self.height = y + GAP + 31;
    }
}

// === impl Painter ===

impl Painter<'_> {
    fn trigger(&mut self) {
        let trigger = self.document.get("trigger").unwrap_or(&Value::Null);
        let text = |name: &str| trigger.get(name).and_then(Value::as_str).unwrap_or_default();
        let (title, detail) = (format!("Trigger {}", text("type")), trigger_words(trigger));
        self.add_box(0, 0, "trigger", "/trigger", (title.trim().to_owned(), detail, String::new()));
        self.add_entry("", "/trigger", 0);
    }

    /// Draws a list of steps below `y`; returns where it ends, and whether nothing comes behind it.
    fn steps(&mut self, pointer: &str, x: u32, mut y: u32, number: &str, level: usize) -> (u32, bool) {
        let document = self.document;
        let steps =
            document.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let rail = x + RAIL;
        for (index, step) in steps.iter().enumerate() {
            let Some(left) = self.left.checked_sub(1) else { break };
            self.left = left;
            let at = format!("{pointer}/{index}");
            self.line(format!("M{rail} {y}v{GAP}"), false);
            y += GAP;
            let kind = kind(step).unwrap_or_default();
            let class = match kind {
                "" => "unknown",
                "choice" | "block" => "branching",
                "respond" | "throw" => "end",
                _ => "step",
            };
            self.add_box(x, y, class, &at, step_words(step));
            y += BOX_HEIGHT;
            let number =
                if number.is_empty() { format!("{}", index + 1) } else { format!("{number}.{}", index + 1) };
            self.add_entry(&number, &at, level);
            y = self.branches(step, &at, (x, y), &number, level);
            if ends(kind, step) {
                return (y, true);
            }
        }
        (y, false)
    }

    fn branches(&mut self, step: &Value, at: &str, (x, y): (u32, u32), number: &str, level: usize) -> u32 {
        let (begin, mut y) = (y, y);
        let rail = x + RAIL;
        for (index, branch) in branches(step, at).into_iter().enumerate() {
            let (inner, middle) = (x + INDENT, y + LABEL / 2 + 2);
            self.line(format!("M{rail} {begin}V{middle}H{}", inner + 2), branch.error);
            let room = (self.diagram.width.saturating_sub(inner) / CHARACTER) as usize;
            self.diagram.labels.push(Label {
                x: inner + 6,
                y: middle + 4,
                text: cut(&branch.label, room),
                error: branch.error,
            });
            let number = format!("{number}.{}", index + 1);
            self.diagram.outline.push(Entry {
                number: number.clone(),
                words: branch.label.clone(),
                pointer: String::new(),
                depth: level + 1,
                here: false,
            });
            let (end, stops) = self.steps(&branch.pointer, inner, y + LABEL, &number, level + 2);
            y = end;
            if !stops {
                // Back to the line that it came from.
                self.line(format!("M{} {y}v8H{rail}", inner + RAIL), branch.error);
                y += 10;
            }
            y += 4;
        }
        if y > begin {
            self.line(format!("M{rail} {begin}V{y}"), false);
        }
        y
    }

    fn add_box(
        &mut self,
        x: u32,
        y: u32,
        class: &'static str,
        pointer: &str,
        words: (String, String, String),
    ) {
        let (title, detail, badge) = words;
        let width = self.diagram.width - x - 2;
        let room = (width.saturating_sub(24) / CHARACTER) as usize;
        let all =
            [title.as_str(), detail.as_str(), badge.as_str()].into_iter().filter(|part| !part.is_empty());
        self.diagram.boxes.push(FlowBox {
            x: x + 1,
            y: y + 1,
            width,
            height: BOX_HEIGHT - 2,
            class,
            pointer: pointer.to_owned(),
            words: all.collect::<Vec<_>>().join(", "),
            title: cut(&title, room.saturating_sub(badge.chars().count() + 2)),
            detail: cut(&detail, room),
            badge,
            here: self.here == pointer,
        });
    }

    /// Names the box that was drawn last in the outline.
    fn add_entry(&mut self, number: &str, pointer: &str, depth: usize) {
        let words = self.diagram.boxes.last().map(|it| it.words.clone()).unwrap_or_default();
        self.diagram.outline.push(Entry {
            number: number.to_owned(),
            words,
            pointer: pointer.to_owned(),
            depth,
            here: self.here == pointer,
        });
    }

    fn line(&mut self, path: String, error: bool) {
        self.diagram.lines.push(Line { path, error });
    }
}

/// Returns the type of a step, when it has one.
pub(crate) fn kind(step: &Value) -> Option<&'static str> {
    STEP_TYPES.into_iter().find(|kind| step.get(kind).is_some())
}

/// Returns the lists of steps in a step.
pub(crate) fn branches(step: &Value, at: &str) -> Vec<Branch> {
    let branch = |below: String, label: String, list: Option<&Value>, error| {
        let steps = list.and_then(Value::as_array).map_or(0, Vec::len);
        Branch { pointer: format!("{at}/{below}"), label, error, steps }
    };
    let mut all = Vec::new();
    if let Some(choice) = step.get("choice") {
        let when = choice.get("when").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for (index, it) in when.iter().enumerate() {
            let condition = it.get("condition").map(text_of).unwrap_or_default();
            all.push(branch(
                format!("choice/when/{index}/steps"),
                format!("when {condition}"),
                it.get("steps"),
                false,
            ));
        }
        if let Some(list) = choice.get("otherwise").filter(|it| !it.is_null()) {
            all.push(branch("choice/otherwise".to_owned(), "otherwise".to_owned(), Some(list), false));
        }
    }
    if let Some(block) = step.get("block") {
        all.push(branch("block/steps".to_owned(), "together".to_owned(), block.get("steps"), false));
        if let Some(list) = block.get("onError").filter(|it| !it.is_null()) {
            all.push(branch("block/onError".to_owned(), "on error".to_owned(), Some(list), true));
        }
    }
    all
}

/// Tells whether nothing comes behind a step.
fn ends(kind: &str, step: &Value) -> bool {
    kind == "respond" || kind == "throw" && goes_on(step).is_none()
}

/// Says that the flow goes on after an error of a step, where it does.
fn goes_on(step: &Value) -> Option<&'static str> {
    (step.get("failOnError") == Some(&Value::Bool(false))).then_some("↷ goes on")
}

/// Returns how deep steps nest, in levels.
fn depth(steps: Option<&Value>) -> u32 {
    let of = |step: &Value| {
        let inside = branches(step, "").into_iter().map(|branch| 1 + depth(step.pointer(&branch.pointer)));
        inside.max().unwrap_or_default()
    };
    steps.and_then(Value::as_array).map_or(0, |steps| steps.iter().map(of).max().unwrap_or_default())
}

fn trigger_words(trigger: &Value) -> String {
    let is_on =
        |name: &str| trigger.get(name).is_some_and(|it| !matches!(it, Value::Bool(false) | Value::Null));
    let known = [
        ("externalApi", "external"),
        ("internalApi", "internal"),
        ("apiKey", "API key"),
        ("jwt", "token"),
        ("basicAuth", "Basic"),
    ];
    let methods = trigger.get("methods").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let methods = methods.iter().map(text_of).collect::<Vec<_>>().join(" ");
    let on = known.iter().filter(|(name, _)| is_on(name)).map(|(_, word)| (*word).to_owned());
    let cron = trigger.get("cron").map(text_of);
    let parts = [methods].into_iter().chain(on).chain(cron).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(" · ")
}

/// Returns title, detail and badge of a step.
fn step_words(step: &Value) -> (String, String, String) {
    let Some(kind) = kind(step) else {
        return ("no known type".to_owned(), text_of(step), String::new());
    };
    let of = step.get(kind).unwrap_or(&Value::Null);
    let get = |name: &str| of.get(name).map(text_of).unwrap_or_default();
    let or = |name: &str, default: &str| of.get(name).map_or(default.to_owned(), text_of);
    let detail = match kind {
        "json" => match of {
            Value::Object(fields) => fields.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
            other => text_of(other),
        },
        "assert" => get("condition"),
        "choice" => "the first branch whose condition holds".to_owned(),
        "block" => "together, with one error path".to_owned(),
        "http" => format!("{} {}", or("method", "GET"), get("url")),
        "respond" => format!("status {}", or("status", "200")),
        "log" => format!("{}: {}", or("level", "info"), get("message")),
        "throw" => get("error"),
        "jwtGenerate" => {
            let scopes = of.get("scopes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            format!("token with scopes: {}", scopes.iter().map(text_of).collect::<Vec<_>>().join(" "))
        }
        _ => "the caller's token".to_owned(),
    };
    let badge = match (goes_on(step), kind) {
        (Some(words), _) => words.to_owned(),
        (None, "assert" | "throw") => format!("✕ {}", or("status", "500")),
        _ => String::new(),
    };
    let title = match step.get("name").and_then(Value::as_str) {
        Some(name) => format!("{name} · {kind}"),
        None => kind.to_owned(),
    };
    (title, detail, badge)
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Cuts a text to a number of characters, on one line.
fn cut(text: &str, room: usize) -> String {
    let line = text.replace(['\n', '\r'], " ");
    if line.chars().count() <= room {
        return line;
    }
    line.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
