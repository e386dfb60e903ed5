//! Known faults of dependencies: every lock file against the RustSec advisory database, by `cargo-audit`.
//!
//! No part of `cargo xtask test`: what it says depends on the day, and on a network (decision 0025).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{root, run};

/// What reads the database. Compiled once, into `target/tools`.
const VERSION: &str = "0.22.2";

/// Where the database is.
const DATABASE: &str = "https://github.com/RustSec/advisory-db.git";

/// All that is built here: the workspace, and the programs of libFuzzer outside of it.
const LOCK_FILES: [&str; 2] = ["Cargo.lock", "fuzz/Cargo.lock"];

/// Checks the lock files; `database` is a clone of the database, which is fetched when there is none given.
///
/// # Errors
///
/// When a dependency has a known fault, or that could not be found out.
pub(crate) fn advisories(database: Option<&str>) -> anyhow::Result<()> {
    let database = match database {
        Some(given) => PathBuf::from(given),
        None => fetched()?,
    };
    if !database.join("crates").is_dir() {
        bail!("{} is no clone of {DATABASE}: it has no directory `crates`", database.display());
    }
    // What nobody knew on that day it does not tell.
    run(Command::new("git").arg("-C").arg(&database).args(["log", "-1", "--format=database of %cs"]))?;
    let program = program()?;
    let mut faulty = Vec::new();
    for file in LOCK_FILES {
        let mut command = Command::new(&program);
        // A clone that is old is refused otherwise.
        command.args(["audit", "--no-fetch", "--stale", "--db"]).arg(&database).arg("--file");
        if let Err(error) = run(command.arg(root().join(file))) {
            faulty.push(format!("{file}: {error:#}"));
        }
    }
    if faulty.is_empty() {
        return Ok(());
    }
    bail!("dependencies have known faults, or could not be checked:\n{}", faulty.join("\n"))
}

/// Brings the database to `target/advisory-db`, as it is now.
fn fetched() -> anyhow::Result<PathBuf> {
    let directory = root().join("target/advisory-db");
    let fetched = if directory.join(".git").exists() {
        let git = |arguments: &[&str]| run(Command::new("git").arg("-C").arg(&directory).args(arguments));
        git(&["fetch", "--depth", "1", "origin"])
            .and_then(|()| git(&["reset", "--hard", "--quiet", "FETCH_HEAD"]))
    } else {
        run(Command::new("git").args(["clone", "--quiet", "--depth", "1", DATABASE]).arg(&directory))
    };
    // What was fetched another day does not stand for what is known today.
    fetched.context(
        "the advisory database cannot be reached, so nothing was checked. With a clone of it from elsewhere: \
         cargo xtask advisories DIRECTORY",
    )?;
    Ok(directory)
}

/// Returns the program, compiled when it is not there.
fn program() -> anyhow::Result<PathBuf> {
    let tools = root().join("target/tools");
    let program = tools.join("bin/cargo-audit");
    if !is_there(&program) {
        run(Command::new("cargo")
            .args(["install", "cargo-audit", "--locked", "--version", VERSION, "--root"])
            .arg(&tools))
        .with_context(|| {
            format!("cargo-audit {VERSION} could not be compiled: the registry must be reached")
        })?;
    }
    Ok(program)
}

fn is_there(program: &Path) -> bool {
    let output = Command::new(program).arg("--version").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(VERSION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_advisories_vouches_for_nothing() {
        let error = advisories(Some(env!("CARGO_MANIFEST_DIR"))).expect_err("refused").to_string();
        assert!(error.contains("no clone of") && error.contains("advisory-db"), "{error}");
    }

    #[test]
    fn every_lock_file_is_looked_at() {
        for file in LOCK_FILES {
            assert!(root().join(file).is_file(), "{file}");
        }
    }
}
