//! Times as people read them.

use jiff::Timestamp;

/// A time with how far it is from now.
pub(crate) struct Moment {
    /// RFC 3339, for `<time datetime>`.
    pub(crate) machine: String,
    /// `2026-11-24 20:25 UTC`.
    pub(crate) exact: String,
    /// `3 hours ago`, `in 2 days`.
    pub(crate) relative: String,
}

impl Moment {
    pub(crate) fn new(at: Timestamp, now: Timestamp) -> Self {
        Self {
            machine: at.to_string(),
            exact: at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
            relative: relative(at, now),
        }
    }
}

/// Says how long something took, given in microseconds.
pub(crate) fn duration(us: u64) -> String {
    match us {
        0..100 => "< 0.1 ms".to_owned(),
        100..1_000 => format!("0.{} ms", us / 100),
        1_000..10_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.as_second() - now.as_second();
    let size = seconds.unsigned_abs();
    let (count, unit) = match size {
        0..60 => return if seconds > 0 { "in a moment" } else { "just now" }.to_owned(),
        60..3_600 => (size / 60, "minute"),
        3_600..86_400 => (size / 3_600, "hour"),
        _ => (size / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    if seconds > 0 { format!("in {count} {unit}{plural}") } else { format!("{count} {unit}{plural} ago") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_told_in_few_digits() {
        assert_eq!(
            [0, 990, 2_500, 12_345, 1_250_000].map(duration),
            ["< 0.1 ms", "0.9 ms", "2.5 ms", "12 ms", "1.2 s"]
        );
    }

    #[test]
    fn a_time_is_told_by_its_distance() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let at =
            |seconds: i64| Moment::new(Timestamp::from_second(1_000_000 + seconds).unwrap(), now).relative;
        assert_eq!(at(0), "just now");
        assert_eq!(at(-59), "just now");
        assert_eq!(at(-60), "1 minute ago");
        assert_eq!(at(-7_200), "2 hours ago");
        assert_eq!(at(30), "in a moment");
        assert_eq!(at(86_400 * 3), "in 3 days");
    }
}
