//! What the workspace may depend on: licences, sources, versions, and crates that are kept out.
//!
//! `Cargo.lock` tells what may be built on any system, `cargo tree` what is built on this one. Both are there
//! without a network, so that this costs seconds where `cargo deny` would first be compiled for minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use spdx::{Expression, LicenseReq, ParseMode};

use crate::root;

/// Licences that ask for nothing but to be named, by their SPDX ids.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

/// Crates under another licence, each looked at.
const LICENCE_EXCEPTIONS: &[(&str, &str)] = &[
    // Copyleft of files: changes to these files must be published. They are used as they are.
    ("imbl", "MPL-2.0+"),
    ("imbl-sized-chunks", "MPL-2.0+"),
];

/// Crates that are there in several versions, each looked at: who holds the older one.
const SEVERAL_VERSIONS: &[(&str, &str)] = &[
    ("base64", "ours and reqwest's are of two releases"),
    ("bit-vec", "bit-set of proptest holds an older one; tests only"),
    ("block-buffer", "sha2 0.10 of sqlx-core"),
    ("cpufeatures", "sha2 0.10 of sqlx-core"),
    ("crypto-common", "sha2 0.10 of sqlx-core"),
    ("digest", "sha2 0.10 of sqlx-core"),
    ("getrandom", "ahash holds an older one"),
    ("hashbrown", "hashlink of sqlx"),
    ("r-efi", "getrandom, on UEFI only"),
    ("rand", "opentelemetry_sdk holds an older one"),
    ("rand_core", "imbl"),
    ("sha2", "sqlx-core"),
    ("syn", "macros that are not moved yet; built, not shipped"),
    ("synstructure", "macros of asn1-rs, below x509-parser"),
    ("untrusted", "aws-lc-rs"),
    ("windows-sys", "on Windows only"),
];

/// Crates that are kept out, and why.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "TLS is rustls's, cryptography aws-lc's"),
    ("openssl-sys", "TLS is rustls's, cryptography aws-lc's"),
    ("native-tls", "TLS is rustls's, cryptography aws-lc's"),
    ("ring", "all cryptography is aws-lc's: one library to watch and to update"),
    ("rsa", "its timing tells private keys (RUSTSEC-2023-0071)"),
    ("jsonwebtoken", "tokens are verified in tollgate-credential and nowhere else"),
    ("serde_yaml", "nobody keeps it any more"),
    ("atty", "nobody keeps it any more"),
    ("chrono", "time is jiff's"),
    ("git2", "histories are read through the program git"),
];

/// Crates that are banned and stand in the lock files all the same, since others could be built with them.
const NEVER_BUILT: &[(&str, &str)] = &[("ring", "rustls and webpki take it or aws-lc")];

/// All that is built here: the workspace, and the programs of libFuzzer outside of it.
const LOCK_FILES: [&str; 2] = ["Cargo.lock", "fuzz/Cargo.lock"];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A package of the lock file.
#[derive(Debug, Default)]
struct Locked {
    name: String,
    version: String,
    /// `None` for the crates of the workspace.
    source: Option<String>,
    checksum: bool,
}

/// Reads a lock file: the few lines of each package that matter here.
fn locked(file: &str) -> Vec<Locked> {
    let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let packages = parse(&text);
    assert!(packages.len() > 100, "{file} is not read as it should");
    packages
}

fn parse(text: &str) -> Vec<Locked> {
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    text.split("[[package]]\n")
        .skip(1)
        .map(|block| Locked {
            name: field(block, "name").expect("a name"),
            version: field(block, "version").expect("a version"),
            source: field(block, "source"),
            checksum: field(block, "checksum").is_some(),
        })
        .collect()
}

/// Returns what is built on this system, tests and all: name, version and licence of each crate.
fn built() -> BTreeSet<(String, String, String)> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--workspace", "--prefix", "none"])
        .args(["--format", "{p};{l}"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let crates = text.lines().filter_map(|line| {
        let (package, licence) = line.split_once(';')?;
        // What hangs below it was shown before.
        let licence = licence.trim_end_matches(" (*)");
        let mut words = package.split(' ');
        Some((words.next()?.to_owned(), words.next()?.to_owned(), licence.to_owned()))
    });
    let crates: BTreeSet<_> = crates.collect();
    assert!(crates.len() > 100, "the tree is not read as it should: {crates:?}");
    crates
}

fn is_allowed(name: &str, licence: &str) -> bool {
    let listed = |requirement: &LicenseReq| {
        LICENCES.iter().any(|allowed| requirement.to_string() == *allowed)
            || requirement.to_string() == "Apache-2.0 WITH LLVM-exception"
    };
    LICENCE_EXCEPTIONS.contains(&(name, licence))
        || Expression::parse_mode(licence, ParseMode::LAX).is_ok_and(|it| it.evaluate(listed))
}

#[test]
fn every_crate_has_a_licence_that_is_allowed() {
    let crates = built();
    for (name, version, licence) in &crates {
        assert!(is_allowed(name, licence), "{name} {version} is under `{licence}`: look at it, then list it");
    }
    for (name, licence) in LICENCE_EXCEPTIONS {
        assert!(crates.iter().any(|it| it.0 == *name && it.2 == *licence), "{name}: no exception is needed");
    }
    for (licence, allowed) in [
        ("GPL-3.0-only", false),
        ("MIT AND GPL-2.0-only", false),
        ("GPL-2.0-only OR MIT", true),
        ("", false),
        ("MIT/Apache-2.0", true),
    ] {
        assert_eq!(is_allowed("x", licence), allowed, "`{licence}`");
    }
}

/// Returns what comes from elsewhere than the registry, or without a checksum.
fn strangers(packages: &[Locked]) -> Vec<String> {
    let is_strange = |it: &&Locked| {
        let ours = it.name == "xtask" || it.name == "tollgate" || it.name.starts_with("tollgate-");
        it.source.as_deref() != (!ours).then_some(REGISTRY) || it.checksum == ours
    };
    packages.iter().filter(is_strange).map(|it| format!("{} {}", it.name, it.version)).collect()
}

/// Returns the crates that are there in several versions.
fn several(packages: Vec<Locked>) -> BTreeMap<String, BTreeSet<String>> {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages {
        versions.entry(package.name).or_default().insert(package.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    versions
}

/// Returns the crates that are banned, and why.
fn banned<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, &'static str> {
    names.filter_map(|name| BANNED.iter().find(|it| it.0 == name).map(|it| (name, it.1))).collect()
}

#[test]
fn every_crate_comes_from_the_registry_with_a_checksum() {
    for file in LOCK_FILES {
        assert_eq!(
            strangers(&locked(file)),
            [""; 0],
            "{file}: these come from elsewhere, or have no checksum"
        );
    }
    let package = |name: &str, source: &str, checksum: &str| {
        parse(&format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\n{source}{checksum}\n"))
    };
    let (registry, sum) = (format!("source = \"{REGISTRY}\"\n"), "checksum = \"00\"\n");
    for (name, source, checksum, is_strange) in [
        ("serde", registry.as_str(), sum, false),
        ("tollgate-model", "", "", false),
        ("serde", &registry, "", true),
        ("serde", "source = \"git+https://example.org/serde#0\"\n", "", true),
        ("serde", "source = \"registry+https://example.org/index\"\n", sum, true),
        // A directory of somebody's, and a crate of somebody's that is called as if it were ours.
        ("serde", "", "", true),
        ("tollgate-model", &registry, sum, true),
        ("tollgates", "", "", true),
    ] {
        let strangers = strangers(&package(name, source, checksum));
        assert_eq!(!strangers.is_empty(), is_strange, "{name} {source}{checksum}");
    }
}

#[test]
fn no_crate_is_there_in_several_versions_that_nobody_looked_at() {
    let several_now = several(locked("Cargo.lock"));
    let names: BTreeSet<&str> = several_now.keys().map(String::as_str).collect();
    let reviewed: BTreeSet<&str> = SEVERAL_VERSIONS.iter().map(|(name, _)| *name).collect();
    let new: Vec<_> = names.difference(&reviewed).map(|name| (name, &several_now[*name])).collect();
    assert!(new.is_empty(), "find who needs them (`cargo tree -d`), then list them: {new:?}");
    let gone: Vec<_> = reviewed.difference(&names).collect();
    assert!(gone.is_empty(), "these are there once only, take them off the list: {gone:?}");
    let sample = ["a 1.0.0", "b 1.0.0", "a 2.0.0"].map(|it| {
        let (name, version) = it.split_once(' ').expect("both");
        Locked { name: name.to_owned(), version: version.to_owned(), ..Locked::default() }
    });
    let found = several(sample.into());
    assert_eq!(found, BTreeMap::from([("a".to_owned(), ["1.0.0", "2.0.0"].map(str::to_owned).into())]));
}

#[test]
fn nothing_that_is_banned_is_built() {
    let built = built();
    assert_eq!(banned(built.iter().map(|it| it.0.as_str())), BTreeMap::new(), "banned, and why");
    // What is built on other systems, and for fuzzing, stands in the lock files.
    for file in LOCK_FILES {
        let packages = locked(file);
        let mut locked = banned(packages.iter().map(|it| it.name.as_str()));
        for (name, _) in NEVER_BUILT {
            assert!(locked.remove(name).is_some(), "{name} is not in {file} any more: take it off the list");
        }
        assert_eq!(locked, BTreeMap::new(), "{file}: banned, and why");
    }
    let sample = ["serde", "ring", "openssl-probe", "openssl-sys"];
    assert_eq!(banned(sample.into_iter()).into_keys().collect::<Vec<_>>(), ["openssl-sys", "ring"]);
}
