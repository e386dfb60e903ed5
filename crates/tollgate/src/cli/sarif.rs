//! SARIF 2.1.0 (OASIS), as code scanning reads it: what every command that writes it has in common.

use std::path::{Component, Path};

use serde_json::{Value, json};

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// A rule that findings can break.
pub(super) struct RuleText {
    pub(super) id: String,
    pub(super) short: String,
    pub(super) help: String,
    /// `error`, `warning` or `note`.
    pub(super) level: &'static str,
    /// What the rule is about: the middle of its URN.
    pub(super) family: &'static str,
    /// What it adds to the properties of the rule, its tags among them.
    pub(super) properties: Value,
}

/// One run of the tool.
pub(super) struct Run {
    pub(super) rules: Vec<RuleText>,
    pub(super) invocation: Value,
    /// The files that results point into, by index.
    pub(super) artifacts: Vec<Value>,
    pub(super) results: Vec<Value>,
}

/// Returns a file's path as a URI reference (RFC 3986): relative to the working directory, with forward slashes.
pub(super) fn uri(file: &str) -> String {
    let path = Path::new(file);
    let below =
        std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    let path = below.as_deref().unwrap_or(path);
    let segments: Vec<String> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(segment) => Some(crate::client::segment(&segment.to_string_lossy())),
            Component::ParentDir => Some("..".to_owned()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
        })
        .collect();
    let root = if path.has_root() { "file:///" } else { "" };
    format!("{root}{}", segments.join("/"))
}

// === impl RuleText ===

impl RuleText {
    fn descriptor(&self) -> Value {
        let Self { id, short, help, level, family, properties } = self;
        json!({
            "id": id,
            "shortDescription": { "text": short },
            "help": { "text": help },
            "helpUri": format!("urn:tollgate:{family}:{id}"),
            "defaultConfiguration": { "level": level },
            "properties": properties,
        })
    }
}

// === impl Run ===

impl Run {
    /// Writes the document.
    pub(super) fn document(self) -> Value {
        let Self { rules, invocation, artifacts, results } = self;
        json!({
            "$schema": SCHEMA,
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": {
                    "name": "tollgate",
                    "semanticVersion": env!("CARGO_PKG_VERSION"),
                    "rules": rules.iter().map(RuleText::descriptor).collect::<Vec<_>>(),
                } },
                "invocations": [invocation],
                "columnKind": "unicodeCodePoints",
                "artifacts": artifacts,
                "results": results,
            }],
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
