//! Enforcement at the gateway: from when on calls to a deployment are refused, and what its callers are told before.
//!
//! A verdict depends on the time by waivers alone, and waivers only end. So each deployment is judged once, as of the
//! beginning of time, where every waiver still holds: the verdict then tells when the first violation counts, and a
//! call is decided by one comparison. A waiver that ends refuses by itself, without a new snapshot.

use std::cmp::Reverse;

use http::HeaderValue;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use tollgate_model::names::EnvironmentName;
use tollgate_model::pipelines::Pipeline;
use tollgate_model::policies::{AtGateway, Enforcement, Policies};
use tollgate_model::waivers::Waiver;
use tollgate_policy::Judge;

use crate::Broken;

/// Calls to a deployment that does not conform, refused from a moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforced {
    /// From when on calls are refused: the date of the policy `enforcement`, or when the last waiver ends, whichever
    /// comes later.
    pub from: Timestamp,
    /// When this was announced, as the value of `Deprecation` (RFC 9745).
    pub deprecation: HeaderValue,
    /// From when on calls are refused, as the value of `Sunset` (RFC 8594).
    pub sunset: HeaderValue,
    /// Each violation in words, with the moment from which it counts.
    violations: Vec<(Timestamp, String)>,
}

/// Tells from when on calls are refused, as the gateway does.
pub struct Enforcer(Law);

/// What a realm judges by.
pub(crate) struct Law {
    policies: Policies,
    waivers: Vec<Waiver>,
}

// === impl Enforced ===

impl Enforced {
    /// Says which violations count at a moment, for the log.
    pub fn reason(&self, now: Timestamp) -> String {
        let counting = self.violations.iter().filter(|(from, _)| *from <= now);
        counting.map(|(_, words)| words.as_str()).collect::<Vec<_>>().join("; ")
    }
}

// === impl Enforcer ===

impl Enforcer {
    /// Takes what a realm judges by.
    pub fn new(policies: Policies, waivers: Vec<Waiver>) -> Self {
        Self(Law::new(policies, waivers))
    }

    /// Returns from when on calls to a pipeline deployed in an environment are refused; `None` when they never are.
    ///
    /// # Errors
    ///
    /// [`Broken`] when the policies say nothing of the environment.
    pub fn of(&self, pipeline: &Pipeline, environment: &EnvironmentName) -> Result<Option<Enforced>, Broken> {
        match self.0.at_gateway(environment)? {
            Some(at) => enforced(&self.0.judge(), pipeline, environment, at),
            None => Ok(None),
        }
    }
}

// === impl Law ===

impl Law {
    /// Puts policies and waivers together. Of two waivers for one violation the one that lasts longer comes first: a
    /// judge takes the first.
    pub(crate) fn new(policies: Policies, mut waivers: Vec<Waiver>) -> Self {
        waivers.sort_by_key(|waiver| Reverse(waiver.until));
        Self { policies, waivers }
    }

    pub(crate) fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Returns who judges while every waiver still holds.
    pub(crate) fn judge(&self) -> Judge<'_> {
        Judge::new(&self.policies, &self.waivers, Timestamp::MIN)
    }

    /// Returns since when calls are refused in an environment; `None` when they are not.
    pub(crate) fn at_gateway(&self, environment: &EnvironmentName) -> Result<Option<AtGateway>, Broken> {
        self.policies
            .enforcement(environment)
            .map(Enforcement::at_gateway)
            .ok_or_else(|| no_value(environment))
    }
}

/// Judges a deployment in an environment where calls are refused; `None` when it conforms for good.
pub(crate) fn enforced(
    judge: &Judge<'_>,
    pipeline: &Pipeline,
    environment: &EnvironmentName,
    at: AtGateway,
) -> Result<Option<Enforced>, Broken> {
    let verdict = judge.verdict(pipeline, environment).map_err(|_| no_value(environment))?;
    let Some(breaks_from) = verdict.breaks_from() else { return Ok(None) };
    let from = breaks_from.max(at.at_gateway);
    let waived = verdict.waived.iter().map(|waived| (waived.until, waived.violation.to_string()));
    let counting = verdict.violations.iter().map(|violation| (Timestamp::MIN, violation.to_string()));
    let announced = at.announced_at.unwrap_or(at.at_gateway).min(from);
    Ok(Some(Enforced {
        from,
        deprecation: header(format!("@{}", announced.as_second()))?,
        sunset: header(DateTimePrinter::new().timestamp_to_rfc9110_string(&from).map_err(unwritable)?)?,
        violations: counting.chain(waived).collect(),
    }))
}

pub(crate) fn no_value(environment: &EnvironmentName) -> Broken {
    Broken(format!("the policies have no value for environment `{environment}`"))
}

fn header(text: String) -> Result<HeaderValue, Broken> {
    HeaderValue::try_from(text).map_err(unwritable)
}

fn unwritable(error: impl std::fmt::Display) -> Broken {
    Broken(format!("the date of enforcement cannot be written: {error}"))
}

#[cfg(test)]
mod tests;
