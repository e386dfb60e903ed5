//! The `scheduler` trigger: a cron expression in a time zone.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// The settings of a `scheduler` trigger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, try_from = "Settings")]
pub struct SchedulerTrigger {
    /// When to run: five fields `minute hour day-of-month month day-of-week`.
    pub cron: CronExpression,
    /// The IANA time zone in which the fields are read.
    pub time_zone: String,
    /// Longest run of the flow, in milliseconds.
    pub timeout_ms: super::TimeoutMs,
}

/// A cron expression of five fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct CronExpression(Box<str>);

/// Why a schedule was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseScheduleError {
    /// Not five fields, or a field out of range.
    #[error(
        "`{input}` is not a cron expression ({reason}): write `minute hour day-of-month month day-of-week`, \
         for example `0 6 * * 1-5`"
    )]
    Cron {
        /// What was given.
        input: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Not a name of the IANA time zone database.
    #[error("`{0}` is not a time zone: write an IANA name, for example `Europe/Madrid` or `UTC`")]
    TimeZone(String),
}

/// The settings as written, before they are checked together.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Settings {
    /// When to run: five fields `minute hour day-of-month month day-of-week`.
    cron: CronExpression,
    /// The IANA time zone in which the fields are read.
    #[serde(default = "utc")]
    time_zone: String,
    /// Longest run of the flow, in milliseconds.
    #[serde(default)]
    timeout_ms: super::TimeoutMs,
}

fn utc() -> String {
    "UTC".to_owned()
}

// === impl SchedulerTrigger ===

impl SchedulerTrigger {
    /// Returns the next time to run that is strictly after `after`; `None` when there is none (the 30th of
    /// February).
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        crontab(&self.cron.0, &self.time_zone).ok()?.find_next(after).ok().map(|zoned| zoned.timestamp())
    }
}

impl TryFrom<Settings> for SchedulerTrigger {
    type Error = ParseScheduleError;

    fn try_from(Settings { cron, time_zone, timeout_ms }: Settings) -> Result<Self, Self::Error> {
        jiff::tz::TimeZone::get(&time_zone).map_err(|_| ParseScheduleError::TimeZone(time_zone.clone()))?;
        crontab(&cron.0, &time_zone)?;
        Ok(Self { cron, time_zone, timeout_ms })
    }
}

// === impl CronExpression ===

impl CronExpression {
    /// Parses a cron expression of five fields.
    ///
    /// # Errors
    ///
    /// [`ParseScheduleError::Cron`] when a field is missing or out of range.
    pub fn parse(input: &str) -> Result<Self, ParseScheduleError> {
        if input.split_whitespace().count() != 5 {
            return Err(ParseScheduleError::Cron {
                input: input.to_owned(),
                reason: "not five fields".to_owned(),
            });
        }
        crontab(input, "UTC")?;
        Ok(Self(input.into()))
    }

    /// Returns the expression as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for CronExpression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

fn crontab(cron: &str, time_zone: &str) -> Result<cronexpr::Crontab, ParseScheduleError> {
    cronexpr::parse_crontab(&format!("{cron} {time_zone}")).map_err(|error| {
        // The library draws the text with a mark below it, and writes the reason behind the mark.
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start().trim_start_matches('^').trim();
        let reason = if reason.is_empty() { "a field is out of range" } else { reason };
        ParseScheduleError::Cron { input: cron.to_owned(), reason: reason.to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, time_zone: &str) -> Result<SchedulerTrigger, serde_json::Error> {
        serde_json::from_value(serde_json::json!({ "cron": cron, "timeZone": time_zone }))
    }

    #[test]
    fn the_next_run_is_read_in_the_time_zone() {
        let trigger = schedule("30 2 * * *", "Europe/Madrid").expect("valid");
        let after: Timestamp = "2026-01-10T12:00:00Z".parse().expect("a timestamp");
        assert_eq!(trigger.next_after(after).map(|t| t.to_string()).as_deref(), Some("2026-01-11T01:30:00Z"));
    }

    #[test]
    fn bad_schedules_say_what_to_write() {
        for (cron, zone, says) in [
            ("* * *", "UTC", "not five fields"),
            ("*/0 * * * *", "UTC", "(step must be greater than 0)"),
            ("61 * * * *", "UTC", "for example `0 6 * * 1-5`"),
            ("0 6 * * *", "Mars/Olympus", "write an IANA name"),
        ] {
            let error = schedule(cron, zone).expect_err("refused").to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
