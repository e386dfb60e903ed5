//! `tollgate check`: judges pipeline files offline, with the same code as the server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use tollgate_model::document::Resource;
use tollgate_model::names::EnvironmentName;
use tollgate_model::pipelines::Pipeline;
use tollgate_model::policies::{Policies, Policy};
use tollgate_model::sources::Clock as _;
use tollgate_policy::Judge;

use super::files::{self, FileResource};
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output, print_out};
use crate::system::SystemClock;

/// Arguments of `tollgate check`.
#[derive(Args)]
pub(crate) struct CheckArguments {
    /// A file, a directory with all .yaml, .yml and .json files below it, or `-` for stdin; repeatable.
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// Only this environment; without, every one that the policies name.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: Option<EnvironmentName>,
    /// A file of policies, as `tollgate policy export` prints; without, API keys are demanded in test and prod.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// How to print the findings.
    #[arg(long, value_enum, default_value_t)]
    format: CheckFormat,
}

/// How to print findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum CheckFormat {
    /// A line per finding: `file:line:column: message`.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// Judges files; exit code 3 when a pipeline breaks the policy, 1 when one does not compile.
pub(crate) fn check(output: &Output, arguments: CheckArguments) -> Result<ExitCode, Failure> {
    let all = files::read(&arguments.files)?;
    let policy_files = match &arguments.policy {
        Some(path) => files::read(std::slice::from_ref(path))?,
        None => Vec::new(),
    };
    let policies = policies(policy_files.iter().chain(&all))?;
    let environments: Vec<EnvironmentName> = match arguments.env {
        Some(environment) => vec![environment],
        None => policies.environments().cloned().collect(),
    };
    let judge = Judge::new(&policies, &[], SystemClock.now());
    let (mut findings, mut pipelines, mut refused, mut broken) = (Vec::new(), 0, false, false);
    for file in &all {
        let Resource::Pipeline(pipeline) = &file.located.value else { continue };
        pipelines += 1;
        for error in tollgate_flow::compile(pipeline).err().into_iter().flatten() {
            broken = true;
            findings.push(finding(file, pipeline, &error.pointer, &error.message, None));
        }
        for environment in &environments {
            let verdict = judge.verdict(pipeline, environment).map_err(|error| {
                Failure::usage(format!("{error} in the policies"))
                    .hint("add it to the file given with --policy")
            })?;
            for violation in verdict.violations {
                refused = true;
                findings.push(finding(
                    file,
                    pipeline,
                    &violation.pointer,
                    &violation.to_string(),
                    Some(json!(violation)),
                ));
            }
        }
    }
    if arguments.format == CheckFormat::Json || output.format() != Format::Table {
        let document = json!({ "pipelines": pipelines, "conforms": !refused, "compiles": !broken, "findings": findings });
        if output.format() == Format::Yaml {
            output.document(&document)
        } else {
            print_out(&format!("{document:#}\n"))
        }
    } else {
        for finding in &findings {
            let text = |field: &str| {
                finding.get(field).map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned))
            };
            print_out(&format!(
                "{}:{}:{}: {}\n",
                text("file").unwrap_or_default(),
                text("line").unwrap_or_default(),
                text("column").unwrap_or_default(),
                text("message").unwrap_or_default(),
            ));
        }
        crate::output::say!("{pipelines} pipelines checked, {} findings", findings.len());
    }
    Ok(match (broken, refused) {
        (true, _) => ExitCode::from(Exit::Failed as u8),
        (false, true) => ExitCode::from(Exit::Refused as u8),
        (false, false) => ExitCode::SUCCESS,
    })
}

fn finding(
    file: &FileResource,
    pipeline: &Pipeline,
    pointer: &str,
    message: &str,
    violation: Option<Value>,
) -> Value {
    let at = file.located.positions.find(pointer);
    json!({ "file": file.file, "line": at.line, "column": at.column, "pipeline": pipeline.name, "pointer": pointer,
        "message": message, "violation": violation })
}

/// Puts the policies of files together over those of a new realm.
fn policies<'a>(files: impl Iterator<Item = &'a FileResource>) -> Result<Policies, Failure> {
    let written: Vec<&Policy> = files
        .filter_map(|file| match &file.located.value {
            Resource::Policy(policy) => Some(policy),
            _ => None,
        })
        .collect();
    // Every realm has these two, so that a file without one of them is refused here as it is by the server.
    let mut environments = BTreeSet::from([EnvironmentName::test(), EnvironmentName::prod()]);
    environments.extend(written.iter().flat_map(|policy| policy.environments().cloned()));
    let mut policies = Policies::initial(&environments);
    let mut seen = BTreeMap::new();
    for policy in written {
        if seen.insert(policy.name(), ()).is_some() {
            return Err(Failure::usage(format!("policy `{}` is written twice", policy.name())));
        }
        if let Policy::Rule(rule) = policy {
            tollgate_policy::check_rule(rule).map_err(|error| Failure::new(error.to_string()))?;
        }
        policies = policies.replace(policy.clone()).map_err(|error| Failure::new(error.to_string()))?;
    }
    Ok(policies)
}
