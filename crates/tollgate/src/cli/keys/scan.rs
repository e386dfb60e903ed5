//! `tollgate key scan`: finds keys that leaked into files and into the history of git repositories.
//!
//! Works offline. [`walk`] reads files, [`history`] reads what git keeps, both through [`intake`], which collects
//! [`findings`]; nothing but masks and digests leaves the reading. With `--identify`, [`owners`] asks the server whose
//! the keys are, by their digests alone.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use tollgate_credential::keys::KeyDigest;

use crate::cli::Context;
use crate::failure::Failure;
use crate::output::{Format, Output, print_out, say};

mod findings;
mod git;
mod history;
mod intake;
mod owners;
mod report;
mod sarif;
mod walk;

use findings::Findings;
use intake::Intake;

/// What the exit code says, for the help.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  no key was found, or only dead ones (with --identify) and allowed ones
  1  something could not be read or asked, whatever was found
  3  keys were found that may work";

/// Arguments of `tollgate key scan`.
#[derive(Args)]
pub(crate) struct ScanArguments {
    /// Files, directories with all below them, or `-` for stdin. Of each git repository among them the history is read
    /// too: every commit that a branch, a tag or the stash leads to.
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    /// Reads files only, not the history of repositories.
    #[arg(long)]
    no_history: bool,
    /// Reads what is staged for the next commit and nothing else, as a pre-commit hook does.
    #[arg(long, conflicts_with_all = ["no_history", "skip_ignored"])]
    staged: bool,
    /// Leaves out files that git ignores.
    #[arg(long)]
    skip_ignored: bool,
    /// Asks the server whose the keys are and whether they still work; only their SHA-256 is sent. Keys that were
    /// revoked or have expired then count no more.
    #[arg(long)]
    identify: bool,
    /// A file with SHA-256 digests of keys that may stand where they are, one in a line; `#` begins a comment.
    #[arg(long, value_name = "FILE")]
    allow: Option<PathBuf>,
    /// How to print the findings.
    #[arg(long, value_enum, default_value_t)]
    format: ScanFormat,
}

/// How to print findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ScanFormat {
    /// A line per finding: `file:line:column: what`, with the commit in front where it is of a history.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// SARIF 2.1.0, as code scanning reads it.
    Sarif,
}

/// Scans; exit code 3 when keys were found that may work, 1 when something could not be read or asked.
pub(crate) async fn scan<'a>(
    connect: impl FnOnce() -> Result<Context<'a>, Failure>,
    output: &Output,
    arguments: ScanArguments,
) -> Result<ExitCode, Failure> {
    let format = match (arguments.format, output.format()) {
        (ScanFormat::Text, Format::Json | Format::Yaml) => ScanFormat::Json,
        (ScanFormat::Sarif, Format::Yaml) => {
            return Err(Failure::usage("--format and --output ask for two different documents")
                .hint("leave --output out"));
        }
        (format, _) => format,
    };
    let allowed = arguments.allow.as_deref().map(allowed).transpose()?.unwrap_or_default();
    let identify = arguments.identify;
    let mut findings = tokio::task::spawn_blocking(move || read(&arguments, allowed))
        .await
        .map_err(|error| Failure::new(format!("the scan ended early: {error}")))??;
    if identify && let Err(failure) = owners::identify(connect, &mut findings).await {
        findings.failed("the server", &owners::reason(&failure));
    }
    match format {
        ScanFormat::Text => print_out(&report::lines(&findings)),
        ScanFormat::Json if output.format() == Format::Yaml => output.document(&report::document(&findings)),
        ScanFormat::Json => print_out(&format!("{:#}\n", report::document(&findings))),
        ScanFormat::Sarif => print_out(&format!("{:#}\n", sarif::document(&findings))),
    }
    say!("{}", report::summary(&findings));
    Ok(findings.exit().map_or(ExitCode::SUCCESS, |exit| ExitCode::from(exit as u8)))
}

fn read(arguments: &ScanArguments, allowed: HashSet<KeyDigest>) -> Result<Findings, Failure> {
    let mut intake = Intake::new(allowed);
    for path in &arguments.paths {
        if arguments.staged {
            history::staged(path, &mut intake)?;
            continue;
        }
        let repositories = walk::walk(path, arguments.skip_ignored, &mut intake)?;
        for repository in repositories {
            if !arguments.no_history {
                history::history(&repository, &mut intake);
            }
        }
    }
    Ok(intake.into_findings())
}

/// Reads the digests that are no findings.
fn allowed(path: &Path) -> Result<HashSet<KeyDigest>, Failure> {
    let file = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read {file}: {error}")))?;
    let mut digests = HashSet::new();
    for (number, line) in text.lines().enumerate() {
        let digest = line.split('#').next().unwrap_or_default().trim();
        if digest.is_empty() {
            continue;
        }
        // What stands there may be a key: it is not repeated.
        let digest = KeyDigest::from_hex(digest).map_err(|error| {
            Failure::usage(format!("{file}:{}: {error}", number + 1))
                .hint("`--output json` shows the `sha256` of each key that is found")
        })?;
        digests.insert(digest);
    }
    Ok(digests)
}

#[cfg(test)]
mod tests;
