//! Turns on what the policies of an environment demand.

use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::pipelines::Pipeline;
use tollgate_policy::{ApplyFixError, apply_fix};

use super::{Pipelines, SavePipeline, SavedPipeline};
use crate::access::Op;
use crate::errors::Error;

/// Most times that mending one violation shows another.
const ROUNDS: usize = 8;

// === impl Pipelines ===

impl Pipelines {
    /// Saves the latest version with every setting changed that keeps it out of an environment, as its next version.
    ///
    /// A version that conforms is left as it is. Nothing is deployed.
    ///
    /// # Errors
    ///
    /// [`crate::errors::ErrorKind::Conflict`] with code `no-single-fix` when a violation names no value that mends it; as
    /// [`Pipelines::save`].
    pub async fn mend(
        &self,
        op: &Op,
        name: &PipelineName,
        environment: &EnvironmentName,
        dry_run: bool,
    ) -> Result<SavedPipeline, Error> {
        let head = self.get(op, name).await?;
        let latest = self.version(op, name, head.value.latest).await?.version;
        let ruling = self.0.ruling(&op.realm).await?;
        let judge = ruling.judge(op.now);
        let mut mended = latest.pipeline;
        for _ in 0..ROUNDS {
            let verdict = judge.verdict(&mended, environment)?;
            let Some(violation) = verdict.violations.first() else { break };
            mended = apply_fix(&mended, violation).map_err(|error| no_fix(name, violation, error))?;
        }
        if let Some(violation) = judge.verdict(&mended, environment)?.violations.first() {
            return Err(no_fix(name, violation, ApplyFixError::Unfit));
        }
        let input = SavePipeline {
            document: document(&mended)?,
            new_major: false,
            dry_run,
            if_match: Some(head.revision),
            is_new: false,
        };
        self.save(op, input).await
    }
}

fn no_fix(
    name: &PipelineName,
    violation: &tollgate_model::verdicts::Violation,
    error: ApplyFixError,
) -> Error {
    Error::conflict(
        "no-single-fix",
        format!("`{name}` cannot be mended by itself: {}: {error}", violation.message),
    )
    .hint(format!("{}, and save the pipeline", violation.advice()))
}

fn document(pipeline: &Pipeline) -> Result<String, Error> {
    let mut document = serde_json::json!({ "kind": "Pipeline" });
    let fields = serde_json::to_value(pipeline).map_err(Error::internal)?;
    if let (Some(document), serde_json::Value::Object(fields)) = (document.as_object_mut(), fields) {
        document.extend(fields);
    }
    Ok(document.to_string())
}
