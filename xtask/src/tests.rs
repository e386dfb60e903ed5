//! What holds for the workspace as a whole.

mod dependencies;
mod lints;
mod pages;

use std::process::Command;

use serde_json::Value;
use tollgate_model::document::{Resource, parse_resources};
use tollgate_model::policies::Policy;

use super::root;

/// Returns the names of the crates that a package needs, directly or not, tests aside.
fn needs(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--package",
            package,
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn pure_crates_do_no_io() {
    for package in ["tollgate-model", "tollgate-policy", "tollgate-expression", "tollgate-credential"] {
        for forbidden in ["tokio", "hyper", "sqlx", "reqwest", "axum"] {
            assert!(!needs(package).iter().any(|name| name == forbidden), "{package} needs {forbidden}");
        }
    }
}

#[test]
fn the_listener_knows_none_of_ours() {
    let ours: Vec<_> =
        needs("tollgate-listener").into_iter().filter(|name| name.starts_with("tollgate-")).collect();
    assert_eq!(ours, ["tollgate-listener"]);
}

#[test]
fn the_gateway_does_not_know_the_store_and_the_api_no_database() {
    let gateway = needs("tollgate-gateway");
    for forbidden in ["tollgate-store", "tollgate-app", "sqlx"] {
        assert!(!gateway.iter().any(|name| name == forbidden), "the gateway needs {forbidden}");
    }
    for package in ["tollgate-api", "tollgate-app", "tollgate"] {
        let manifest = Command::new(env!("CARGO"))
            .args(["metadata", "--offline", "--locked", "--no-deps", "--format-version", "1"])
            .current_dir(root())
            .output()
            .expect("cargo runs");
        let metadata: Value = serde_json::from_slice(&manifest.stdout).expect("JSON");
        let packages = metadata["packages"].as_array().expect("packages");
        let found = packages.iter().find(|it| it["name"] == package).expect("a package of the workspace");
        let direct = found["dependencies"].as_array().expect("dependencies");
        assert!(!direct.iter().any(|it| it["name"] == "sqlx"), "{package} names a database");
    }
}

#[test]
fn the_examples_are_good() {
    let mut count = 0;
    let mut directories = vec![root().join("examples")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                // Workflows of CI systems are no resources.
                directories.extend((!path.ends_with("ci")).then_some(path));
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("reads");
            for located in
                parse_resources(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            {
                count += 1;
                match located.value {
                    Resource::Pipeline(pipeline) => {
                        assert!(tollgate_flow::compile(&pipeline).is_ok(), "{}", path.display());
                    }
                    Resource::Policy(Policy::Rule(rule)) => {
                        assert_eq!(tollgate_policy::check_rule(&rule), Ok(()), "{}", path.display());
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(count >= 4, "there are only {count} examples");
}
