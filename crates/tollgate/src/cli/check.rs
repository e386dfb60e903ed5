//! `tollgate check`: judges pipeline files with the same code as the server, without saving or deploying anything.
//!
//! Everything that a verdict depends on is read first ([`rulebook`]): from files, or from a server. Then each file
//! becomes a [`report`], which [`text`], [`sarif`] and [`junit`] write down. A file that does not parse is a finding
//! like any other, so that the document that was asked for is written whatever happens.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use tollgate_model::document;
use tollgate_model::names::{EnvironmentName, RealmName};
use tollgate_model::sources::Clock as _;
use tollgate_policy::Judge;

use super::Context;
use super::files::{self, FileResource, Source};
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output, print_out, say};
use crate::system::SystemClock;

mod edits;
mod junit;
mod report;
mod rulebook;
mod sarif;
mod text;

use report::{FileReport, Finding, Report};
use rulebook::Rulebook;

pub(super) use rulebook::waivers_of;

/// Arguments of `tollgate check`.
#[derive(Args)]
pub(crate) struct CheckArguments {
    /// A file, a directory with all .yaml, .yml and .json files below it, or `-` for stdin; repeatable.
    #[arg(short, long = "file", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// Only this environment; without, every one that the policies name.
    #[arg(long, value_name = "ENVIRONMENT")]
    env: Option<EnvironmentName>,
    /// A file of policies, custom rules and waivers, as `tollgate policy export` prints; without, API keys are
    /// demanded in test and prod.
    #[arg(long, value_name = "FILE", conflicts_with = "from_server")]
    policy: Option<PathBuf>,
    /// Judges by the policies and waivers of the realm on the server; policies in the files are left out.
    #[arg(long)]
    from_server: bool,
    /// Judges as if it were this moment, such as 2030-01-31T00:00:00Z: waivers that have ended by then count no more.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
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
    /// SARIF 2.1.0, as code scanning reads it.
    Sarif,
    /// JUnit XML: a suite for each file, a case for each pipeline and environment.
    Junit,
}

/// Judges files; exit code 3 when a pipeline breaks the policy, 1 when a file or a pipeline cannot be read.
pub(crate) async fn check<'a>(
    connect: impl FnOnce() -> Result<Context<'a>, Failure>,
    realm: &str,
    output: &Output,
    arguments: CheckArguments,
) -> Result<ExitCode, Failure> {
    let format = format(arguments.format, output.format())?;
    let realm = RealmName::parse(realm).map_err(|error| Failure::usage(format!("realm: {error}")))?;
    let sources = files::sources(&arguments.files)?;
    let mut read: Vec<FileReport> = sources.into_iter().map(open).collect();
    let book = if arguments.from_server {
        Ok(Rulebook::from_server(&connect()?.client).await?)
    } else {
        let mut policies: Vec<FileReport> = match &arguments.policy {
            Some(path) => files::sources(std::slice::from_ref(path))?.into_iter().map(open).collect(),
            None => Vec::new(),
        };
        let leading = policies.len();
        // Also where the policies lie among the pipelines.
        read.retain(|file| !policies.iter().any(|policies| is_same(&policies.file, &file.file)));
        policies.append(&mut read);
        read = policies;
        Rulebook::from_files(&mut read, leading)
    };
    let environments = match (&arguments.env, &book) {
        (Some(environment), Ok(book)) if !book.policies.environments().any(|it| it == environment) => {
            let hint = if arguments.from_server {
                "`tollgate environment list` shows the environments"
            } else {
                "add it to the policies given with --policy"
            };
            return Err(
                Failure::usage(format!("there is no environment `{environment}` in the policies")).hint(hint)
            );
        }
        (Some(environment), _) => vec![environment.clone()],
        (None, Ok(book)) => book.policies.environments().cloned().collect(),
        (None, Err(_)) => Vec::new(),
    };
    let now = arguments.at.unwrap_or_else(|| SystemClock.now());
    let judge = book.as_ref().ok().map(|book| Judge::new(&book.policies, &book.waivers, now));
    for file in &mut read {
        file.judge(&realm, judge.as_ref(), &environments)?;
    }
    let report = Report { files: read, rules: book.map(|book| book.rules()).unwrap_or_default() };
    let exit = report.exit();
    match format {
        CheckFormat::Text => print_out(&text::lines(&report)),
        CheckFormat::Json if output.format() == Format::Yaml => output.document(&text::document(&report)),
        CheckFormat::Json => print_out(&format!("{:#}\n", text::document(&report))),
        CheckFormat::Sarif => print_out(&format!("{:#}\n", sarif::document(&report))),
        CheckFormat::Junit => print_out(&junit::document(&report)),
    }
    say!("{}", text::summary(&report));
    Ok(exit.map_or(ExitCode::SUCCESS, |exit| ExitCode::from(exit as u8)))
}

/// Settles what `--format` and `--output` ask for together.
fn format(asked: CheckFormat, output: Format) -> Result<CheckFormat, Failure> {
    match (asked, output) {
        (CheckFormat::Text, Format::Json | Format::Yaml) => Ok(CheckFormat::Json),
        (CheckFormat::Junit, Format::Json | Format::Yaml) | (CheckFormat::Sarif, Format::Yaml) => {
            Err(Failure::usage("--format and --output ask for two different documents")
                .hint("leave --output out"))
        }
        (asked, _) => Ok(asked),
    }
}

/// Tells whether two paths lead to one file.
fn is_same(one: &str, other: &str) -> bool {
    let real = |path: &str| std::fs::canonicalize(path).ok();
    one == other || real(one).is_some_and(|path| real(other) == Some(path))
}

/// Reads what stands in a file; what is wrong with it is a finding.
fn open(source: Source) -> FileReport {
    let Source { file, text } = source;
    let (text, resources, problem) = match text {
        Err(error) => (String::new(), Vec::new(), Some(Finding::unreadable(&error))),
        Ok(text) => match document::parse_resources(&text) {
            Err(error) => (text, Vec::new(), Some(Finding::unparsable(&error))),
            Ok(located) => {
                let of_file = |located| FileResource { file: file.clone(), located };
                (text, located.into_iter().map(of_file).collect(), None)
            }
        },
    };
    FileReport { file, text, resources, problems: problem.into_iter().collect(), cases: Vec::new() }
}

// === impl Report ===

impl Report {
    /// Returns what is wrong, most serious first; `None` when nothing is.
    fn exit(&self) -> Option<Exit> {
        if self.is_broken() {
            Some(Exit::Failed)
        } else {
            self.findings().any(|(_, _, finding)| finding.counts()).then_some(Exit::Refused)
        }
    }
}

#[cfg(test)]
mod tests;
