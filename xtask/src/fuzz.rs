//! Runs a fuzz target led by coverage: libFuzzer, on the toolchain that everything else is built with.

use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{root, run};

/// What makes the compiler count which parts of the code an input reaches. Nothing here needs another toolchain; only
/// sanitizers would, and our crates have no `unsafe` that they could watch.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";

/// Looks for inputs that make a target panic, hang or take too much memory.
///
/// What it learns is kept in `target/fuzz/corpus`, which is not checked in; it begins there and with the corpus of the
/// repository. An input that was found stands in `target/fuzz/found`: put it into the corpus when it is mended.
///
/// # Errors
///
/// When there is no such target, or something was found.
pub(crate) fn fuzz(target: &str, seconds: &str) -> anyhow::Result<()> {
    let seconds: u32 = seconds.parse().context("SECONDS is a number")?;
    let seeds = root().join("crates/fuzz/corpus").join(target);
    if !seeds.is_dir() {
        bail!("there is no target `{target}`: crates/fuzz/corpus has a directory for each");
    }
    let built = root().join("target/fuzz");
    let (learnt, found) = (built.join("corpus").join(target), built.join("found").join(target));
    for directory in [&learnt, &found] {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let manifest = root().join("fuzz/Cargo.toml");
    // With the target named, build scripts and macros are built as ever: only the program itself counts.
    let host = host()?;
    run(Command::new("cargo")
        .args(["build", "--release", "--locked", "--bin", target, "--target", &host, "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&built)
        .env("RUSTFLAGS", COVERAGE))?;
    run(Command::new(built.join(&host).join("release").join(target))
        .arg(&learnt)
        .arg(&seeds)
        .arg(format!("-artifact_prefix={}/", found.display()))
        .arg(format!("-max_total_time={seconds}"))
        .args(["-max_len=4096", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=1"]))
}

/// Returns the name of the machine that this runs on, as the compiler calls it.
fn host() -> anyhow::Result<String> {
    let output =
        Command::new("rustc").args(["--print", "host-tuple"]).output().context("cannot run rustc")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
