//! Times on the command line: a point in time, a date, or how long ago it was.

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use tollgate_model::sources::Clock as _;

use crate::system::SystemClock;

/// `--as-of`, for commands that can ask the past.
#[derive(Args)]
pub(crate) struct AsOfArgument {
    /// Answers as of this time, from the journal: `2026-11-24T12:00:00Z`, a date (its beginning, UTC), or how long ago
    /// (`90m`, `24h`, `7d`).
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) as_of: Option<Timestamp>,
}

/// Reads a time.
pub(super) fn parse_time(input: &str) -> Result<Timestamp, String> {
    parse_time_at(input, SystemClock.now())
}

fn parse_time_at(input: &str, now: Timestamp) -> Result<Timestamp, String> {
    let wrong = || "write 2026-11-24T12:00:00Z, 2026-11-24, or how long ago: 90m, 24h, 7d".to_owned();
    if let Some((unit, number)) =
        input.char_indices().next_back().and_then(|(at, unit)| Some((unit, input.get(..at)?)))
    {
        let seconds = match unit {
            's' => Some(1),
            'm' => Some(60),
            'h' => Some(3_600),
            'd' => Some(86_400),
            'w' => Some(604_800),
            _ => None,
        };
        if let Some(seconds) = seconds {
            let number: u32 = number.parse().map_err(|_| wrong())?;
            let ago = SignedDuration::from_secs(i64::from(number) * seconds);
            return now.checked_sub(ago).map_err(|_| wrong());
        }
    }
    super::waivers::parse_until(input).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_point_a_date_or_how_long_ago() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().expect("a time");
        for (input, expected) in [
            ("2026-11-24T13:00:00+02:00", "2026-11-24T11:00:00Z"),
            ("2026-11-24", "2026-11-24T00:00:00Z"),
            ("90m", "2026-11-24T10:30:00Z"),
            ("24h", "2026-11-23T12:00:00Z"),
            ("7d", "2026-11-17T12:00:00Z"),
            ("1w", "2026-11-17T12:00:00Z"),
            ("0s", "2026-11-24T12:00:00Z"),
        ] {
            assert_eq!(
                parse_time_at(input, now).map(|at| at.to_string()),
                Ok(expected.to_owned()),
                "{input}"
            );
        }
        for input in [
            "",
            "d",
            "-1d",
            "1.5h",
            "yesterday",
            "2026-11-24T12:00:00",
            "24 h",
            "99999999999d",
            "5x",
            "4000000000w",
        ] {
            let error = parse_time_at(input, now).expect_err(input);
            assert!(error.contains("24h"), "{error}");
        }
    }
}
