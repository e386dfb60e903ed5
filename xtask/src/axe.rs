//! axe-core, with which tests check that the console's pages are accessible: from the npm registry, for tests only.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{root, run};

const PACKAGE: &str = "axe-core@4.14.1";
const FILE: &str = "axe-core-4.14.1.tgz";

/// SHA-512 of the package as it was published: another file is not used.
const SHA512: &str = "1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b73\
     4f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5";

/// Brings it to `target/npm/axe-core` when it is not there.
///
/// # Errors
///
/// With what to do by hand, when npm is missing or brings something else.
pub(crate) fn ensure() -> anyhow::Result<()> {
    let directory = root().join("target/npm");
    if directory.join("axe-core/axe.min.js").exists() {
        return Ok(());
    }
    std::fs::create_dir_all(&directory)?;
    run(Command::new("npm").args(["pack", "--silent", PACKAGE]).current_dir(&directory))
        .context("the tests need axe-core from npm: install npm (Debian's package `npm`)")?;
    let output =
        Command::new("sha512sum").arg(directory.join(FILE)).output().context("cannot run sha512sum")?;
    if !output.stdout.starts_with(SHA512.as_bytes()) {
        bail!("npm brought another {PACKAGE} than the one that was published");
    }
    unpack(&directory)
}

fn unpack(directory: &Path) -> anyhow::Result<()> {
    let to = directory.join("axe-core");
    std::fs::create_dir_all(&to)?;
    run(Command::new("tar")
        .args(["--extract", "--gzip", "--strip-components=1", "--file", FILE, "--directory"])
        .arg(&to)
        .arg("package/axe.min.js")
        .current_dir(directory))
}
