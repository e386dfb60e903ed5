//! What runs and breaks when a value or an issuer goes: `… dependents NAME`.

use serde_json::Value;

use super::Context;
use crate::failure::Failure;
use crate::output::Column;

const COLUMNS: &[Column] =
    &[("PIPELINE", "/pipeline"), ("PROJECT", "/project"), ("VERSION", "/version"), ("MAYBE", "/maybe")];

/// Lists the deployments that depend on what stands at a path, and tells of those that are not to be seen.
pub(super) async fn list(context: &Context<'_>, path: &str) -> Result<(), Failure> {
    let found = context.client.get(&format!("{path}/dependents")).await?;
    context.output.list(&found, COLUMNS);
    let hidden = found.get("hidden").and_then(Value::as_u64).unwrap_or_default();
    if hidden > 0 {
        crate::output::say!("hint: there are {hidden} more, which you may not see");
    }
    Ok(())
}
