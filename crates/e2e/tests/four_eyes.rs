//! Four eyes as their author meets them, command line and HTTP, and the way in for whoever runs the machine.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use serde_json::{Value, json};
use tollgate_e2e::{Home, Person, Server};

const SET: [&str; 8] =
    ["policy", "set", "external-api-access", "--env", "prod=any", "--yes", "--reason", "a partner asks"];

const OPEN: &str = "kind: Pipeline
name: shop
project: store
trigger: { type: rest, externalApi: true }
steps:
  - json: { ok: true }
";

const POLICY: &str = "kind: Policy
name: internal-api-access
environments: { test: any, prod: any }
";

/// Starts a server whose realm wants four eyes for everything.
fn start(home: &Home) -> Server<'_> {
    let server = Server::start(home, &[]);
    let path = home.file("shop.yaml", OPEN);
    server.cli(&["apply", "-f", &path]).expect_code(0);
    turn_on(&server);
    server
}

fn turn_on(server: &Server<'_>) {
    let on = ["realm", "set", "--four-eyes-policies", "on", "--four-eyes-waivers", "on"];
    let set = server.cli(&on).expect_code(0);
    assert!(set.stdout.contains("four eyes for policies and waivers"), "{set:?}");
}

/// Returns what four eyes protect.
fn protected(server: &Server<'_>) -> [Value; 5] {
    [
        server.json(&["policy", "list"]),
        server.json(&["policy", "versions"]),
        server.json(&["environment", "list"]),
        server.json(&["waiver", "list", "--all"]),
        server.json(&["realm", "get"]),
    ]
}

fn requests(server: &Server<'_>, state: &str) -> Vec<Value> {
    let list = server.json(&["change-request", "list", "--state", state]);
    list["items"].as_array().expect("items").clone()
}

#[tokio::test]
async fn what_one_person_changes_is_asked_for_and_not_made() {
    let home = Home::new();
    let server = start(&home);
    server
        .cli(&["policy", "shadow", "set", "external-api-access", "--env", "test=jwt-with-api-key"])
        .expect_code(0);
    let before = protected(&server);

    let asked =
        server.cli(&SET).expect_code(0).expect_words("weakens").expect_words("change-request approve chg_");
    assert!(
        asked.stdout.starts_with(
            "asked for, not yet made: set policy external-api-access: prod=any: change request chg_"
        ),
        "{asked:?}"
    );
    let policy = home.file("policy.yaml", POLICY);
    let applied =
        server.cli(&["apply", "-f", &policy, "--yes"]).expect_code(0).expect_words("change-request approve");
    assert!(applied.stdout.contains("Policy internal-api-access: asked for, not yet updated"), "{applied:?}");
    let waive =
        ["waiver", "create", "--pipeline", "shop", "--env", "test", "--policy", "external-api-access"];
    let waive: Vec<&str> = waive.into_iter().chain(["--for", "14d", "--reason", "until spring"]).collect();
    let make = ["environment", "create", "staging", "--policy", "external-api-access=any"];
    let make: Vec<&str> = make
        .into_iter()
        .chain(["--policy", "internal-api-access=any", "--listen", "127.0.0.1:7999"])
        .collect();
    for command in [
        waive,
        make,
        vec!["policy", "restore", "1.0", "--yes"],
        vec!["policy", "shadow", "promote", "--yes"],
        vec!["realm", "set", "--four-eyes-policies", "off", "--four-eyes-waivers", "off"],
        vec!["realm", "set", "--max-waiver-days", "365"],
    ] {
        let asked = server.cli(&command).expect_code(0).expect_words("change-request approve chg_");
        assert!(asked.stdout.starts_with("asked for, not yet made: "), "{asked:?}");
    }
    let pending = requests(&server, "pending");
    assert_eq!(pending.len(), 8);
    // A script reads the same of them, and asking again asks for nothing new.
    let again: Vec<&str> = ["-o", "json"].into_iter().chain(SET).collect();
    let again = server.cli(&again).expect_code(0).json();
    assert_eq!(again["changeRequest"]["summary"], "set policy external-api-access: prod=any");
    assert_eq!(requests(&server, "pending").len(), 8);

    // Every one of them shows what it would do, and their author approves none.
    for request in &pending {
        let id = request["id"].as_str().expect("an id");
        let shown = server.cli(&["change-request", "show", id]).expect_code(0);
        assert!(shown.stdout.contains("asked for by admin"), "{shown:?}");
        assert!(shown.stdout.contains("as when it was asked for"), "{shown:?}");
        server.cli(&["change-request", "approve", id]).expect_code(2).expect_words("needs a yes");
        server.cli(&["change-request", "approve", id, "--yes"]).expect_code(5).expect_words("it is your own");
        server.cli(&["change-request", "reject", id]).expect_code(5);
    }
    let id = again["changeRequest"]["id"].as_str().expect("an id");
    let shown = server.cli(&["change-request", "show", id]).expect_code(0);
    assert!(shown.stdout.contains("a partner asks"), "{shown:?}");
    let impact = server.cli(&["policy", "impact", "external-api-access", "--env", "prod=any"]).expect_code(0);
    let meaning = impact.stdout.lines().next().expect("a line");
    assert!(meaning.starts_with("prod: weakens") && shown.stdout.contains(meaning), "{shown:?}");

    server.cli(&["change-request", "withdraw", id, "--comment", "not needed"]).expect_code(0);
    server
        .cli(&["change-request", "approve", id, "--yes"])
        .expect_code(1)
        .expect_words("it was withdrawn by admin");
    assert_eq!(requests(&server, "withdrawn")[0]["decision"]["comment"], "not needed");
    let table = server.cli(&["change-request", "list"]).expect_code(0);
    assert!(table.stdout.contains("withdrawn") && table.stdout.contains("pending"), "{table:?}");
    server.cli(&["change-request", "show", &format!("chg_{}", "0".repeat(32))]).expect_code(4);
    server.cli(&["change-request", "show", "one"]).expect_code(2);

    assert_eq!(protected(&server), before);
    let journal = server.json(&["audit", "list", "--kind", "change-request", "--outcome", "done"]);
    let actions = journal["items"].as_array().expect("entries").iter().map(|it| it["action"].clone());
    let mut actions: Vec<_> = actions.collect();
    actions.dedup();
    assert_eq!(actions, [json!("change-request.withdraw"), json!("change-request.create")]);
    server.cli(&["audit", "verify"]).expect_code(0);
}

#[tokio::test]
async fn a_second_person_approves_and_an_account_of_the_first_does_not_count() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    server.cli(&["group", "create", "governors"]).expect_code(0);
    server.cli(&["group", "grant", "governors", "governance-manager"]).expect_code(0);
    let gil = Person::of(&home, &server, "gil", &["governors"]).await;
    turn_on(&server);
    let puppet = Person::of(&home, &server, "puppet", &["governors"]).await;
    let ask: Vec<&str> = ["-o", "json"].into_iter().chain(SET).collect();
    let asked = server.cli(&ask).expect_code(0).json();
    let id = asked["changeRequest"]["id"].as_str().expect("an id");
    let approve = ["change-request", "approve", id, "--yes", "--comment", "the partner is known"];
    let before = protected(&server);

    puppet.cli(&approve).expect_code(5);
    assert_eq!(protected(&server), before, "nothing was made");
    let shown = gil.may(&["change-request", "show", id]);
    assert!(shown.stdout.contains("asked for by admin"), "{shown:?}");
    gil.may(&approve);

    let versions = server.json(&["policy", "versions"]);
    let newest = &versions["items"][0];
    assert_eq!((&newest["createdBy"], &newest["approvedBy"]), (&json!("admin"), &json!("gil")), "{newest}");
    gil.cli(&approve).expect_code(1).expect_words("gil");
    assert_eq!(server.json(&["policy", "versions"]), versions, "made once");
    // What the second person asks for, the first approves.
    let back = ["-o", "json", "policy", "set", "external-api-access", "--env", "prod=api-key", "--yes"];
    let asked = gil.cli(&back).expect_code(0).json();
    let id = asked["changeRequest"]["id"].as_str().expect("an id");
    gil.may_not(&["change-request", "approve", id, "--yes"], "it is your own");
    server.cli(&["change-request", "approve", id, "--yes"]).expect_code(0);
    server.cli(&["audit", "verify"]).expect_code(0);
    server.stop();
    home.assert_secrets_stayed_secret();
}

#[tokio::test]
async fn whoever_runs_the_machine_ends_four_eyes_with_the_server_stopped() {
    let home = Home::new();
    let server = start(&home);
    let off = ["four-eyes-off", "--data", "data", "--reason", "the only other approver has left"];
    server.cli(&off).expect_code(1).expect_words("another tollgate runs");
    server.cli(&SET).expect_code(0).expect_words("change-request approve");
    assert_eq!(server.stop(), Some(0));

    let run = |arguments: &[&str]| {
        let output = home.command(arguments).output().expect("runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run(&["four-eyes-off", "--data", "data", "--reason", " "]).0, Some(1));
    assert_eq!(run(&["--realm", "nowhere", "four-eyes-off", "--data", "data", "--reason", "why"]).0, Some(1));
    let (code, words) = run(&["four-eyes-off", "--reason", "why", "--data", "nowhere"]);
    assert_eq!((code, words.contains("there is no database in nowhere")), (Some(4), true), "{words}");
    assert!(!home.path().join("nowhere").exists());
    assert_eq!(run(&off).0, Some(0));
    let (code, words) = run(&off);
    assert_eq!((code, words.contains("wants no second person")), (Some(1), true), "{words}");

    let server = Server::start(&home, &[]);
    let entry = server.json(&["audit", "list", "--kind", "realm"])["items"][0].take();
    assert_eq!(
        (&entry["action"], &entry["actor"], &entry["source"], &entry["reason"]),
        (&json!("realm.end-four-eyes"), &json!("operator"), &json!("cli"), &json!(off[4]))
    );
    let saved = server.cli(&SET).expect_code(0);
    assert!(saved.stdout.starts_with("saved external-api-access"), "{saved:?}");
    // What was asked for before still needs somebody else.
    let id = requests(&server, "pending")[0]["id"].as_str().expect("an id").to_owned();
    let shown = server.cli(&["change-request", "show", &id]).expect_code(0);
    assert!(
        shown.stdout.contains("no longer as it was") && shown.stdout.contains("prod: api-key → any"),
        "{shown:?}"
    );
    server.cli(&["change-request", "approve", &id, "--yes"]).expect_code(2).expect_words("--base");
    server.cli(&["audit", "verify"]).expect_code(0);
}
