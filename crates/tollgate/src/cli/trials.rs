//! `tollgate try`: a flow that is run once on a sample message.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};
use tollgate_model::document::parse_value;
use tollgate_model::names::{EnvironmentName, PipelineName};
use tollgate_model::versions::Version;

use super::Context;
use crate::answers::{number, text};
use crate::failure::Failure;
use crate::output::{Format, print_out, printable};

/// Arguments of `tollgate try`.
#[derive(Args)]
pub(crate) struct TryArguments {
    /// A pipeline that is saved, as `NAME` or `NAME@VERSION`.
    #[arg(required_unless_present = "file", conflicts_with = "file", value_name = "NAME[@VERSION]")]
    pipeline: Option<String>,
    /// A file that need not be saved.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The environment whose values the flow sees. It takes the permission to deploy there.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: EnvironmentName,
    /// A file with the message that the flow begins with, YAML or JSON: method, path, queryAndPath, headers, contentType,
    /// body, claims, consumer, clientAddress.
    #[arg(long, value_name = "FILE")]
    message: Option<PathBuf>,
}

/// Runs `tollgate try`.
pub(crate) async fn run(context: &Context<'_>, arguments: TryArguments) -> Result<(), Failure> {
    let TryArguments { pipeline, file, env, message } = arguments;
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("cannot read `{}`: {error}", path.display())))
    };
    let message = match &message {
        Some(path) => parse_value(&read(path)?)
            .map_err(|error| Failure::usage(format!("`{}` is no message: {error}", path.display())))?,
        None => json!({}),
    };
    let mut body = Map::from_iter([("message".to_owned(), message)]);
    match (&pipeline, &file) {
        (Some(pipeline), _) => {
            let (name, version) = match pipeline.split_once('@') {
                Some((name, version)) => (name, Some(version)),
                None => (pipeline.as_str(), None),
            };
            let name: PipelineName = parse(name)?;
            body.insert("pipeline".to_owned(), json!(name));
            if let Some(version) = version {
                body.insert("version".to_owned(), json!(parse::<Version>(version)?));
            }
        }
        (None, Some(path)) => drop(body.insert("document".to_owned(), json!(read(path)?))),
        (None, None) => return Err(Failure::usage("name a pipeline, or a file with -f")),
    }
    let tried = context
        .client
        .post(&context.client.environment_path(env.as_str(), &["trials"]), &body.into())
        .await?;
    if context.output.format() != Format::Table {
        context.output.document(&tried);
        return Ok(());
    }
    print_out(&report(&tried, &env));
    Ok(())
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Failure>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| Failure::usage(error.to_string()))
}

fn report(tried: &Value, env: &EnvironmentName) -> String {
    let mut out = format!("tried {}@{} in {env}\n", text(tried, "pipeline"), text(tried, "version"));
    let steps = tried.get("steps").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for step in steps {
        let value = |name: &str| step.pointer(&format!("/{name}/value")).map(Value::to_string);
        out.push_str(&format!("{} ({} µs)\n", printable(text(step, "label")), number(step, "micros")));
        out.push_str(&format!("  in   {}\n", printable(&value("input").unwrap_or_default())));
        if let Some(output) = value("output") {
            out.push_str(&format!("  out  {}\n", printable(&output)));
        }
        if !text(step, "branch").is_empty() {
            out.push_str(&format!("  took {}\n", text(step, "branch")));
        }
        for line in step.get("logged").and_then(Value::as_array).into_iter().flatten() {
            out.push_str(&format!("  log  {}\n", printable(line.as_str().unwrap_or_default())));
        }
        if let Some(error) = step.get("error").filter(|error| error.is_object()) {
            out.push_str(&format!(
                "  error {} {}: {} ({})\n",
                number(error, "status"),
                printable(text(error, "code")),
                printable(text(error, "message")),
                printable(text(error, "detail"))
            ));
        }
    }
    let none = Value::Null;
    let answer = tried.get("answer").unwrap_or(&none);
    out.push_str(&format!("answer {} {}\n", number(answer, "status"), printable(text(answer, "code"))));
    for header in answer.get("headers").and_then(Value::as_array).into_iter().flatten() {
        let part = |index: usize| header.get(index).and_then(Value::as_str).unwrap_or_default();
        out.push_str(&format!("  {}: {}\n", printable(part(0)), printable(part(1))));
    }
    if let Some(body) = answer.pointer("/body/value") {
        out.push_str(&format!("  {}\n", printable(&body.to_string())));
    }
    out.push_str(&format!("upstreams called: {}\n", number(tried, "upstreamCalls")));
    out
}
