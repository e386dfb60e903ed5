//! What a pipeline must hold that its document does not show by itself.

use std::collections::BTreeSet;

use tollgate_model::document::Positions;
use tollgate_model::names::RealmName;
use tollgate_model::pipelines::Pipeline;
use tollgate_model::policies::MAX_SENSITIVE_FIELDS;
use tollgate_model::triggers::{HttpTrigger, Route, RouteSegment};

use crate::errors::{Error, ErrorKind, Place};

/// Checks what parsing can't: that the flow compiles and that no route hides another realm's or the gateway's own.
pub(crate) fn check(realm: &RealmName, pipeline: &Pipeline, positions: &Positions) -> Result<(), Error> {
    let faults = faults(realm, pipeline);
    let Some((pointer, message)) = faults.first().cloned() else { return Ok(()) };
    let place = |(pointer, message): (String, String)| {
        let position = positions.find(&pointer);
        Place { line: Some(position.line), column: Some(position.column), pointer, message, hint: None }
    };
    let position = positions.find(&pointer);
    let message = format!("line {}, column {}: {message} (at {pointer})", position.line, position.column);
    Err(Error {
        places: faults.into_iter().map(place).collect(),
        ..Error::new(ErrorKind::Invalid, "pipeline-invalid", message)
            .hint("correct the places that are named; nothing was saved")
    })
}

/// Returns what would keep a pipeline from being saved: JSON pointers and messages.
pub fn faults(realm: &RealmName, pipeline: &Pipeline) -> Vec<(String, String)> {
    let mut faults: Vec<(String, String)> = match tollgate_flow::compile(pipeline) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.into_iter().map(|error| (error.pointer, error.message)).collect(),
    };
    if pipeline.sensitive_fields.len() > MAX_SENSITIVE_FIELDS {
        let message = format!("a pipeline has at most {MAX_SENSITIVE_FIELDS} sensitive fields of its own");
        faults.push(("/sensitiveFields".to_owned(), message));
    }
    if let Some(trigger) = pipeline.trigger.http().filter(|trigger| trigger.remove_prefix) {
        for (index, route) in trigger.routes.iter().enumerate() {
            if let Some(message) = root_route_fault(realm, route.path.segments().next()) {
                faults.push((format!("/trigger/routes/{index}"), message));
            }
        }
    }
    let limits = pipeline.trigger.http().and_then(|trigger| trigger.rate_limit.as_ref());
    if let Some((index, message)) = limits.and_then(|limit| limit.limits.contradiction()) {
        faults.push((format!("/trigger/rateLimit/limits/{index}"), message));
    }
    if let Some(trigger) = pipeline.trigger.http() {
        faults.extend(repeated_routes(pipeline, trigger));
    }
    faults
}

/// Finds routes that name a path again: which methods and scopes hold there would be anybody's guess.
fn repeated_routes(pipeline: &Pipeline, trigger: &HttpTrigger) -> Vec<(String, String)> {
    let mut shapes = BTreeSet::new();
    let own = format!("/{}", pipeline.name);
    let repeated = trigger.routes.iter().enumerate().filter(|(_, route)| {
        // Naming the pipeline's own path changes nothing unless it brings methods or scopes along.
        let is_own = !trigger.remove_prefix && route.path.as_str() == own;
        let says_nothing = route.methods.is_none() && route.scopes.is_empty();
        if is_own { !says_nothing } else { !shapes.insert(route.path.shape()) }
    });
    let fault = |(index, route): (usize, &Route)| {
        let message =
            format!("route `{}` is named twice: write it once, with all its methods and scopes", route.path);
        (format!("/trigger/routes/{index}"), message)
    };
    repeated.map(fault).collect()
}

fn root_route_fault(realm: &RealmName, first: Option<RouteSegment<'_>>) -> Option<String> {
    if *realm != RealmName::default() {
        return Some(format!(
            "only realm `{}` has routes at the root: leave removePrefix out",
            RealmName::default()
        ));
    }
    match first {
        Some(RouteSegment::Literal(taken @ ("pipeline" | ".well-known" | "healthz" | "readyz"))) => {
            Some(format!("`/{taken}` at the root is the gateway's own: choose another first segment"))
        }
        _ => None,
    }
}
