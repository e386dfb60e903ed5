//! What programs and pipes see of the command line.

use std::process::Stdio;

use tollgate_e2e::Home;

#[test]
fn with_output_json_every_failure_is_one_document() {
    let home = Home::new();
    home.file("bad.yaml", "kind: Pipeline\nnmae: x\n");
    for (arguments, code) in [
        (&["deplyo", "orders"][..], 2),
        (&["deploy"], 2),
        (&["deploy", "orders@x", "--env", "test"], 2),
        (&["get", "nothing"], 2),
        (&["policy", "set", "external-api-access"], 2),
        (&["apply", "-f", "missing.yaml"], 1),
        (&["apply", "-f", "bad.yaml"], 1),
        (&["check", "-f", "bad.yaml"], 1),
        (&["--server", "http://127.0.0.1:1", "whoami"], 1),
        (&["--server", "no url", "whoami"], 1),
        (&["login"], 2),
    ] {
        let output = home.command(arguments).args(["--output", "json"]).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let document: serde_json::Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error} in `{text}`"));
        assert!(document["title"].as_str().is_some_and(|title| !title.is_empty()), "{arguments:?}: {text}");
        assert!(document["code"].is_string(), "{arguments:?}: {text}");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
    let home = Home::new();
    let closed = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        Stdio::from(writer)
    };
    let status = home.command(&["schema", "pipeline"]).stdout(closed()).status().expect("runs");
    assert_eq!(status.code(), Some(0));
    let nobody_listens = ["--server", "http://127.0.0.1:1", "whoami"];
    let status = home.command(&nobody_listens).stderr(closed()).status().expect("runs");
    assert_eq!(status.code(), Some(1), "it panicked");
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a full disk");
    let output = home.command(&["schema", "pipeline"]).stdout(full).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write to stdout"));
}
