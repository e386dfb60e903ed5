//! PostgreSQL's server, which the tests start by themselves and need installed.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

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
    if !is_root()? {
        bail!(
            "the tests need PostgreSQL's server: run `sudo apt-get install --no-install-recommends postgresql`"
        );
    }
    // The package would start a server of its own, on a port that somebody may want.
    std::fs::create_dir_all("/etc/postgresql-common")?;
    let settings = Path::new("/etc/postgresql-common/createcluster.conf");
    if !settings.exists() {
        std::fs::write(settings, "create_main_cluster = false\n")?;
    }
    run(Command::new("apt-get").args(["update", "--quiet"]))?;
    run(Command::new("apt-get")
        .args(["install", "--yes", "--quiet", "--no-install-recommends", "postgresql"])
        .env("DEBIAN_FRONTEND", "noninteractive"))?;
    if is_installed() { Ok(()) } else { bail!("PostgreSQL's server was installed and cannot be found") }
}

fn is_installed() -> bool {
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin")).any(|bin| has_server(&bin));
    debian || path_directories().iter().any(|bin| has_server(bin))
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
