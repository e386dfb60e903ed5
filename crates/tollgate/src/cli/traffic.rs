//! `tollgate traffic` and `tollgate calls`: what became of calls, over time and just now.

use std::collections::HashSet;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tollgate_model::names::{ConsumerName, EnvironmentName, PipelineName};

use super::Context;
use crate::answers::{items, number, text};
use crate::client::segment;
use crate::failure::Failure;
use crate::output::{Column, Format, print_out, say, table};

/// How often calls are asked for again.
const EVERY: Duration = Duration::from_secs(1);

/// Which calls.
#[derive(Args)]
struct Of {
    /// Only this environment.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: Option<EnvironmentName>,
    /// Only this pipeline.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<PipelineName>,
    /// Only this consumer.
    #[arg(long, value_name = "NAME")]
    consumer: Option<ConsumerName>,
}

/// Arguments of `tollgate traffic`.
#[derive(Args)]
pub(crate) struct TrafficArguments {
    #[command(flatten)]
    of: Of,
    /// How far back: 1h, 6h, 24h, 7d or 30d.
    #[arg(long, value_name = "RANGE", default_value = "1h", value_parser = ["1h", "6h", "24h", "7d", "30d"])]
    range: String,
    /// Shows it step by step, instead of by pipeline, consumer and problem.
    #[arg(long)]
    steps: bool,
}

/// Arguments of `tollgate calls`.
#[derive(Args)]
pub(crate) struct CallsArguments {
    #[command(flatten)]
    of: Of,
    /// Only those that ended so: well, refused, failed or hung-up.
    #[arg(long, value_name = "END", value_parser = ["well", "refused", "failed", "hung-up"])]
    ended: Option<String>,
    /// Only those with this status.
    #[arg(long, value_name = "STATUS")]
    status: Option<u16>,
    /// Goes on showing calls as they end, until it is interrupted.
    #[arg(long, short)]
    follow: bool,
}

const TALLY: [Column; 6] = [
    ("CALLS", "/calls"),
    ("REFUSED", "/refused"),
    ("FAILED", "/failed"),
    ("P50 MS", "/p50Ms"),
    ("P95 MS", "/p95Ms"),
    ("P99 MS", "/p99Ms"),
];

const RECENT: &[Column] = &[
    ("AT", "/at"),
    ("ENVIRONMENT", "/environment"),
    ("METHOD", "/method"),
    ("PATH", "/path"),
    ("STATUS", "/status"),
    ("CODE", "/code"),
    ("ENDED", "/ended"),
    ("PIPELINE", "/pipeline"),
    ("CONSUMER", "/consumer"),
    ("MS", "/durationMs"),
    ("REQUEST", "/requestId"),
];

/// Shows what became of calls.
pub(crate) async fn traffic(context: &Context<'_>, arguments: TrafficArguments) -> Result<(), Failure> {
    let TrafficArguments { of, range, steps } = arguments;
    let path = asked(context.client.realm_path(&["traffic"]), of.fields().chain([("range", Some(range))]));
    let report = context.client.get(&path).await?;
    if context.output.format() != Format::Table {
        context.output.document(&report);
        return Ok(());
    }
    let total = report.get("total").unwrap_or(&Value::Null);
    if steps {
        print_out(&tallies(&report, "points", &[("AT", "/at")]));
    } else {
        print_out(&tallies(
            &report,
            "pipelines",
            &[("ENVIRONMENT", "/environment"), ("PIPELINE", "/pipeline"), ("MAJOR", "/major")],
        ));
        print_out("\n");
        print_out(&tallies(
            &report,
            "consumers",
            &[("ENVIRONMENT", "/environment"), ("CONSUMER", "/consumer")],
        ));
        print_out("\n");
        let codes = items(total, "codes");
        print_out(&table(codes, &[("PROBLEM", "/code"), ("STATUS", "/status"), ("CALLS", "/calls")]));
    }
    say!(
        "{} calls since {}, {} refused, {} failed",
        number(total, "calls"),
        text(&report, "since"),
        number(total, "refused"),
        number(total, "failed"),
    );
    Ok(())
}

/// Shows the last calls, and those that follow.
pub(crate) async fn calls(context: &Context<'_>, arguments: CallsArguments) -> Result<(), Failure> {
    let CallsArguments { of, ended, status, follow } = arguments;
    if follow && context.output.format() != Format::Table {
        return Err(
            Failure::usage("what goes on and on is no document").hint("leave --follow out, or --output")
        );
    }
    let limit = follow.then(|| "500".to_owned());
    let status = status.map(|status| status.to_string());
    let fields = of.fields().chain([("ended", ended), ("status", status), ("limit", limit)]);
    let path = asked(context.client.realm_path(&["calls"]), fields);
    let list = context.client.get(&path).await?;
    if context.output.format() != Format::Table {
        context.output.document(&list);
        return Ok(());
    }
    let oldest_first = |list: &Value| items(list, "items").iter().rev().cloned().collect::<Vec<_>>();
    let mut shown = oldest_first(&list);
    print_out(&table(&shown, RECENT));
    let left_out = number(&list, "leftOut");
    if left_out > 0 {
        say!("{left_out} calls were left out since the server began: too many at once");
    }
    if !follow {
        return Ok(());
    }
    let mut tick = tokio::time::interval(EVERY);
    let mut known = ids(&shown);
    loop {
        tick.tick().await;
        // By what was shown, not by time: a call that takes long is listed after those that began later and ended before.
        shown = oldest_first(&context.client.get(&path).await?);
        let fresh: Vec<_> =
            shown.iter().filter(|call| !known.contains(text(call, "requestId"))).cloned().collect();
        known = ids(&shown);
        if !fresh.is_empty() {
            print_out(&lines(&fresh));
        }
    }
}

fn ids(calls: &[Value]) -> HashSet<String> {
    calls.iter().map(|call| text(call, "requestId").to_owned()).collect()
}

/// Writes rows without the heading that stands above the first of them.
fn lines(calls: &[Value]) -> String {
    let rows = table(calls, RECENT);
    rows.split_once('\n').map(|(_, rows)| rows.to_owned()).unwrap_or_default()
}

fn tallies(report: &Value, field: &str, first: &[Column]) -> String {
    let columns: Vec<Column> = first.iter().chain(&TALLY).copied().collect();
    let rows: Vec<Value> = items(report, field).iter().map(named).collect();
    table(&rows, &columns)
}

/// Says who or what it is where there is no name.
fn named(row: &Value) -> Value {
    let mut row = row.clone();
    let others = row.get("others") == Some(&Value::Bool(true));
    if let Some(fields) = row.as_object_mut() {
        for (field, nobody) in
            [("pipeline", "(none)"), ("consumer", if others { "(others)" } else { "(unknown)" })]
        {
            if fields.get(field) == Some(&Value::Null) {
                fields.insert(field.to_owned(), json!(nobody));
            }
        }
    }
    row
}

fn asked(mut path: String, fields: impl Iterator<Item = (&'static str, Option<String>)>) -> String {
    let mut mark = '?';
    for (name, value) in fields {
        if let Some(value) = value {
            path.push_str(&format!("{mark}{name}={}", segment(&value)));
            mark = '&';
        }
    }
    path
}

// === impl Of ===

impl Of {
    fn fields(self) -> impl Iterator<Item = (&'static str, Option<String>)> {
        let Self { env, pipeline, consumer } = self;
        [
            ("environment", env.map(|name| name.to_string())),
            ("pipeline", pipeline.map(|name| name.to_string())),
            ("consumer", consumer.map(|name| name.to_string())),
        ]
        .into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_name_is_said_in_words() {
        let row = |consumer: Value, others: bool| json!({ "consumer": consumer, "others": others });
        assert_eq!(named(&row(Value::Null, false))["consumer"], "(unknown)");
        assert_eq!(named(&row(Value::Null, true))["consumer"], "(others)");
        assert_eq!(named(&row(json!("ann"), false))["consumer"], "ann");
        assert_eq!(named(&json!({ "pipeline": null }))["pipeline"], "(none)");
    }

    #[test]
    fn only_what_was_said_is_asked() {
        let fields = [("a", None), ("b", Some("x y".to_owned())), ("c", Some("z".to_owned()))];
        assert_eq!(asked("/p".to_owned(), fields.into_iter()), "/p?b=x%20y&c=z");
    }
}
