//! Watching a run: what somebody who tries a flow is shown of it.
//!
//! Messages are shown as logs would show them, and stricter: sensitive fields are hidden by their names, and whatever
//! holds an account value is masked, keys, numbers and short values included. A text is shown whole or not at all, so that
//! no part of a secret stays at the end of one that was cut. This protects from reading secrets by mistake. It can't keep
//! them from an author who means to, and who may let a flow take a value apart: who may try a flow is who may deploy it.

use serde_json::{Map, Value};
use tollgate_model::trials::{Shown, StepFault};

use crate::sensitive::Sensitive;
use crate::values::Values;

/// Longest text that is shown, in bytes.
const MAX_TEXT: usize = 4 << 10;
/// Most that is shown of one value, in bytes of its texts and a few for each part.
const MAX_SHOWN: usize = 16 << 10;

/// Somebody who looks at a run and changes nothing.
pub trait Watcher: Send + Sync {
    /// A step begins.
    fn begin(&mut self, pointer: &str, label: &str, message: Shown);

    /// The step that began last takes a branch.
    fn branch(&mut self, taken: &str);

    /// The step that began last, of those that have not ended, ends: with a message, with an error, or, when it is neither,
    /// with the response of the flow.
    fn end(&mut self, message: Option<Shown>, error: Option<StepFault>);
}

/// Hides what is not shown.
pub(crate) struct Veil<'a> {
    pub(crate) values: &'a Values,
    pub(crate) sensitive: Sensitive<'a>,
}

// === impl Veil ===

impl Veil<'_> {
    /// Returns a message as it may be shown.
    pub(crate) fn show(&self, message: &Value) -> Shown {
        let wholes = self.sensitive.wholes(message);
        let mut walk = Walk { veil: self, wholes: &wholes, left: MAX_SHOWN, cut: false };
        let value = walk.copy(message, false);
        Shown { value, cut: walk.cut }
    }

    /// Returns a text as it may be shown.
    pub(crate) fn text(&self, text: &str) -> String {
        match (self.values.is_secret(text), text.len() > MAX_TEXT) {
            (true, _) => "***".to_owned(),
            (false, true) => too_long(text),
            (false, false) => self.values.mask(text),
        }
    }
}

/// A walk through one value.
struct Walk<'a> {
    veil: &'a Veil<'a>,
    /// Fields that are hidden in this message alone.
    wholes: &'a [&'static str],
    left: usize,
    cut: bool,
}

// === impl Walk ===

impl Walk<'_> {
    fn copy(&mut self, value: &Value, in_headers: bool) -> Value {
        if !self.spend(8) {
            return "(…)".into();
        }
        match value {
            Value::String(text) => {
                if text.len() > MAX_TEXT || !self.spend(text.len()) {
                    self.cut = true;
                    return too_long(text).into();
                }
                self.veil.text(text).into()
            }
            Value::Number(number) => {
                let text = number.to_string();
                let masked = self.veil.text(&text);
                if masked == text { value.clone() } else { masked.into() }
            }
            Value::Array(items) => {
                let mut copy = Vec::new();
                for item in items {
                    if self.left == 0 {
                        self.cut = true;
                        copy.push("(…)".into());
                        break;
                    }
                    copy.push(self.copy(item, in_headers));
                }
                copy.into()
            }
            Value::Object(fields) => {
                let mut copy = Map::new();
                for (name, field) in fields {
                    if self.left == 0 || name.len() > MAX_TEXT || !self.spend(name.len()) {
                        self.cut = true;
                        copy.insert("(…)".to_owned(), Value::Null);
                        break;
                    }
                    let hidden =
                        self.veil.sensitive.hides(name, in_headers) || self.wholes.contains(&name.as_str());
                    let shown =
                        if hidden { "***".into() } else { self.copy(field, in_headers || name == "headers") };
                    copy.insert(self.veil.text(name), shown);
                }
                copy.into()
            }
            other => other.clone(),
        }
    }

    /// Spends a part of what may be shown; `false` when there is no more.
    fn spend(&mut self, bytes: usize) -> bool {
        let enough = self.left >= bytes;
        self.cut |= !enough;
        self.left = self.left.saturating_sub(bytes);
        enough
    }
}

fn too_long(text: &str) -> String {
    format!("(a text of {} bytes)", text.len())
}
