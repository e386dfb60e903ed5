//! The table: medians of all rounds, and the ratio to the floor.

use std::time::Duration;

use crate::Outcome;
use crate::load::Measured;

/// Prints what came of a job; the first contender is the floor.
pub(crate) fn print(outcomes: &[Outcome]) {
    println!(
        "  {:<16} {:>10} {:>10} {:>10} {:>12} {:>8}",
        "", "calls/s", "p50 µs", "p99 µs", "CPU µs/call", "ratio"
    );
    let floor = outcomes.first().map(|floor| median(floor, |it| micros(it.used))).unwrap_or_default();
    for outcome in outcomes {
        let used = median(outcome, |it| micros(it.used));
        println!(
            "  {:<16} {:>10.0} {:>10.0} {:>10.0} {:>12.2} {:>7.2}x",
            outcome.name,
            median(outcome, |it| it.calls_per_second),
            median(outcome, |it| micros(it.median)),
            median(outcome, |it| micros(it.p99)),
            used,
            used / floor,
        );
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn median(outcome: &Outcome, of: impl Fn(&Measured) -> f64) -> f64 {
    let mut all: Vec<f64> = outcome.rounds.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}
