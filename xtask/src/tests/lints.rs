//! Every crate of ours inherits the lints of the workspace, and with them that `unsafe` is forbidden.
//!
//! `forbid` cannot be taken back in the code, so that whether it is said is all there is to look at: a crate that says
//! nothing about lints has none.

use std::fs;
use std::path::PathBuf;

use super::root;

/// Returns the lines of a table of a manifest, without comments.
fn table<'a>(manifest: &'a str, name: &str) -> Vec<&'a str> {
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != format!("[{name}]"));
    lines
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|it| !it.is_empty() && !it.starts_with('#'))
        .collect()
}

/// Tells whether a manifest forbids `unsafe`: by itself, or as the workspace does.
fn forbids(manifest: &str) -> bool {
    table(manifest, "lints") == ["workspace = true"]
        || table(manifest, "lints.rust").contains(&"unsafe_code = \"forbid\"")
}

/// Returns the manifests of all crates, those outside the workspace, too.
fn manifests() -> Vec<PathBuf> {
    let crates = fs::read_dir(root().join("crates")).expect("a directory");
    let mut all: Vec<_> = crates.map(|entry| entry.expect("an entry").path()).collect();
    all.extend([root().join("xtask"), root().join("fuzz")]);
    all.into_iter().map(|it| it.join("Cargo.toml")).filter(|it| it.is_file()).collect()
}

#[test]
fn unsafe_is_forbidden_in_every_crate() {
    let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("reads");
    assert!(table(&workspace, "workspace.lints.rust").contains(&"unsafe_code = \"forbid\""));
    let manifests = manifests();
    assert!(manifests.len() > 15, "{manifests:?}");
    for manifest in manifests {
        let text = fs::read_to_string(&manifest).expect("reads");
        assert!(forbids(&text), "{}: write `[lints]` and `workspace = true`", manifest.display());
    }
    for (manifest, forbidden) in [
        ("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n", true),
        ("[lints.rust]\n# Everything.\nunsafe_code = \"forbid\"\nmissing_docs = \"warn\"\n", true),
        ("[package]\nname = \"a\"\n", false),
        ("[lints]\n# workspace = true\n", false),
        ("[lints]\nworkspace = false\n", false),
        ("[lints.rust]\nunsafe_code = \"deny\"\n", false),
        ("[dependencies]\nworkspace = true\n", false),
    ] {
        assert_eq!(forbids(manifest), forbidden, "{manifest}");
    }
}
