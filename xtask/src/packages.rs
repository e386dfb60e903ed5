//! Debian's packages that the tests need: programs that they start by themselves.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::run;

/// Where Debian's packages put PostgreSQL's programs.
const POSTGRESQL: &str = "/usr/lib/postgresql";

/// A package, and what of it tests start.
struct Package {
    name: &'static str,
    programs: &'static [&'static str],
}

const NEEDED: [Package; 7] = [
    // The browser in which the console is walked through, and what drives it.
    Package { name: "chromium", programs: &["chromium"] },
    Package { name: "chromium-driver", programs: &["chromedriver"] },
    // Callers that show client certificates.
    Package { name: "curl", programs: &["curl"] },
    // Histories that `tollgate key scan` reads.
    Package { name: "git", programs: &["git"] },
    // A caller whose connection stays open.
    Package { name: "openssl", programs: &["openssl"] },
    Package { name: "postgresql", programs: &["initdb", "postgres"] },
    // Scrapes and lints metrics.
    Package { name: "prometheus", programs: &["prometheus", "promtool"] },
];

/// What gateways are measured against, besides Envoy, which Debian does not have.
const COMPARED: [Package; 6] = [
    Package { name: "haproxy", programs: &["haproxy"] },
    Package { name: "nginx-light", programs: &["nginx"] },
    Package { name: "libnginx-mod-http-lua", programs: &["ngx_http_lua_module.so"] },
    Package { name: "lua-cjson", programs: &["cjson"] },
    Package { name: "python3-venv", programs: &["python3"] },
    Package { name: "util-linux", programs: &["taskset"] },
];

/// Where Debian's packages put the modules of nginx, and those of Lua.
const MODULES: [&str; 2] = ["/usr/lib/nginx/modules", "/usr/share/lua/5.1"];

/// Installs without starting a service: it would listen on a port that somebody may want. What `policy-rc.d` says is
/// heeded by every package of Debian; one that is there already stays.
const INSTALL: &str = "\
set -e
if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
fi
mkdir -p /etc/postgresql-common
test -e /etc/postgresql-common/createcluster.conf ||
    echo create_main_cluster = false > /etc/postgresql-common/createcluster.conf
apt-get update --quiet
DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends \"$@\"";

/// Installs what is missing.
///
/// # Errors
///
/// With what to do by hand, when this account may not install packages or the system is no Debian.
pub(crate) fn ensure() -> anyhow::Result<()> {
    ensure_all(&NEEDED, "the tests")
}

/// Installs what gateways are measured against.
///
/// # Errors
///
/// As [`ensure`].
pub(crate) fn ensure_for_benchmark() -> anyhow::Result<()> {
    ensure_all(&COMPARED, "the benchmarks")
}

fn ensure_all(needed: &[Package], who: &str) -> anyhow::Result<()> {
    let missing = missing(needed);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let listed = names.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        let programs: Vec<&str> = missing.iter().flat_map(|package| package.programs).copied().collect();
        bail!("{who} need {listed}: install them so that {} are in PATH", programs.join(", "));
    }
    let Some(root) = as_root(is_root()?, has_program("sudo"), std::io::stdin().is_terminal()) else {
        bail!(
            "{who} need {listed}: run `apt-get install --no-install-recommends {listed}` as root, and stop the \
             services that it starts"
        );
    };
    let words = [root, &["sh", "-c", INSTALL, "install"], &names].concat();
    let (program, arguments) = words.split_first().context("a command has a program")?;
    run(Command::new(program).args(arguments))
        .with_context(|| format!("{who} need {listed}, and they could not be installed"))?;
    match self::missing(needed).first() {
        None => Ok(()),
        Some(package) => bail!("{} was installed and cannot be found", package.name),
    }
}

fn missing(needed: &[Package]) -> Vec<&Package> {
    needed.iter().filter(|package| !package.is_installed()).collect()
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

fn path_directories() -> Vec<std::path::PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a chore looks for programs as a shell does")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect()
}

fn is_root() -> anyhow::Result<bool> {
    let output = Command::new("id").arg("-u").output()?;
    Ok(output.stdout.trim_ascii() == b"0")
}

// === impl Package ===

impl Package {
    /// Tells whether its programs are there: in `PATH`, or where Debian puts those of PostgreSQL.
    fn is_installed(&self) -> bool {
        let versions = std::fs::read_dir(POSTGRESQL).into_iter().flatten().flatten();
        let mut places: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
        places.extend(MODULES.map(Into::into));
        places.extend(path_directories());
        places.iter().any(|place| self.programs.iter().all(|program| place.join(program).exists()))
    }
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

    #[test]
    fn a_package_is_missing_while_one_of_its_programs_is() {
        assert!(Package { name: "sh", programs: &["sh", "ls"] }.is_installed());
        assert!(!Package { name: "sh", programs: &["sh", "no-such-program"] }.is_installed());
    }
}
