//! Several people with different roles, through command line and API: each does their part and nothing else.

#![expect(clippy::indexing_slicing, reason = "a test that indexes wrongly fails, as it should")]

use serde_json::{Value, json};
use tollgate_e2e::{Home, Outcome, Person, Server};

fn pipeline(home: &Home, name: &str, project: &str) -> String {
    let text = format!(
        "kind: Pipeline\nname: {name}\nproject: {project}\n\
         trigger: {{ type: rest, externalApi: true, apiKey: true }}\nsteps: [{{ json: {{ ok: true }} }}]\n"
    );
    home.file(&format!("{name}-{project}.yaml"), &text)
}

/// Returns how many changes the journal has.
fn changes(server: &Server<'_>) -> usize {
    server.json(&["audit", "list", "--outcome", "done"])["items"].as_array().expect("entries").len()
}

#[tokio::test]
async fn each_role_does_its_part_of_a_journey_and_nothing_else() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    for (group, grants) in [
        ("developers", vec!["developer", "--project", "store"]),
        ("deployers", vec!["deployer", "--env", "test", "--project", "store"]),
        ("governors", vec!["governance-manager"]),
        ("keepers", vec!["credential-manager", "--env", "test"]),
        ("managers", vec!["access-manager"]),
        ("auditors", vec!["auditor"]),
    ] {
        server.cli(&["group", "create", group]).expect_code(0);
        let mut grant = vec!["group", "grant", group];
        grant.extend(grants);
        server.cli(&grant).expect_code(0);
    }
    let dora = Person::of(&home, &server, "dora", &["developers"]).await;
    let dan = Person::of(&home, &server, "dan", &["deployers"]).await;
    let gil = Person::of(&home, &server, "gil", &["governors"]).await;
    let kit = Person::of(&home, &server, "kit", &["keepers"]).await;
    let mia = Person::of(&home, &server, "mia", &["managers"]).await;
    let ann = Person::of(&home, &server, "ann", &["auditors"]).await;
    let (orders, ledger) = (pipeline(&home, "orders", "store"), pipeline(&home, "ledger", "finance"));
    server.cli(&["apply", "-f", &ledger]).expect_code(0);
    server.cli(&["deploy", "ledger", "--env", "test"]).expect_code(0);

    // The developer writes, within her project.
    dora.may(&["apply", "-f", &orders]);
    dora.may_not(&["apply", "-f", &ledger], "`pipeline:update` for all of project `finance`");
    let taken = pipeline(&home, "ledger", "store");
    dora.may_not(&["apply", "-f", &taken], "you may not save a pipeline `ledger`");
    dora.may_not(&["deploy", "orders", "--env", "test"], "`deployment:create`");
    // The deployer deploys, there, in test.
    dan.may(&["deploy", "orders", "--env", "test"]);
    dan.may_not(&["deploy", "orders", "--env", "prod"], "in all of environment `prod`");
    dan.may_not(&["promote", "orders", "--from", "test", "--to", "prod"], "`deployment:create`");
    dan.cli(&["undeploy", "ledger", "--env", "test"])
        .expect_code(4)
        .expect_words("there is no pipeline `ledger`");
    dan.cli(&["undeploy", "nothing", "--env", "test"])
        .expect_code(4)
        .expect_words("there is no pipeline `nothing`");
    dan.may_not(&["apply", "-f", &orders], "`pipeline:update`");
    // The governed do not edit the rule.
    let tighten = ["policy", "set", "external-api-access", "--env", "test=jwt-with-api-key", "--yes"];
    let waive = [
        "waiver",
        "create",
        "--pipeline",
        "orders",
        "--env",
        "test",
        "--policy",
        "external-api-access",
        "--for",
        "1d",
        "--reason",
        "later",
    ];
    for governed in [&dora, &dan, &kit, &mia, &ann] {
        // By the impact, which is shown first, or by the change itself.
        governed.may_not(&[&tighten[..], &["--reason", "x"]].concat(), "this needs the permission");
        governed.may_not(&waive, "`waiver:create`");
    }
    gil.may(&[&tighten[..], &["--reason", "tokens"]].concat());
    gil.may(&waive);
    gil.may_not(&["deploy", "orders", "--env", "test"], "`deployment:create`");
    gil.may_not(&["realm", "set", "--max-waiver-days", "365"], "`realm:update`");
    dan.may(&["deploy", "orders", "--env", "test"]).expect_words("admitted by waiver");
    // Who keeps the keys of test gives them out in test.
    kit.may(&["consumer", "create", "shop", "--env", "test", "--pipeline", "orders"]);
    kit.may_not(&["consumer", "create", "shop", "--env", "test,prod"], "in all of environment `prod`");
    kit.may_not(&["consumer", "list", "--env", "prod"], "`consumer:read`");
    kit.may_not(&["undeploy", "orders", "--env", "test"], "`deployment:delete`");
    dora.may_not(
        &["consumer", "associate", "shop", "--env", "test", "--pipeline", "ledger"],
        "`consumer:update`",
    );
    dora.may_not(&["key", "list", "--env", "test", "shop"], "`api-key:read`");
    // The auditor reads it all.
    assert!(ann.json(&["audit", "list"])["items"].as_array().is_some_and(|items| items.len() > 20));
    assert_eq!(ann.json(&["deployments"])["items"].as_array().map(Vec::len), Some(2));
    ann.may(&["audit", "verify"]);
    ann.may_not(&["user", "delete", "dan"], "`user:delete`");

    // Lists show one's own, and their numbers are of these.
    let names = |list: Value, field: &str| {
        let items = list["items"].as_array().expect("items").clone();
        items.iter().map(|item| item[field].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(dora.json(&["get", "pipelines"]), "name"), ["orders"]);
    assert_eq!(names(dora.json(&["get", "projects"]), "name"), ["store"]);
    assert_eq!(names(dora.json(&["deployments"]), "pipeline"), ["orders"]);
    let report = &dora.json(&["policy", "conformance", "--env", "test"])["environments"][0];
    assert_eq!((&report["deployments"], &report["waived"]), (&json!(1), &json!(1)));
    let report = &server.json(&["policy", "conformance", "--env", "test"])["environments"][0];
    assert_eq!(report["deployments"], 2);

    let me = dan.json(&["whoami"]);
    assert_eq!(me["realms"][0]["groups"], json!(["deployers"]));
    let rights = me["realms"][0]["rights"].as_array().expect("rights");
    let deploys = rights.iter().find(|right| right["permission"] == "deployment:create").expect("held");
    assert_eq!((&deploys["environments"], &deploys["projects"]), (&json!(["test"]), &json!(["store"])));
    let shown = mia.may(&["user", "rights", "dan"]).stdout;
    assert!(
        shown.lines().any(|line| line.starts_with("deployment:create") && line.contains("deployers")),
        "{shown}"
    );
    home.assert_secrets_stayed_secret();
}

#[tokio::test]
async fn who_manages_access_does_not_become_more_and_the_last_administrator_stays() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    server.cli(&["group", "create", "managers", "--role", "access-manager"]).expect_code(0);
    let mia = Person::of(&home, &server, "mia", &["managers"]).await;
    let eve = Person::of(&home, &server, "eve", &[]).await;
    eve.may_not(&["get", "pipelines"], "`pipeline:read`");
    let before = changes(&server);
    mia.may_not(&["group", "add", "administrators", "mia"], "rights that you do not have yourself");
    mia.may_not(
        &["group", "grant", "managers", "governance-manager"],
        "rights that you do not have yourself",
    );
    mia.may_not(&["role", "create", "mine", "--permission", "policy:update"], "`policy:update`");
    mia.may_not(&["user", "reset-password", "admin"], "to manage `admin`");
    mia.may_not(&["user", "disable", "admin"], "to manage `admin`");
    mia.may_not(
        &["user", "create", "ida", "--group", "administrators"],
        "rights that you do not have yourself",
    );
    let last = "the last who may do everything";
    server.cli(&["user", "delete", "admin"]).expect_code(1).expect_words(last);
    server.cli(&["user", "disable", "admin"]).expect_code(1).expect_words(last);
    server.cli(&["group", "remove", "administrators", "admin"]).expect_code(1).expect_words(last);
    server.cli(&["group", "delete", "administrators"]).expect_code(1).expect_words("can't be deleted");
    server.cli(&["user", "reset-password", "admin"]).expect_code(1).expect_words("your own password");
    // Wrong input.
    server
        .cli(&["role", "create", "x", "--permission", "pipeline:raed"])
        .expect_code(2)
        .expect_words("`pipeline:read`");
    server.cli(&["group", "create", "x", "--env", "test"]).expect_code(2).expect_words("--role");
    server
        .cli(&["group", "grant", "managers", "deploier"])
        .expect_code(4)
        .expect_words("there is no role `deploier`");
    server.cli(&["group", "add", "managers", "nix"]).expect_code(4).expect_words("there is no user `nix`");
    server.cli(&["role", "delete", "viewer"]).expect_code(1).expect_words("belongs to the product");
    server.cli(&["user", "create", "Mia"]).expect_code(1).expect_words("there is a user `mia` already");
    server.cli_with_input(&["user", "create", "ida", "--password-stdin"], "").expect_code(2);
    assert_eq!(changes(&server), before, "nothing was stored");

    // What she has she hands out, and takes away again.
    mia.may(&["group", "add", "managers", "eve"]);
    eve.may(&["user", "list"]);
    mia.may(&["user", "disable", "eve"]);
    eve.may_not(&["user", "list"], "valid API token");
    mia.may(&["user", "enable", "eve"]);
    eve.may(&["user", "list"]);
    assert!(mia.may(&["user", "end-sessions", "eve"]).stdout.starts_with("ended 1 "));
    eve.may_not(&["user", "list"], "valid API token");
    mia.may(&["user", "delete", "eve"]);
    let group = server.json(&["group", "get", "managers"]);
    assert_eq!(group["members"], json!(["mia"]));
    let made =
        server.cli_with_input(&["user", "create", "eve", "--password-stdin"], "correct horse battery\n");
    assert!(!made.expect_code(0).stdout.contains("password"));
    assert_eq!(server.json(&["user", "rights", "eve"])["items"], json!([]));
    home.assert_secrets_stayed_secret();
}

#[track_caller]
fn says(outcome: Outcome, words: &str) {
    let outcome = outcome.expect_code(0);
    assert!(outcome.stdout.contains(words), "`{words}` is missing in {outcome:#?}");
}

#[tokio::test]
async fn groups_and_roles_are_kept_as_files() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    server.cli(&["user", "create", "ada"]).expect_code(0);
    let text = "kind: Role\nname: release-manager\npermissions: [deployment:create, deployment:read, pipeline:read]\n\
                ---\nkind: Group\nname: release\ndescription: Who releases\nmembers: [ada]\n\
                grants:\n  - { role: release-manager, environments: [prod], projects: [store] }\n  - role: viewer\n";
    let path = home.file("access.yaml", text);
    server.cli(&["diff", "-f", &path, "--exit-code"]).expect_code(1);
    says(server.cli(&["apply", "-f", &path, "--dry-run"]), "Group release: created");
    server.cli(&["group", "get", "release"]).expect_code(4);
    says(server.cli(&["apply", "-f", &path]), "Role release-manager: created");
    says(server.cli(&["apply", "-f", &path]), "Group release: unchanged");
    server.cli(&["diff", "-f", &path, "--exit-code"]).expect_code(0);
    let file = server.json(&["get", "group", "release"]);
    assert_eq!(
        file["grants"][0],
        json!({ "role": "release-manager", "environments": ["prod"], "projects": ["store"] })
    );
    let changed = home.file("access.yaml", &text.replace("members: [ada]", "members: []"));
    says(server.cli(&["apply", "-f", &changed]), "Group release: updated");
    assert_eq!(server.json(&["group", "get", "release"])["members"], json!([]));
    let wrong =
        home.file("wrong.yaml", "kind: Group\nname: x\ngrants:\n  - role: viewer\n    environments: []\n");
    server.cli(&["apply", "-f", &wrong]).expect_code(1).expect_words("wrong.yaml:5");
    let wrong = home.file("wrong.yaml", "kind: Role\nname: x\npermissions:\n  - pipeline:raed\n");
    server.cli(&["apply", "-f", &wrong]).expect_code(1).expect_words("did you mean `pipeline:read`?");
    server.cli(&["delete", "role", "release-manager"]).expect_code(1).expect_words("granted by `release`");
    server.cli(&["delete", "group", "release"]).expect_code(0);
    server.cli(&["delete", "role", "release-manager"]).expect_code(0);
    for kind in ["group", "role"] {
        let schema = server.json(&["schema", kind]);
        assert!(schema["properties"]["kind"]["const"].is_string(), "{schema}");
    }
}
