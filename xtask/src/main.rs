//! Chores of the workspace: `cargo xtask test` runs every test on a fresh machine, `cargo xtask ci` what CI runs.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};

mod advisories;
mod axe;
mod bench;
mod fuzz;
mod packages;

#[cfg(test)]
mod tests;

const USAGE: &str = "\
cargo xtask test    installs what the tests need, builds the binary, runs every test
cargo xtask ci      formatting, lints, then the same as `test`
cargo xtask fuzz TARGET SECONDS
                    looks for inputs that break a target, led by coverage
cargo xtask advisories [DATABASE]
                    known faults of dependencies, by the RustSec advisory database: fetched, or a clone of it
cargo xtask bench gateway [ROUNDS [SECONDS [JOB…]]]
                    what a call costs beside HAProxy, nginx and Envoy, which it installs; jobs are key, hs256, es256,
                    es256-new and proxied; and of Tollgate alone million, changes, busy and pipelines, which may have a
                    size: million=20000; only=nginx,haproxy leaves the others out";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["test"] => test(),
        ["ci"] => ci(),
        ["advisories"] => advisories::advisories(None),
        ["advisories", database] => advisories::advisories(Some(database)),
        ["bench", what, ref rest @ ..] => bench::bench(what, rest),
        ["fuzz", target, seconds] => fuzz::fuzz(target, seconds),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn ci() -> anyhow::Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    test()
}

/// Runs every test. The tests start and stop what they need by themselves: PostgreSQL, Prometheus, upstreams, the binary.
fn test() -> anyhow::Result<()> {
    packages::ensure()?;
    axe::ensure()?;
    cargo(&["build", "--package", "tollgate", "--locked"])?;
    if has_nextest() {
        // Examples in documentation first, so that the sum of all other tests stands at the end.
        cargo(&["test", "--workspace", "--locked", "--doc", "--quiet"])?;
        cargo(&["nextest", "run", "--workspace", "--locked", "--no-fail-fast"])
    } else {
        cargo(&["test", "--workspace", "--locked", "--no-fail-fast"])
    }
}

fn has_nextest() -> bool {
    let output = Command::new("cargo").args(["nextest", "--version"]).output();
    output.is_ok_and(|output| output.status.success())
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    run(Command::new("cargo").args(arguments).current_dir(root()))
}

/// Runs a command with its output shown.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    eprintln!("$ {shown}");
    let status = command.status().with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

/// Returns the root of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
