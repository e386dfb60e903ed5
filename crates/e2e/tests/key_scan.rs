//! Leaked keys are found offline, and told by a server to whoever may read keys; by digests only.

use serde_json::{Value, json};
use tollgate_e2e::{Home, Server};

fn field<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

#[test]
fn leaked_keys_are_told_with_owner_and_state_and_only_dead_ones_pass() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let made = server.json(&["consumer", "create", "shop", "--env", "test,prod"]);
    let keys = made["items"].as_array().expect("items");
    let of = |environment: &str| {
        keys.iter().map(|it| &it["key"]).find(|it| it["environment"] == environment).expect("a key")
    };
    let (live, dead) = (field(of("test"), "/key"), field(of("prod"), "/key"));
    [live, dead].iter().for_each(|key| home.keep_secret(key));
    server.cli(&["key", "revoke", field(of("prod"), "/id"), "--env", "prod"]).expect_code(0);
    std::fs::create_dir(home.path().join("app")).expect("a directory");
    home.file("app/live.env", &format!("# here\nKEY={live}\n"));
    home.file("app/dead.env", dead);

    // Offline, with nothing but the files.
    let scan = |arguments: &[&str]| {
        let output = home.command(&[&["key", "scan"], arguments].concat()).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains(live) && !text.contains(dead), "{text}");
        (output.status.code(), text)
    };
    let (code, text) = scan(&["app"]);
    let mask = format!("tg_test_…{}", &live[live.len() - 4..]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains(&format!("app/live.env:2:5: API key {mask} of test\n")), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");

    // With the server.
    let all = server.cli(&["key", "scan", "app", "--identify", "--output", "json"]).expect_code(3).json();
    let told: Vec<_> = all["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|it| {
            (it["file"].clone(), it["state"].clone(), it["key"]["consumer"].clone(), it["counts"].clone())
        })
        .collect();
    let expected = [
        (json!("app/dead.env"), json!("revoked"), json!("shop"), json!(false)),
        (json!("app/live.env"), json!("active"), json!("shop"), json!(true)),
    ];
    assert_eq!(told, expected);
    let told = server.cli(&["key", "scan", "app/live.env", "--identify"]).expect_code(3).stdout;
    assert!(told.contains(": LIVE, key default of consumer shop"), "{told}");
    server.cli(&["key", "scan", "app/dead.env", "--identify"]).expect_code(0);
    let sarif = server.cli(&["key", "scan", "app", "--identify", "--format", "sarif"]).expect_code(3).json();
    assert_eq!(sarif["runs"][0]["results"][1]["level"], "error");
    let message = field(&sarif, "/runs/0/results/1/message/text");
    assert!(message.contains("LIVE, key default of consumer shop"), "{message}");

    // In the history of a repository, too, once it is in no file any more.
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.arg("-C").arg(home.path().join("app")).args([
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.org",
        ]);
        let done = command.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").output().expect("git runs");
        assert!(done.status.success(), "{done:?}");
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "begin"]);
    git(&["rm", "--quiet", "live.env"]);
    git(&["commit", "--quiet", "--message", "take it out"]);
    let (code, text) = scan(&["app", "--no-history"]);
    assert!(code == Some(3) && !text.contains("live.env"), "{text}");
    let (code, text) = scan(&["app"]);
    assert!(code == Some(3) && text.contains(":live.env:2:5 (app): API key tg_test_…"), "{text}");
    let told = server.cli(&["key", "scan", "app", "--identify", "--format", "sarif"]).expect_code(3).json();
    let messages: Vec<_> = told["runs"][0]["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|it| (it["level"].clone(), field(it, "/message/text").to_owned()))
        .collect();
    let of_history = |message: &str| message.contains("LIVE, key default of consumer shop");
    assert!(messages.iter().any(|(level, it)| level == "error" && of_history(it)), "{messages:?}");
    std::fs::remove_dir_all(home.path().join("app/.git")).expect("removes");
    home.file("app/live.env", &format!("# here\nKEY={live}\n"));

    // A key in an environment that the server does not have; a server that cannot be asked; stdin.
    let nowhere = ["--realm", "nowhere", "key", "scan", "app", "--identify"];
    assert!(server.cli(&nowhere).expect_code(3).stdout.contains("not a key of this realm"));
    let gone =
        server.cli(&["--server", "http://127.0.0.1:1", "key", "scan", "app", "--identify"]).expect_code(1);
    assert!(gone.stdout.contains(&mask), "what was found is told all the same: {gone:?}");
    gone.expect_words("cannot reach http://127.0.0.1:1");
    let piped = server.cli_with_input(&["key", "scan", "-"], &format!("x {live}\n")).expect_code(3);
    assert!(piped.stdout.starts_with("<stdin>:1:3: API key"), "{piped:?}");
    server.cli_with_input(&["key", "scan", "-"], "nothing").expect_code(0);
    server.cli(&["key", "scan", "missing"]).expect_code(2);
    server.cli(&["key", "scan", "app", "--format", "sarif", "--output", "yaml"]).expect_code(2);
    home.assert_secrets_stayed_secret();
}
