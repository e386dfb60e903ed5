//! Applies what a violation says mends it.

use serde_json::Value;
use tollgate_model::pipelines::Pipeline;
use tollgate_model::triggers::JwtSwitch;
use tollgate_model::verdicts::Violation;

/// A fix that does not fit the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApplyFixError {
    /// The violation names no value: what to write is for the developer to choose.
    #[error("no single value mends this: it is for the developer to choose")]
    NoValue,
    /// The pipeline has no such setting, or does not take the value.
    #[error("the fix does not fit this pipeline")]
    Unfit,
}

/// Returns the pipeline with the setting that a violation names set to the value that it names.
///
/// Turning `jwt` on turns `basicAuth` off: both need the `Authorization` header.
///
/// # Errors
///
/// [`ApplyFixError`], by variant.
pub fn apply_fix(pipeline: &Pipeline, violation: &Violation) -> Result<Pipeline, ApplyFixError> {
    if violation.fix.is_null() {
        return Err(ApplyFixError::NoValue);
    }
    let mut document = serde_json::to_value(pipeline).map_err(|_| ApplyFixError::Unfit)?;
    let (parent, key) = violation.pointer.rsplit_once('/').ok_or(ApplyFixError::Unfit)?;
    let key = key.replace("~1", "/").replace("~0", "~");
    match document.pointer_mut(parent).ok_or(ApplyFixError::Unfit)? {
        Value::Object(fields) => drop(fields.insert(key, violation.fix.clone())),
        Value::Array(items) => {
            let item = key.parse::<usize>().ok().and_then(|index| items.get_mut(index));
            *item.ok_or(ApplyFixError::Unfit)? = violation.fix.clone();
        }
        _ => return Err(ApplyFixError::Unfit),
    }
    if violation.pointer == "/trigger/jwt"
        && let Some(basic) = document.pointer_mut("/trigger/basicAuth")
    {
        *basic = Value::Bool(false);
    }
    let mended: Pipeline = serde_json::from_value(document).map_err(|_| ApplyFixError::Unfit)?;
    let without_effect = mended.trigger.http().is_some_and(|http| http.jwt == JwtSwitch::Off)
        && violation.pointer == "/trigger/jwt";
    if without_effect { Err(ApplyFixError::Unfit) } else { Ok(mended) }
}
