//! PostgreSQL's server, which the tests start by themselves and need installed.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::run;

/// Where Debian's packages put the server's programs.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Installs PostgreSQL's server when it is missing.
///
/// # Errors
///
/// With what to do by hand, when this account may not install packages or the system is no Debian.
pub(crate) fn ensure() -> anyhow::Result<()> {
    if is_installed() {
        return Ok(());
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("the tests need PostgreSQL's server: install it so that `initdb` and `postgres` are in PATH");
    }
    let Some(root) = as_root(is_root()?, has_program("sudo"), std::io::stdin().is_terminal()) else {
        bail!(
            "the tests need PostgreSQL's server: run `apt-get install --no-install-recommends postgresql` as root"
        );
    };
    let run_as_root = |words: &[&str]| {
        let words = [root, words].concat();
        let (program, arguments) = words.split_first().context("a command has a program")?;
        run(Command::new(program).args(arguments)).context("the tests need PostgreSQL's server (Debian's package `postgresql`), and it could not be installed")
    };
    // The package would start a server of its own, on a port that somebody may want.
    run_as_root(&[
        "sh",
        "-c",
        "mkdir -p /etc/postgresql-common && cd /etc/postgresql-common && \
         { test -e createcluster.conf || echo create_main_cluster = false > createcluster.conf; }",
    ])?;
    run_as_root(&["apt-get", "update", "--quiet"])?;
    // sudo keeps no variables; `env` sets this one behind it.
    let install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "postgresql"];
    run_as_root(&[&["env", "DEBIAN_FRONTEND=noninteractive"], &install[..]].concat())?;
    if is_installed() { Ok(()) } else { bail!("PostgreSQL's server was installed and cannot be found") }
}

fn is_installed() -> bool {
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin")).any(|bin| has_server(&bin));
    debian || path_directories().iter().any(|bin| has_server(bin))
}

/// Returns what to put in front of a command so that root runs it; `None` when this account has no way to.
///
/// Without a terminal nobody can type a password: sudo then fails instead of waiting for one.
fn as_root(is_root: bool, has_sudo: bool, is_terminal: bool) -> Option<&'static [&'static str]> {
    match (is_root, has_sudo, is_terminal) {
        (true, _, _) => Some(&[]),
        (false, true, true) => Some(&["sudo"]),
        (false, true, false) => Some(&["sudo", "--non-interactive"]),
        (false, false, _) => None,
    }
}

fn has_program(name: &str) -> bool {
    path_directories().iter().any(|directory| directory.join(name).exists())
}

fn has_server(bin: &Path) -> bool {
    bin.join("initdb").exists() && bin.join("postgres").exists()
}

fn path_directories() -> Vec<std::path::PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a chore looks for programs as a shell does")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect()
}

fn is_root() -> anyhow::Result<bool> {
    let output = Command::new("id").arg("-u").output()?;
    Ok(output.stdout.trim_ascii() == b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_for_a_password_where_nobody_can_type_one() {
        assert_eq!(as_root(true, false, false), Some(&[][..]));
        assert_eq!(as_root(false, true, true), Some(&["sudo"][..]));
        assert_eq!(as_root(false, true, false), Some(&["sudo", "--non-interactive"][..]));
        assert_eq!(as_root(false, false, true), None);
    }
}
