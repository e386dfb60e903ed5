//! Changes that need a yes.

use serde_json::Value;

use crate::failure::{Exit, Failure};

/// Shows the impact of a policy change on stderr, for people.
pub(crate) fn show_impact(impact: &Value) {
    let environments = impact.get("impact").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names = |entry: &Value, field: &str| -> Vec<String> {
        let items = entry.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        items
            .iter()
            .map(|item| {
                let text = |field: &str| item.get(field).and_then(Value::as_str).unwrap_or_default();
                format!("{} {}", text("pipeline"), text("version"))
            })
            .collect()
    };
    for entry in environments {
        let environment = entry.get("environment").and_then(Value::as_str).unwrap_or_default();
        let (out, back) = (names(entry, "fallsOut"), names(entry, "comesIn"));
        let unchanged = entry.get("unchanged").and_then(Value::as_u64).unwrap_or_default();
        crate::output::say!(
            "{environment}: {} would stop conforming, {} would start to, {unchanged} unchanged",
            out.len(),
            back.len()
        );
        for name in out {
            crate::output::say!("  - {name} (goes on running; its next deploy is refused)");
        }
        for name in back {
            crate::output::say!("  + {name}");
        }
    }
}

/// Asks for `--yes` where it was not given.
///
/// # Errors
///
/// The failure that says that nothing was saved, with the impact as its document.
pub(crate) fn demand_yes(yes: bool, impact: &Value) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    Err(Failure::Other {
        exit: Exit::Usage,
        message: "nothing was saved: a policy change needs a yes".to_owned(),
        hints: vec!["read the impact above, then repeat the command with --yes".to_owned()],
        body: Some(impact.clone()),
    })
}
