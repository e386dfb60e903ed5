//! What programs and pipes see of the command line.

use std::process::Stdio;

use tollgate_e2e::{Home, Server};

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
fn a_new_file_is_json_where_json_is_asked_for_and_can_be_applied() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let document = server.json(&["new", "pipeline", "orders"]);
    assert_eq!((&document["kind"], &document["trigger"]["apiKey"]), (&"Pipeline".into(), &true.into()));
    let path = home.file("orders.json", &document.to_string());
    server.cli(&["apply", "-f", &path]).expect_code(0);
    server.cli(&["deploy", "orders", "--env", "test"]).expect_code(0);
}

#[test]
fn a_dry_run_refuses_what_a_save_would_and_a_refused_save_tells_what_was_saved_before_it() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let document = server.json(&["new", "pipeline", "orders"]);
    let consumer = |environment: &str, pipeline: &str| {
        format!("kind: Consumer\nname: shop\nenvironments: [{environment}]\npipelines: [{pipeline}]\n")
    };
    let apply = |consumer: &str, more: &[&str]| {
        let path = home.file("all.yaml", &format!("{document}\n---\n{consumer}"));
        server.cli(&[&["--output", "json", "apply", "-f", &path], more].concat())
    };
    for (consumer, words) in [(consumer("test", "nope"), "`nope`"), (consumer("moon", "orders"), "`moon`")] {
        apply(&consumer, &["--dry-run"]).expect_code(4).expect_words(words);
        let refused = apply(&consumer, &[]).expect_code(4).expect_words(words).json();
        assert_eq!(refused["items"][0]["name"], "orders", "{refused}");
        assert_eq!(refused["items"].as_array().map(Vec::len), Some(1), "{refused}");
        server.cli(&["delete", "pipeline", "orders"]).expect_code(0);
    }
    apply(&consumer("test", "orders"), &["--dry-run"]).expect_code(0);
    assert_eq!(server.json(&["get", "pipelines"])["items"], serde_json::json!([]));
    apply(&consumer("test", "orders"), &[]).expect_code(0);
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

#[test]
fn signing_out_ends_the_session_of_the_profile_and_no_other_token() {
    let home = Home::new();
    let mut server = Server::start(&home, &[]);
    let own = server.json(&["token", "create", "ci"])["token"].as_str().expect("shown once").to_owned();
    // The token of the data directory, and one that is passed, were not made by a sign-in.
    server.cli(&["logout"]).expect_code(1).expect_words("nobody is signed in");
    server.cli(&["--token", &own, "logout"]).expect_code(1);
    server.cli(&["--token", &own, "whoami"]).expect_code(0);
    server.cli(&["whoami"]).expect_code(0);

    server.read_until("  API token ");
    let password =
        server.banner.split_once("password ").and_then(|(_, rest)| rest.split(' ').next()).map(str::to_owned);
    let password = password.expect("shown on the first start");
    server.cli_with_input(&["login", "--password-stdin"], "wrong\n").expect_code(5);
    server.cli_with_input(&["login", "--password-stdin"], &format!("{password}\n")).expect_code(0);
    let profile = home.path().join(".config/tollgate/profile.json");
    let kept = std::fs::read_to_string(&profile).expect("a profile");
    let kept: serde_json::Value = serde_json::from_str(&kept).expect("JSON");
    let kept = kept["token"].as_str().expect("a token");
    server.cli(&["--token", kept, "whoami"]).expect_code(0);
    server.cli(&["logout"]).expect_code(0);
    assert!(!profile.exists());
    server.cli(&["--token", kept, "whoami"]).expect_code(5);
    server.cli(&["whoami"]).expect_code(0);
}

#[test]
fn a_slip_in_arguments_or_environment_is_told_and_does_nothing() {
    let home = Home::new();
    let server = Server::start(
        &home,
        &["--listen", "console=127.0.0.1:0", "--listen", "test=127.0.0.1:0", "--listen", "prod=127.0.0.1:0"]
            .into_iter()
            .chain(["--listen", "test.internal=127.0.0.1:0", "--listen", "prod.internal=127.0.0.1:0"])
            .chain(["--listen", "tset=127.0.0.1:0"])
            .collect::<Vec<_>>(),
    );
    let twice =
        ["policy", "set", "external-api-access", "--env", "test=any", "--env", "test=api-key", "--yes"];
    server.cli(&twice).expect_code(2).expect_words("`test` is named twice");
    assert_eq!(server.json(&["policy", "list"])["version"], "1.0");
    server.cli(&["get", "account"]).expect_code(2).expect_words("an account lives in an environment");
    let gateway = server.url("test").to_owned();
    server.cli(&["--server", &gateway, "whoami"]).expect_code(4).expect_words("console");

    // Variables that are set to nothing say nothing: the profile counts.
    let token = std::fs::read_to_string(home.data().join("admin-token")).expect("a token");
    let profile = serde_json::json!({ "server": server.url("console"), "token": token.trim() });
    std::fs::create_dir_all(home.path().join(".config/tollgate")).expect("makes");
    home.file(".config/tollgate/profile.json", &profile.to_string());
    let mut command = home.command(&["whoami"]);
    let output = command.env("TOLLGATE_TOKEN", "").env("TOLLGATE_SERVER", "").output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.stop(), Some(0));
    let log = std::fs::read_to_string(home.log_path()).expect("a log");
    let told: Vec<&str> = log.lines().filter(|line| line.contains("there is no such environment")).collect();
    assert!(matches!(told[..], [line] if line.contains("\"tset\"")), "{log}");
}
